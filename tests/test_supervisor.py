"""`lockboard serve` keeps its children together and ends them cleanly."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from lockboard.domain.errors import SettingsError
from lockboard.supervisor import require_free, require_loopback, run_together, web_command

WAITING_CHILD = "import os, signal; os.write(1, b'child\\n'); signal.pause()"
"""Says its word in one write: two children share the pipe, and `print` may write the end of a line apart."""
PARENT = f"""
import sys
from lockboard.supervisor import run_together
print("status", run_together([[sys.executable, "-c", {WAITING_CHILD!r}]] * 2, {{}}), flush=True)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_addresses_are_allowed(host: str) -> None:
    require_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_any_other_address_is_refused_with_the_reason(host: str) -> None:
    with pytest.raises(SettingsError, match="no sign-in yet"):
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
    commands = [[sys.executable, "-c", "pass"], [sys.executable, "-c", WAITING_CHILD]]
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


def test_the_web_server_opens_no_control_socket_and_binds_the_address_it_is_given() -> None:
    command = web_command("::1", 8080)
    assert "--no-control-socket" in command
    assert "--bind=[::1]:8080" in command
