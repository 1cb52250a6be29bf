"""Samples brought together: median, smallest and largest of each figure, and ratios between contestants."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from bench.rounds import Sample


class Spread(NamedTuple):
    """One figure over all rounds."""

    median: float
    low: float
    high: float


class Summary:
    """All figures of a run. Reads nothing but the samples it was made of."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = tuple(samples)
        self._values: dict[tuple[str, str, str], list[float]] = {}
        for sample in self._samples:
            for figure, value in sample.figures.items():
                self._values.setdefault((sample.measure, sample.contestant, figure), []).append(value)

    def figures(self, measure: str) -> list[str]:
        """The names of a measure's figures, in the order in which it gave them."""
        return list(dict.fromkeys(figure for name, _, figure in self._values if name == measure))

    def spread(self, measure: str, contestant: str, figure: str) -> Spread | None:
        """The figure's spread, None when it was not measured."""
        values = self._values.get((measure, contestant, figure))
        return Spread(median(values), min(values), max(values)) if values else None

    def median(self, measure: str, contestant: str, figure: str) -> float | None:
        """The figure's median, None when it was not measured."""
        spread = self.spread(measure, contestant, figure)
        return None if spread is None else spread.median

    def ratio(self, measure: str, contestant: str, peer: str) -> float | None:
        """How many times as many jobs a second one does as the other, None when either was not measured."""
        ours, theirs = (self.median(measure, name, "per_s") for name in (contestant, peer))
        return None if ours is None or not theirs else ours / theirs

    def jobs(self, measure: str, contestant: str) -> int | None:
        """How many jobs a sample of this kind took."""
        found = [one.jobs for one in self._samples if (one.measure, one.contestant) == (measure, contestant)]
        return found[0] if found else None

    def errors(self) -> list[Sample]:
        """Samples without figures."""
        return [sample for sample in self._samples if sample.error is not None]
