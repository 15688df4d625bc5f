"""A synthetic S3 and DynamoDB on loopback: answers made beforehand, each given after the same latency.

A process of its own (`python -m benchmarks.endpoint KEYS`), driven over its standard input, so that what it
costs is in nobody's CPU. It knows the reads of this benchmark and nothing else; signatures are not looked at.
"""

from __future__ import annotations

import asyncio
import json
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, quote, unquote, urlsplit
from zlib import crc32

from benchmarks.children import Command, answer_commands
from benchmarks.estate import BUCKET, HELD, PAGE_KEYS, Item, Stored, build, lock_item
from lockboard.supervisor import yield_to_pages

Answer = list[bytes]
"""Head (but for its date) and body."""

BODY = b'{"version":4,"terraform_version":"1.11.4","serial":7,"lineage":"1b9a","resources":[%4000s]}' % b""
"""What every object holds."""

_SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Service:
    """The answers. latency: seconds from a request to its answer.  churn: locks that move with every scan."""

    def __init__(self, keys: int) -> None:
        self.estate = build(keys, datetime.now(UTC))
        self.latency, self.churn = 0.0, 0
        self.counts: Counter[str] = Counter()
        self._keys = [stored.key for stored in self.estate.objects]
        self._listed = [_contents(stored) for stored in self.estate.objects]
        self._lists: dict[tuple[int, int, bool], Answer] = {}
        self._pages = [self.estate.items[part] for part in self.estate.scan_pages()]
        self._scanned = [_scan_page(page, last=page is self._pages[-1]) for page in self._pages]
        self._after = {page[-1].lock_id: number + 1 for number, page in enumerate(self._pages) if page}
        self._scans = 0

    def answer(self, method: str, target: str, operation: str, body: bytes) -> Answer:
        """The answer to one request. Raises KeyError or ValueError for one that is not of this benchmark.

        `operation`: of DynamoDB, "" for S3.
        """
        if operation:
            self.counts[operation] += 1
            return self._scan(json.loads(body)) if operation == "Scan" else self._describe(operation)
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        name = _s3_operation(method, url.path, query)
        self.counts[name] += 1
        if name == "ListObjectsV2":
            return self._list(query)
        if name == "ListObjectVersions":
            return self._versions(query)
        if name == "GetBucketVersioning":
            return _xml("VersioningConfiguration", "<Status>Enabled</Status>")
        return self._object(unquote(url.path).removeprefix(f"/{BUCKET}/"))

    # ---------------------------------------------------------------- S3

    def _list(self, query: dict[str, str]) -> Answer:
        count = min(PAGE_KEYS, int(query.get("max-keys", PAGE_KEYS)))
        token, after = query.get("continuation-token"), query.get("start-after")
        start = int(token) if token else bisect_right(self._keys, after) if after else 0
        encoded = query.get("encoding-type") == "url"
        page = self._lists.get((start, count, encoded))
        if page is None:
            page = self._lists[start, count, encoded] = self._list_page(start, count, encoded=encoded)
        return page

    def _list_page(self, start: int, count: int, *, encoded: bool) -> Answer:
        end = min(start + count, len(self._keys))
        more = end < len(self._keys)
        head = f"<KeyCount>{end - start}</KeyCount><MaxKeys>{count}</MaxKeys>"
        head += "<EncodingType>url</EncodingType>" if encoded else ""
        head += f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
        rows = "".join(row[encoded] for row in self._listed[start:end])
        return _xml("ListBucketResult", _named(more=more) + head + rows)

    def _versions(self, query: dict[str, str]) -> Answer:
        after = query.get("key-marker")
        start = bisect_right(self._keys, after) if after else 0
        end = min(start + PAGE_KEYS, len(self._keys))
        more = end < len(self._keys)
        head = f"<MaxKeys>{PAGE_KEYS}</MaxKeys><EncodingType>url</EncodingType>"
        if more:
            head += f"<NextKeyMarker>{quote(self._keys[end - 1])}</NextKeyMarker>"
            head += "<NextVersionIdMarker>v1</NextVersionIdMarker>"
        rows = "".join(map(_version, self.estate.objects[start:end]))
        return _xml("ListVersionsResult", _named(more=more) + head + rows)

    def _object(self, key: str) -> Answer:
        found = bisect_right(self._keys, key) - 1
        if found < 0 or self._keys[found] != key:
            raise KeyError(key)
        stored = self.estate.objects[found]
        written = format_datetime(datetime.fromisoformat(stored.modified), usegmt=True)
        headers = {"ETag": f'"{stored.etag}"', "Last-Modified": written}
        return _answer(BODY, "application/octet-stream", headers)

    # ---------------------------------------------------------------- DynamoDB

    def _describe(self, operation: str) -> Answer:
        if operation != "DescribeTable":
            raise ValueError(f"{operation} is not part of this benchmark")
        return _dynamo({"Table": {"BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"}}})

    def _scan(self, request: dict[str, dict[str, dict[str, str]]]) -> Answer:
        start = request.get("ExclusiveStartKey")
        number = self._after[start["LockID"]["S"]] if start else 0
        if start is None:
            self._scans += 1
        if self.churn and number == len(self._pages) - 1:
            return _scan_page((*self._pages[number], *self._moving_locks()), last=True)
        return self._scanned[number]

    def _moving_locks(self) -> list[Item]:
        """Locks taken since the last scan, on keys without another; those of the last scan are released."""
        free = [number for number in range(len(self._keys)) if number % max(1, len(self._keys) // HELD)]
        first, since = self._scans * self.churn, datetime.now(UTC) - timedelta(seconds=30)
        numbers = [free[(first + turn) % len(free)] for turn in range(self.churn)]
        return [lock_item(self._keys[number], number, since) for number in numbers]


def _s3_operation(method: str, path: str, query: dict[str, str]) -> str:
    if method != "GET":
        raise ValueError(f"{method} {path} is not a read")
    if path.strip("/") != BUCKET:
        return "GetObject"
    if "versioning" in query:
        return "GetBucketVersioning"
    return "ListObjectVersions" if "versions" in query else "ListObjectsV2"


def _named(*, more: bool) -> str:
    return f"<Name>{BUCKET}</Name><Prefix></Prefix><IsTruncated>{str(more).lower()}</IsTruncated>"


def _contents(stored: Stored) -> tuple[str, str]:
    """A row of ListObjectsV2, its key plain and URL-encoded; no key of the estate needs XML's entities."""
    rest = f"</Key>{_fields(stored)}</Contents>"
    return f"<Contents><Key>{stored.key}{rest}", f"<Contents><Key>{quote(stored.key)}{rest}"


def _version(stored: Stored) -> str:
    head = f"<Key>{quote(stored.key)}</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest>"
    return f"<Version>{head}{_fields(stored)}</Version>"


def _fields(stored: Stored) -> str:
    return (
        f"<LastModified>{stored.modified}</LastModified><ETag>&quot;{stored.etag}&quot;</ETag>"
        f"<Size>{stored.size}</Size><StorageClass>STANDARD</StorageClass>"
    )


def _scan_page(items: Sequence[Item], *, last: bool) -> Answer:
    rows = []
    for item in items:
        row = {"LockID": {"S": item.lock_id}}
        if item.digest is not None:
            row["Digest"] = {"S": item.digest}
        if item.info is not None:
            row["Info"] = {"S": item.info}
        rows.append(row)
    units = -(-sum(item.size for item in items) // 4096)
    page = {
        "Count": len(items),
        "ScannedCount": len(items),
        "Items": rows,
        "ConsumedCapacity": {"TableName": "bench-lock", "CapacityUnits": units},
    }
    return _dynamo(page if last else page | {"LastEvaluatedKey": {"LockID": {"S": items[-1].lock_id}}})


def _dynamo(document: dict[str, object]) -> Answer:
    body = json.dumps(document, separators=(",", ":")).encode()
    return _answer(body, "application/x-amz-json-1.0", {"x-amz-crc32": str(crc32(body))})


def _xml(element: str, inside: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{element} xmlns="{_SPACE}">{inside}</{element}>'
    return _answer(body.encode(), "application/xml", {})


def _answer(body: bytes, kind: str, headers: dict[str, str], status: str = "200 OK") -> Answer:
    usual = {"Content-Type": kind, "Content-Length": str(len(body)), "x-amz-request-id": "BENCH0000000000"}
    lines = (f"{name}: {value}\r\n" for name, value in (usual | headers).items())
    return [f"HTTP/1.1 {status}\r\n{''.join(lines)}".encode(), body]


class Connection(asyncio.Protocol):
    """One keep-alive connection of a client that sends a request and waits for its answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        method, target, headers = _request(head)
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            answer = self._service.answer(method, target, operation, rest[:length])
        except (KeyError, ValueError) as error:
            answer = _answer(repr(error).encode(), "text/plain", {}, "501 Not Implemented")
        if self._service.latency:
            asyncio.get_running_loop().call_later(self._service.latency, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: Answer) -> None:
        if self._transport is not None:
            date = f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n\r\n".encode()
            self._transport.writelines([answer[0], date, answer[1]])


def _request(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = (line.partition(":") for line in lines)
    return method, target, {name.lower(): value.strip() for name, _, value in headers}


def _commands(service: Service, port: int) -> dict[str, Command]:
    """What the run tells or asks the endpoint."""

    def tune(latency: float = 0.0, churn: int = 0) -> dict[str, object]:
        service.latency, service.churn = latency, churn
        return {}

    def floor() -> dict[str, object]:
        return {"ListObjectsV2": service.estate.list_pages, "Scan": len(service.estate.scan_pages())}

    def keys_of(count: int) -> dict[str, object]:
        objects = service.estate.objects
        return {"keys": [stored.key for stored in objects[:: max(1, len(objects) // count)][:count]]}

    return {
        "address": lambda: {"port": port},
        "tune": tune,
        "counts": lambda: dict(service.counts),
        "floor": floor,
        "keys_of": keys_of,
    }


async def _serve(keys: int) -> None:
    # It stands for machines elsewhere, so it takes only what the others leave.
    yield_to_pages()
    service, loop = Service(keys), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # In a thread beside the loop: each command is one assignment or one read.
    await asyncio.to_thread(answer_commands, _commands(service, port))
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
