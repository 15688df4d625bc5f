"""`python -m load`: put Lockboard under load and print what came of it. Exit status 1 where a bound is
missed.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.figures import table
from load.browsers import SECRET_VARIABLE
from load.house import opened
from load.phases import Scale, measure

HEADINGS = ("", "under load", "idle", "ratio", "bound", "")

WHOLE = Scale(
    keys=10_000,
    browsers=50,
    crowd=200,
    seconds=120,
    idle=20,
    rush=15,
    every=15,
    pace=10,
    stay=30,
    actions=5,
    slow=2,
    act=2,
    times=10,
    quick=0,
)
SHORT = Scale(
    keys=2_000,
    browsers=20,
    crowd=60,
    seconds=8,
    idle=3,
    rush=2,
    every=2,
    pace=2,
    stay=4,
    actions=1,
    slow=3,
    act=5,
    times=10,
    quick=1,
)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and return the exit status."""
    asked = _asked(arguments)
    scale = SHORT if asked.short else WHOLE
    seconds = asked.seconds or scale.seconds
    scale = replace(
        scale,
        browsers=asked.browsers or scale.browsers,
        crowd=max(scale.crowd, asked.browsers or 0),
        seconds=seconds,
        actions=max(1, min(scale.actions, int(seconds / (scale.every + scale.slow + 3)))),
    )
    os.environ[SECRET_VARIABLE] = secrets.token_hex(32)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="lockboard-load-") as folder,
        opened(Path(folder), scale.keys, scale.actions, scale.every) as house,
    ):
        figures, notes = measure(house, scale, _say)
    print(f"{scale.keys:,} keys; {scale.browsers} browsers for {scale.seconds:g} s.\n")
    print(table(figures, HEADINGS))
    print("\n" + "\n".join(notes))
    held, took = sum(figure.holds for figure in figures), time.monotonic() - began
    print(f"{held} of {len(figures)} bounds hold, after {took:.0f} s.")
    return 0 if held == len(figures) else 1


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m load", description="Many browsers at once.")
    parser.add_argument("--browsers", type=int, help=f"how many look at the pages ({WHOLE.browsers})")
    parser.add_argument("--seconds", type=float, help=f"for how long ({WHOLE.seconds:g})")
    parser.add_argument("--short", action="store_true", help="less of everything: shows that it runs")
    return parser.parse_args(arguments)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
