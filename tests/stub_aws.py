"""A scripted S3 and DynamoDB on loopback, for answers that no emulator gives: faults, odd orders, broken
bodies.

A test hands `stub_aws` a function from the request to the answer; every request received is kept.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config

from tests.emulators import CREDENTIALS, REGION

WRITTEN = "2026-11-20T18:00:00.000Z"
WRITTEN_HTTP = "Fri, 20 Nov 2026 18:00:00 GMT"


@dataclass(frozen=True)
class Asked:
    """One request: `path` decoded, `query` and `headers` with one value a name (headers in lower case)."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def operation(self) -> str:
        """DynamoDB's operation, or S3's as far as these tests use them."""
        if target := self.headers.get("x-amz-target"):
            return target.rpartition(".")[2]
        for name, operation in (
            ("list-type", "ListObjectsV2"),
            ("versions", "ListObjectVersions"),
            ("versioning", "GetBucketVersioning"),
        ):
            if name in self.query:
                return operation
        return {"GET": "GetObject", "HEAD": "HeadObject"}.get(self.method, self.method)


@dataclass(frozen=True)
class Answer:
    """What is sent back.

    `send` cuts the body after so many bytes and closes the connection; with `stall` it stays open and silent
    instead. `length` is a Content-Length other than the true one, `chunked` and `bare` leave it out.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    send: int | None = None
    stall: bool = False
    length: int | None = None
    chunked: bool = False
    bare: bool = False


Respond = Callable[[Asked], Answer]


@dataclass
class StubAws:
    """A running stub: its URL and the requests so far."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client that retries at once and gives up soon; `config` goes to botocore's Config."""
        settings = {
            "connect_timeout": 2,
            "read_timeout": 2,
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "max_pool_connections": 16,
        }
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(**(settings | config)),
        )

    def operations(self) -> list[str]:
        return [asked.operation for asked in self.asked]


@contextmanager
def stub_aws(respond: Respond, *, date: str | None = None) -> Iterator[StubAws]:
    """Serve `respond` on a free loopback port. `date` replaces the Date header, "" leaves it out."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_any(self) -> None:
            asked = self._asked()
            stub.asked.append(asked)
            self._send(respond(asked))

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def handle_expect_100(self) -> bool:
            super().handle_expect_100()
            self.wfile.flush()
            return True

        def _asked(self) -> Asked:
            headers = {name.lower(): value for name, value in self.headers.items()}
            target = urlsplit(self.path)
            query = {
                name: values[0] for name, values in parse_qs(target.query, keep_blank_values=True).items()
            }
            body = self.rfile.read(int(headers.get("content-length", 0)))
            return Asked(self.command, unquote(target.path), query, headers, body)

        def _send(self, answer: Answer) -> None:
            whole = answer.send is None and not answer.stall and not answer.bare
            self.send_response_only(answer.status)
            if date != "":
                self.send_header("Date", date or self.date_time_string())
            for name, value in answer.headers.items():
                self.send_header(name, value)
            body = b"" if self.command == "HEAD" else answer.body[: answer.send]
            if answer.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if whole else b"")
            elif not answer.bare:
                length = len(answer.body) if answer.length is None else answer.length
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
            if answer.stall:
                closing.wait()
            self.close_connection = not whole or answer.length is not None

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up early is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    stub = StubAws(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def in_order(*answers: Answer) -> Respond:
    """One answer after the other; the last for all that follow."""
    rest = list(answers)
    return lambda _: rest.pop(0) if len(rest) > 1 else rest[0]


# ------------------------------------------------------------------ S3

_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class Kept:
    """An object of a scripted listing."""

    key: str
    etag: str = "49f68a5c8493ec2c0bf489821c21fc3b"
    size: int = 2
    modified: str = WRITTEN


def object_row(kept: Kept) -> str:
    """`Contents` as AWS writes it."""
    return (
        f"<Contents><Key>{quote_plus(kept.key, safe='/')}</Key><LastModified>{kept.modified}</LastModified>"
        f"<ETag>&quot;{kept.etag}&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
        f"<ChecksumType>FULL_OBJECT</ChecksumType><Size>{kept.size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def version_row(
    key: str,
    version_id: str,
    *,
    latest: bool = False,
    deleted: bool = False,
    modified: str = WRITTEN,
    etag: str = "49f68a5c8493ec2c0bf489821c21fc3b",
    size: int = 2,
) -> str:
    """`Version` or `DeleteMarker` as AWS writes it."""
    name = "DeleteMarker" if deleted else "Version"
    body = (
        ""
        if deleted
        else f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass>"
    )
    return (
        f"<{name}><Key>{quote_plus(key, safe='/')}</Key><VersionId>{version_id}</VersionId>"
        f"<IsLatest>{str(latest).lower()}</IsLatest><LastModified>{modified}</LastModified>{body}"
        f"<Owner><ID>75aa57f09aa0c8ca</ID></Owner></{name}>"
    )


def page(
    root: str,
    rows: Sequence[str],
    *,
    truncated: bool | None = None,
    encoded: bool = True,
    **elements: str | None,
) -> Answer:
    """A page of a listing: `root` is ListBucketResult or ListVersionsResult, `elements` the tokens."""
    told = {name: value for name, value in elements.items() if value is not None}
    truncated = bool(told) if truncated is None else truncated
    head = "<Name>b</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys>"
    head += f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
    head += "<EncodingType>url</EncodingType>" if encoded else ""
    head += "".join(f"<{name}>{escape(value)}</{name}>" for name, value in told.items())
    text = f'<{root} xmlns="{_NAMESPACE}">{head}{"".join(rows)}</{root}>'
    return Answer(body=_XML + text.encode(), headers={"Content-Type": "application/xml"})


def listing(objects: Sequence[Kept], token: str | None = None, *, truncated: bool | None = None) -> Answer:
    """A page of ListObjectsV2."""
    rows = [object_row(kept) for kept in objects]
    return page("ListBucketResult", rows, truncated=truncated, NextContinuationToken=token)


def version_listing(
    rows: Sequence[str], marker: tuple[str, str] | None = None, *, truncated: bool | None = None
) -> Answer:
    """A page of ListObjectVersions."""
    key, version = (quote_plus(marker[0], safe="/"), marker[1]) if marker else (None, None)
    return page(
        "ListVersionsResult", rows, truncated=truncated, NextKeyMarker=key, NextVersionIdMarker=version
    )


def s3_error(status: int, code: str, message: str = "no", more: str = "", **headers: str) -> Answer:
    """An S3 error document."""
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{more}</Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, _XML + text.encode(), {"Content-Type": "application/xml"} | named)


def s3_object(body: bytes, *, headers: Mapping[str, str] | None = None, **faults: Any) -> Answer:
    """An object's bytes with the headers that S3 sends; `faults` as in Answer."""
    usual = {
        "ETag": '"0123456789abcdef0123456789abcdef"',
        "Last-Modified": WRITTEN_HTTP,
        "x-amz-version-id": "v1",
    }
    return Answer(200, body, usual | dict(headers or {}), **faults)


class FakeBucket:
    """ListObjectsV2 as S3 does it over a set of keys that a test may change at any time; `page` is its
    largest page.
    """

    def __init__(self, keys: Sequence[str], page: int = 1000) -> None:
        self.keys = set(keys)
        self.page = page

    def __call__(self, asked: Asked) -> Answer:
        prefix, size = asked.query.get("prefix", ""), min(self.page, int(asked.query["max-keys"]))
        after = asked.query.get("continuation-token", asked.query.get("start-after", ""))
        found = sorted(key for key in self.keys if key.startswith(prefix) and key > after)
        rows = [Kept(key, size=len(key)) for key in found[:size]]
        return listing(rows, rows[-1].key if len(found) > size else None)


# ------------------------------------------------------------------ DynamoDB


def dynamo(document: object) -> Answer:
    """A DynamoDB answer."""
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/x-amz-json-1.0"})


def dynamo_error(code: str, message: str = "no", status: int = 400) -> Answer:
    """A DynamoDB error."""
    document = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/x-amz-json-1.0"})


class FakeTable:
    """DescribeTable and Scan over items of equal size; `taken` are the read units of every page so far.

    Args:
        items: how many.
        item_bytes: what one weighs, for the read units and for the page of at most 1 MB.
        read_units: provisioned a second; None for on demand.
    """

    def __init__(self, items: int, *, item_bytes: int = 130, read_units: int | None = None) -> None:
        self.items, self.item_bytes, self.read_units = items, item_bytes, read_units
        self.taken: list[int] = []

    def __call__(self, asked: Asked) -> Answer:
        return self._describe() if asked.operation == "DescribeTable" else self._scan(asked.document)

    def _describe(self) -> Answer:
        mode = "PAY_PER_REQUEST" if self.read_units is None else "PROVISIONED"
        return dynamo(
            {
                "Table": {
                    "TableName": "t",
                    "BillingModeSummary": {"BillingMode": mode},
                    "ProvisionedThroughput": {
                        "ReadCapacityUnits": self.read_units or 0,
                        "WriteCapacityUnits": 0,
                    },
                    "ItemCount": self.items,
                    "TableSizeBytes": self.items * self.item_bytes,
                }
            }
        )

    def _scan(self, request: Mapping[str, Any]) -> Answer:
        first = int(request.get("ExclusiveStartKey", {"LockID": {"S": "-1"}})["LockID"]["S"]) + 1
        count = min(request.get("Limit", self.items), 1024**2 // self.item_bytes, self.items - first)
        last = first + count - 1
        following = {"LastEvaluatedKey": {"LockID": {"S": str(last)}}} if last < self.items - 1 else {}
        self.taken.append(-(-count * self.item_bytes // 4096))
        return dynamo(
            {
                "Count": count,
                "ScannedCount": count,
                "Items": [{"LockID": {"S": str(n)}} for n in range(first, last + 1)],
                "ConsumedCapacity": {"TableName": "t", "CapacityUnits": self.taken[-1]},
                **following,
            }
        )
