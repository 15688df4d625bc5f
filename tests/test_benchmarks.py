"""`make bench` runs. What it measures depends on the machine and is not looked at here."""

from __future__ import annotations

import subprocess
import sys

from tests.needs import ROOT

NAMES = """
CPU of a LIST page of 1,000 keys
CPU of a Scan page of 1 MB
refresh, nothing new: every row upserted
refresh, nothing new: a GET each, 32 threads
requests of that refresh off the floor
rows written by that refresh
peak memory of the refresher
list page of 50 rows, fresh: an empty view
list page of 50 rows, nothing changed: an empty view
pulse with nothing new: an empty view
list page, p99 while the refresher works: while it rests
SQLite: first page
SQLite: page in the middle of all keys
SQLite: filter by status
SQLite: filter by prefix
SQLite: filter by holder
SQLite: filter by lock age
SQLite: counts of all views
SQLite: counts of all statuses
SQLite: search for one key
SQLite: search for a common word
SQLite: search for two words
SQLite: search for what nothing has
unlock the item, confirmed to answered, p95: 2 calls
unlock the .tflock, confirmed to answered, p95: 2 calls
repair the digest, confirmed to answered, p95: 3 calls
restore a version, confirmed to answered, p95: 3 calls
verifying the audit log, every record
appending an audit record, p99
""".strip().splitlines()


def test_the_benchmark_prints_every_figure_and_sends_and_writes_no_more_than_it_must() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = {name: line for line in run.stdout.splitlines() for name in NAMES if line.startswith(f"{name}  ")}
    assert list(lines) == NAMES, run.stderr
    assert all(line.endswith(("ok", "MISSED")) for line in lines.values())
    assert run.returncode == int(any(line.endswith("MISSED") for line in lines.values()))
    for name in ("requests of that refresh off the floor", "rows written by that refresh"):
        assert lines[name].endswith("ok")
