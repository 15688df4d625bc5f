"""One line of the table: what was measured, beside what, and whether the bound holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

HEADINGS = ("", "ours", "theirs", "ratio", "bound", "")


@dataclass(frozen=True)
class Figure:
    """value: what the bound is about.  bound: "at least" where `at_least`, else "at most".

    ours, theirs: as printed, "" where there is nothing to compare with.
    unit: of value and bound, "" for a ratio.
    """

    name: str
    ours: str
    theirs: str
    value: float
    bound: float
    at_least: bool
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.unit else f"{self.value:.2f}" if self.value < 9.995 else f"{self.value:.1f}"
        bound = f"{'≥' if self.at_least else '≤'} {self.bound:g}{self.unit and ' '}{self.unit}"
        return self.name, self.ours, self.theirs, ratio, bound, "ok" if self.holds else "MISSED"


def ratio_of(pairs: Iterable[tuple[float, float]]) -> float:
    """The median of each round's own ratio: what disturbs a round disturbs both its halves."""
    return median(above / below for above, below in pairs)


def table(figures: Sequence[Figure], headings: Sequence[str] = HEADINGS) -> str:
    """Aligned columns, numbers to the right."""
    rows = [tuple(headings), *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    lines = []
    for row in rows:
        first, *middle, last = (
            cell.rjust(width) if 0 < column < len(widths) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *middle, last)).rstrip())
    return "\n".join(lines)


def spoken(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.2f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
