"""The table of all networks: name, group, how it is built and what it is shown. Nothing is built until it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from zoo.dcgan import Generator
from zoo.detection import detector
from zoo.libraries import missing, timm_network, torchvision_network
from zoo.oddities import Oddities
from zoo.random_weights import seeded
from zoo.sound import M5, DilatedStack
from zoo.unet import UNet

Shape = tuple[int, ...]

IMAGE = (1, 3, 224, 224)
CLIP = (1, 3, 8, 64, 64)


@dataclass(frozen=True)
class Network:
    """One network of the zoo.

    Attributes:
        name: where it comes from and what it is called there.
        group: what it is for.
        builder: builds it with random weights.
        shape: of the example input.
    """

    name: str
    group: str
    builder: Callable[[], nn.Module]
    shape: Shape

    def build(self) -> nn.Module:
        """The network in evaluation mode, the same weights every time."""
        return seeded(self.builder)

    @property
    def absent(self) -> str | None:
        """Why it cannot be built here; None if it can."""
        origin = self.name.partition(":")[0]
        if origin == "timm":
            return missing("torchvision", "timm")
        return missing("torchvision") if origin == "torchvision" else None


def _own(name: str, group: str, builder: Callable[[], nn.Module], shape: Shape) -> Network:
    return Network(f"own:{name}", group, builder, shape)


def _torchvision(name: str, group: str = "classification", shape: Shape = IMAGE, **options: object) -> Network:
    return Network(f"torchvision:{name}", group, partial(torchvision_network, name, **options), shape)


def _detector(name: str, side: int = 224) -> Network:
    return Network(f"torchvision:{name}", "detection", partial(detector, name), (1, 3, side, side))


def _timm(name: str, side: int = 224) -> Network:
    return Network(f"timm:{name}", "classification", partial(timm_network, name), (1, 3, side, side))


_OWN = (
    _own("oddities", "odd layers", Oddities, (1, 3, 24, 20)),
    _own("m5", "sound", M5, (1, 1, 8000)),
    _own("dilated-stack", "sound", DilatedStack, (1, 1, 400)),
    _own("dcgan", "generation", Generator, (1, 100, 1, 1)),
    _own("unet", "segmentation", UNet, (1, 3, 64, 64)),
)

_CLASSIFICATION = (
    _torchvision("resnet18"),
    _torchvision("resnet50"),
    _torchvision("resnext50_32x4d"),
    _torchvision("alexnet"),
    _torchvision("vgg16_bn"),
    _torchvision("squeezenet1_1"),
    _torchvision("densenet121"),
    _torchvision("googlenet"),
    _torchvision("inception_v3", shape=(1, 3, 299, 299)),
    _torchvision("mobilenet_v2"),
    _torchvision("mobilenet_v3_small"),
    _torchvision("mobilenet_v3_large"),
    _torchvision("mnasnet1_0"),
    _torchvision("shufflenet_v2_x1_0"),
    _torchvision("efficientnet_b0"),
    _torchvision("regnet_y_400mf"),
    _torchvision("convnext_tiny"),
    _torchvision("swin_t"),
    _torchvision("vit_b_16"),
    _timm("seresnet18"),
    _timm("res2net50_14w_8s"),
    _timm("resnest14d"),
    _timm("skresnet18"),
    _timm("hrnet_w18_small"),
    _timm("repvgg_a0"),
    _timm("mobileone_s0"),
    _timm("regnetx_002"),
    _timm("nf_regnet_b0", 192),
    _timm("eca_nfnet_l0"),
    _timm("resnetv2_50x1_bit"),
    _timm("mobilenetv3_small_100"),
    _timm("mobilenetv4_conv_small"),
    _timm("tf_efficientnet_lite0"),
    _timm("mixnet_s"),
    _timm("ghostnet_100"),
    _timm("convnext_atto"),
    _timm("convnextv2_atto"),
    _timm("poolformer_s12"),
    _timm("convmixer_768_32"),
    _timm("mixer_s32_224"),
    _timm("resmlp_12_224"),
    _timm("deit_tiny_patch16_224"),
    _timm("levit_128s"),
    _timm("efficientvit_b0"),
    _timm("halonet26t", 256),
)

_OTHERS = (
    _detector("fasterrcnn_mobilenet_v3_large_320_fpn", 320),
    _detector("maskrcnn_resnet50_fpn"),
    _detector("retinanet_resnet50_fpn"),
    _detector("fcos_resnet50_fpn"),
    _detector("ssd300_vgg16", 300),
    _detector("ssdlite320_mobilenet_v3_large", 320),
    _torchvision("fcn_resnet50", "segmentation"),
    _torchvision("deeplabv3_mobilenet_v3_large", "segmentation"),
    _torchvision("lraspp_mobilenet_v3_large", "segmentation"),
    _torchvision("r3d_18", "video", CLIP),
    _torchvision("mc3_18", "video", CLIP),
    _torchvision("r2plus1d_18", "video", CLIP),
    _torchvision("s3d", "video", (1, 3, 16, 224, 224)),
)

NETWORKS = {network.name: network for network in (*_OWN, *_CLASSIFICATION, *_OTHERS)}
