"""`python -m benchmarks`: measure everything and print the table. Exit status 1 where a bound is missed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import parsing, querying, recovering, refreshing, serving
from benchmarks.children import Child
from benchmarks.estate import BUCKET, REGION, TABLE
from benchmarks.figures import Figure, table
from benchmarks.refreshing import LATENCY
from lockboard.adapters.store import open_engine


@dataclass(frozen=True)
class Scale:
    """rounds, web_rounds: how often each pair is measured.  pages: of each kind in a round.

    sample: keys read one by one.  slice_seconds: of one load.  calls: of each question to the store.
    actions: of each kind.  records: of the audit log that is verified.
    """

    keys: int
    pages: dict[str, int]
    rounds: int
    sample: int
    web_rounds: int
    slice_seconds: float
    calls: int
    actions: int
    records: int


WHOLE = Scale(100_000, {"list_pages": 20, "scan_pages": 10}, 3, 4_000, 15, 0.5, 40, 20, 100_000)
QUICK = Scale(10_000, {"list_pages": 5, "scan_pages": 1}, 1, 300, 1, 0.2, 4, 2, 2_000)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and return the exit status."""
    asked = _asked(arguments)
    scale = QUICK if asked.quick else WHOLE
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="lockboard-bench-") as folder,
        Child("benchmarks.endpoint", str(scale.keys)) as endpoint,
    ):
        figures, notes = _measure(Path(folder), endpoint, scale, asked)
    print(f"{scale.keys:,} keys; in refreshes, {LATENCY * 1000:.0f} ms from a request to its answer.\n")
    print(table(figures))
    print("\n" + "\n".join(notes))
    held, took = sum(figure.holds for figure in figures), time.monotonic() - began
    print(f"{held} of {len(figures)} bounds hold, after {took:.0f} s.")
    return 0 if held == len(figures) else 1


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Ratios, each measured within this run."
    )
    for name, words in {
        "--quick": "10,000 keys and one round: shows that it runs, not how fast",
        "--full": "read every key one by one where otherwise a sample is read",
        "--postgres": "ask the questions of a PostgreSQL, too",
    }.items():
        parser.add_argument(name, action="store_true", help=words)
    return parser.parse_args(arguments)


def _measure(
    folder: Path, endpoint: Child, scale: Scale, asked: argparse.Namespace
) -> tuple[list[Figure], list[str]]:
    port = endpoint.ask("address")["port"]
    store = f"sqlite:///{folder / 'inventory.db'}"
    config = _write_config(folder, port, store)
    with Child("benchmarks.worker", "ours", str(config)) as ours:
        with Child("benchmarks.worker", "textbook", str(port), str(folder / "textbook.db")) as textbook:
            _say("CPU of a page")
            with Child("benchmarks.worker", "ours", str(config)) as reader:
                figures = parsing.measure(reader, textbook, scale.pages, max(3, scale.rounds))
            _say("whole refreshes")
            sample = scale.keys if asked.full else scale.sample
            outcome = refreshing.measure(endpoint, ours, textbook, scale.keys, scale.rounds, sample)
            figures += outcome.figures
        with Child("benchmarks.load") as load:
            _say("the list page")
            figures += serving.measure(config, endpoint, ours, load, scale.web_rounds, scale.slice_seconds)
    _say("questions to the store")
    engine = open_engine(store)
    figures += querying.measure(engine, "SQLite", scale.calls)
    if asked.postgres:
        with querying.postgres(folder, engine) as other:
            figures += querying.measure(other, "PostgreSQL", scale.calls)
    engine.dispose()
    _say("actions and the audit log")
    figures += recovering.measure(folder, scale.actions, scale.records)
    return figures, [*outcome.notes, f"The audit log verified has {scale.records:,} records."]


def _say(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr, flush=True)


def _write_config(folder: Path, port: int, store: str) -> Path:
    file, endpoint = folder / "lockboard.toml", f"http://127.0.0.1:{port}"
    backend = {
        "name": "bench",
        "bucket": BUCKET,
        "region": REGION,
        "dynamodb_table": TABLE,
        "s3_endpoint_url": endpoint,
        "dynamodb_endpoint_url": endpoint,
    }
    lines = [f'{name} = "{value}"' for name, value in backend.items()]
    file.write_text(
        "\n".join(["[database]", f'url = "{store}"', "[auth]", 'mode = "demo"', "[[backends]]", *lines, ""])
    )
    return file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
