"""Scoring a network on images, and fine-tuning it after compression."""

from polyadic.training.augment import Augmentation, augment
from polyadic.training.distributed import give_up, own_device, processes, several
from polyadic.training.execution import Execution, Precision, place_model
from polyadic.training.options import EpochRecord, FinetuneOptions, FinetuneReport, FinetuneStop, Schedule
from polyadic.training.processes import ALONE, Processes
from polyadic.training.proxy import ImageProxy, Proxy, ProxyScore
from polyadic.training.score_images import Score, drop_interval, score_images
from polyadic.training.score_task import ScoreTask
from polyadic.training.task import LAYER_TUNING, NETWORK_TUNING, FinalScores, ImageTask, Task, augmentation_for
from polyadic.training.train_on_images import train_on_images

__all__ = [
    "ALONE",
    "LAYER_TUNING",
    "NETWORK_TUNING",
    "Augmentation",
    "EpochRecord",
    "Execution",
    "FinalScores",
    "FinetuneOptions",
    "FinetuneReport",
    "FinetuneStop",
    "ImageProxy",
    "ImageTask",
    "Precision",
    "Processes",
    "Proxy",
    "ProxyScore",
    "Schedule",
    "Score",
    "ScoreTask",
    "Task",
    "augment",
    "augmentation_for",
    "drop_interval",
    "give_up",
    "own_device",
    "place_model",
    "processes",
    "score_images",
    "several",
    "train_on_images",
]
