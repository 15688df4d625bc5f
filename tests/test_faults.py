from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.emulators import Emulator
from tests.faults import Fault, FaultProxy, Seen, call, fault_proxy, hold, hold_reply, instead, refuse

DONE = b"done it"


class Upstream:
    """A server that answers 200 to everything and keeps what it got."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.at_once, self.most_at_once = 0, 0
        self.pause: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream.enter(self.command, self.path, body)
                self.send_response(200)
                self.send_header("ETag", '"e"')
                self.send_header("Content-Length", str(len(DONE)))
                self.end_headers()
                self.wfile.write(DONE)

            do_GET = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def enter(self, method: str, path: str, body: bytes) -> None:
        with self._lock:
            self.asked.append((method, path, body))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.pause()
        with self._lock:
            self.at_once -= 1


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    found = Upstream()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    with fault_proxy(upstream.url) as found:
        yield found


def ask(
    proxy: FaultProxy, method: str = "PUT", path: str = "/b/k%20%2B?x=1", body: bytes = b"body"
) -> tuple[int, bytes]:
    """Status and body of the answer. Raises what http.client raises when there is none."""
    address = urlsplit(proxy.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    try:
        connection.request(method, path, body, {"If-Match": '"e"'})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def anything(_: Seen) -> bool:
    return True


def test_a_request_passes_unchanged_and_is_recorded_whole(upstream: Upstream, proxy: FaultProxy) -> None:
    assert ask(proxy) == (200, DONE)
    assert upstream.asked == [("PUT", "/b/k%20%2B?x=1", b"body")]
    [seen] = proxy.recording.requests
    assert (seen.number, seen.method, seen.path, seen.query) == (0, "PUT", "/b/k +", {"x": "1"})
    assert (seen.body, seen.headers["if-match"]) == (b"body", '"e"')
    assert (seen.status, seen.answer, seen.told) == (200, DONE, 200)
    assert seen.mutates
    assert seen.committed


def test_close_before_forwards_nothing(upstream: Upstream, proxy: FaultProxy) -> None:
    proxy.on(anything, Fault.CLOSE_BEFORE)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(proxy)
    [seen] = proxy.recording.requests
    assert (seen.forwarded, seen.told, upstream.asked) == (False, 0, [])


def test_a_dropped_reply_is_of_a_request_that_was_done(upstream: Upstream, proxy: FaultProxy) -> None:
    proxy.on(anything, Fault.DROP_REPLY)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(proxy)
    [seen] = proxy.recording.requests
    assert (seen.committed, seen.told, len(upstream.asked)) == (True, 0, 1)


def test_half_a_reply_ends_before_its_length(upstream: Upstream, proxy: FaultProxy) -> None:
    proxy.on(anything, Fault.HALF_REPLY)
    with pytest.raises(http.client.IncompleteRead):
        ask(proxy)
    [seen] = proxy.recording.requests
    assert (seen.committed, seen.told, len(upstream.asked)) == (True, 0, 1)


def test_an_answer_instead_is_given_after_the_true_one(upstream: Upstream, proxy: FaultProxy) -> None:
    proxy.on(anything, instead(500, b"broken"))
    assert ask(proxy) == (500, b"broken")
    [seen] = proxy.recording.requests
    assert (seen.committed, seen.status, seen.told, len(upstream.asked)) == (True, 200, 500, 1)


def test_a_refusal_is_given_without_forwarding(upstream: Upstream, proxy: FaultProxy) -> None:
    proxy.on(anything, refuse(501, b"no"))
    assert ask(proxy) == (501, b"no")
    [seen] = proxy.recording.requests
    assert (seen.forwarded, seen.told, upstream.asked) == (False, 501, [])


def test_a_rule_is_used_as_often_as_it_says_and_only_where_it_fits(proxy: FaultProxy) -> None:
    proxy.on(proxy.operation("DeleteObject"), refuse(503), times=2)
    proxy.on(proxy.mutation, refuse(400), times=None)
    methods = ["DELETE", "PUT", "GET", "DELETE", "DELETE"]
    assert [ask(proxy, method)[0] for method in methods] == [503, 400, 200, 503, 400]
    proxy.clear_rules()
    assert ask(proxy)[0] == 200


def test_hooks_are_called_before_forwarding_and_before_the_client_knows(
    upstream: Upstream, proxy: FaultProxy
) -> None:
    told: list[tuple[str, int, int]] = []
    proxy.on(
        anything,
        call(
            before=lambda seen: told.append(("before", seen.status, len(upstream.asked))),
            after=lambda seen: told.append(("after", seen.status, seen.told)),
        ),
        Fault.DROP_REPLY,
    )
    with pytest.raises(http.client.RemoteDisconnected):
        ask(proxy)
    assert told == [("before", 0, 0), ("after", 200, 0)]


@pytest.mark.parametrize(("waits", "asked"), [(hold, 0), (hold_reply, 1)])
def test_a_held_request_waits_for_its_event(
    upstream: Upstream, proxy: FaultProxy, waits: Callable[[threading.Event], object], asked: int
) -> None:
    arrived, go, answers = threading.Event(), threading.Event(), list[tuple[int, bytes]]()
    notes = call(before=lambda _: arrived.set()) if waits is hold else call(after=lambda _: arrived.set())
    proxy.on(anything, notes, waits(go))  # type: ignore[arg-type]
    thread = threading.Thread(target=lambda: answers.append(ask(proxy)))
    thread.start()
    assert arrived.wait(5)
    assert (len(upstream.asked), answers) == (asked, [])
    go.set()
    thread.join(5)
    assert answers == [(200, DONE)]


def test_one_at_a_time_means_one_at_a_time(upstream: Upstream) -> None:
    gate = threading.Barrier(2)

    def pause() -> None:
        try:
            gate.wait(0.2)
        except threading.BrokenBarrierError:
            return

    upstream.pause = pause
    with fault_proxy(upstream.url, one_at_a_time=True) as proxy:
        threads = [threading.Thread(target=ask, args=(proxy,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert (len(upstream.asked), upstream.most_at_once) == (2, 1)


def seen(method: str, path: str, query: str = "", headers: str = "", body: bytes = b"") -> Seen:
    named = dict.fromkeys(headers.split(), "x")
    return Seen(0, method, path, dict.fromkeys(query.split(), ""), named, body)


def item_request(operation: str, body: bytes = b"{}") -> Seen:
    return Seen(0, "POST", "/", {}, {"x-amz-target": f"DynamoDB_20120810.{operation}"}, body)


CHECKED = b'{"ConditionExpression":"c"}'
TRANSACTION = b'{"TransactItems":[{"ConditionCheck":%s},{"Update":%s}]}' % (CHECKED, CHECKED)
PLAIN = b'{"TransactItems":[{"Put":{}},{"Update":{"ConditionExpression":"c"}}]}'


@pytest.mark.parametrize(
    ("request_", "operation", "mutates", "conditional", "actions"),
    [
        (seen("GET", "/b/k"), "GetObject", False, False, {"s3:GetObject"}),
        (seen("GET", "/b/k", "versionId"), "GetObject", False, False, {"s3:GetObjectVersion"}),
        (
            seen("GET", "/b/k", "tagging versionId"),
            "GetObjectTagging",
            False,
            False,
            {"s3:GetObjectVersionTagging"},
        ),
        (seen("GET", "/b", "list-type"), "ListObjectsV2", False, False, {"s3:ListBucket"}),
        (seen("GET", "/b", "versions"), "ListObjectVersions", False, False, {"s3:ListBucketVersions"}),
        (seen("GET", "/b", "versioning"), "GetBucketVersioning", False, False, {"s3:GetBucketVersioning"}),
        (seen("PUT", "/b/k"), "PutObject", True, False, {"s3:PutObject"}),
        (seen("PUT", "/b/k", "", "if-none-match"), "PutObject", True, True, {"s3:PutObject"}),
        (
            seen("PUT", "/b/k", "", "if-match x-amz-tagging"),
            "PutObject",
            True,
            True,
            {"s3:PutObject", "s3:PutObjectTagging", "s3:GetObject"},
        ),
        (seen("PUT", "/b/k", "", "x-amz-copy-source"), "CopyObject", True, False, {"s3:CopyObject"}),
        (
            seen("DELETE", "/b/k", "", "if-match"),
            "DeleteObject",
            True,
            True,
            {"s3:DeleteObject", "s3:GetObject"},
        ),
        (seen("DELETE", "/b/k", "versionId"), "DeleteObject", True, False, {"s3:DeleteObjectVersion"}),
        (seen("POST", "/b", "delete"), "DeleteObjects", True, False, {"s3:DeleteObjects"}),
        (
            seen("POST", "/", "", "", b"Action=AssumeRole&Version=x"),
            "AssumeRole",
            False,
            False,
            {"sts:AssumeRole"},
        ),
        (item_request("GetItem"), "GetItem", False, False, {"dynamodb:GetItem"}),
        (item_request("PutItem"), "PutItem", True, False, {"dynamodb:PutItem"}),
        (
            item_request("TransactWriteItems", TRANSACTION),
            "TransactWriteItems",
            True,
            True,
            {"dynamodb:ConditionCheckItem", "dynamodb:UpdateItem"},
        ),
        (
            item_request("TransactWriteItems", PLAIN),
            "TransactWriteItems",
            True,
            False,
            {"dynamodb:PutItem", "dynamodb:UpdateItem"},
        ),
    ],
)
def test_a_request_says_what_it_asks_for(
    request_: Seen, operation: str, mutates: bool, conditional: bool, actions: set[str]
) -> None:
    assert (request_.operation, request_.mutates) == (operation, mutates)
    assert request_.conditional == conditional
    assert request_.iam_actions == actions


def test_mutations_are_told_apart_by_whether_they_were_done(proxy: FaultProxy) -> None:
    proxy.on(anything, refuse(412))
    ask(proxy, "PUT")
    ask(proxy, "DELETE")
    ask(proxy, "GET")
    recording = proxy.recording
    assert recording.operations() == ["PutObject", "DeleteObject", "GetObject"]
    assert [one.operation for one in recording.mutations()] == ["PutObject", "DeleteObject"]
    assert [one.operation for one in recording.mutations(committed=True)] == ["DeleteObject"]
    assert [one.operation for one in recording.mutations(committed=False)] == ["PutObject"]
    recording.clear()
    assert recording.requests == []


def test_boto3_works_through_it(emulator: Emulator) -> None:
    bucket, table = emulator.make_bucket(), emulator.make_table()
    with fault_proxy(emulator.url) as proxy:
        through = Emulator(emulator.name, proxy.url)
        through.s3.put_object(Bucket=bucket, Key="a b/한국", Body=b"x" * 100_000)
        assert through.s3.get_object(Bucket=bucket, Key="a b/한국")["Body"].read() == b"x" * 100_000
        assert through.s3.head_object(Bucket=bucket, Key="a b/한국")["ContentLength"] == 100_000
        through.s3.delete_object(Bucket=bucket, Key="a b/한국")
        through.dynamodb.put_item(TableName=table, Item={"LockID": {"S": "x"}})
        assert proxy.recording.operations() == [
            "PutObject",
            "GetObject",
            "HeadObject",
            "DeleteObject",
            "PutItem",
        ]
        assert {seen.path for seen in proxy.recording.requests[:4]} == {f"/{bucket}/a b/한국"}
