"""Networks by name, from a factory or from other libraries, and weights from files."""

from polyadic.models.digits_cnn import DigitsCnn
from polyadic.models.four_layer_cnn import FourLayerCnn
from polyadic.models.resnet18_cifar import ResNet18Cifar
from polyadic.models.resnet_cifar import ResNetCifar
from polyadic.models.source import LIBRARIES, LoadedModel, load_model
from polyadic.models.vgg_cifar import Vgg16Cifar
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
