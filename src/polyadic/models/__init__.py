"""Networks by name, from a factory or from other libraries, and weights from files."""

from polyadic.models.plain_cnns import DigitsCnn, FourLayerCnn, Vgg16Cifar
from polyadic.models.resnets import ResNet18Cifar, ResNetCifar
from polyadic.models.source import LIBRARIES, LoadedModel, load_model
from polyadic.models.weights import load_weights, read_state_dict
from polyadic.models.zoo import ZOO, ZooModel

__all__ = [
    "LIBRARIES",
    "ZOO",
    "DigitsCnn",
    "FourLayerCnn",
    "LoadedModel",
    "ResNet18Cifar",
    "ResNetCifar",
    "Vgg16Cifar",
    "ZooModel",
    "load_model",
    "load_weights",
    "read_state_dict",
]
