"""The two ways to read an estate, each in a process of its own: `ours CONFIG` and `textbook PORT FILE`."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from sqlalchemy import Column, Float, Integer, MetaData, Table, Text, create_engine
from sqlalchemy.dialects.sqlite import insert

from benchmarks.children import Command, answer_commands
from benchmarks.estate import BUCKET, REGION, TABLE
from lockboard.config import load
from lockboard.domain.inventory import BackendReport, Changes
from lockboard.supervisor import yield_to_pages
from lockboard.wiring import open_backends, open_store

STIR_SECONDS = 0.25
"""Half as long as the pages believe what they last heard of the store."""


def peak_mb() -> float:
    """The most memory this process has had, in MB. On Linux `ru_maxrss` may tell the parent's instead."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def cpu_of(pages: Callable[[], Iterable[object]], count: int) -> dict[str, Any]:
    """CPU seconds of this process for each of the first `count` pages, and how many there were."""
    began, read = time.process_time(), 0
    for _ in islice(pages(), count):
        read += 1
    return {"seconds": (time.process_time() - began) / read, "pages": read}


def timed(work: Callable[[], object]) -> dict[str, Any]:
    """Wall and CPU seconds of `work`."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


class Ours:
    """Lockboard as `lockboard collect` joins it, on the settings of a file."""

    def __init__(self, config: Path) -> None:
        settings = load(config, {})
        _, self._inventory, _ = open_store(settings)
        (opened,) = open_backends(settings)
        assert opened.table is not None
        self._states, self._table = opened.states, opened.table
        self._refresher = opened.refresher(self._inventory)
        self._yields = False

    def commands(self) -> dict[str, Command]:
        """What `answer_commands` offers."""
        pages: dict[str, Command] = {"list_pages": self.list_pages, "scan_pages": self.scan_pages}
        more: dict[str, Command] = {"work": self.work, "stir": self.stir, "peak": self.peak}
        return {**pages, "refresh": self.refresh, **more}

    def list_pages(self, count: int) -> dict[str, Any]:
        return cpu_of(lambda: self._states.list_pages(""), count)

    def scan_pages(self, count: int) -> dict[str, Any]:
        return cpu_of(self._table.scan_pages, count)

    def refresh(self) -> dict[str, Any]:
        reports: list[BackendReport] = []
        took = timed(lambda: reports.append(self._refresher.refresh()))
        (report,) = reports
        if not report.complete:
            raise RuntimeError(report.error)
        return {
            **took,
            "written": report.rows_written,
            "states": report.states,
        }

    def work(self, seconds: float) -> dict[str, Any]:
        """Refresh again and again for so long, with the priority of `lockboard collect`."""
        if not self._yields:
            yield_to_pages()
            self._yields = True
        until, times, written = time.perf_counter() + seconds, 0, 0
        while time.perf_counter() < until:
            written += self.refresh()["written"]
            times += 1
        return {"refreshes": times, "written": written}

    def stir(self, seconds: float) -> dict[str, Any]:
        """Move the generation on every quarter of a second for so long, by news of the backend alone."""
        report = self._inventory.report("bench")
        assert report is not None
        for turn in range(max(1, int(seconds / STIR_SECONDS))):
            told = replace(report, versioning="suspended" if turn % 2 == 0 else report.versioning)
            self._inventory.apply(Changes(report.backend, [], [], told))
            time.sleep(STIR_SECONDS)
        self._inventory.apply(Changes(report.backend, [], [], report))
        return {}

    def peak(self) -> dict[str, Any]:
        return {"mb": peak_mb()}


_metadata = MetaData()
_rows = Table(
    "states",
    _metadata,
    Column("key", Text, primary_key=True),
    Column("etag", Text),
    Column("size", Integer),
    Column("modified", Float),
    Column("digest", Text),
    Column("info", Text),
    Column("status", Text),
)


class Textbook:
    """boto3 as its documentation shows it, and every row upserted each time."""

    def __init__(self, port: int, file: Path) -> None:
        self._endpoint = f"http://127.0.0.1:{port}"
        self._s3 = boto3.client("s3", region_name=REGION, endpoint_url=self._endpoint)
        self._dynamodb = boto3.client("dynamodb", region_name=REGION, endpoint_url=self._endpoint)
        self._engine = create_engine(f"sqlite:///{file}")
        _metadata.create_all(self._engine)

    def commands(self) -> dict[str, Command]:
        """What `answer_commands` offers."""
        pages: dict[str, Command] = {"list_pages": self.list_pages, "scan_pages": self.scan_pages}
        return {**pages, "refresh": self.refresh, "get_each": self.get_each}

    def list_pages(self, count: int) -> dict[str, Any]:
        return cpu_of(self._lists, count)

    def scan_pages(self, count: int) -> dict[str, Any]:
        return cpu_of(self._scans, count)

    def refresh(self) -> dict[str, Any]:
        return timed(self._refresh)

    def get_each(self, keys: list[str], threads: int) -> dict[str, Any]:
        """One GET for each key, `threads` at once."""
        client = boto3.client(
            "s3", region_name=REGION, endpoint_url=self._endpoint, config=Config(max_pool_connections=threads)
        )

        def read(key: str) -> int:
            return len(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

        with ThreadPoolExecutor(threads) as pool:
            return timed(lambda: list(pool.map(read, keys)))

    def _lists(self) -> Iterator[Any]:
        return iter(self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET))

    def _scans(self) -> Iterator[Any]:
        return iter(self._dynamodb.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True))

    def _refresh(self) -> None:
        objects = [found for page in self._lists() for found in page.get("Contents", ())]
        items = {item["LockID"]["S"]: item for page in self._scans() for item in page["Items"]}
        rows = [_row(found, items) for found in objects]
        statement = insert(_rows)
        replaced = {
            column.name: statement.excluded[column.name] for column in _rows.c if not column.primary_key
        }
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=replaced), rows)


def _row(found: dict[str, Any], items: dict[str, Any]) -> dict[str, Any]:
    key, etag = found["Key"], found["ETag"].strip('"')
    digest = items.get(f"{BUCKET}/{key}-md5", {}).get("Digest", {}).get("S")
    info = items.get(f"{BUCKET}/{key}", {}).get("Info", {}).get("S")
    return {
        "key": key,
        "etag": etag,
        "size": found["Size"],
        "modified": found["LastModified"].timestamp(),
        "digest": digest,
        "info": info,
        "status": "ok" if digest == etag else "mismatch",
    }


def main(kind: str, *arguments: str) -> None:
    """Answer commands as one of the two."""
    worker = Ours(Path(arguments[0])) if kind == "ours" else Textbook(int(arguments[0]), Path(arguments[1]))
    answer_commands(worker.commands())


if __name__ == "__main__":
    main(*sys.argv[1:])
