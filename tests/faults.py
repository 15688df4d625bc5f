"""A recording proxy before an emulator that can fail on purpose: what it saw is the truth that receipts,
pages and audit records are held against.

    with fault_proxy(emulator.url) as proxy:
        proxy.on(proxy.operation("PutObject"), Fault.DROP_REPLY)          # once; times=None for always
        ... run Lockboard or Terraform with proxy.url as endpoint ...
        assert [seen.operation for seen in proxy.recording.mutations()] == ["PutObject"]

What is recorded: a `Seen` for every request, in the order of arrival, with its body and headers, whether it
was forwarded, what the emulator answered, and whether the client was told so.

What can be done to a request (the first rule that fits is used, then one of its `times` is gone):

- `Fault.CLOSE_BEFORE`: the connection is closed, nothing is forwarded;
- `Fault.DROP_REPLY`: forwarded and answered, then the connection is closed without a byte;
- `Fault.HALF_REPLY`: of the answer only the first half arrives (of its body, or of its status line where it
  has none);
- `instead(status, body)`: forwarded and answered, and then this answer is given instead of the true one;
- `refuse(status, body)`: this answer is given and nothing is forwarded;
- `hold(event)`: waits for the event before forwarding; `hold_reply(event)` before passing the answer on;
- `call(before=…, after=…)`: calls a function with the `Seen` before it is forwarded, or once the emulator has
  answered and before the client knows.

Each can be given to `on`; a list of several is done together (hooks and holds, then at most one failure).
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

HOLD_SECONDS = 60.0
"""After which a hold gives up, so that a test that forgot its event ends."""
IDLE_SECONDS = 1.0
"""For which a connection to the emulator is kept; MiniStack closes one after five."""

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_TABLE_WRITES = {
    "BatchExecuteStatement",
    "BatchWriteItem",
    "DeleteItem",
    "ExecuteStatement",
    "ExecuteTransaction",
    "PutItem",
    "TransactWriteItems",
    "UpdateItem",
}
_GETS = (
    ("list-type", "ListObjectsV2"),
    ("versions", "ListObjectVersions"),
    ("versioning", "GetBucketVersioning"),
    ("tagging", "GetObjectTagging"),
)
ITEM_ACTIONS = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
}
"""The IAM action of each part of a transaction."""


@dataclass
class Seen:
    """One request, and what became of it.

    path: decoded, of S3 `/bucket/key`.  query, headers: one value a name, header names in lower case. status,
    answer: the emulator's, 0 and b"" until it answered or where it was not asked.  told: the status that the
    client got, 0 for none or only half an answer.
    """

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    status: int = 0
    answer: bytes = b""
    told: int = 0

    @property
    def forwarded(self) -> bool:
        return self.status != 0

    @property
    def target(self) -> str:
        """The header X-Amz-Target, "" for S3 and STS."""
        return self.headers.get("x-amz-target", "")

    @property
    def document(self) -> Any:
        """A JSON body."""
        return json.loads(self.body)

    @property
    def operation(self) -> str:
        """The API operation, as far as Lockboard and Terraform use them; else the HTTP method."""
        if self.target:
            return self.target.rpartition(".")[2]
        if self.method == "POST" and b"Action=" in self.body:
            return parse_qs(self.body.decode())["Action"][0]
        if self.method == "POST" and "delete" in self.query:
            return "DeleteObjects"
        if self.method == "GET":
            return next((name for part, name in _GETS if part in self.query), "GetObject")
        if self.method == "PUT" and "x-amz-copy-source" in self.headers:
            return "CopyObject"
        of_objects = {"PUT": "PutObject", "DELETE": "DeleteObject", "HEAD": "HeadObject"}
        return of_objects.get(self.method, self.method)

    @property
    def mutates(self) -> bool:
        """Whether it asks for a change of a bucket or of items."""
        if self.target:
            return self.operation in _TABLE_WRITES
        return self.method in ("PUT", "DELETE") or (self.method == "POST" and b"Action=" not in self.body)

    @property
    def conditional(self) -> bool:
        """Whether a change to S3 names what it expects; a change of items, whether each part does."""
        if not self.target:
            return bool({"if-match", "if-none-match"} & self.headers.keys())
        if self.operation != "TransactWriteItems":
            return "ConditionExpression" in self.document
        return all(
            "ConditionExpression" in part for one in self.document["TransactItems"] for part in one.values()
        )

    @property
    def committed(self) -> bool:
        """Whether the emulator did it."""
        return 200 <= self.status < 300

    @property
    def iam_actions(self) -> frozenset[str]:
        """The IAM actions that AWS asks for, as far as Lockboard's requests go."""
        if self.operation == "TransactWriteItems":
            return frozenset(ITEM_ACTIONS[kind] for one in self.document["TransactItems"] for kind in one)
        if self.target:
            return frozenset({f"dynamodb:{self.operation}"})
        if self.operation == "AssumeRole":
            return frozenset({"sts:AssumeRole"})
        return frozenset(f"s3:{name}" for name in self._s3_actions())

    def _s3_actions(self) -> set[str]:
        version = "Version" if "versionId" in self.query else ""
        conditional = {"GetObject"} if "if-match" in self.headers else set()
        if self.operation == "PutObject":
            tags = {"PutObjectTagging"} if "x-amz-tagging" in self.headers else set()
            return {"PutObject"} | tags | conditional
        if self.operation == "DeleteObject":
            return {f"DeleteObject{version}"} | conditional
        if self.operation == "GetObjectTagging":
            return {f"GetObject{version}Tagging"}
        listing = {"ListObjectsV2": "ListBucket", "ListObjectVersions": "ListBucketVersions"}
        of_objects = {"GetObject": f"GetObject{version}", "HeadObject": f"GetObject{version}"}
        return {(listing | of_objects).get(self.operation, self.operation)}


Matches = Callable[[Seen], bool]
Hook = Callable[[Seen], object]


class Recording:
    """The requests so far, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Seen] = []

    @property
    def requests(self) -> Sequence[Seen]:
        with self._lock:
            return list(self._requests)

    def operations(self) -> list[str]:
        return [seen.operation for seen in self.requests]

    def mutations(self, *, committed: bool | None = None) -> list[Seen]:
        """The changes asked for; with `committed` those the emulator did (True) or did not do (False)."""
        asked = [seen for seen in self.requests if seen.mutates]
        return [seen for seen in asked if committed is None or seen.committed == committed]

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()

    def note(self, make: Callable[[int], Seen]) -> Seen:
        with self._lock:
            seen = make(len(self._requests))
            self._requests.append(seen)
            return seen


class Fault(Enum):
    """Ways in which a request or its answer is lost."""

    CLOSE_BEFORE = auto()
    DROP_REPLY = auto()
    HALF_REPLY = auto()


@dataclass(frozen=True)
class Told:
    """An answer of the proxy's own; with `forward` after the emulator has answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    forward: bool


@dataclass(frozen=True)
class Calls:
    """Functions called with the request before it is forwarded and after it was answered."""

    before: Hook | None = None
    after: Hook | None = None


Deed = Fault | Told | Calls


def instead(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Told:
    """Forward, and then give this answer instead of the true one."""
    return Told(status, body, headers or {}, forward=True)


def refuse(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Told:
    """Give this answer and forward nothing."""
    return Told(status, body, headers or {}, forward=False)


def call(before: Hook | None = None, after: Hook | None = None) -> Calls:
    """Call these with the request: before it is forwarded, or when the emulator has answered."""
    return Calls(before, after)


def hold(until: threading.Event) -> Calls:
    """Wait before forwarding."""
    return Calls(before=lambda _: until.wait(HOLD_SECONDS))


def hold_reply(until: threading.Event) -> Calls:
    """Wait before passing the answer on."""
    return Calls(after=lambda _: until.wait(HOLD_SECONDS))


@dataclass
class _Rule:
    matches: Matches
    deeds: Sequence[Deed]
    left: int | None


@dataclass
class FaultProxy:
    """A running proxy: its URL, what it recorded, and what it is to do."""

    url: str
    recording: Recording = field(default_factory=Recording)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, matches: Matches, *deeds: Deed, times: int | None = 1) -> None:
        """Do this to the next `times` requests that fit; None for all of them."""
        with self._lock:
            self._rules.append(_Rule(matches, deeds, times))

    def clear_rules(self) -> None:
        with self._lock:
            self._rules.clear()

    @staticmethod
    def operation(*names: str) -> Matches:
        """Requests of these API operations."""
        return lambda seen: seen.operation in names

    @staticmethod
    def mutation(seen: Seen) -> bool:
        """Requests that change something."""
        return seen.mutates

    def deeds_for(self, seen: Seen) -> Sequence[Deed]:
        with self._lock:
            for rule in self._rules:
                if rule.left != 0 and rule.matches(seen):
                    rule.left = None if rule.left is None else rule.left - 1
                    return rule.deeds
        return ()


@contextmanager
def fault_proxy(
    upstream: str, *, one_at_a_time: bool = False, ignores: Iterable[str] = ()
) -> Iterator[FaultProxy]:
    """Serve `upstream` on a free loopback port.

    one_at_a_time: give the emulator one request at a time, in whatever order they come: for moto, which on
    AWS's word is atomic and in truth takes a failed transaction back by putting an older copy of the table in
    place, with what others wrote meanwhile.

    ignores: headers, in lower case, that the emulator never sees: a store that does not know them.
    """
    address = urlsplit(upstream)
    left_out = _HOP_BY_HOP | set(ignores)
    turns: AbstractContextManager[object] = threading.Lock() if one_at_a_time else nullcontext()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1
        connection_on: http.client.HTTPConnection | None = None
        asked_at = 0.0

        def handle_any(self) -> None:
            seen = self._seen()
            deeds = proxy.deeds_for(seen)
            calls = [deed for deed in deeds if isinstance(deed, Calls)]
            failure = next((deed for deed in deeds if not isinstance(deed, Calls)), None)
            for one in calls:
                if one.before:
                    one.before(seen)
            if failure is Fault.CLOSE_BEFORE:
                self.close_connection = True
                return
            if isinstance(failure, Told) and not failure.forward:
                self._tell(seen, failure.status, list(failure.headers.items()), failure.body)
                return
            with turns:
                headers = self._forward(seen)
            for one in calls:
                if one.after:
                    one.after(seen)
            if isinstance(failure, Told):
                self._tell(seen, failure.status, list(failure.headers.items()), failure.body)
            elif failure is Fault.DROP_REPLY:
                self.close_connection = True
            else:
                self._tell(seen, seen.status, headers, seen.answer, half=failure is Fault.HALF_REPLY)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def handle_expect_100(self) -> bool:
            super().handle_expect_100()
            self.wfile.flush()
            return True

        def _seen(self) -> Seen:
            headers = {name.lower(): value for name, value in self.headers.items()}
            target = urlsplit(self.path)
            asked = parse_qs(target.query, keep_blank_values=True)
            query = {name: values[0] for name, values in asked.items()}
            body = self._body(headers)
            path = unquote(target.path)
            return proxy.recording.note(lambda n: Seen(n, self.command, path, query, headers, body))

        def _body(self, headers: Mapping[str, str]) -> bytes:
            if "chunked" not in headers.get("transfer-encoding", ""):
                return self.rfile.read(int(headers.get("content-length") or 0))
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body

        def _forward(self, seen: Seen) -> list[tuple[str, str]]:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
            length = {"Content-Length": str(len(seen.body))} if seen.body or self.command != "GET" else {}
            connection = self._upstream()
            try:
                connection.request(self.command, self.path, seen.body, kept | length)
                answer = connection.getresponse()
                seen.answer = answer.read()
            except BaseException:
                connection.close()
                raise
            seen.status = answer.status
            self.asked_at = time.monotonic()
            return answer.getheaders()

        def _upstream(self) -> http.client.HTTPConnection:
            """The connection of the client's last request, while the emulator surely still has it open."""
            if self.connection_on is None or time.monotonic() - self.asked_at > IDLE_SECONDS:
                self._hang_up()
                self.connection_on = http.client.HTTPConnection(
                    str(address.hostname), address.port, timeout=60
                )
            return self.connection_on

        def _hang_up(self) -> None:
            if self.connection_on is not None:
                self.connection_on.close()

        def finish(self) -> None:
            self._hang_up()
            super().finish()

        def _tell(
            self, seen: Seen, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False
        ) -> None:
            length = str(len(body))
            seen.told = 0 if half else status
            if half and not body:
                self.wfile.write(f"HTTP/1.1 {status}"[:-1].encode())
                self.close_connection = True
                return
            self.send_response_only(status)
            for name, value in headers:
                if self.command == "HEAD" and name.lower() == "content-length":
                    length = value
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if half else body)
            self.close_connection = self.close_connection or half

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A client that hangs up early is no failure of the proxy's."""

    server = Server(("127.0.0.1", 0), Handler)
    proxy = FaultProxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
