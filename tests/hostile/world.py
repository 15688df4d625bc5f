"""A Lockboard whose AWS is a dictionary in this process, every field of it filled with hostile text.

The way is the real one: botocore builds and parses every request and answer, the adapters read them, the
refresher judges, SQLite keeps, Flask shows. Only the socket is left out, which lets thousands of keys pass in
seconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSResponse
from flask.testing import FlaskClient

from lockboard.adapters.dynamodb import DynamoLockTable
from lockboard.adapters.s3 import S3States
from lockboard.domain.keys import digest_id, lock_id, state_id
from lockboard.domain.locks import LOCKBOARD_OPERATION, LockInfo, UnreadableLock, parse_lock_info
from lockboard.domain.text import shown
from tests.databases import sqlite_url
from tests.emulators import Emulator
from tests.faults import FaultProxy
from tests.recovery.house import BACKEND, Bodies, House, open_house
from tests.stub_aws import (
    WRITTEN_HTTP,
    Answer,
    Asked,
    Kept,
    dynamo,
    listing,
    s3_error,
    s3_object,
    version_listing,
    version_row,
)

BUCKET, TABLE = "hostile-bucket", "hostile-table"
NOWHERE = "http://127.0.0.1:9"
PAGE = 1000
LONGEST_KEY = 1024
CREATED = "2026-11-20T18:00:00Z"
GOOD = hashlib.md5(b"good", usedforsecurity=False).hexdigest()

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_IN_VERSION = re.compile(rf"{_NOT_IN_XML.pattern}|[\r\n\t/]")


def in_xml(text: str) -> str:
    """The text as far as XML can carry it, escaped."""
    return escape(_NOT_IN_XML.sub("\ufffd", text))


class _Raw(io.BytesIO):
    """A body as botocore takes it from a socket."""

    def stream(self, amount: int = 65_536, **_: object) -> Iterator[bytes]:
        while chunk := self.read(amount):
            yield chunk


def connect(client: Any, respond: Callable[[Asked], Answer]) -> None:
    """From now on the client's requests are answered here, and nothing is sent."""

    def answer(request: Any, **_: object) -> Any:
        target = urlsplit(request.url)
        query = {name: values[0] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        path = unquote(target.path, errors="surrogateescape")
        found = respond(Asked(request.method, path, query, headers, body))
        return AWSResponse(
            request.url,
            found.status,
            {"Content-Length": str(len(found.body)), **found.headers},
            _Raw(found.body),
        )

    client.meta.events.register("before-send", answer)


@dataclass
class Aws:
    """One bucket and one table. objects: by key, body and headers, or the answer itself; versions: rows of
    ListObjectVersions and the body of each version; items: DynamoDB's own notation.
    """

    objects: dict[str, tuple[Kept, Answer]] = field(default_factory=dict)
    deleted: dict[str, Sequence[str]] = field(default_factory=dict)
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, key: str, answer: Answer, etag: str = GOOD, size: int | None = None) -> None:
        kept = Kept(key, etag, len(answer.body) if size is None else size)
        self.objects[key] = (kept, answer)

    def s3(self, asked: Asked) -> Answer:
        key = asked.path.removeprefix(f"/{BUCKET}").removeprefix("/")
        if asked.operation == "ListObjectsV2":
            return self._list(asked)
        if asked.operation == "ListObjectVersions":
            return self._versions(asked)
        if asked.operation == "GetBucketVersioning":
            return Answer(body=b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
        if version := asked.query.get("versionId"):
            body = self.bodies.get((key, version))
            return s3_object(body) if body is not None else s3_error(404, "NoSuchVersion")
        found = self.objects.get(key)
        return found[1] if found else s3_error(404, "NoSuchKey")

    def _list(self, asked: Asked) -> Answer:
        keys = sorted(self.objects)
        after = unquote(asked.query.get("continuation-token", "")) or asked.query.get("start-after", "")
        rest = [key for key in keys if key > after] if after else keys
        page = rest[:PAGE]
        token = quote(page[-1]) if len(rest) > PAGE else None
        return listing([self.objects[key][0] for key in page], token)

    def _versions(self, asked: Asked) -> Answer:
        prefix = asked.query.get("prefix", "")
        if prefix:
            return version_listing(list(self.deleted.get(prefix, ())))
        return version_listing([row for rows in self.deleted.values() for row in rows])

    def dynamodb(self, asked: Asked) -> Answer:
        if asked.operation == "DescribeTable":
            return dynamo({"Table": {"BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"}}})
        if asked.operation == "GetItem":
            item = self.items.get(asked.document["Key"]["LockID"]["S"])
            return dynamo({"Item": item} if item else {})
        items = list(self.items.values())
        return dynamo({"Count": len(items), "ScannedCount": len(items), "Items": items})


def open_world(folder: Path, aws: Aws) -> House:
    """The dashboard over it, its store in `folder`."""
    house = open_house(
        Emulator("moto", NOWHERE),
        FaultProxy(NOWHERE),
        sqlite_url(folder),
        Bodies(b"", b"", {}, {}),
        bucket=BUCKET,
        table=TABLE,
    )
    states, table = house.refresher._states, house.refresher._table
    assert isinstance(states, S3States)
    assert isinstance(table, DynamoLockTable)
    for client in {id(one): one for one in (states._client, states._bodies)}.values():
        connect(client, aws.s3)
    connect(table._client, aws.dynamodb)
    return house


def client_of(house: House) -> FlaskClient:
    """Somebody at the dashboard."""
    return house.app.test_client()


# ---------------------------------------------------------------- the rows


def fits_key(prefix: str, text: str, suffix: str) -> str:
    """A key with the text in it: as much of it as a key holds, and what UTF-8 cannot write as `?`."""
    room = LONGEST_KEY - len((prefix + suffix).encode())
    body = text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
    return f"{prefix}{body}{suffix}"


def record(text: str, created: str = CREATED) -> str:
    """A lock record that says the text wherever it can."""
    named = dict.fromkeys(("ID", "Operation", "Info", "Who", "Version", "Path"), text[:40_000])
    return json.dumps({**named, "Created": created})


def state(lineage: str, version: str = "1.11.4", serial: object = 3) -> bytes:
    told = {"version": 4, "terraform_version": version, "serial": serial, "lineage": lineage, "outputs": {}}
    return json.dumps({**told, "resources": [], "check_results": None}).encode() + b" " * 100


@dataclass(frozen=True)
class Rows:
    """The keys that one text came to."""

    named: str
    held: str
    past: str


def place(aws: Aws, number: str, text: str, others: Sequence[str] = (), *, file: bool = True) -> Rows:
    """Put the text into every field. others: more for the versions of a deleted state, which there is only
    with them.  file: whether a lock file beside the first key is nothing but the text.
    """
    rows = Rows(
        named=fits_key(f"a{number}/", text, ".tfstate"),
        held=fits_key(f"b{number}/", text, "/terraform.tfstate"),
        past=f"d{number}/app.tfstate",
    )
    _named(aws, rows.named, text)
    if file:
        aws.put(f"{rows.named}.tflock", s3_object(text.encode("utf-8", "surrogatepass")))
    _held(aws, rows.held, text)
    if others:
        _past(aws, rows.past, [text, *others])
    return rows


def _named(aws: Aws, key: str, text: str) -> None:
    """A readable lock in the table; a digest that is none; what a body and its answer's headers say."""
    headers = {"ETag": f'"{text[:2000]}"', "x-amz-version-id": text[:2000], "Last-Modified": WRITTEN_HTTP}
    aws.put(key, s3_object(state(text), headers=headers), etag="0" * 32)
    name = lock_id(BUCKET, key)
    aws.items[name] = {"LockID": {"S": name}, "Info": {"S": record(text)}}
    name = digest_id(BUCKET, key)
    aws.items[name] = {"LockID": {"S": name}, "Digest": {"S": text}}


def _held(aws: Aws, key: str, text: str) -> None:
    """A lock item that is nothing but the text, a file whose time is the text, a state that S3 refuses to
    give in the text's words.
    """
    refusal = s3_error(403, in_xml(text[:300]) or "x", _NOT_IN_XML.sub("\ufffd", text[:3000]))
    aws.put(key, refusal, etag="1" * 32, size=5000)
    aws.put(f"{key}.tflock", s3_object(record(text[:2000], created=text[:2000]).encode()))
    name = lock_id(BUCKET, key)
    aws.items[name] = {"LockID": {"S": name}, "Info": {"S": text}}


def _past(aws: Aws, key: str, texts: Sequence[str]) -> None:
    """A deleted state whose versions are named by the texts; the digest names the newest of them.

    Without slashes and ends of lines: S3's version IDs fit into the path of a URL.
    """
    rows = [version_row(key, "marker", latest=True, deleted=True)]
    md5 = ""
    for text in texts:
        name = _NOT_IN_VERSION.sub("_", text[:900]) or "empty"
        rows.append(version_row(key, escape(name), etag=in_xml(text[:900]), size=500))
        aws.bodies[key, name] = state(text[:2000], version="1.11.4")
        md5 = md5 or hashlib.md5(aws.bodies[key, name], usedforsecurity=False).hexdigest()
    aws.deleted[key] = rows
    name = digest_id(BUCKET, key)
    aws.items[name] = {"LockID": {"S": name}, "Digest": {"S": md5}}


# ---------------------------------------------------------------- harmless texts of the same shape


def shape(text: str) -> tuple[object, ...]:
    """What the pages may rightly tell texts apart by: emptiness, whether they can be copied as they are
    shown, whether Go reads a lock record in them, and whether they begin as Lockboard's own operations do.
    """
    try:
        info: LockInfo | None = parse_lock_info(text)
    except UnreadableLock:
        info = None
    told = info and tuple(bool(part) for part in (info.id, info.who, info.operation, info.version, info.path))
    return (
        not text,
        not text.strip(),
        shown(text) == text and len(text) <= 900,
        told,
        bool(info and info.created),
        text.startswith(LOCKBOARD_OPERATION),
    )


def harmless(like: Sequence[str], mark: str) -> Sequence[str]:
    """Texts that nobody could object to, of every shape among the texts. Some are the same whatever the mark,
    so that one holder holds several keys; some hold it.
    """
    shapes = {shape(text) for text in like}
    return [text for text in _harmless(mark) if shape(text) in shapes]


def _harmless(mark: str) -> Iterator[str]:
    yield from (
        "",
        " ",
        "x",
        f"x{mark}",
        "x\u200bx",
        f"x\u200bx{mark}",
        "\u200b",
        "\u00a0",
        "x" * 901,
        mark * 901,
    )
    yield from ("lockboard-x", f"lockboard-{mark}", "lockboard-\u200b", f"lockboard-\u200b{mark}")
    fields = ("ID", "Who", "Operation", "Version", "Path")
    for chosen in range(2 ** len(fields)):
        names = [name for at, name in enumerate(fields) if chosen >> at & 1]
        for word in ("x", f"nobody-else-{chosen}{mark}"):
            for more in ({}, {"Created": CREATED}):
                text = json.dumps({**dict.fromkeys(names, word), **more})
                yield from (text, f"{text}\n")


def ids_of(rows: Rows) -> tuple[str, str, str]:
    return state_id(BACKEND, rows.named), state_id(BACKEND, rows.held), state_id(BACKEND, rows.past)
