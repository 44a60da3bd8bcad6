from __future__ import annotations

import io
import json
import math
import pickletools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from results import CHAINS, TRAINS, compressed, decomposed, images, mixed, small
from safetensors.torch import load_file
from torch import nn

from disks import files_in, refuse_syncs, tiny_disk
from polyadic.errors import LayerError, StorageError
from polyadic.export import Origin, load, origin_of, read_plan, save
from polyadic.export.plan_file import torch_layer
from polyadic.layers import spec_of
from polyadic.models import load_model
from polyadic.pipeline import CompressionResult, compress
from polyadic.schema import ConvSpec, Plan
from polyadic.surgery import LayerMap

FILES = {"plan.json", "model.safetensors", "result.json", "README.md"}


@pytest.fixture(scope="module")
def result() -> CompressionResult:
    return compressed()


@pytest.mark.parametrize("formats", [("cp-epc", "svd"), ("tucker2",), ("tkd-cpd-epc",)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_folder_gives_the_same_network_bit_for_bit(
    tmp_path: Path, formats: tuple[str, ...], dtype: torch.dtype
) -> None:
    made = compressed(formats=formats)
    made = replace(made, model=made.model.to(dtype))
    assert made.plan.choices
    save(made, tmp_path / "out")
    assert files_in(tmp_path / "out") == FILES
    back = load(tmp_path / "out", model=small(seed=7).to(dtype))
    x = images().to(dtype)
    assert torch.equal(back(x), made.model(x))
    assert not any(module.training for module in back.modules())
    assert Plan.from_json(read_plan(tmp_path / "out")["layers"]) == made.plan


@pytest.mark.parametrize("layers", [TRAINS, CHAINS], ids=["trains", "chains"])
def test_tensor_trains_grouped_and_transposed_layers_come_back(tmp_path: Path, layers: LayerMap) -> None:
    made = decomposed(layers, torch.float64)
    save(made, tmp_path)
    back = load(tmp_path, model=mixed(seed=7).double())
    assert all(torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in (back, made.model)), strict=True))
    assert [str(module) for module in back.modules()] == [str(module) for module in made.model.modules()]
    x = images().double()
    torch.testing.assert_close(back(x), made.model(x), rtol=0.0, atol=1e-12)


def test_a_search_among_tensor_trains_is_saved_and_loaded(tmp_path: Path) -> None:
    made = compressed(formats=("tt-matrix", "tt"))
    assert "tt-matrix" in {choice.format for choice in made.plan.choices}
    save(made, tmp_path)
    x = images()
    torch.testing.assert_close(load(tmp_path, model=small(seed=7))(x), made.model(x), rtol=1e-4, atol=1e-5)


def test_the_artefact_keeps_the_cores_and_says_what_they_stand_for(tmp_path: Path) -> None:
    made = decomposed(TRAINS)
    save(made, tmp_path)
    stages = {choice["layer"]: choice["stages"] for choice in read_plan(tmp_path)["layers"]}
    (up,) = stages["up"]
    assert up["class"] == "ConvTranspose2d"
    assert up["cores"] == [[1, 9, 1, 3], [3, 2, 4, 2], [2, 4, 3, 1]]
    weights = load_file(tmp_path / "model.safetensors")
    kept = {key: list(weights[key].shape) for key in weights if key.startswith("up.")}
    assert kept == {**{f"up.0.cores.{k}": shape for k, shape in enumerate(up["cores"])}, "up.0.bias": [7]}
    assert not any("cores" in stage for stage in stages["grouped"])


def test_a_known_model_needs_no_structure_from_the_user(tmp_path: Path) -> None:
    dense = load_model("polyadic:digits-cnn", classes=4).model
    example = torch.zeros(1, 1, 8, 8)
    made = compress(dense, lambda _: 1.0, example, max_drop=0.5, formats=("svd", "tucker2"))
    save(made, tmp_path, origin=Origin("polyadic:digits-cnn", 4, (0.5,), (0.5,), (1, 8, 8)))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load(tmp_path)(x), made.model(x))
    assert origin_of(read_plan(tmp_path)) == Origin("polyadic:digits-cnn", 4, (0.5,), (0.5,), (1, 8, 8))


def test_no_file_holds_a_pickle_and_every_json_is_strict(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    for name in FILES:
        with pytest.raises(ValueError):  # noqa: PT011  # pickletools says it in many ways
            list(pickletools.genops(io.BytesIO((tmp_path / name).read_bytes())))
    for name in ("plan.json", "result.json"):
        json.loads((tmp_path / name).read_text(), parse_constant=lambda constant: pytest.fail(constant))


def test_numbers_that_json_has_not_become_null(result: CompressionResult) -> None:
    provenance = {"finetuning": [{"loss": math.nan, "score": None}], "sizes": (1, 2), "limit": math.inf}
    document = replace(result.summary, provenance=provenance).to_json()
    assert document["provenance"] == {
        "finetuning": [{"loss": None, "score": None}],
        "sizes": [1, 2],
        "limit": None,
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_plan_spells_its_chains_out_in_torch(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    for choice in read_plan(tmp_path)["layers"]:
        chain = result.model.get_submodule(choice["layer"])
        assert [stage["class"] for stage in choice["stages"]] == [type(stage).__name__ for stage in chain]
        for stage, module in zip(choice["stages"], chain, strict=True):
            assert repr(getattr(nn, stage["class"])(**stage["arguments"])) == repr(module)


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(6, 5, bias=True),
        ConvSpec(4, 6, (3,), (2,), (1,), (1,)),
        ConvSpec(4, 6, (3, 5), (2, 1), (1, 0), (1, 2), groups=2, bias=True, padding_mode="circular"),
        ConvSpec(4, 6, (3, 3), (1, 1), "same", (2, 2)),
        ConvSpec(2, 2, (3, 3, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1)),
        ConvSpec(4, 6, (3,), (2,), (1,), (1,), bias=True, transposed=True, output_padding=(1,)),
        ConvSpec(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, False, "zeros", True, (1, 0)),
        ConvSpec(2, 2, (3, 3, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1), transposed=True, output_padding=(0, 0, 0)),
    ],
)
def test_every_stage_has_its_words_in_torch(spec: ConvSpec) -> None:
    words = json.loads(json.dumps(torch_layer(spec)))
    assert spec_of(getattr(nn, words["class"])(**words["arguments"])) == spec


def test_a_folder_without_its_network_asks_for_it(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    with pytest.raises(LayerError, match="pass the dense model"):
        load(tmp_path)
    with pytest.raises(LayerError, match="has no layer"):
        load(tmp_path, model=nn.Sequential(nn.Conv2d(3, 3, 3)))
    wider = small()
    wider.head = nn.Linear(8, 5)
    with pytest.raises(LayerError, match=r"do not fit the network|out of bounds"):
        load(tmp_path, model=wider)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("plan.json", None, "could not be read"),
        ("plan.json", b"{", "is no JSON"),
        ("plan.json", b"\xff\xff", "is no JSON"),
        ("plan.json", b"[]", "holds a JSON object; got a list"),
        ("plan.json", b'{"version": 2, "layers": []}', "has version 2; this release reads version 1"),
        ("model.safetensors", None, "could not be read"),
        ("model.safetensors", b"", "is damaged"),
        ("model.safetensors", b"x" * 100, "is damaged"),
    ],
)
def test_a_missing_or_damaged_file_is_named(
    tmp_path: Path, result: CompressionResult, name: str, content: bytes | None, words: str
) -> None:
    save(result, tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match=rf"{name}.* {words}"):
        load(tmp_path, model=small())


@pytest.mark.parametrize("origin", ['"text"', "[1]", '{"mean": 3}'])
def test_a_plan_with_a_damaged_origin_is_named(tmp_path: Path, origin: str) -> None:
    (tmp_path / "plan.json").write_text(f'{{"version": 1, "layers": [], "origin": {origin}}}')
    with pytest.raises(StorageError, match="origin"):
        load(tmp_path)


@pytest.mark.parametrize("after", range(4))
def test_a_disk_that_fills_up_leaves_no_folder_that_looks_complete(
    tmp_path: Path, result: CompressionResult, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    refuse_syncs(monkeypatch, after=after)
    with pytest.raises(StorageError, match="free disk space"):
        save(result, tmp_path)
    assert files_in(tmp_path) == set()


def test_a_really_full_disk_keeps_the_earlier_result(tmp_path: Path, result: CompressionResult) -> None:
    with tiny_disk(tmp_path / "disk", size="24k") as disk:
        save(result, disk)
        before = {name: (disk / name).read_bytes() for name in FILES}
        with pytest.raises(StorageError, match="free disk space"):
            save(result, disk)  # the new files stand beside the old ones until all are whole
        assert {name: (disk / name).read_bytes() for name in files_in(disk)} == before


def test_a_second_save_replaces_the_first(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    before = (tmp_path / "result.json").read_bytes()
    save(replace(result, summary=replace(result.summary, max_drop=2.5)), str(tmp_path))
    assert json.loads((tmp_path / "result.json").read_bytes())["max_drop"] == 2.5
    assert json.loads(before)["max_drop"] == 0.5
    assert files_in(tmp_path) == FILES
