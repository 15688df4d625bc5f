"""Big listings read cheaply: `before-parse` hooks that take the rows out of an answer before botocore builds
dictionaries of it.

botocore spends most of a listing's time on timestamps and on dictionaries nobody needs. Each hook cuts the
rows out of the body, reads them into plain tuples and leaves the small rest to botocore, so that retries,
errors and tokens stay botocore's. The rows travel back inside the parsed answer, hence each request has its
own. Where a body is not as expected (rows found differ from rows counted) nothing is cut and botocore parses
it all.
"""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from lockboard.domain.ports import Listed, TableItem

_ROWS = "LockboardRows"


class VersionRow(NamedTuple):
    """One `Version` or `DeleteMarker` of ListObjectVersions. `modified` is LastModified as S3 wrote it."""

    key: str
    version_id: str
    latest: bool
    deleted: bool
    modified: str
    etag: str
    size: int


def install(client: Any) -> None:
    """Register the hooks of the client's service. Harmless when done twice."""
    # Under `before-parse.s3` they would run after botocore's check for errors inside a 200, which parses the
    # whole body.
    for operation, hook in _HOOKS.items():
        client.meta.events.register(f"before-parse.*.{operation}", hook, unique_id=f"lockboard-{operation}")


def objects_of(answer: Mapping[str, Any]) -> list[Listed]:
    """The objects of a ListObjectsV2 answer to a request that named `EncodingType="url"`."""
    rows: list[Listed] | None = answer.get(_ROWS)
    if rows is not None:
        return rows
    decode = _decoder(answer.get("EncodingType") == "url")
    return [
        (decode(o["Key"]), o.get("ETag", "").strip('"'), o.get("Size", 0), _written(o["LastModified"]))
        for o in answer.get("Contents", ())
    ]


def versions_of(answer: Mapping[str, Any]) -> list[VersionRow]:
    """The versions and delete markers of a ListObjectVersions answer to a request that named
    `EncodingType="url"`.

    They stand in the order of the answer, except after botocore's own parser: then all versions come before
    all markers.
    """
    rows: list[VersionRow] | None = answer.get(_ROWS)
    if rows is not None:
        return rows
    decode = _decoder(answer.get("EncodingType") == "url")
    return [
        VersionRow(
            decode(v["Key"]),
            v.get("VersionId", ""),
            v.get("IsLatest", False),
            deleted,
            _written(v["LastModified"]),
            v.get("ETag", "").strip('"'),
            v.get("Size", 0),
        )
        for deleted, name in ((False, "Versions"), (True, "DeleteMarkers"))
        for v in answer.get(name, ())
    ]


def items_of(answer: Mapping[str, Any]) -> list[TableItem] | None:
    """The items of a Scan or GetItem answer, attributes as the service wrote them; those without a string
    LockID left out.

    None where the answer was not DynamoDB's JSON.
    """
    rows: list[TableItem] | None = answer.get(_ROWS)
    return rows


def _decoder(encoded: bool) -> Any:
    return unquote_plus if encoded else str


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ------------------------------------------------------------------ S3

_ETAG = r'<ETag>(?:&quot;|&#34;|")?([^<&"]*+)[^<]*+</ETag>\s*+'
_CHECKSUMS = r"(?:<Checksum\w++>[^<]*+</Checksum\w++>\s*+)*+"
_OBJECT = re.compile(
    r"<Contents>\s*+<Key>([^<]*+)</Key>\s*+<LastModified>([^<]*+)</LastModified>\s*+"
    rf"{_ETAG}{_CHECKSUMS}<Size>(\d++)</Size>"
)
_VERSION_AS_AWS_WRITES_IT = re.compile(
    r"<(Version|DeleteMarker)>\s*+<Key>([^<]*+)</Key>\s*+<VersionId>([^<]*+)</VersionId>\s*+"
    r"<IsLatest>([^<]*+)</IsLatest>\s*+<LastModified>([^<]*+)</LastModified>\s*+"
    rf"(?:{_ETAG}{_CHECKSUMS}<Size>(\d++)</Size>|(?=<Owner>|</DeleteMarker>))"
)
_VERSION = re.compile(r"<(Version|DeleteMarker)>(.*?)</(?:Version|DeleteMarker)>", re.DOTALL)
_FIELD = re.compile(r"<(\w+)>([^<]*)</")


def _take_objects(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    cut = _cut(response_dict, ("Contents",))
    if cut is None or len(found := _OBJECT.findall(cut.text)) != cut.rows:
        return
    decode = cut.decode
    customized_response_dict[_ROWS] = [
        (decode(key) if "%" in key or "+" in key or "&" in key else key, etag, int(size), modified)
        for key, modified, etag, size in found
    ]
    response_dict["body"] = cut.rest


def _take_versions(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    cut = _cut(response_dict, ("Version", "DeleteMarker"))
    if cut is None:
        return
    rows = _versions_in_order(cut) or _versions_by_name(cut)
    if rows is not None:
        response_dict["body"], customized_response_dict[_ROWS] = cut.rest, rows


class _Cut(NamedTuple):
    """`text` holds the elements of `rows` rows; `rest` is the body without them."""

    text: str
    rest: bytes
    rows: int

    def decode(self, key: str) -> str:
        """A key as it was before XML and, where the answer says so, URL encoding: some stores know no
        `encoding-type`.
        """
        key = _unescape(key)
        return unquote_plus(key) if b"<EncodingType>url<" in self.rest else key


def _cut(response_dict: Mapping[str, Any], names: Iterable[str]) -> _Cut | None:
    """None where the body is not plainly some elements of these names in a row, and the page's own elements
    around them.
    """
    body = response_dict["body"]
    if response_dict["status_code"] != 200 or not isinstance(body, bytes):
        return None
    starts = [start for name in names if (start := body.find(f"<{name}>".encode())) >= 0]
    ends = [end + len(name) + 3 for name in names if (end := body.rfind(f"</{name}>".encode())) >= 0]
    if not starts or not ends:
        return None
    inside, rest = body[min(starts) : max(ends)], body[: min(starts)] + body[max(ends) :]
    if any(name not in rest and name in inside for name in (b"<IsTruncated>", b"<EncodingType>", b"<Next")):
        return None
    try:
        text = inside.decode()
    except UnicodeDecodeError:
        return None
    # Closing tags are counted: they carry no attributes, and an element cut short has none and spoils the
    # rest's XML.
    return _Cut(text, rest, sum(inside.count(f"</{name}>".encode()) for name in names))


def _versions_in_order(cut: _Cut) -> list[VersionRow] | None:
    found = _VERSION_AS_AWS_WRITES_IT.findall(cut.text)
    if len(found) != cut.rows:
        return None
    return [
        VersionRow(
            cut.decode(key) if "%" in key or "+" in key or "&" in key else key,
            _unescape(version_id),
            latest == "true",
            kind == "DeleteMarker",
            modified,
            etag,
            int(size or 0),
        )
        for kind, key, version_id, latest, modified, etag, size in found
    ]


def _versions_by_name(cut: _Cut) -> list[VersionRow] | None:
    """The same for stores that write an element's fields in another order: slower, and still no timestamps
    parsed.
    """
    found = [(kind, dict(_FIELD.findall(fields))) for kind, fields in _VERSION.findall(cut.text)]
    if len(found) != cut.rows or not all(
        {"Key", "IsLatest", "LastModified"} <= fields.keys() for _, fields in found
    ):
        return None
    return [
        VersionRow(
            cut.decode(fields["Key"]),
            _unescape(fields.get("VersionId", "")),
            fields["IsLatest"] == "true",
            kind == "DeleteMarker",
            fields["LastModified"],
            _unescape(fields.get("ETag", "")).strip('"'),
            int(fields.get("Size", 0)),
        )
        for kind, fields in found
    ]


_ENTITY = re.compile(r"&(?:#(\d+)|#[xX]([0-9a-fA-F]+)|(amp|lt|gt|quot|apos));")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def _unescape(text: str) -> str:
    """Undo XML's entities, once."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    return _NAMED[name] if name else chr(int(decimal) if decimal else int(hexadecimal, 16))


# ------------------------------------------------------------------ DynamoDB


_DIGEST_ITEMS = (
    re.compile(r'\{"LockID":\{"S":"(?P<lock>[^"]*+)"\},"Digest":\{"S":"(?P<digest>[^"]*+)"\}\}'),
    re.compile(r'\{"Digest":\{"S":"(?P<digest>[^"]*+)"\},"LockID":\{"S":"(?P<lock>[^"]*+)"\}\}'),
)
"""An item that is nothing but a digest, as nearly all are. A quote inside a JSON string has a backslash
before it, so neither can begin within one.
"""


def _take_items(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        with collector_paused():
            text = response_dict["body"].decode()
            document, rows = _digests_cut(text) or _read_whole(text)
    except (ValueError, TypeError, AttributeError, RecursionError):
        response_dict["body"] = b"{}"  # not a DynamoDB answer, on which botocore's parser may stumble
        return
    response_dict["body"], customized_response_dict[_ROWS] = json.dumps(document).encode(), rows


def _digests_cut(text: str) -> tuple[dict[str, Any], list[TableItem]] | None:
    """The rest of the answer and its items, read by cutting the digests out: half the time of reading it all
    as JSON.

    None where there are none, or where one has an escape or stands elsewhere than among the answer's items.
    """
    for pattern in _DIGEST_ITEMS:
        pieces = pattern.split(text)
        if len(pieces) > 1:
            break
    else:
        return None
    lock_ids, digests = (pieces[pattern.groupindex[name] :: 3] for name in ("lock", "digest"))
    if "\\" in "".join(lock_ids) or "\\" in "".join(digests):
        return None
    document: dict[str, Any] = json.loads("0".join(pieces[::3]))
    items = document.pop("Items", [])
    others = [item for item in items if item != 0]
    if len(items) - len(others) != len(lock_ids):
        return None
    plain = map(
        TableItem._make, zip(lock_ids, repeat(None), [{"S": digest} for digest in digests], strict=False)
    )
    return document, [*plain, *_items(others)]


def _read_whole(text: str) -> tuple[dict[str, Any], list[TableItem]]:
    document: dict[str, Any] = json.loads(text)
    items = document.pop("Items", None)
    if items is None:
        items = [document.pop("Item")] if "Item" in document else []
    return document, _items(items)


def _items(items: Iterable[Mapping[str, Mapping[str, Any]]]) -> list[TableItem]:
    make = TableItem._make
    return [
        make((lock_id["S"], item.get("Info"), item.get("Digest")))
        for item in items
        if "S" in (lock_id := item.get("LockID", {}))
    ]


_pausing = threading.Lock()
_pauses = 0
_was_enabled = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's cycle collector off while a page is built: nothing in it is a cycle, and each pass would walk
    the whole inventory.

    The setting belongs to the process, so overlapping threads count: the first switches it off, the last back
    on.
    """
    global _pauses, _was_enabled  # noqa: PLW0603 - as global as the collector itself
    with _pausing:
        if _pauses == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _pausing:
            _pauses -= 1
            if _pauses == 0 and _was_enabled:
                gc.enable()


_HOOKS = {
    "ListObjectsV2": _take_objects,
    "ListObjectVersions": _take_versions,
    "Scan": _take_items,
    "GetItem": _take_items,
}
