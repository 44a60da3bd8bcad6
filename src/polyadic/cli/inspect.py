"""``polyadic inspect``: what a network is made of and what could become of it."""

from __future__ import annotations

from polyadic.cli.judge import read_data, shown_size
from polyadic.cli.judge_arguments import ExampleArguments
from polyadic.cli.model_arguments import ModelArguments
from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson
from polyadic.cli.screen import emit, print_table, say
from polyadic.formats import FORMATS
from polyadic.reporting import SITE_COLUMNS, function_rows, site_rows
from polyadic.schema import LayerSite
from polyadic.surgery import count_operations, find_layers, network_cost


@command
def inspect_command(model: ModelArguments, size: ExampleArguments, json: AsJson = False) -> None:
    """List the layers: what is supported, what is skipped and why, parameters and MACs."""
    given = read_data(size)
    loaded, _ = model.load(given.images)
    example = given.example(loaded)
    sites = find_layers(loaded.model, example)
    cost, count = network_cost(loaded.model, example), count_operations(loaded.model, example)
    names = {site.name for site in sites}
    functions = [operation for operation in count.operations if operation.module not in names]
    uncounted = [operation.name for operation in count.uncounted]
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
                "macs": count.macs_in(site.name),
                "weight_shape": list(site.spec.weight_shape) if site.spec else None,
            }
            for site in sites
        ]
        emit(
            {
                "model": model.model,
                "params": cost.params,
                "macs": cost.macs,
                "bytes": cost.bytes,
                "layers": layers,
                "functions": [{"name": operation.name, "macs": operation.macs} for operation in functions],
                "not_counted": uncounted,
            }
        )
        return
    title = f"{model.model}, one input of {shown_size(example)}"
    rows = site_rows(sites, formats, {site.name: _reason(site) for site in sites}, count)
    print_table(title, SITE_COLUMNS, [*rows, *function_rows(functions)])
    if uncounted:
        say(f"not counted, as there is no formula for it: {', '.join(uncounted)}")
    say(
        f"{cost.params:,} parameters, {cost.macs:,} MACs (1 MAC = one multiply-accumulate; FLOPs = 2 x MACs), "
        f"{cost.bytes:,} bytes; {sum(bool(names) for names in formats.values())} of {len(sites)} layers supported"
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
