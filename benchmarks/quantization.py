"""What 8 bits do to a network and to its compressed form: accuracy, bytes of the files, and time on two engines.

    python benchmarks/quantization.py --model polyadic:resnet20 --weights resnet20_cifar10.safetensors \
        --data npz:build/data/cifar10 --ratio 2.8

The compressed network is the folder ``--result``, or else it is made here: every 3 x 3 kernel in ``--format`` at one
ratio, such that the network takes that many times fewer multiply-accumulates, in the norm of its inputs and in sight of
the layers before, from 1000 training images, untuned. Ranges of activations come from training images, recipes are
chosen on held-out ones, with chains balanced and as they are; the test images are read once, for the rows. Sizes are
those of files without notes and long names, in float32 too; ``int8_tensors`` is the least a file can be that holds
every weight in 8 bits, a scale for each row and what is no weight in float32.

Times want a quiet machine. ``--no-times`` leaves them out; the same command with ``--times-only`` instead takes them
later, of the files that were kept in ``build/quantization``, and changes nothing else in the rows.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, command, environment, record, rows_in
from safetensors.torch import save
from torch import nn

from polyadic import load
from polyadic.data import ImageData, load_data
from polyadic.formats import format_named
from polyadic.models import load_model
from polyadic.quantization import (
    Artefact,
    Quantized,
    QuantizeOptions,
    Quantizer,
    RecipeTrial,
    measure_artefacts,
    quantize,
    quantizer_named,
    time_artefacts,
)
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.surgery import find_layers, layer_at, network_cost, recalibrate_if_better, replace_in_sequence
from polyadic.training import ImageTask

FILES = Path("build/quantization")
BATCHES = (1, 32)
AIMS = {"points_lost_by_8_bits": 0.5, "times_smaller": 12.0, "points_lost": 0.5}


def compressed(dense: nn.Module, data: ImageData, name: str, ratio: float) -> nn.Module:
    """One ratio for all 3 x 3 kernels, data-aware, untuned."""
    images = data.normalise(data.train.images(torch.arange(1000)))
    sites = find_layers(dense, images[:1])
    plan = plan_at(dense, [site for site in sites if site.spec and site.spec.taps > 1], name, ratio, images[:1])
    fmt = format_named(name)

    def factorise(choice: Choice, kernel: Any, norm: Any) -> Any:
        return fmt.factorise(kernel, layer_at(dense, choice.layer)[2], choice.rank, 0, norm)

    network, _ = replace_in_sequence(dense, plan, factorise, images, sites)
    proxy = ImageTask(data).proxy(dense)
    recalibrate_if_better(network, images.split(250), lambda model: -(proxy(model).divergence or 0.0))
    return network.eval()


def plan_at(dense: nn.Module, sites: list[LayerSite], name: str, ratio: float, example: Any) -> Plan:
    """The largest share of its operations for every layer such that the network takes at most ``1 / ratio`` of them."""
    fmt, total = format_named(name), network_cost(dense, example).macs
    sites = [site for site in sites if site.spec.in_channels > 3]

    def ranks(share: float) -> list[int]:
        one = [site.chain_macs(fmt.stages(site.spec, (1,))) for site in sites]
        return [max(int(share * site.macs / each), 1) for site, each in zip(sites, one, strict=True)]

    def macs(share: float) -> int:
        chains = (site.chain_macs(fmt.stages(site.spec, (R,))) for site, R in zip(sites, ranks(share), strict=True))
        return total - sum(site.macs for site in sites) + sum(chains)

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if macs(middle) <= total / ratio else (low, middle)
    return Plan(tuple(Choice(site.name, name, (R,)) for site, R in zip(sites, ranks(low), strict=True)))


def int8_tensors(network: nn.Module) -> int:
    """Bytes of a safetensors file with int8 weights and float32 for everything else."""
    tensors = {}
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            scale = value.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
            tensors[name] = (value.flatten(1) / scale[:, None]).round().to(torch.int8)
            tensors[f"{name}.scale"] = scale
        elif not name.endswith("num_batches_tracked"):
            tensors[name] = value.clone()
    return len(save(tensors))


def row(
    networks: dict[str, nn.Module], data: ImageData, quantizer: Quantizer, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """All networks on one engine; of balanced chains and chains as they are, what held-out images say is better."""
    made: dict[str, Quantized] = {}
    balance = {}

    def said(trial: RecipeTrial) -> None:
        print(trial.recipe, trial.bytes, trial.verdict, flush=True)

    chosen = QuantizeOptions(images=options.images)
    if options.quick:
        chosen = replace(chosen, ends=False, judges=1000)
    for name, network in networks.items():
        uses = (True,) if options.quick or name == "dense" else (True, False)  # a dense network has no chains
        both = {use: quantize(network, data, quantizer, replace(chosen, balance=use), on_trial=said) for use in uses}
        balance[name] = {
            ("balanced" if use else "as it is"): {str(trial.recipe): asdict(trial.verdict) for trial in each.trials}
            for use, each in both.items()
        }
        made[name] = min(both.values(), key=lambda each: each.trials[-1].verdict.divergence)
    keep(made, folder)
    batches = () if options.no_times else BATCHES
    rows = measure_artefacts(made, data, quantizer, batches=batches, threads=options.threads, seconds=options.seconds)
    figures = [{**asdict(each), "times_smaller": rows[0].bytes / each.bytes} for each in rows]
    plain, rounded = rows[-2:]
    return {
        "rows": figures,
        "chains": balance,
        "recipes": {
            name: [{"name": str(trial.recipe), **asdict(trial)} for trial in each.trials] for name, each in made.items()
        },
        "int8_tensors": {name: int8_tensors(network) for name, network in networks.items()},
        "params": {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()},
        "aims_met": {
            "points_lost_by_8_bits": 100 * (plain.accuracy - rounded.accuracy) <= AIMS["points_lost_by_8_bits"],
            "times_smaller": rows[0].bytes / rounded.bytes >= AIMS["times_smaller"],
            "points_lost": rounded.drop <= AIMS["points_lost"],
        },
        "threads": options.threads,
    }


def keep(made: dict[str, Quantized], folder: Path) -> None:
    """Write the files of all networks, for times that are taken later."""
    for name, network in made.items():
        for kind, artefact in (("float32", network.plain), ("int8", network.artefact)):
            target = folder / name / kind
            target.mkdir(parents=True, exist_ok=True)
            for ending, content in artefact.files.items():
                (target / f"model{ending}").write_bytes(content)


def kept(folder: Path, figures: list[dict[str, Any]]) -> dict[str, Quantized]:
    """What :func:`keep` wrote, if it is what the rows are about."""
    found: dict[str, Artefact] = {}
    for each in figures:
        files = (folder / each["name"] / each["precision"]).glob("model.*")
        artefact = Artefact({file.suffix: file.read_bytes() for file in files})
        if artefact.bytes != each["bytes"]:
            raise SystemExit(f"{folder} does not hold the networks of these rows: run it with --no-times first")
        found[f"{each['name']} {each['precision']}"] = artefact
    names = dict.fromkeys(each["name"] for each in figures)
    return {name: Quantized(found[f"{name} float32"], found[f"{name} int8"], ()) for name in names}


def with_times(
    figures: dict[str, Any], data: ImageData, quantizer: Quantizer, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """A row that was measured before, with the times of its files."""
    networks = kept(folder, figures["rows"])
    times = time_artefacts(networks, data, quantizer, batches=BATCHES, threads=options.threads, seconds=options.seconds)
    rows = [{**each, "milliseconds": dict(ms)} for each, ms in zip(figures["rows"], times, strict=True)]
    return {**figures, "rows": rows, "times_taken": {"command": command(), **environment()}}


def main() -> None:
    """Run the engines that are asked for and write each as soon as it is there."""
    options = parsed()
    torch.set_num_threads(options.threads)
    data = load_data(options.data)
    what = options.result.name if options.result else f"{options.format} {options.ratio:g}x untuned"
    file = f"quantization_{options.weights.stem}"
    networks = {} if options.times_only else both(data, options)
    for engine in options.engines.split(","):
        name, quantizer = f"{what}, {engine}", quantizer_named(engine)
        folder, before = FILES / options.weights.stem / name, rows_in(RESULTS / f"{file}.json")
        if options.times_only:
            figures = with_times(before[name], data, quantizer, options, folder)
        else:
            figures = {"command": command(), **row(networks, data, quantizer, options, folder)}
        for each in figures["rows"]:
            print(engine, each, flush=True)
        record(file, {"aims": AIMS, "rows": {**before, name: figures}})


def both(data: ImageData, options: argparse.Namespace) -> dict[str, nn.Module]:
    """The dense network and the compressed one."""
    dense = load_model(options.model, options.weights).model.eval()
    made = load(options.result) if options.result else compressed(dense, data, options.format, options.ratio)
    return {"dense": dense, "compressed": made}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="polyadic:resnet20")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--result", type=Path, help="folder of a compressed network; made here by default")
    parser.add_argument("--format", default="cp-epc", choices=("cp-epc", "spatial-svd"))
    parser.add_argument("--ratio", type=float, default=2.8, help="times fewer multiply-accumulates")
    parser.add_argument("--engines", default="onnxruntime,openvino")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="balanced chains alone, no layer in float32, 1000 judges")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=2.0, help="spent on timing each network at each batch")
    times = parser.add_mutually_exclusive_group()
    times.add_argument("--no-times", action="store_true", help="accuracy and bytes alone")
    times.add_argument("--times-only", action="store_true", help="times of files that were written before")
    return parser.parse_args()


if __name__ == "__main__":
    main()
