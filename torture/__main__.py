"""`python -m torture`: kill, restart, look, and print the counts. Exit status 1 where a promise was
broken.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from torture.points import Point
from torture.running import DATABASES, EMULATORS, complain, run, told

TURNS = 25


def main(arguments: Sequence[str]) -> int:
    """Run it, print, and return the exit status."""
    asked = _asked(arguments)
    began = time.monotonic()
    wanted = asked.database or list(DATABASES)
    tallies = run(dict.fromkeys(wanted, asked.emulator), asked.turns, complain)
    for point in Point:
        print(f"{point.name}  {point.value}")
    for tally in tallies:
        print(f"\n{told(tally)}")
    kills, broken = sum(tally.trials for tally in tallies), sum(len(tally.faults) for tally in tallies)
    print(f"\n{kills:,} kills, {broken} broken promises, after {time.monotonic() - began:.0f} s.")
    return 1 if broken else 0


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m torture", description="Kills Lockboard in the middle of its actions."
    )
    parser.add_argument(
        "--turns", type=int, default=TURNS, help=f"kills of each action at each point ({TURNS})"
    )
    parser.add_argument("--database", action="append", choices=DATABASES, help="only this one")
    parser.add_argument("--emulator", choices=EMULATORS, default="moto", help="what stands for AWS (moto)")
    return parser.parse_args(arguments)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # unwinds, so that no emulator and no database is left behind


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
