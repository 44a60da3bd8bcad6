"""ESPNet (Mehta et al. 2018), street scenes in 11 classes; mean intersection over union on CamVid."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from trained.packed import to_tensor

MEAN = torch.tensor([110.331, 108.409, 105.033])[:, None, None]  # of the training images, blue first
STD = torch.tensor([72.126, 72.691, 69.904])[:, None, None]
CLASSES, VOID = 11, 11


class _C(nn.Module):
    """A convolution of which the others are made; padding keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = (kernel - 1) // 2 * dilation
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class _BR(nn.Module):
    """Batch norm and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn, self.act = nn.BatchNorm2d(channels, eps=1e-3), nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(x))
        return y


class _CBR(nn.Module):
    """Convolution, batch norm, PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = _C(inputs, outputs, kernel, stride).conv
        self.bn, self.act = nn.BatchNorm2d(outputs, eps=1e-3), nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class _Pyramid(nn.Module):
    """Five dilated convolutions of a reduced input, their sums put side by side."""

    def __init__(self, inputs: int, outputs: int, *, down: bool = False, add: bool = True) -> None:
        super().__init__()
        n = outputs // 5
        self.c1 = _C(inputs, n, 3, 2) if down else _C(inputs, n, 1)
        self.d1, self.d2, self.d4, self.d8, self.d16 = (
            _C(n, outputs - 4 * n if d == 1 else n, 3, 1, d) for d in (1, 2, 4, 8, 16)
        )
        self.add = add and not down
        if down:
            self.bn, self.act = nn.BatchNorm2d(outputs, eps=1e-3), nn.PReLU(outputs)
        else:
            self.bn = _BR(outputs)

    def forward(self, x: Tensor) -> Tensor:
        r = self.c1(x)
        sums = [self.d2(r)]
        for layer in (self.d4, self.d8, self.d16):
            sums.append(sums[-1] + layer(r))
        y = torch.cat([self.d1(r), *sums], 1)
        y = self.bn(x + y if self.add else y)
        return self.act(y) if hasattr(self, "act") else y


class _Pool(nn.Module):
    """Means of 3 x 3 pixels, as often as asked."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.pools = nn.Sequential(*(nn.AvgPool2d(3, 2, 1) for _ in range(times)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pools(x)
        return y


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.level1, self.sample1, self.sample2 = _CBR(3, 16, 3, 2), _Pool(1), _Pool(2)
        self.b1, self.b2, self.b3 = _BR(19), _BR(131), _BR(256)
        self.level2_0, self.level3_0 = _Pyramid(19, 64, down=True), _Pyramid(131, 128, down=True)
        self.level2 = nn.ModuleList(_Pyramid(64, 64) for _ in range(2))
        self.level3 = nn.ModuleList(_Pyramid(128, 128) for _ in range(8))
        self.classifier = _C(256, 12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = self.b1(torch.cat([self.level1(x), self.sample1(x)], 1))
        first = y = self.level2_0(a)
        for block in self.level2:
            y = block(y)
        b = self.b2(torch.cat([y, first, self.sample2(x)], 1))
        first = y = self.level3_0(b)
        for block in self.level3:
            y = block(y)
        return a, b, self.classifier(self.b3(torch.cat([first, y], 1)))


class ESPNet(nn.Module):
    """(N, 3, H, W), blue first, normalised, to logits (N, 12, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.br = nn.BatchNorm2d(12, eps=1e-3)
        self.up_l3 = nn.Sequential(nn.ConvTranspose2d(12, 12, 2, 2, bias=False))
        self.level3_C = _C(131, 12, 1)
        self.combine_l2_l3 = nn.Sequential(_BR(24), _Pyramid(24, 12, add=False))
        self.up_l2 = nn.Sequential(nn.ConvTranspose2d(12, 12, 2, 2, bias=False), _BR(12))
        self.conv = _CBR(31, 12, 3)
        self.classifier = nn.ConvTranspose2d(12, 12, 2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Through the pyramid, and up again in three steps."""
        a, b, coarse = self.encoder(x)
        u = self.up_l3(self.br(coarse))
        v = self.up_l2(self.combine_l2_l3(torch.cat([self.level3_C(b), u], 1)))
        logits: Tensor = self.classifier(self.conv(torch.cat([v, a], 1)))
        return logits


def network(folder: Path) -> nn.Module:
    """As its authors trained it on CamVid (MIT)."""
    model = ESPNet()
    model.load_state_dict(load_file(folder / "espnet_camvid.safetensors"), strict=False)  # no num_batches_tracked
    return model.eval()


def _split(folder: Path, split: str) -> tuple[list[Tensor], list[Tensor]]:
    """Images as the network takes them, and their labels (H, W)."""
    with np.load(folder / "segmentation_camvid.npz", allow_pickle=False) as packed:
        files = {key: packed[key] for key in packed.files}
    images, labels = [], []
    for number, name in enumerate(files["split"]):
        if str(name) != split:
            continue
        opened = []
        for data, offsets in (("jpeg", "offsets"), ("png", "label_offsets")):
            begin, end = files[offsets][number : number + 2]
            opened.append(Image.open(io.BytesIO(files[data][begin:end].tobytes())))
        images.append((to_tensor(opened[0].convert("RGB")).flip(0) - MEAN) / STD / 255)
        labels.append(torch.from_numpy(np.array(opened[1])).long())
    return images, labels


def samples(folder: Path, crops: int = 6, height: int = 240, width: int = 320) -> Tensor:
    """(N, 3, H, W): crops of the 41 frames for calibration, every other one mirrored. Their labels are not read."""
    generator = torch.Generator().manual_seed(0)
    cut = []
    for image in _split(folder, "val")[0]:
        for number in range(crops):
            top = int(torch.randint(0, image.shape[1] - height + 1, (), generator=generator))
            left = int(torch.randint(0, image.shape[2] - width + 1, (), generator=generator))
            crop = image[:, top : top + height, left : left + width]
            cut.append(crop.flip(2) if number % 2 else crop)
    return torch.stack(cut)


class CamVid:
    """The 59 images for scores, void pixels left out."""

    def __init__(self, folder: Path) -> None:
        self.images, self.labels = _split(folder, "test")

    def confusion(self, model: nn.Module) -> Tensor:
        """(59, 11, 11): of each image, true classes by found ones."""
        counts = []
        with torch.inference_mode():
            for image, labels in zip(self.images, self.labels, strict=True):
                found = model(image[None])[0, :CLASSES].argmax(0)
                seen = labels != VOID
                pairs = labels[seen] * CLASSES + found[seen]
                counts.append(torch.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES))
        return torch.stack(counts).double()


def mean_iou(confusion: Tensor) -> float:
    """Of one confusion matrix over all images, the mean over the classes."""
    total = confusion.sum(0)
    hits = total.diagonal()
    return float((hits / (total.sum(0) + total.sum(1) - hits)).mean())


def iou_interval(dense: Tensor, other: Tensor, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the loss of mean IoU: images drawn with replacement, the same for both networks."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, len(dense), (draws, len(dense)), generator=generator)
    lost = torch.tensor([mean_iou(dense[rows]) - mean_iou(other[rows]) for rows in drawn])
    low, high = torch.quantile(lost, torch.tensor([0.025, 0.975])).tolist()
    return low, high


def example_input() -> Tensor:
    """What is timed."""
    return torch.zeros(1, 3, 360, 480)
