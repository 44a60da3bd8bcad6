"""How a score is written: an accuracy in percent, what is lost of it in points, any other number as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyadic.schema import Summary


@dataclass(frozen=True)
class ScoreWords:
    """The words for the scores of one result.

    Attributes:
        name: what the score is.
        fraction: whether it is an accuracy or another fraction.
        judged_on: on what the last scores were taken that chose nothing; None where there is no such thing.
    """

    name: str
    fraction: bool
    judged_on: str | None

    @staticmethod
    def of(summary: Summary) -> ScoreWords:
        """Those of a compression."""
        return ScoreWords(summary.score_name, summary.score_is_fraction, summary.judged_on)

    def label(self, name: str) -> str:
        """``name`` with its unit, for the head of a row."""
        return f"{name}, %" if self.fraction else name

    def number(self, score: float) -> str:
        """A score below a head that names its unit."""
        return f"{100 * score:.2f}" if self.fraction else f"{score:.6g}"

    def said(self, score: float) -> str:
        """A score with its unit."""
        return f"{100 * score:.2f} %" if self.fraction else f"{score:.6g}"

    def amount(self, points: float) -> str:
        """What is lost, from points, of which 100 are a whole score: with its unit."""
        return f"{points:.2f} points" if self.fraction else f"{points / 100:.4g}"

    def change(self, points: float) -> str:
        """The same with its sign, gains being above 0."""
        return f"{0.0 - points:+.2f} points" if self.fraction else f"{0.0 - points / 100:+.4g}"

    def allowed(self, points: float) -> str:
        """What may be lost, as it was given."""
        if not self.fraction:
            return f"{points / 100:g}"
        return f"{points:g} point{'' if points == 1 else 's'}"

    @property
    def where(self) -> str:
        """Either ``on the test images`` after a space, or nothing."""
        return "" if self.judged_on is None else f" on the {self.judged_on}"


def how_it_was_judged(words: ScoreWords, provenance: Mapping[str, object]) -> str:
    """One sentence for the model card."""
    if words.judged_on is None:
        function = provenance.get("score_function")
        by = f"the function `{function}`" if function else "one function"
        return (
            f"Every score is that of {by}, by which ranks were chosen too: there was no other data to judge the result "
            "by, so it is likely to flatter it."
        )
    if words.judged_on == "test images":
        return (
            "Scores were read once, at the end, on test images that chose nothing; ranks and epochs were chosen on "
            "held-out training images."
        )
    return f"Scores were read once, at the end, on {words.judged_on} that chose nothing."
