"""YOLOv5n, a detector of 80 classes whose neck joins three sizes of maps; average precision on images of COCO."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from trained.packed import decoded, photographs, to_tensor

STRIDES, CLASSES, ANCHORS = (8, 16, 32), 80, 3
LONGER, GREY = 640, 114
THRESHOLD, OVERLAP, MOST = 0.001, 0.6, 300


class _Cv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int | None = None) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, *, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = _Cv(channels, channels), _Cv(channels, channels, 3), add

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.add else y


class _C3(nn.Module):
    def __init__(self, inputs: int, outputs: int, count: int = 1, *, add: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1, self.cv2, self.cv3 = _Cv(inputs, half), _Cv(inputs, half), _Cv(2 * half, outputs)
        self.m = nn.Sequential(*(_Bottleneck(half, add=add) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))
        return y


class _SPPF(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = _Cv(channels, channels // 2), _Cv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.cv1(x)]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, 1, 2))
        y: Tensor = self.cv2(torch.cat(pooled, 1))
        return y


class _Detect(nn.Module):
    anchors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.ModuleList(nn.Conv2d(c, ANCHORS * (5 + CLASSES), 1) for c in (64, 128, 256))
        self.register_buffer("anchors", torch.zeros(3, ANCHORS, 2))  # in units of the stride

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self.m, maps, strict=True)]


class YOLOv5n(nn.Module):
    """(N, 3, H, W) in 0..1 to three maps (N, 3 x 85, H / s, W / s) of box, objectness and class logits."""

    def __init__(self) -> None:
        super().__init__()
        up, join = nn.Upsample(scale_factor=2), nn.Identity()
        self.model = nn.ModuleList(
            [
                *(_Cv(3, 16, 6, 2, 2), _Cv(16, 32, 3, 2), _C3(32, 32), _Cv(32, 64, 3, 2), _C3(64, 64, 2)),
                *(_Cv(64, 128, 3, 2), _C3(128, 128, 3), _Cv(128, 256, 3, 2), _C3(256, 256), _SPPF(256)),
                *(_Cv(256, 128), up, join, _C3(256, 128, add=False)),
                *(_Cv(128, 64), up, join, _C3(128, 64, add=False)),
                *(_Cv(64, 64, 3, 2), join, _C3(128, 128, add=False)),
                *(_Cv(128, 128, 3, 2), join, _C3(256, 256, add=False), _Detect()),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Down, up with what was passed on the way down, and down again."""
        m, kept = self.model, {}
        for number in range(11):
            kept[number] = x = m[number](x)
        kept[14] = y = m[14](m[13](torch.cat([m[11](x), kept[6]], 1)))
        fine = m[17](torch.cat([m[15](y), kept[4]], 1))
        middle = m[20](torch.cat([m[18](fine), kept[14]], 1))
        coarse = m[23](torch.cat([m[21](middle), kept[10]], 1))
        maps: list[Tensor] = m[24]([fine, middle, coarse])
        return maps


def network(folder: Path) -> nn.Module:
    """As its authors trained it on train2017 (AGPL-3.0: for tests, never shipped)."""
    model = YOLOv5n()
    model.load_state_dict(load_file(folder / "yolov5n_coco.safetensors"), strict=False)  # no num_batches_tracked
    return model.float().eval()


def parts(model: nn.Module, batch: Tensor) -> list[Tensor]:
    """What of the maps counts: where boxes are, objectness, and classes where there is an object.

    Logits far below nought all mean "nothing here", and boxes of nothing mean nothing: compared as they are, they
    would outweigh the objects. So boxes and classes are weighted by the objectness that the network itself finds.
    """
    outputs: list[Tensor] = []
    for logits in model(batch):
        y = logits.unflatten(1, (ANCHORS, 5 + CLASSES))
        found = y[:, :, 4:5].sigmoid()
        outputs += [found * y[:, :, :4].sigmoid(), found, found * y[:, :, 5:].sigmoid()]
    return outputs


def lesson(model: nn.Module, batch: Tensor) -> list[Tensor]:
    """What it is taught by: boxes, objectness and classes as they are, at every place, and what of them counts.

    What counts alone is learned by heart: a thousand crops show few objects, but every place of them has logits.
    """
    maps = model(batch)
    outputs: list[Tensor] = []
    for logits in maps:
        y = logits.unflatten(1, (ANCHORS, 5 + CLASSES))
        found = y[:, :, 4:5].sigmoid()
        outputs += [y[:, :, :4], y[:, :, 4:5], y[:, :, 5:]]
        outputs += [found * y[:, :, :4].sigmoid(), found, found * y[:, :, 5:].sigmoid()]
    return outputs


def boxes_of(model: nn.Module, image: Image.Image) -> Tensor:
    """(n, 6): x1, y1, x2, y2 in pixels of the image, score, class; the best 300 after suppression by class."""
    width, height = image.size
    scale = LONGER / max(width, height)
    size = (round(width * scale), round(height * scale))
    padded = Image.new("RGB", tuple(-(-side // 32) * 32 for side in size), (GREY, GREY, GREY))  # type: ignore[arg-type]
    left, top = (padded.width - size[0]) // 2, (padded.height - size[1]) // 2
    padded.paste(image.resize(size, Image.Resampling.BILINEAR), (left, top))
    with torch.inference_mode():
        maps = model(to_tensor(padded)[None] / 255)
    found = _decoded(maps, model.get_buffer("model.24.anchors"))
    found[:, :4] = (found[:, :4] - torch.tensor([left, top, left, top])) / scale
    return _suppressed(found)


def _decoded(maps: list[Tensor], anchors: Tensor) -> Tensor:
    """Boxes above the threshold."""
    found = []
    for stride, own, logits in zip(STRIDES, anchors, maps, strict=True):
        _, _, height, width = logits.shape
        y = logits[0].reshape(ANCHORS, 5 + CLASSES, height, width).permute(0, 2, 3, 1).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centre = (y[..., :2] * 2 - 0.5 + torch.stack([columns, rows], -1)) * stride
        half = (2 * y[..., 2:4]).square() * own[:, None, None] * stride / 2
        best, kind = y[..., 5:].max(-1)
        score = y[..., 4] * best
        rows = torch.cat([centre - half, centre + half, score[..., None], kind[..., None].float()], -1).flatten(0, 2)
        found.append(rows[rows[:, 4] > THRESHOLD])
    return torch.cat(found)


def _suppressed(found: Tensor) -> Tensor:
    """Of boxes of a class that overlap by more than 0.6 the best stays."""
    found = found[found[:, 4].argsort(descending=True, stable=True)]
    shifted = (found[:, :4] + found[:, 5:] * 10_000).numpy()  # boxes of two classes never meet
    area = np.prod(shifted[:, 2:] - shifted[:, :2], axis=1)
    alive, kept = np.ones(len(shifted), bool), []
    for number, box in enumerate(shifted):
        if not alive[number]:
            continue
        kept.append(number)
        if len(kept) == MOST:
            break
        sides = np.minimum(shifted[:, 2:], box[2:]) - np.maximum(shifted[:, :2], box[:2])
        shared = np.prod(sides.clip(min=0), axis=1)
        alive &= shared <= OVERLAP * (area + area[number] - shared)
    return found[kept]


class Coco:
    """The 50 images of val2017, judged by pycocotools (mean over IoU .5:.95 and the classes present)."""

    def __init__(self, folder: Path) -> None:
        from pycocotools.coco import COCO

        with np.load(folder / "detection_coco_val.npz", allow_pickle=False) as packed:
            files = {key: packed[key] for key in packed.files}
        self.images = [image.convert("RGB") for image in decoded(files["jpeg"], files["offsets"])]
        notes: list[dict[str, Any]] = []
        for boxes, offsets, crowd in (("boxes", "box_offsets", 0), ("crowd_boxes", "crowd_offsets", 1)):
            for number, (begin, end) in enumerate(zip(files[offsets][:-1], files[offsets][1:], strict=True)):
                for kind, x1, y1, x2, y2 in files[boxes][begin:end].tolist():
                    box, area = [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1)
                    note = {"id": len(notes) + 1, "image_id": number, "category_id": int(kind), "bbox": box}
                    notes.append({**note, "area": area, "iscrowd": crowd})
        self.truth = COCO()
        self.truth.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(len(self.images))],
            "annotations": notes,
            "categories": [{"id": number} for number in range(CLASSES)],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            self.truth.createIndex()

    def score(self, model: nn.Module) -> dict[str, float]:
        """AP and AP at IoU .5."""
        from pycocotools.cocoeval import COCOeval

        rows = []
        for number, image in enumerate(self.images):
            found = boxes_of(model, image)
            sizes = found[:, 2:4] - found[:, :2]
            table = torch.cat([torch.full((len(found), 1), float(number)), found[:, :2], sizes, found[:, 4:]], 1)
            rows.append(table.numpy())
        with contextlib.redirect_stdout(io.StringIO()):
            judged = COCOeval(self.truth, self.truth.loadRes(np.concatenate(rows).astype(np.float64)), "bbox")
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
        return {"AP": float(judged.stats[0]), "AP50": float(judged.stats[1])}


def samples(folder: Path, count: int, side: int = 320) -> Tensor:
    """(N, 3, S, S) in 0..1: crops of the 50 images of train2017 at their usual size, and scenes of four photographs."""
    generator = torch.Generator().manual_seed(0)
    with np.load(folder / "detection_coco_train.npz", allow_pickle=False) as packed:
        scenes = [image.convert("RGB") for image in decoded(packed["jpeg"], packed["offsets"])]
    cut = [_crop(scenes[number % len(scenes)], side, generator) for number in range(count // 2)]
    single = photographs(folder, min(1000, 4 * (count - len(cut))))
    for _ in range(count - len(cut)):
        scene = Image.new("RGB", (448, 448))
        for corner in range(4):
            image = single[int(torch.randint(0, len(single), (), generator=generator))]
            scene.paste(image, (224 * (corner % 2), 224 * (corner // 2)))
        cut.append(_crop(scene, side, generator, 640))
    return torch.stack(cut)


def _crop(image: Image.Image, side: int, generator: torch.Generator, longer: int = LONGER) -> Tensor:
    """A square of the image at 0.6 to 1.1 of its usual size, mirrored half of the time."""
    scale = longer / max(image.size) * float(torch.empty(()).uniform_(0.6, 1.1, generator=generator))
    size = tuple(max(side, round(edge * scale)) for edge in image.size)
    resized = to_tensor(image.resize(size, Image.Resampling.BILINEAR)) / 255  # type: ignore[arg-type]
    top, left = (int(torch.randint(0, edge - side + 1, (), generator=generator)) for edge in resized.shape[1:])
    crop = resized[:, top : top + side, left : left + side]
    return crop.flip(2) if torch.rand((), generator=generator) < 0.5 else crop


def example_input() -> Tensor:
    """What is timed."""
    return torch.zeros(1, 3, 640, 640)
