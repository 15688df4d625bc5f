"""A row of the inventory as columns, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime
from hashlib import blake2b
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Row

from lockboard.adapters.store.schema import PLACE_LENGTH, documents, states
from lockboard.domain.inventory import BackendReport, ListRow, StateRow

LISTED = tuple(states.c[name] for name in ListRow._fields)
"""What a list reads: never the document."""

_FIELDS = tuple(field.name for field in fields(StateRow))
WHOLE = tuple((documents if name == "document" else states).c[name] for name in _FIELDS)
"""What makes a StateRow."""

_TEXTS = tuple(field.name for field in fields(StateRow) if field.type == "str")
_texts_of = attrgetter(*_TEXTS)
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Prepared(NamedTuple):
    """A StateRow as it is stored. checksum: of all that was given."""

    id: str
    backend: str
    place: str
    key: str
    rank: int
    content: str
    lock: str
    terraform: str
    locked_since: float | None
    modified: float | None
    size: int | None
    holder: str
    operation: str
    digest: str
    summary: str
    search: str
    fingerprint: str
    memo: str
    checksum: str
    document: str


def storable(text: str) -> str:
    """`text` as both databases take it: NUL and lone surrogates become escapes, all else stays."""
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def prepare(row: StateRow) -> Prepared:
    """The row as it is stored; its document must be fit for JSON."""
    texts: tuple[str, ...] = _texts_of(row)
    joined = "\x1f".join(texts)
    if not joined.isascii() or "\0" in joined:
        texts = tuple(map(storable, texts))
        joined = "\x1f".join(texts)
    text = dict(zip(_TEXTS, texts, strict=True))
    numbers = (row.rank, _finite(row.locked_since), _finite(row.modified), row.size)
    document = _encode(dict(row.document))
    return Prepared(
        **text,
        place=text["key"][:PLACE_LENGTH],
        rank=numbers[0],
        locked_since=numbers[1],
        modified=numbers[2],
        size=numbers[3],
        checksum=blake2b(f"{joined}\0{numbers}\0{document}".encode(), digest_size=12).hexdigest(),
        document=document,
    )


def lock_ids_of(row: StateRow) -> Iterator[str]:
    """The lock IDs in the row's document (`locks[].id` of the JSON contract), each once."""
    locks = row.document.get("locks")
    found = (
        [lock.get("id") for lock in locks if isinstance(lock, Mapping)]
        if isinstance(locks, list | tuple)
        else []
    )
    yield from dict.fromkeys(storable(value) for value in found if isinstance(value, str) and value)


def to_list_row(row: Row[Any]) -> ListRow:
    """From the columns of LISTED."""
    return ListRow._make(row)


def to_state_row(row: Row[Any]) -> StateRow:
    """From the columns of WHOLE."""
    values = dict(zip(_FIELDS, row, strict=True))
    return StateRow(**{**values, "document": json.loads(values["document"])})


def report_to_text(report: BackendReport) -> str:
    """The report as JSON, times in ISO 8601."""
    return json.dumps(asdict(report), ensure_ascii=True, default=datetime.isoformat)


def report_from_text(text: str) -> BackendReport:
    """The report that `report_to_text` wrote."""
    report = BackendReport(**json.loads(text))
    return replace(
        report,
        attempted_at=datetime.fromisoformat(str(report.attempted_at)),
        data_at=_moment(report.data_at),
        swept_at=_moment(report.swept_at),
    )


def _moment(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and isfinite(number) else None
