"""Files that somebody made to do harm: refused in one sentence, soon, in little memory, and no code of theirs runs."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polyadic.cli.decompose import read_array
from polyadic.data import load_data
from polyadic.data.cifar10 import _read as read_batch
from polyadic.data.imagefolder import FolderImages
from polyadic.errors import DataError, PolyadicError, StorageError
from polyadic.export import load
from polyadic.models import DigitsCnn, load_weights
from polyadic.search import StudyLog
from polyadic.studies.study import RowFile
from polyadic.studies.truncation_retraining import _load as load_retrained

TEN_TB = 10**13
FIXTURES = Path(__file__).parent / "fixtures"


@contextlib.contextmanager
def bounds() -> Iterator[None]:
    """5 s, and 256 MiB more than before."""
    began, size = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.perf_counter() - began < 5.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size < 256 * 1024


def refused(read: Callable[[], object], said: str) -> None:
    """Check that ``read`` is refused in one sentence on one line, which holds ``said``."""
    with bounds(), pytest.raises(PolyadicError, match=said) as caught:
        read()
    assert "\n" not in str(caught.value)


def safetensors(header: dict[str, Any] | bytes, content: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, whatever ``length`` says of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def entry(start: int, end: int, *shape: int) -> dict[str, Any]:
    """What a header says of a tensor of float32."""
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors(b"{", length=TEN_TB),
        safetensors(b"{", length=2**64 - 1),
        safetensors({"a": entry(0, TEN_TB, TEN_TB // 4)}),
        safetensors({"a": entry(0, 8, TEN_TB)}, bytes(8)),
        safetensors({"a": entry(0, 8, 2**62, 2**62)}, bytes(8)),
        safetensors({"a": entry(0, 8, 2), "b": entry(4, 12, 2)}, bytes(12)),
        safetensors({"a": entry(0, 8, 2), "b": entry(0, 8, 2)}, bytes(8)),
        safetensors({"a": entry(8, 16, 2)}, bytes(8)),
        safetensors({"a": entry(8, 0, 2)}, bytes(8)),
        safetensors({"a": entry(-8, 0, 2)}, bytes(8)),
        safetensors(b"[" * 100_000),
    ],
    ids=(
        *("header of 10 TB", "header of 2^64", "tensor of 10 TB", "shape of 10 TB", "shape beyond 2^64"),
        *("overlap", "the same bytes", "out of range", "backwards", "negative", "nested"),
    ),
)
def test_headers_of_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    model = DigitsCnn()
    refused(lambda: load_weights(model, tmp_path / "model.safetensors"), "is not a whole safetensors file")
    (tmp_path / "plan.json").write_bytes((FIXTURES / "run_0_1" / "plan.json").read_bytes())
    refused(lambda: load(tmp_path), "is damaged")


def npy(shape: tuple[int, ...], descr: str = "|u1", content: bytes = bytes(100)) -> bytes:
    """An array that says it has this shape."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def archive(path: Path, **members: bytes) -> None:
    """A packed archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


def zeros(path: Path, name: str, begins: bytes, mebibytes: int) -> None:
    """An archive with one member of zeros."""
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed as file, file.open(name, "w", force_zip64=True) as member:
        member.write(begins)
        for _ in range(mebibytes):
            member.write(bytes(2**20))


LABELS = npy((1,), content=bytes(1))


@pytest.mark.parametrize("shape", [(TEN_TB, 1, 1), (50 * 10**9, 1, 1), (2**40, 2**40, 1), (-1, 4, 4)])
def test_arrays_that_say_they_are_huge(tmp_path: Path, shape: tuple[int, ...]) -> None:
    archive(tmp_path / "d_train.npz", **{"x.npy": npy(shape), "y.npy": LABELS})
    refused(lambda: load_data(f"npz:{tmp_path / 'd'}"), "must be a whole .npz file")
    (tmp_path / "kernel.npy").write_bytes(npy(shape))
    refused(lambda: read_array(tmp_path / "kernel.npy"), "is no plain .npy array")


def test_an_archive_that_inflates_to_much_more(tmp_path: Path) -> None:
    zeros(tmp_path / "d_train.npz", "x.npy", npy((260, 1024, 1024), content=b""), 260)
    refused(lambda: load_data(f"npz:{tmp_path / 'd'}"), r"inflate to 272,629,\d+, more than 100 times as many")


def test_weights_that_inflate_to_much_more(tmp_path: Path) -> None:
    zeros(tmp_path / "w.pt", "archive/data/0", b"", 260)
    refused(lambda: load_weights(DigitsCnn(), tmp_path / "w.pt"), "inflate to 272,629,760")


@pytest.mark.parametrize("name", ["../x.npy", "/tmp/x.npy", "..\\x.npy", "a/../../x.npy"])
def test_members_with_other_paths_are_not_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    archive(tmp_path / "in" / "d_train.npz", **{name: npy((1, 10, 10)), "y.npy": LABELS})
    refused(lambda: load_data(f"npz:{tmp_path / 'in' / 'd'}"), "must hold the arrays x and y")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "d_train.npz"]


class Touches:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.path,)


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    trap, held = tmp_path / "trapped", io.BytesIO()
    np.save(held, np.array([Touches(trap)], dtype=object), allow_pickle=True)
    (tmp_path / "kernel.npy").write_bytes(held.getvalue())
    refused(lambda: read_array(tmp_path / "kernel.npy"), "Object arrays cannot be loaded")
    archive(tmp_path / "d_train.npz", **{"x.npy": held.getvalue(), "y.npy": LABELS})
    refused(lambda: load_data(f"npz:{tmp_path / 'd'}"), "Object arrays cannot be loaded")
    assert not trap.exists()


NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
EMPTY = b"cnumpy._core.multiarray\n_reconstruct\n" + NDARRAY + b"K\x00\x85C\x01b\x87R"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x04]r\xff\xff\xff\x7f.", "may remember as many objects as it has bytes"),
        (b"]p2000000000\n.", "may remember as many objects as it has bytes"),
        (b"\x80\x04B\xff\xff\xff\xff.", "must be a whole CIFAR-10 batch"),
        (b"\x80\x05\x96" + struct.pack("<Q", TEN_TB) + b".", "must be a whole CIFAR-10 batch"),
        (b"\x80\x04\x8e" + struct.pack("<Q", TEN_TB) + b".", "must be a whole CIFAR-10 batch"),
        (b"\x80\x04" + NDARRAY + b"(J\xff\xff\xff\x7fKatR.", "it calls numpy.ndarray"),
        (b"\x80\x04" + NDARRAY + b"(J\xff\xff\xff\x7fKatt\x81.", "must be a whole CIFAR-10 batch"),
        (b"\x80\x04c_codecs\nencode\n}\x8c\x08__name__\x8c\x01xsb.", "it changes what makes them"),
        (b"\x80\x04" + DTYPE + b"\x8c\x01O\x85R.", "may hold arrays of numbers only"),
        (b"\x80\x04" + EMPTY + b"(K\x01K\x01\x85\x8c\x01OK\x00C\x08AAAAAAAAtb.", "may hold arrays of numbers only"),
    ],
    ids=(
        *("memo", "memo as text", "bytes of 4 GB", "bytearray of 10 TB", "bytes of 10 TB", "empty array of 200 GB"),
        *("the same by NEWOBJ", "a function is changed", "dtype of objects", "bytes as pointers"),
    ),
)
def test_pickles_of_cifar10(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "test_batch").write_bytes(content)
    refused(lambda: read_batch(tmp_path / "test_batch"), said)


def test_a_batch_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "test_batch").open("wb") as file:
        file.truncate(TEN_TB // 100)  # no block of it is on the disk
    refused(lambda: read_batch(tmp_path / "test_batch"), "has about 31 MB")


def test_a_batch_in_another_byte_order_and_by_columns(tmp_path: Path) -> None:
    pixels = np.asfortranarray(np.arange(2 * 3072, dtype=">u2").reshape(2, 3072))
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1]}, protocol=2))
    x, _ = read_batch(tmp_path / "test_batch")
    assert np.array_equal(x.transpose(0, 3, 1, 2).reshape(2, 3072), pixels)


def png(width: int, height: int, rows: bytes) -> bytes:
    """An image of 1 bit a pixel, its checksums right."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decoded(path: Path) -> torch.Tensor:
    """The one image at ``path``."""
    return FolderImages([path], torch.tensor([0]), 224).images(torch.tensor([0]))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(8000, 8000), (10_000, 9_000), (2**31 - 1, 2**31 - 1), (1, 2**30)])
def test_images_that_inflate_to_much_more(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    (tmp_path / "a.png").write_bytes(png(width, height, bytes(min((width // 8 + 1) * height, 2**24))))
    refused(lambda: decoded(tmp_path / "a.png"), "an image has at most 67,108,864 pixels|every image must decode")


def test_a_strip_is_not_enlarged_before_it_is_cut(tmp_path: Path) -> None:
    columns = np.arange(60_000) % 256
    Image.fromarray(columns[None].astype(np.uint8)).save(tmp_path / "a.png")
    with bounds():
        pixels = decoded(tmp_path / "a.png")[0, 0]
    assert pixels.shape == (224, 224)
    assert int(pixels.float().mean()) in range(int(columns[29_999]) - 2, int(columns[30_000]) + 3)


def test_postscript_is_no_image(tmp_path: Path) -> None:
    # Pillow knows formats by their content, and gives this one to another program.
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    refused(lambda: decoded(tmp_path / "a.png"), "every image must decode")


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize(
    "content",
    [
        b"SQLite format 3\x00" + b"\xff" * 4000,
        b"no database\n",
        b"[]\n",
        b'{"op_code": 99, "worker_id": "x"}\n',
        b"7\n",
    ],
)
def test_studies_that_are_none(tmp_path: Path, scheme: str, content: bytes) -> None:
    (tmp_path / "study").write_bytes(content)
    with bounds(), pytest.raises(StorageError, match="cannot be used"):
        StudyLog(f"{scheme}:///{tmp_path / 'study'}", "run")


def test_rows_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"study": "study"}\n{"key": [1], "row": {}}\n')
    refused(lambda: RowFile(tmp_path, "study", resume=True), "the key of a row is a text, not list")


@pytest.mark.parametrize(
    "content", [b"", safetensors(b"{", length=TEN_TB), safetensors({"a": entry(0, 8, 2)}, bytes(8))]
)
def test_weights_of_networks_that_were_trained_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(lambda: load_retrained(DigitsCnn(), tmp_path / "w.safetensors"), "is damaged .* remove it, and the network")


def test_the_batch_of_another_type_is_said(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="must hold a dict"):
        read_batch(tmp_path / "test_batch")
