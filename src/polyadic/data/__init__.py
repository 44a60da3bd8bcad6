"""Labelled images from files, folders, arrays and factories, with a seeded hold-out; and samples without labels."""

from polyadic.data.images import IMAGENET_MEAN, IMAGENET_STD, ArrayImages, ImageData, ImageSet, ImageView
from polyadic.data.pixels import ChannelOrder, Layout, Pixels, ValueRange
from polyadic.data.sample_files import load_samples, names_samples
from polyadic.data.sources import images_of, load_data
from polyadic.data.stratified import default_held_out, stratified_split

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ArrayImages",
    "ChannelOrder",
    "ImageData",
    "ImageSet",
    "ImageView",
    "Layout",
    "Pixels",
    "ValueRange",
    "default_held_out",
    "images_of",
    "load_data",
    "load_samples",
    "names_samples",
    "stratified_split",
]
