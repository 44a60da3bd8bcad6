"""What a reader of a result is warned of."""

from __future__ import annotations

from polyadic.pipeline.summarise import warnings_of
from polyadic.schema import Cost, Plan, Summary


def summary(before: float, after: float) -> Summary:
    """A run under a budget with these held-out scores around its fine-tuning."""
    held_out = {"dense": 0.999, "before_finetuning": before, "compressed": after}
    cost = Cost(params=10, macs=10, bytes=40)
    return Summary(cost, cost, 0.93, 0.92, 0.91, "top-1 accuracy", None, None, held_out, Plan(), (), {})


def test_fine_tuning_that_was_kept_against_the_held_out_images_is_said() -> None:
    (said,) = warnings_of(summary(0.985, 0.98345))
    assert "from 98.50 to 98.34 %" in said
    assert "probably been trained on them" in said
    assert warnings_of(summary(0.985, 0.985)) == ()
    assert warnings_of(summary(0.97, 0.985)) == ()
