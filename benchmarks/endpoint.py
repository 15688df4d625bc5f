"""A synthetic S3 and DynamoDB on loopback: answers made beforehand, each given after the same latency.

A process of its own (`python -m benchmarks.endpoint KEYS`), driven over its standard input, so that what it costs is not in
anybody's figures. It knows the reads of this benchmark and nothing else; signatures are not looked at.
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

from benchmarks.children import answer_commands
from benchmarks.estate import BUCKET, PAGE_KEYS, Item, Stored, build, lock_item

Answer = list[bytes]
"""Head and body, ready to be written."""

BODY = b'{"version":4,"terraform_version":"1.11.4","serial":7,"lineage":"1b9a","outputs":{},"resources":[' + b" " * 4000 + b"]}"
"""What every object holds."""

_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Service:
    """The answers. `latency`: seconds from a request to its answer.  `churn`: locks that move with every scan."""

    def __init__(self, keys: int) -> None:
        now = datetime.now(UTC)
        self.estate = build(keys, now)
        self.latency, self.churn = 0.0, 0
        self.counts: Counter[str] = Counter()
        self._keys = [stored.key for stored in self.estate.objects]
        self._listed = [_contents(stored) for stored in self.estate.objects]
        self._scans = 0
        self._lists: dict[tuple[int, int, bool], Answer] = {}
        self._pages = [self.estate.items[part] for part in self.estate.scan_pages()]
        self._scanned = [_scan_page(page, last=page is self._pages[-1]) for page in self._pages]
        self._after = {page[-1].lock_id: number + 1 for number, page in enumerate(self._pages) if page}

    def answer(self, method: str, target: str, operation: str, body: bytes) -> Answer:
        """The answer to one request. Raises KeyError, ValueError or IndexError for one that is not of this benchmark."""
        if operation:
            self.counts[operation] += 1
            return self._scan(json.loads(body)) if operation == "Scan" else self._describe(operation)
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        name = self._s3_operation(method, url.path, query)
        self.counts[name] += 1
        if name == "ListObjectsV2":
            return self._list(query)
        if name == "ListObjectVersions":
            return self._versions(query)
        if name == "GetBucketVersioning":
            return _xml(b'<VersioningConfiguration xmlns="%s"><Status>Enabled</Status></VersioningConfiguration>' % _SPACE.encode())
        stored = self.estate.objects[self._index(unquote(url.path).removeprefix(f"/{BUCKET}/"))]
        written = format_datetime(datetime.fromisoformat(stored.modified), usegmt=True)
        return _answer(BODY, "application/octet-stream", {"ETag": f'"{stored.etag}"', "Last-Modified": written})

    @staticmethod
    def _s3_operation(method: str, path: str, query: dict[str, str]) -> str:
        if method != "GET":
            raise ValueError(f"{method} {path} is not a read")
        if path.strip("/") != BUCKET:
            return "GetObject"
        if "versioning" in query:
            return "GetBucketVersioning"
        return "ListObjectVersions" if "versions" in query else "ListObjectsV2"

    def _index(self, key: str) -> int:
        found = bisect_right(self._keys, key) - 1
        if found < 0 or self._keys[found] != key:
            raise KeyError(key)
        return found

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
        head = f"<Name>{BUCKET}</Name><Prefix></Prefix><KeyCount>{end - start}</KeyCount><MaxKeys>{count}</MaxKeys>"
        head += "<EncodingType>url</EncodingType>" if encoded else ""
        head += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        head += f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
        rows = b"".join(row[encoded] for row in self._listed[start:end])
        return _xml(f'<ListBucketResult xmlns="{_SPACE}">{head}'.encode() + rows + b"</ListBucketResult>")

    def _versions(self, query: dict[str, str]) -> Answer:
        after = query.get("key-marker")
        start = bisect_right(self._keys, after) if after else 0
        end = min(start + PAGE_KEYS, len(self._keys))
        more = end < len(self._keys)
        head = f"<Name>{BUCKET}</Name><Prefix></Prefix><MaxKeys>{PAGE_KEYS}</MaxKeys><EncodingType>url</EncodingType>"
        head += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            head += f"<NextKeyMarker>{quote(self._keys[end - 1])}</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>"
        rows = "".join(map(_version, self.estate.objects[start:end]))
        return _xml(f'<ListVersionsResult xmlns="{_SPACE}">{head}{rows}</ListVersionsResult>'.encode())

    # ---------------------------------------------------------------- DynamoDB

    def _describe(self, operation: str) -> Answer:
        if operation != "DescribeTable":
            raise ValueError(f"{operation} is not part of this benchmark")
        table = {"BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"}, "ItemCount": len(self.estate.items)}
        return _dynamo({"Table": table})

    def _scan(self, request: dict[str, dict[str, dict[str, str]]]) -> Answer:
        start = request.get("ExclusiveStartKey")
        number = self._after[start["LockID"]["S"]] if start else 0
        if start is None:
            self._scans += 1
        if self.churn and number == len(self._pages) - 1:
            return _scan_page((*self._pages[number], *self._moving_locks()), last=True)
        return self._scanned[number]

    def _moving_locks(self) -> list[Item]:
        """Locks taken since the last scan, on keys that hold none otherwise; those of the last scan are released."""
        free = [number for number in range(len(self._keys)) if number % max(1, len(self._keys) // 120)]
        first = self._scans * self.churn
        since = datetime.now(UTC) - timedelta(seconds=30)
        numbers = [free[(first + turn) % len(free)] for turn in range(self.churn)]
        return [lock_item(self._keys[number], number, since) for number in numbers]


def _contents(stored: Stored) -> tuple[bytes, bytes]:
    """A row of ListObjectsV2, its key plain and URL-encoded; no key of the estate needs XML's entities."""
    row = (
        "<Contents><Key>{}</Key><LastModified>" + stored.modified + "</LastModified><ETag>&quot;" + stored.etag
        + f"&quot;</ETag><Size>{stored.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )
    return row.format(stored.key).encode(), row.format(quote(stored.key)).encode()


def _version(stored: Stored) -> str:
    return (
        f"<Version><Key>{quote(stored.key)}</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{stored.modified}</LastModified><ETag>&quot;{stored.etag}&quot;</ETag><Size>{stored.size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Version>"
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


def _xml(body: bytes) -> Answer:
    return _answer(_XML + body, "application/xml", {})


def _answer(body: bytes, kind: str, headers: dict[str, str], status: str = "200 OK") -> Answer:
    lines = {"Content-Type": kind, "Content-Length": str(len(body)), "x-amz-request-id": "BENCH0000000000"} | headers
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return [head.encode(), body]


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
        except (KeyError, ValueError, IndexError) as error:
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


async def _serve(keys: int) -> None:
    service, loop = Service(keys), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0)

    def tune(latency: float = 0.0, churn: int = 0) -> dict[str, object]:
        service.latency, service.churn = latency, churn
        return {}

    def counts() -> dict[str, object]:
        return dict(service.counts)

    def floor() -> dict[str, object]:
        return {"list": service.estate.list_pages, "scan": len(service.estate.scan_pages())}

    def keys_of(count: int) -> dict[str, object]:
        step = max(1, keys // count)
        return {"keys": [stored.key for stored in service.estate.objects[::step][:count]]}

    def address() -> dict[str, object]:
        return {"port": server.sockets[0].getsockname()[1]}

    commands = {"tune": tune, "counts": counts, "floor": floor, "keys_of": keys_of, "address": address}
    # In a thread beside the loop: each command is one assignment or one read.
    await asyncio.to_thread(answer_commands, commands)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
