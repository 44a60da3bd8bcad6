"""Scoring a network on images, and fine-tuning it after compression."""

from polyadic.training.augment import Augmentation, augment
from polyadic.training.distillation import DistillOptions
from polyadic.training.execution import Execution, Precision, place_model
from polyadic.training.image_task import LAYER_TUNING, NETWORK_TUNING, ImageTask, augmentation_for
from polyadic.training.metric import Metric, paired_interval
from polyadic.training.options import EpochRecord, FinetuneOptions, FinetuneReport, FinetuneStop, Schedule
from polyadic.training.outputs import Compare, distillation_loss, outputs_lost
from polyadic.training.sample_task import SampleTask
from polyadic.training.samples import Forward, Samples, inputs_of, sample_inputs, together
from polyadic.training.score_images import ImageProxy, Proxy, ProxyScore, Score, drop_interval, score_images
from polyadic.training.several_processes import connect_processes, is_main_process, one_voice, several_processes
from polyadic.training.task import FinalScores, ScoreTask, Task
from polyadic.training.train_on_images import check_gradients, train_on_images

__all__ = [
    "LAYER_TUNING",
    "NETWORK_TUNING",
    "Augmentation",
    "Compare",
    "DistillOptions",
    "EpochRecord",
    "Execution",
    "FinalScores",
    "FinetuneOptions",
    "FinetuneReport",
    "FinetuneStop",
    "Forward",
    "ImageProxy",
    "ImageTask",
    "Metric",
    "Precision",
    "Proxy",
    "ProxyScore",
    "SampleTask",
    "Samples",
    "Schedule",
    "Score",
    "ScoreTask",
    "Task",
    "augment",
    "augmentation_for",
    "check_gradients",
    "connect_processes",
    "distillation_loss",
    "drop_interval",
    "inputs_of",
    "is_main_process",
    "one_voice",
    "outputs_lost",
    "paired_interval",
    "place_model",
    "sample_inputs",
    "score_images",
    "several_processes",
    "together",
    "train_on_images",
]
