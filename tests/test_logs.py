"""The log: one event is one line of JSON, whatever it holds, and holds nothing that it must not."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from flask import Flask, abort

from lockboard import logs
from lockboard.domain.access import Actor, Rights
from lockboard.domain.audit import Person
from lockboard.domain.errors import StoreError
from lockboard.web.access import Visitor, acts
from lockboard.web.log import watch_requests

TEXTS = (
    "\n",
    "\r\n",
    "\x1b[31m",
    "\u2028",
    "\u2029",
    "\x85",
    "\x00",
    "\x7f",
    "\ud800",
    "\udfff",
    "\u202e",
    "😀",
    '"}\n{"event": "forged", "level": "info"}',
    "\x0b\x0c\x1c\x1d\x1e",
    "é" * 50,
    "%s %d %(x)s {0}",
    "\\",
    "x" * 5000,
)
ODD = (
    10**5000,
    -(10**30),
    float("nan"),
    float("inf"),
    b"\x00\xff",
    object(),
    {1: {2: {3: 4}}},
    [[["deep"]]],
    None,
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; afterwards everything that `configure` changed is as before."""
    root, libraries = logging.getLogger(), [logging.getLogger(name) for name in ("botocore", "urllib3")]
    before = root.handlers[:], root.level, root.manager.disable, [logger.level for logger in libraries]
    hooks, shown = (sys.excepthook, threading.excepthook), warnings.showwarning
    found = io.StringIO()
    logs.configure(found)
    yield found
    logs.configure(io.StringIO())
    logging.captureWarnings(capture=False)
    warnings.showwarning = shown
    root.handlers[:], root.level, root.manager.disable = before[0], before[1], before[2]
    for logger, level in zip(libraries, before[3], strict=True):
        logger.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    logs.bind_request(None)


def said(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_how_grave_who_and_what(stream: io.StringIO) -> None:
    logs.bind_request("4f")
    logs.bind_action("a-1")
    logs.get("web").info("request", status=200, milliseconds=1.5)
    logs.bind_request(None)
    logs.get("web").error("failed")
    first, second = said(stream)
    assert list(first)[:4] == ["timestamp", "level", "logger", "event"]
    assert first["timestamp"].endswith("Z")
    assert (first["level"], first["logger"], first["event"]) == ("info", "web", "request")
    assert (first["request_id"], first["action_id"]) == ("4f", "a-1")
    assert (first["status"], first["milliseconds"]) == (200, 1.5)
    assert (second["level"], "request_id" in second, "action_id" in second) == ("error", False, False)


def test_ten_thousand_events_are_ten_thousand_lines_whatever_they_hold(stream: io.StringIO) -> None:
    dice, log, library = Random(27), logs.get("web"), logs.Handler()
    fields = sorted(logs.FIELDS - {"timestamp", "level", "logger", "event"})
    for number in range(10_000):
        text = "".join(dice.choices(TEXTS, k=dice.randrange(4))) + chr(dice.randrange(0x110000))
        values = {dice.choice(fields): dice.choice((text, *ODD, [text], {text: text})) for _ in range(3)}
        if number % 3:
            log.warning(text, **values)
        else:
            arguments = () if number % 2 else (text,)  # more or fewer than the text takes
            library.handle(logging.LogRecord("library", logging.ERROR, "a.py", 1, text, arguments, None))
    raw = stream.getvalue()
    lines = raw.splitlines()
    assert len(lines) == 10_000
    assert raw.isascii()
    assert all(line.isprintable() and len(line) <= logs.LONGEST_LINE for line in lines)
    assert all("event" in json.loads(line) for line in lines)
    assert "NaN" not in raw.replace('"NaN', "")


def test_only_known_fields_are_said(stream: io.StringIO) -> None:
    secret = "AKIA-canary"
    logs.get("web").info("request", headers={"Cookie": secret}, body=secret, cookie=secret, query=secret)
    assert secret not in stream.getvalue()
    assert set(said(stream)[0]) == {"timestamp", "level", "logger", "event"}


def test_the_text_of_an_exception_is_ours_or_the_systems_or_left_out(stream: io.StringIO) -> None:
    secret = "canary-in-a-state"
    for error in (
        ValueError(secret),
        KeyError(secret),
        StoreError("the disk is full"),
        OSError(28, "No space left"),
    ):
        try:
            raise error
        except Exception as caught:
            logging.getLogger("lockboard").exception("a request failed", exc_info=caught)
    try:
        try:
            int(secret)
        except ValueError as cause:
            raise StoreError("it could not be read") from cause
    except StoreError:
        logging.getLogger("lockboard").exception("a request failed")
    value, key, store, system, chained = said(stream)
    assert secret not in stream.getvalue()
    assert (value["exception"], key["exception"]) == ("ValueError", "KeyError")
    assert "tests/test_logs.py:" in value["where"][-1]
    assert (store["error"], system["error"]) == ("the disk is full", "No space left")
    assert (chained["error"], chained["causes"]) == ("it could not be read", ["ValueError"])


@pytest.mark.parametrize("name", ["botocore", "botocore.parsers", "boto3", "urllib3", "authlib", "werkzeug"])
def test_nothing_brings_a_librarys_debug_lines_back(name: str, stream: io.StringIO) -> None:
    logger = logging.getLogger(name)
    own = io.StringIO()
    handler = logging.StreamHandler(own)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        logger.debug("Response body: %s", "canary")
        logger.warning("pool is full")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert own.getvalue() == "pool is full\n"
    (line,) = said(stream)
    assert (line["logger"], line["level"], line["event"]) == (name, "warning", "pool is full")


def test_pythons_warnings_are_lines_too(stream: io.StringIO) -> None:
    warnings.warn("old\nway", DeprecationWarning, stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old\nway", UserWarning, stacklevel=1)
    assert all(line["logger"] == "py.warnings" for line in said(stream))
    assert len(said(stream)) == len(stream.getvalue().splitlines()) >= 1


def test_a_stream_that_takes_none_any_more_fails_nobody(stream: io.StringIO) -> None:
    stream.close()
    logs.get("web").error("nobody hears this")


PROCESS = """
import logging, sys, threading, warnings
from lockboard import logs
logs.configure(sys.stderr)
warnings.warn("first")
logging.getLogger("botocore").debug("canary")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise KeyError("canary")
"""


def test_what_nobody_catches_is_a_line_without_the_values() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line.get("exception") for line in lines] == [None, "ZeroDivisionError", "KeyError"]
    assert "canary" not in done.stderr


def test_nothing_is_said_before_it_is_configured() -> None:
    script = "from lockboard import logs; logs.get('web').error('lost')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# ------------------------------------------------------------------ requests


def app(visitor: Visitor | None = None) -> Flask:
    made = Flask("lockboard")
    seconds = iter(range(1000))
    watch_requests(made, lambda: float(next(seconds)))

    @made.before_request
    def gate() -> None:
        from flask import g  # noqa: PLC0415 -- as the gate does it

        if visitor:
            g.lockboard_visitor = visitor

    @made.get("/s/<state_id>")
    def state(state_id: str) -> str:
        logs.bind_action("a-1")
        logging.getLogger("lockboard").error("of this request")
        return state_id

    @made.get("/healthz")
    def healthz() -> str:
        return "ok"

    @made.get("/readyz")
    def readyz() -> str:
        abort(503)

    @made.get("/broken")
    def broken() -> str:
        raise ValueError("canary")

    return made


def test_a_request_is_one_line_with_its_route_its_person_and_how_long_it_took(stream: io.StringIO) -> None:
    kim = Visitor(Actor(Person("kim", "local", "10.0.0.1"), Rights()))
    answer = (
        app(kim)
        .test_client()
        .get("/s/4f2a?code=canary", headers={"X-Request-Id": "mine", "Cookie": "canary"})
    )
    inner, line = said(stream)
    assert line == {
        "timestamp": line["timestamp"],
        "level": "info",
        "logger": "web",
        "event": "request",
        "method": "GET",
        "route": "/s/<state_id>",
        "path": "/s/4f2a",
        "status": 200,
        "milliseconds": 1000.0,
        "person": "kim",
        "address": "127.0.0.1",
        "request_id": answer.headers["X-Request-Id"],
        "action_id": "a-1",
    }
    assert inner["request_id"] == line["request_id"] != "mine"
    assert "canary" not in stream.getvalue()


def test_probes_are_said_only_where_they_fail(stream: io.StringIO) -> None:
    client = app().test_client()
    assert client.get("/healthz").headers["X-Request-Id"]
    client.get("/readyz")
    (line,) = said(stream)
    assert (line["route"], line["status"]) == ("/readyz", 503)


def test_what_fails_and_what_is_not_there_is_said_with_its_number(stream: io.StringIO) -> None:
    client = app().test_client()
    lost, broken = client.get("/none/\x1b%0a<b>"), client.get("/broken")
    lines = said(stream)
    assert [(line["event"], line.get("status")) for line in lines if line["logger"] == "web"] == [
        ("request", 404),
        ("request", 500),
    ]
    assert [answer.headers["X-Request-Id"] for answer in (lost, broken)] == [
        line["request_id"] for line in lines if line["logger"] == "web"
    ]
    assert lines[0]["route"] is None
    assert "canary" not in stream.getvalue()


def test_one_request_leaves_nothing_for_the_next_line(stream: io.StringIO) -> None:
    app().test_client().get("/s/4f2a")
    logs.get("web").warning("afterwards")
    assert "request_id" not in said(stream)[-1]
    assert "action_id" not in said(stream)[-1]


def test_what_is_said_while_an_action_is_carried_out_has_its_id(stream: io.StringIO) -> None:
    with Flask("any").test_request_context("/"):
        acts("5f0c0000-0000-4000-8000-000000000001")
        logs.get("here").info("said")
        acts("")
        logs.get("here").info("said")

    assert [line.get("action_id") for line in said(stream)] == ["5f0c0000-0000-4000-8000-000000000001", None]


def test_every_request_has_a_number_of_its_own(stream: io.StringIO) -> None:
    client = app().test_client()
    numbers = {client.get("/healthz").headers["X-Request-Id"] for _ in range(200)}
    assert len(numbers) == 200
    assert stream.getvalue() == ""


# ------------------------------------------------------------------ processes

PARENT = f"""
import sys
from lockboard import logs
from lockboard.supervisor import run_together
logs.configure(sys.stderr)
run_together({{"short": [{sys.executable!r}, "-c", "import sys; sys.exit(3)"]}}, {{}})
"""


def test_the_supervisor_says_which_process_ended() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True)
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["logger"], line["process"], line["status"]) == ("serve", "short", 3)


def test_gunicorn_says_in_one_line_why_the_application_does_not_start() -> None:
    command = [sys.executable, "-m", "gunicorn", "--config=python:lockboard.web.server", "--bind=127.0.0.1:0"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LOCKBOARD_")}
    done = subprocess.run(
        [*command, "lockboard.web.wsgi:application()"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0]["event"] == "the web process cannot go on"
    assert "give --config FILE or set LOCKBOARD_CONFIG" in lines[0]["error"]


def test_collect_says_everything_as_lines(tmp_path: Any) -> None:
    config = tmp_path / "lockboard.toml"
    config.write_text(
        f'[database]\nurl = "sqlite:///{tmp_path / "a.db"}"\n'
        '[[backends]]\nname = "prod"\nbucket = "acme-tfstate"\n'
        'region = "eu-west-1"\ns3_endpoint_url = "http://127.0.0.1:9"\n',
        "utf-8",
    )
    command = [sys.executable, "-m", "lockboard", "collect", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert (line["logger"], line["event"], line["backend"], line["complete"]) == (
        "collect",
        "refresh",
        "prod",
        False,
    )
    assert line["requests"]["list"] == 3
    assert all(json.loads(other) for other in rest.splitlines())


def test_what_is_merely_told_waits_for_what_follows_and_a_warning_waits_for_nothing(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "GATHERED", 3600.0)
    monkeypatch.setattr(logs, "_OUTPUT", logs._Output())
    logs.configure(stream, gather=True)
    logs.tell("web", "first")
    logs.get("web").info("second")
    assert stream.getvalue() == ""
    logs.get("web").warning("third")

    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["first", "second", "third"]
    assert [line["logger"] for line in told] == ["web"] * 3


def test_lines_that_wait_are_written_before_they_are_longer_than_a_line_may_be(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "GATHERED", 3600.0)
    monkeypatch.setattr(logs, "_OUTPUT", logs._Output())
    written: list[str] = []
    monkeypatch.setattr(stream, "write", written.append)
    logs.configure(stream, gather=True)
    for number in range(200):
        logs.get("web").info("request", path="/" + "x" * 300, count=number)
    logs.get("web").error("the end")

    lines = "".join(written).splitlines()
    assert max(map(len, written)) <= logs.LONGEST_LINE
    assert [json.loads(line).get("count") for line in lines] == [*range(200), None]
    assert len(written) < 30


def test_lines_that_wait_are_written_by_themselves(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = threading.Event()
    monkeypatch.setattr(logs, "_OUTPUT", logs._Output())
    monkeypatch.setattr(stream, "flush", flushed.set)
    logs.configure(stream, gather=True)
    logs.get("web").info("request")

    assert flushed.wait(10)
    assert json.loads(stream.getvalue())["event"] == "request"


def test_a_process_that_ends_writes_what_waits() -> None:
    program = (
        "import sys\nfrom lockboard import logs\nlogs.GATHERED = 3600\n"
        "logs.configure(sys.stderr, gather=True)\nlogs.get('web').info('the last')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert json.loads(done.stderr)["event"] == "the last"
