"""The options of the training of the whole network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import typer

from polyadic.data import ImageData
from polyadic.errors import PolyadicError
from polyadic.training import (
    LAYER_TUNING,
    NETWORK_TUNING,
    DistillOptions,
    FinetuneOptions,
    ImageTask,
    augmentation_for,
)


@dataclass(frozen=True, kw_only=True)
class FinetuneArguments:
    """How the whole network is trained after the layers are replaced."""

    panel: ClassVar[str] = "Fine-tuning"
    finetune_epochs: Annotated[
        int | None,
        typer.Option(
            help=f"epochs for the network ({NETWORK_TUNING.epochs}, with samples {DistillOptions.epochs}); 0 = none"
        ),
    ] = None
    finetune_rate: Annotated[
        float | None,
        typer.Option(
            help=f"learning rate of these epochs at its highest ({NETWORK_TUNING.learning_rate:g}, "
            f"with samples {DistillOptions.learning_rate:g}); cosine to 0"
        ),
    ] = None
    finetune_minutes: Annotated[
        float | None,
        typer.Option(
            help="with samples: after which the training has ended, whatever the epochs; the rate falls in time for it",
            metavar="MINUTES",
        ),
    ] = None
    freeze_statistics: Annotated[
        bool, typer.Option(help="leave batch-norm statistics as they are: forgets less, learns less; so with samples")
    ] = NETWORK_TUNING.freeze_statistics
    mix_images: Annotated[
        bool, typer.Option(help="train on mixtures of two images with labels, taught by the dense network")
    ] = NETWORK_TUNING.mixing

    @property
    def given(self) -> list[str]:
        """The options that say something else than the defaults."""
        words = {
            "--finetune-epochs": self.finetune_epochs is not None,
            "--finetune-rate": self.finetune_rate is not None,
            "--finetune-minutes": self.finetune_minutes is not None,
            "--freeze-statistics": self.freeze_statistics,
            "--mix-images": self.mix_images,
        }
        return [word for word, is_given in words.items() if is_given]

    def image_task(self, images: ImageData, seed: int) -> ImageTask:
        """The task of images with labels: augmentation as the images allow, the rest by default.

        Raises:
            PolyadicError: a negative number of epochs, a rate that is not above 0, or a limit of time.
        """
        if self.finetune_minutes is not None:
            raise PolyadicError(
                "--finetune-minutes ends the training with samples, and these are images with labels: say how long "
                "with --finetune-epochs"
            )
        epochs = self._epochs(NETWORK_TUNING.epochs)
        network = replace(
            NETWORK_TUNING,
            epochs=max(epochs, 1),
            learning_rate=NETWORK_TUNING.learning_rate if self.finetune_rate is None else self.finetune_rate,
            freeze_statistics=self.freeze_statistics,
            mixing=self.mix_images,
        )
        return image_task(images, seed, network if epochs else None)

    def distillation(self, seed: int) -> DistillOptions:
        """How samples teach, in which batch norms keep their statistics in any case.

        Raises:
            PolyadicError: a negative number of epochs, a rate or a time that is not above 0, or mixtures.
        """
        if self.mix_images:
            raise PolyadicError("--mix-images is of images with labels, and these are samples: leave it out")
        rate = DistillOptions.learning_rate if self.finetune_rate is None else self.finetune_rate
        return DistillOptions(self._epochs(DistillOptions.epochs), rate, minutes=self.finetune_minutes, seed=seed)

    def _epochs(self, usual: int) -> int:
        epochs = usual if self.finetune_epochs is None else self.finetune_epochs
        if epochs < 0:
            raise PolyadicError(f"--finetune-epochs is 0 or more; got {epochs}")
        return epochs


def image_task(images: ImageData, seed: int, network: FinetuneOptions | None = None) -> ImageTask:
    """The task of the command line: augmentation as the images allow; without ``network`` single layers are trained."""
    augmentation = augmentation_for(images)
    layer = replace(LAYER_TUNING, augmentation=augmentation, seed=seed)
    return ImageTask(images, layer, network and replace(network, augmentation=augmentation, seed=seed))
