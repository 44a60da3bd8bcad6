"""``polyadic inspect``: what a network is made of and what could become of it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from polyadic.cli.arguments import (
    AsJson,
    ForSize,
    InputShape,
    Mean,
    Model,
    Std,
    Weights,
    data_of,
    emit,
    example_of,
    model_of,
    reported,
)
from polyadic.formats import FORMATS
from polyadic.reporting import SITE_COLUMNS, site_rows
from polyadic.schema import LayerSite
from polyadic.surgery import find_layers, network_cost


@reported
def inspect(
    model: Model,
    weights: Weights = None,
    data: ForSize = None,
    input_shape: InputShape = None,
    mean: Mean = None,
    std: Std = None,
    json: AsJson = False,
) -> None:
    """List the layers: what is supported, what is skipped and why, parameters and MACs."""
    images = data_of(data, mean, std, 0) if data is not None else None
    loaded, _ = model_of(model, weights, images)
    example = example_of(loaded, images, input_shape)
    sites = find_layers(loaded.model, example)
    cost = network_cost(loaded.model, example)
    formats = {site.name: _formats_for(site) for site in sites}
    if json:
        layers = [
            {
                "name": site.name,
                "kind": site.kind,
                "status": "supported" if formats[site.name] else "unsupported",
                "reason": _reason(site),
                "formats": formats[site.name],
                "params": site.params,
                "macs": site.macs,
                "weight_shape": list(site.spec.weight_shape) if site.spec else None,
            }
            for site in sites
        ]
        emit({"model": model, "params": cost.params, "macs": cost.macs, "bytes": cost.bytes, "layers": layers})
        return
    table = Table(*SITE_COLUMNS, title=f"{model}, one input of {' x '.join(str(n) for n in example.shape[1:])}")
    for row in site_rows(sites, formats, {site.name: _reason(site) for site in sites}):
        table.add_row(*row)
    out = Console()
    out.print(table)
    out.print(
        f"{cost.params:,} parameters, {cost.macs:,} MACs (1 MAC = one multiply-accumulate; FLOPs = 2 x MACs), "
        f"{cost.bytes:,} bytes; {sum(bool(names) for names in formats.values())} of {len(sites)} layers supported",
        highlight=False,
    )


def _formats_for(site: LayerSite) -> list[str]:
    spec = site.spec
    if site.reason is not None or spec is None:
        return []
    return [name for name, fmt in FORMATS.items() if fmt.refuses(spec) is None]


def _reason(site: LayerSite) -> str | None:
    if site.reason is not None or site.spec is None or _formats_for(site):
        return site.reason
    return "; ".join(sorted({str(fmt.refuses(site.spec)) for fmt in FORMATS.values()}))
