"""The log as files: CSV for tables, JSON lines with the exact records, both sent as they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from flask import Response

from lockboard.domain.access import Actor, Permission
from lockboard.domain.areas import EVERY_BACKEND, EVERYTHING, Scope
from lockboard.domain.audit import UNREADABLE, Audit, Entry, Head, Kind, Record
from lockboard.domain.text import shown, utc
from lockboard.web.audit_asked import AskedAudit
from lockboard.web.audit_rows import changes, happened, request_ids, when
from lockboard.web.exports import csv_line, safe_cell, streamed

COLUMNS = (
    "seq",
    "at",
    "kind",
    "action",
    "result",
    "person",
    "method",
    "address",
    "backend",
    "bucket",
    "key",
    "reason",
    "ticket",
    "message",
    "change",
    "request_ids",
    "action_id",
    "state_id",
    "mac",
)
FORMAT_NAMES = {"csv": "CSV", "jsonl": "JSON lines"}
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


class Extent(NamedTuple):
    """What an export holds. matches: how many records, None where more match than are counted.  first, last:
    the numbers of the oldest and the newest, 0 where none matches.  head: the end of the chain when it was
    made.  part: the areas whose records the person may read, empty for the whole log.
    """

    filter: str
    matches: int | None
    first: int
    last: int
    head: Head | None
    part: Scope = ()

    @property
    def part_words(self) -> str:
        if not self.part:
            return ""
        areas = "; ".join(
            ("every backend" if area.backend == EVERY_BACKEND else shown(area.backend, 80))
            + (f", keys under {shown(area.prefix, 200)}" if area.prefix else "")
            for area in self.part
        )
        return f"only what this person may read: {areas}"

    def facts(self) -> dict[str, object]:
        return {
            "filter": self.filter,
            "count": self.matches,
            "first_seq": self.first,
            "last_seq": self.last,
            "head_seq": self.head.seq if self.head else 0,
            "head_mac": self.head.mac if self.head else "",
            **({"part": [list(area) for area in self.part]} if self.part else {}),
        }


def export(audit: Audit, wanted: AskedAudit, actor: Actor, form: str) -> Response:
    """The file, once the log has taken the record of its being made. form: one of FORMATS.

    It ends at the newest match of the moment before, so that neither this record nor what others append
    meanwhile is in it.

    Raises:
        AuditError: the log did not take the record.
    """
    wanted = wanted.but()
    scope = actor.rights.scope(Permission.AUDIT)
    extent = _extent(audit, wanted)._replace(part=() if EVERYTHING in scope else scope)
    narrowed = ", ".join(filter(None, (extent.part_words, wanted.words())))
    noted = audit.append(
        Entry(
            kind=Kind.EVENT,
            action="export",
            person=actor.person,
            message=f"Exported {_counted(extent)} of the audit log as {FORMAT_NAMES[form]}:"
            f" {narrowed or 'not narrowed'}.",
            facts={"format": form, **extent.facts()},
        )
    )
    records = (record for record in audit.export(wanted.query(1)) if record.seq <= extent.last)
    text = (_csv if form == "csv" else _jsonl)(extent, records, noted)
    return streamed(text, FORMATS[form], f"lockboard-audit-{noted.at:%Y%m%dT%H%M%SZ}.{form}")


def _extent(audit: Audit, wanted: AskedAudit) -> Extent:
    page = audit.page(wanted.query(1))
    if not page.records:
        return Extent(wanted.string(), 0, 0, 0, audit.head())
    oldest = audit.page(replace(wanted.query(1), after=0)).records
    return Extent(
        wanted.string(),
        None if page.capped else page.total,
        oldest[-1].seq if oldest else 0,
        page.records[0].seq,
        audit.head(),
    )


def _counted(extent: Extent) -> str:
    if extent.matches is None:
        return "many records"
    return f"{extent.matches:,} {'record' if extent.matches == 1 else 'records'}"


def _jsonl(extent: Extent, records: Iterator[Record], noted: Record) -> Iterator[str]:
    """First a line about the file, then one for each record, newest first, and at the end how many they were:
    without that last line the file is not whole. `record` is, byte for byte, what the MAC covers; a record
    that was changed so that it is none any more has its text as `unreadable`.
    """
    about = {"about": "lockboard audit log", "exported_at": utc(noted.at), "exported_as": noted.seq}
    yield json.dumps({**about, **extent.facts()}) + "\n"
    count = 0
    for record in records:
        count += 1
        yield f'{{"seq":{record.seq},"mac":{json.dumps(record.mac)},{_body(record)}}}\n'
    yield json.dumps({"end": True, "count": count}) + "\n"


def _body(record: Record) -> str:
    if record.entry.action == UNREADABLE:
        return f'"unreadable":{json.dumps(record.body)}'
    return f'"record":{record.body}'


def _csv(extent: Extent, records: Iterator[Record], noted: Record) -> Iterator[str]:
    """The same in the same order: a line about the file, the names of the columns, the records, the count."""
    head = f"{extent.head.seq} {extent.head.mac}" if extent.head else "none"
    about = (
        f"# Lockboard audit log, exported {utc(noted.at)} as record {noted.seq}",
        f"filter: {extent.filter or 'none'}",
        f"count: {'not counted' if extent.matches is None else extent.matches}",
        f"records {extent.first} to {extent.last}",
        f"chain head: {head}",
        *([f"part: {extent.part_words}"] if extent.part else []),
    )
    yield csv_line([shown(text) for text in about])
    yield csv_line(COLUMNS)
    count = 0
    for record in records:
        count += 1
        yield csv_line(cells(record))
    yield csv_line([f"# end: {count} {'record' if count == 1 else 'records'}"])


def cells(record: Record) -> list[str]:
    """A record's fields as text, safe in a spreadsheet, under COLUMNS."""
    entry = record.entry
    change = "; ".join(f"{one.what}: {one.before} -> {one.after}" for one in changes(entry.facts))
    values = (
        str(record.seq),
        when(record).isoformat().replace("+00:00", "Z"),
        entry.kind.value,
        entry.action,
        entry.result,
        entry.person.name,
        entry.person.method,
        entry.person.address,
        entry.backend,
        entry.bucket,
        entry.key,
        entry.reason,
        entry.ticket,
        entry.message,
        change if happened(record) else change and f"planned: {change}",
        " ".join(request_ids(entry.facts)),
        entry.action_id,
        entry.state_id,
        record.mac,
    )
    return [safe_cell(shown(value)) for value in values]
