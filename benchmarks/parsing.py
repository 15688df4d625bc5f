"""CPU of a page: process time, from asking for it to having its rows, at no latency."""

from __future__ import annotations

from statistics import median

from benchmarks.children import Child
from benchmarks.figures import Figure, ratio_of, spoken

_NAMES = {"list_pages": "CPU of a LIST page of 1,000 keys", "scan_pages": "CPU of a Scan page of 1 MB"}
_AT_LEAST = {"list_pages": 20.0, "scan_pages": 5.0}


def measure(ours: Child, textbook: Child, pages: dict[str, int], rounds: int) -> list[Figure]:
    """Ours beside boto3's own paginator. `pages`: how many of each kind are read in a round."""
    figures = []
    for kind, name in _NAMES.items():
        pairs = []
        for turn in range(rounds + 1):
            theirs = textbook.ask(kind, count=pages[kind])["seconds"]
            mine = ours.ask(kind, count=pages[kind])["seconds"]
            if turn:  # the first round opens connections and loads service models
                pairs.append((theirs, mine))
        theirs, mine = (median(half) for half in zip(*pairs, strict=True))
        figures.append(
            Figure(name, spoken(mine), spoken(theirs), ratio_of(pairs), _AT_LEAST[kind], at_least=True)
        )
    return figures
