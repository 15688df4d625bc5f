"""For programs: CSV that no spreadsheet takes for formulas, and the JSON contract, sent as they are read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain

from flask import Response

from lockboard.domain.inventory import BackendReport, StateRow
from lockboard.domain.model import Backend
from lockboard.domain.text import utc
from lockboard.services.documents import dated
from lockboard.services.scan import backend_entry, never_read

COLUMNS = (
    "backend",
    "bucket",
    "key",
    "severity",
    "content",
    "lock",
    "terraform",
    "summary",
    "holder",
    "operation",
    "lock_id",
    "locked_since",
    "last_written",
    "size",
    "digest",
    "checked_at",
    "id",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(rows: Iterable[StateRow], reports: Sequence[BackendReport], now: datetime) -> Response:
    """One line for each key under COLUMNS."""
    by_name = _by_name(reports)

    def text() -> Iterator[str]:
        yield csv_line(COLUMNS)
        for row in rows:
            yield csv_line(cells(row, now, by_name.get(row.backend)))

    return streamed(text(), "text/csv; charset=utf-8", f"lockboard-{now:%Y%m%dT%H%M%SZ}.csv")


def as_json(
    rows: Iterable[StateRow],
    reports: Sequence[BackendReport],
    now: datetime,
    backends: Mapping[str, Backend],
    *,
    attachment: bool = True,
) -> Response:
    """The JSON contract: `generated_at`, `backends`, `states`."""
    by_name = _by_name(reports)
    head = [backend_entry(report) if (report := by_name.get(name)) else never_read(name) for name in backends]

    def text() -> Iterator[str]:
        yield f'{{"generated_at": {json.dumps(utc(now))},\n "backends": {json.dumps(head)},\n "states": ['
        between = "\n"
        for row in rows:
            yield between + json.dumps(dated(row.document, now, by_name.get(row.backend)))
            between = ",\n"
        yield "\n]}\n"

    return streamed(text(), "application/json", f"lockboard-{now:%Y%m%dT%H%M%SZ}.json" if attachment else "")


def cells(row: StateRow, now: datetime, report: BackendReport | None) -> list[str]:
    """A row's fields as text, safe in a spreadsheet."""
    entry = dated(row.document, now, report)
    # The lock that the row's holder is of: the first that can be read.
    lock: Mapping[str, object] = next((lock for lock in entry["locks"] if lock.get("id") is not None), {})
    values = (
        row.backend,
        entry.get("bucket"),
        row.key,
        entry.get("severity"),
        row.content,
        row.lock,
        row.terraform,
        row.summary,
        row.holder,
        row.operation,
        lock.get("id"),
        _moment(row.locked_since),
        _moment(row.modified),
        row.size,
        row.digest,
        entry.get("checked_at"),
        row.id,
    )
    return [safe_cell("" if value is None else str(value)) for value in values]


def safe_cell(text: str) -> str:
    """Text that a spreadsheet shows instead of running: `=1+1` becomes `'=1+1`."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _moment(seconds: float | None) -> str:
    return utc(datetime.fromtimestamp(seconds, UTC)) if seconds is not None else ""


def csv_line(values: Sequence[str]) -> str:
    """One record of a CSV file, quoted where needed; its cells are made safe before."""
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def _by_name(reports: Sequence[BackendReport]) -> Mapping[str, BackendReport]:
    return {report.backend: report for report in reports}


def streamed(text: Iterator[str], content_type: str, name: str) -> Response:
    """The first piece is made before the answer starts, so a failing store gives an error, no half file."""
    pieces = _in_blocks(text)
    first = next(pieces, b"")
    headers = {"Content-Disposition": f'attachment; filename="{name}"'} if name else {}
    return Response(chain((first,), pieces), content_type=content_type, headers=headers)


def _in_blocks(text: Iterator[str], least: int = 32_768) -> Iterator[bytes]:
    """Few large pieces instead of many small ones: each costs a write to the socket."""
    held: list[str] = []
    count = 0
    for piece in text:
        held.append(piece)
        count += len(piece)
        if count >= least:
            yield "".join(held).encode("utf-8", "replace")
            held, count = [], 0
    if held:
        yield "".join(held).encode("utf-8", "replace")
