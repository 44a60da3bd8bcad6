"""Where and in which number format a network runs: device, autocast precision, memory format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from polyadic.errors import PolyadicError

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Execution:
    """How forward and backward passes run; the weights themselves stay float32 in every case.

    Attributes:
        device: "auto" (CUDA when there is one, else the CPU), or anything that ``torch.device`` reads.
        precision: "bfloat16" runs convolutions and products under autocast; "float32" runs everything in float32.
        channels_last: keep images and convolution kernels as (N, H, W, C) in memory, the faster layout on most devices.

    Raises:
        PolyadicError: the precision is unknown, or the device is not there.
    """

    device: str = "auto"
    precision: Precision = "float32"
    channels_last: bool = True

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise PolyadicError(f"precision is one of {', '.join(get_args(Precision))}; got {self.precision!r}")
        try:
            device = self.torch_device
        except RuntimeError as error:
            raise PolyadicError(f"device {self.device!r} is unknown to torch: use auto, cpu or cuda") from error
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise PolyadicError(
                f"device {self.device!r} is not one of the {torch.cuda.device_count()} CUDA devices of torch: use auto"
            )

    @classmethod
    def for_training(cls, device: str = "auto") -> Execution:
        """bfloat16 and channels-last where the processor multiplies bfloat16 in hardware, else float32.

        The check reads the processor's feature flags and measures nothing.
        """
        fast = _multiplies_bfloat16(cls(device=device).torch_device)
        return cls(device=device, precision="bfloat16" if fast else "float32")

    @classmethod
    def for_evaluation(cls, device: str = "auto") -> Execution:
        """float32, so that a score does not depend on what the processor can do."""
        return cls(device=device)

    @property
    def torch_device(self) -> torch.device:
        """The device, "auto" resolved."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of images and of convolution kernels."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """Return the autocast context of this precision: a context that does nothing for float32."""
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16, enabled=enabled)

    def place(self, batch: Tensor) -> Tensor:
        """Return ``batch`` (N, C, H, W) on the device in the memory format; no copy when it is there already."""
        memory_format = self.memory_format if batch.dim() == 4 else torch.preserve_format
        return batch.to(self.torch_device, non_blocking=True, memory_format=memory_format)


@contextlib.contextmanager
def place_model(model: nn.Module, execution: Execution) -> Iterator[None]:
    """Hold ``model`` on the device and in the memory format of ``execution``; on leaving, put both back.

    Parameters and buffers keep their identity and dtype; values changed inside the block are kept.
    """
    # Only convolutions want their weights channels-last; a 4-D factor of another layer keeps the layout it reshapes.
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    kernels = {id(p) for module in convolutions for p in module.parameters(recurse=False) if p.dim() == 4}
    tensors = [*model.parameters(), *model.buffers()]  # each once, tied ones too
    layouts = [(tensor.device, tensor.stride()) for tensor in tensors]
    for tensor in tensors:
        memory_format = execution.memory_format if id(tensor) in kernels else torch.preserve_format
        tensor.data = tensor.data.to(execution.torch_device, memory_format=memory_format)
    try:
        yield
    finally:
        for tensor, (device, stride) in zip(tensors, layouts, strict=True):
            if tensor.device != device or tensor.stride() != stride:
                original = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=device)
                tensor.data = original.copy_(tensor.data)


@contextlib.contextmanager
def repeatable(device: torch.device, seed: int) -> Iterator[None]:
    """Draw dropout masks from ``seed`` and pick deterministic CUDA kernels; on leaving, put both states back."""
    on_cuda = device.type == "cuda"
    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark)
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
            cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            if on_cuda:
                cudnn.deterministic, cudnn.benchmark = before


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware (AVX-512 BF16 or AMX; CUDA compute capability 8.0 or later)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # torch publishes no other name for these flags; one that has none of them runs in float32.
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(bool(getattr(torch.cpu, flag, bool)()) for flag in flags)
