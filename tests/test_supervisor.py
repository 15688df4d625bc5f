"""`lockboard serve` keeps its children together and ends them cleanly."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.http import errors

from lockboard.domain.errors import SettingsError
from lockboard.safety import only_server
from lockboard.supervisor import (
    HEADER_SIZE_OF_ALB,
    require_free,
    require_loopback,
    run_together,
    web_command,
)
from lockboard.web import server

WAITING_CHILD = "import os, signal; os.write(1, b'child\\n'); signal.pause()"
"""Says its word in one write: two children share the pipe, and `print` may write the end of a line apart."""
PARENT = f"""
import sys
from lockboard.supervisor import run_together
command = [sys.executable, "-c", {WAITING_CHILD!r}]
print("status", run_together({{"one": command, "two": command}}, {{}}), flush=True)
"""
KILLED_PARENT = """
import sys
from lockboard.safety import only_server
from lockboard.supervisor import run_together
child = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
with only_server("{url}") as held:
    run_together({{"one": [sys.executable, "-c", child]}}, {{}}, held)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_addresses_are_allowed(host: str) -> None:
    require_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_any_other_address_is_refused_with_the_reason(host: str) -> None:
    with pytest.raises(SettingsError, match="nobody to sign in"):
        require_loopback(host)


def test_a_port_that_is_taken_is_refused_in_words_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} of 127.0.0.1 .* choose another with --port"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)


def test_a_child_that_ends_by_itself_ends_the_others_with_a_failure() -> None:
    commands = {"short": [sys.executable, "-c", "pass"], "long": [sys.executable, "-c", WAITING_CHILD]}
    assert run_together(commands, {}) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_every_child_and_counts_as_success(number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        said = [parent.stdout.readline() for _ in range(2)]
    finally:  # also where a line is not as expected: a parent that nobody ends would be waited for for ever
        parent.send_signal(number)
        rest, _ = parent.communicate(timeout=60)
    assert [*said, rest] == ["child\n", "child\n", "status 0\n"]
    assert parent.returncode == 0


def test_the_file_stays_taken_while_a_child_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    script = KILLED_PARENT.format(url=url)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    try:
        with pytest.raises(SettingsError, match="or what is left of it"), only_server(url):
            raise AssertionError("two at once")
    finally:
        os.kill(child, signal.SIGTERM)
    deadline = time.monotonic() + 30
    free: list[bool] = []
    while not free:
        assert time.monotonic() < deadline
        with suppress(SettingsError), only_server(url):
            free.append(True)


def test_the_web_server_opens_no_control_socket_and_binds_the_address_it_is_given() -> None:
    command = web_command("::1", 8080, header_size=HEADER_SIZE_OF_ALB)
    assert "--no-control-socket" in command
    assert "--bind=[::1]:8080" in command
    assert "--limit-request-field_size=16380" in command


def test_gunicorn_takes_every_setting_that_the_promises_name() -> None:
    command = [*web_command("127.0.0.1", 0)[:-1], "--print-config", "flask:Flask"]
    environ = {**os.environ, "FORWARDED_ALLOW_IPS": "*", "WEB_CONCURRENCY": "5"}
    said = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout
    found = dict(re.findall(r"^(\w+) += (.*)$", said, re.MULTILINE))
    expected = {
        "worker_class": "lockboard.web.server.Worker",
        "workers": "1",
        "threads": "64",
        "timeout": "60",
        "graceful_timeout": "45",
        "keepalive": "75",
        "backlog": "128",
        "limit_request_line": "8190",
        "limit_request_fields": "64",
        "limit_request_field_size": "8190",
        "header_map": "refuse",
        "forwarder_headers": "[]",
        "forwarded_allow_ips": "[]",
        "secure_scheme_headers": "{}",
        "proxy_allow_ips": "[]",
        "strip_header_spaces": "False",
        "control_socket_disable": "True",
        "accesslog": "None",
        "logger_class": "lockboard.web.server.ServerLog",
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else "None",
    }
    assert {name: found.get(name) for name in expected} == expected


def test_the_application_is_told_what_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server.BIND, "what somebody set before")
    for address, told in [
        ([("127.0.0.1", 8080), ("::1", 8080, 0, 0)], "127.0.0.1 ::1"),
        (["/run/lockboard.sock"], "/run/lockboard.sock"),
    ]:
        server.on_starting(SimpleNamespace(cfg=SimpleNamespace(address=address)))
        assert os.environ["LOCKBOARD_BIND"] == told


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.LimitRequestLine(9000, 8190), 414),
        (errors.LimitRequestHeaders("too many"), 431),
        (errors.UnsupportedTransferCoding("canary"), 400),
        (errors.InvalidHeader("canary"), 400),
        (errors.InvalidResponseHeader("canary"), 500),
        (RuntimeError("canary"), 500),
    ],
)
def test_what_is_no_http_gets_our_headers_and_none_of_its_own_words(error: Exception, status: int) -> None:
    answer = server.refusal(*server.status_of(error))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Length: %d" % len(body) in head
    for header in (b"Content-Security-Policy: default-src 'none'", b"X-Content-Type-Options: nosniff"):
        assert header in head
    assert b"canary" not in answer
