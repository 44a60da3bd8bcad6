"""What a score is, and how it and what is lost of it are written: in its own unit, whatever it is."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreWords:
    """The words for the scores of one task.

    An accuracy or another fraction is written in percent, and what is lost of it in points, hundredths. Any other
    number is written as it is, and so is what is lost of it.

    Attributes:
        name: what the score is.
        fraction: whether it is an accuracy or another fraction.
        unit: of any other number, such as "dB".
        judged_on: on what the last scores were taken that chose nothing; None where there is no such thing.
    """

    name: str
    fraction: bool
    unit: str = ""
    judged_on: str | None = None

    def drop(self, before: float, after: float) -> float:
        """What was lost: points of a fraction, else in the score's unit; rounded so that 0.5 is not 0.5000000004."""
        lost = before - after
        if self.fraction:
            return round(100.0 * lost, 9)
        size = max(abs(before), abs(after))
        if not math.isfinite(lost) or not size:
            return lost
        return round(lost, 12 - math.ceil(math.log10(size)))

    @property
    def drop_unit(self) -> str:
        """Of what is lost."""
        return "points" if self.fraction else self.unit

    def label(self, name: str) -> str:
        """``name`` with its unit, for the head of a row."""
        unit = "%" if self.fraction else self.unit
        return f"{name}, {unit}" if unit else name

    def lost_label(self, name: str) -> str:
        """The same for what is lost."""
        return f"{name}, {self.drop_unit}" if self.drop_unit else name

    def number(self, score: float) -> str:
        """A score below a head that names its unit."""
        return f"{100 * score:.2f}" if self.fraction else f"{score:.6g}"

    def said(self, score: float) -> str:
        """A score with its unit."""
        return self._with_unit(self.number(score), "%")

    def lost(self, drop: float) -> str:
        """What is lost, below a head that names its unit."""
        return f"{drop:.2f}" if self.fraction else f"{drop:.4g}"

    def amount(self, drop: float) -> str:
        """What is lost, with its unit."""
        return self._with_unit(self.lost(drop), "points")

    def change(self, drop: float) -> str:
        """The same with its sign, gains being above 0."""
        return self._with_unit(f"{0.0 - drop:+.2f}" if self.fraction else f"{0.0 - drop:+.4g}", "points")

    def allowed(self, drop: float) -> str:
        """What may be lost, as it was given."""
        return self._with_unit(f"{drop:g}", "point" if drop == 1 else "points")

    def _with_unit(self, number: str, of_a_fraction: str) -> str:
        unit = of_a_fraction if self.fraction else self.unit
        return f"{number} {unit}" if unit else number

    @property
    def where(self) -> str:
        """Either ``on the test images`` after a space, or nothing."""
        return "" if self.judged_on is None else f" on the {self.judged_on}"
