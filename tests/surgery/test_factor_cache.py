from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from nets import net

from disks import files_in, refuse_syncs
from polyadic.decomposition import InputNorm
from polyadic.errors import DecompositionError, LayerError, PolyadicError, StorageError
from polyadic.formats import FORMATS, CPFormat, FactoredKernel, Format, Tucker2Format
from polyadic.schema import ConvSpec
from polyadic.surgery import FactorCache, check_finite, default_cache_directory

WINDOW = ConvSpec(4, 3, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
MATRIX = ConvSpec(6, 5)


def kernel(spec: ConvSpec = WINDOW, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(spec.weight_shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def equal(a: FactoredKernel, b: FactoredKernel) -> bool:
    plain = [{key: value for key, value in vars(x).items() if key != "weights"} for x in (a, b)]
    same = all(torch.equal(u, v) and u.dtype == v.dtype for u, v in zip(a.weights, b.weights, strict=True))
    return plain[0] == plain[1] and same


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_hit_equals_the_miss_bit_for_bit(
    tmp_path: Path, fmt: Format, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = WINDOW if fmt.refuses(WINDOW) is None else MATRIX
    rank = tuple(2 for _ in fmt.largest_rank(spec))
    fresh = FactorCache(None).factorise(kernel(spec, dtype=dtype), spec, fmt, rank, 0)
    miss = FactorCache(tmp_path).factorise(kernel(spec, dtype=dtype), spec, fmt, rank, 0)
    assert len(files_in(tmp_path)) == 1
    monkeypatch.setattr(type(fmt), "factorise", None)
    hit = FactorCache(tmp_path).factorise(kernel(spec, dtype=dtype), spec, fmt, rank, 0)
    assert equal(fresh, miss)
    assert equal(miss, hit)


def test_everything_that_decides_the_factors_decides_the_file(tmp_path: Path) -> None:
    cache, fmt = FactorCache(tmp_path), CPFormat("cp-als")
    calls = [
        (kernel(), WINDOW, fmt, (2,), 0),
        (kernel(seed=1), WINDOW, fmt, (2,), 0),
        (kernel().double(), WINDOW, fmt, (2,), 0),
        (kernel(), replace(WINDOW, stride=(2, 2)), fmt, (2,), 0),
        (kernel(), replace(WINDOW, bias=False), fmt, (2,), 0),
        (kernel(), WINDOW, CPFormat("cp-als-epc"), (2,), 0),
        (kernel(), WINDOW, replace(fmt, als=replace(fmt.als, max_sweeps=3)), (2,), 0),
        (kernel(), WINDOW, fmt, (3,), 0),
        (kernel(), WINDOW, fmt, (2,), 1),
        (kernel(), WINDOW, Tucker2Format(), (2, 2), 0),
    ]
    for number, call in enumerate(calls, start=1):
        cache.factorise(*call)
        assert len(files_in(tmp_path)) == number
    for call in calls:
        cache.factorise(*call)
    assert len(files_in(tmp_path)) == len(calls)


def test_the_memory_layout_of_a_kernel_does_not_matter(tmp_path: Path) -> None:
    cache = FactorCache(tmp_path)
    cache.factorise(kernel(), WINDOW, Tucker2Format(), (2, 2), 0)
    last = kernel().contiguous(memory_format=torch.channels_last)
    cache.factorise(last.requires_grad_(), WINDOW, Tucker2Format(), (2, 2), 0)
    assert len(files_in(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "another file", "no metadata"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache, fmt = FactorCache(tmp_path), Tucker2Format()
    good = cache.factorise(kernel(), WINDOW, fmt, (2, 2), 0)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    cache.factorise(kernel(), WINDOW, fmt, (1, 2), 0)
    (other,) = set(tmp_path.iterdir()) - {path}
    plain = safetensors.torch.save({str(number): weight for number, weight in enumerate(good.weights)})
    contents = {"empty": b"", "cut": whole[:-7], "noise": b"\xff" * len(whole), "no metadata": plain}
    path.write_bytes(contents.get(damage, other.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert equal(cache.factorise(kernel(), WINDOW, fmt, (2, 2), 0), good)
    assert "damaged cache file" in caplog.text
    assert path.read_bytes() == whole


def test_a_full_disk_is_said_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_syncs(monkeypatch)
    with pytest.raises(StorageError, match="free disk space"):
        FactorCache(tmp_path).factorise(kernel(), WINDOW, Tucker2Format(), (2, 2), 0)
    assert files_in(tmp_path) == set()


def test_what_is_refused_is_refused_with_and_without_a_folder(tmp_path: Path) -> None:
    for cache in (FactorCache(None), FactorCache(tmp_path)):
        with pytest.raises(LayerError, match="out of bounds"):
            cache.factorise(kernel(), WINDOW, Tucker2Format(), (9, 9), 0)
        with pytest.raises(DecompositionError, match="NaN or Inf"):
            cache.factorise(kernel() * torch.nan, WINDOW, Tucker2Format(), (2, 2), 0)
    assert files_in(tmp_path) == set()


def test_the_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POLYADIC_CACHE", str(tmp_path / "here"))
    assert default_cache_directory() == tmp_path / "here"
    monkeypatch.delenv("POLYADIC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / "polyadic" / "factors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_directory() == Path.home() / ".cache" / "polyadic" / "factors"


@pytest.mark.parametrize("name", ["stem.weight", "norm.running_var"])
def test_weights_that_are_not_finite_are_counted_and_named(name: str) -> None:
    model = net()
    check_finite(model)
    tensor = dict([*model.named_parameters(), *model.named_buffers()])[name]
    with torch.no_grad():
        tensor.view(-1)[:2] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(PolyadicError, match=rf"'{name}' has 2 NaN or Inf of {tensor.numel()}"):
        check_finite(model)


def test_the_norm_of_the_inputs_is_part_of_the_question(tmp_path: Path) -> None:
    cache, fmt = FactorCache(tmp_path), Tucker2Format()
    norms = [None, InputNorm.of(torch.diag(torch.arange(1.0, 5.0))), InputNorm.of(torch.diag(torch.ones(4)))]
    made = [cache.factorise(kernel(), WINDOW, fmt, (2, 2), 0, norm) for norm in norms]
    assert len(files_in(tmp_path)) == 3
    for norm, fresh in zip(norms, made, strict=True):
        assert equal(cache.factorise(kernel(), WINDOW, fmt, (2, 2), 0, norm), fresh)
    assert len(files_in(tmp_path)) == 3
    assert made[0].weighted_error is None
    assert made[1].weighted_error is not None
