"""Labelled images from files, folders, arrays and factories, with a seeded hold-out."""

from polyadic.data.images import IMAGENET_MEAN, IMAGENET_STD, ArrayImages, ImageData, ImageSet, ImageView
from polyadic.data.sources import load_data
from polyadic.data.stratified import default_held_out, stratified_split

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ArrayImages",
    "ImageData",
    "ImageSet",
    "ImageView",
    "default_held_out",
    "load_data",
    "stratified_split",
]
