"""Start `lockboard serve` where nothing is set up and see that it answers, then ends when told to.

    python serve_smoke.py EXECUTABLE FOLDER

The one backend points at a loopback port that nobody listens on: pages must come up all the same. The folder
gets the configuration and a SQLite file. Standard library only: any Python runs it beside any installation.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

PATIENCE = 20.0
"""Seconds until the first answer, and again until the end."""

CONFIG = """\
[database]
url = "sqlite:///{database}"

[auth]
mode = "demo"

[[backends]]
name = "smoke"
bucket = "nobody-is-there"
region = "eu-west-1"
dynamodb_table = "terraform-lock"
s3_endpoint_url = "http://127.0.0.1:{closed}"
dynamodb_endpoint_url = "http://127.0.0.1:{closed}"
"""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def status_of(port: int, path: str) -> int | None:
    """HTTP status of a GET, or None where nobody answers yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def wait_for(what: str, seen: Callable[[], bool]) -> None:
    """Return when `seen()` is true; TimeoutError with `what` after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not seen():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.1)


def environment() -> dict[str, str]:
    """The caller's environment without its AWS set-up and Python path, with made-up credentials."""
    foreign = ("AWS_", "LOCKBOARD_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "AWS_ACCESS_KEY_ID": "smoke",
        "AWS_SECRET_ACCESS_KEY": "smoke",
        "AWS_EC2_METADATA_DISABLED": "true",
        "LOCKBOARD_ALLOW_ROOT": "1",  # builds run as root; nothing of this lasts
    }


def children(parent: int) -> list[int]:
    """Process ids that `parent` has started; empty where the system has no /proc to ask."""
    listing = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def alive(process: int) -> bool:
    """Whether a process of ours is still there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def start(executable: str, config: Path, port: int, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """The program on loopback."""
    return subprocess.Popen(
        [executable, "serve", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
        cwd=config.parent,
        env=environment(),
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def serve(executable: str, folder: Path) -> None:
    """Start, ask `/healthz` and `/`, send SIGTERM; an AssertionError or TimeoutError says what broke."""
    config = folder / "smoke.toml"
    config.write_text(CONFIG.format(database=folder / "smoke.db", closed=free_port()), encoding="utf-8")
    port = free_port()
    with tempfile.TemporaryFile() as output, start(executable, config, port, output) as process:
        started: list[int] = []
        try:
            wait_for(
                "/healthz is 200", lambda: process.poll() is not None or status_of(port, "/healthz") == 200
            )
            page = status_of(port, "/")
            started = children(process.pid)
            process.send_signal(signal.SIGTERM)
            ended = process.wait(PATIENCE)
            if page not in (200, 303) or ended != 0:
                raise AssertionError(f"GET / answered {page}; serve ended with {ended} after SIGTERM")
            if left := [child for child in started if alive(child)]:
                raise AssertionError(f"serve ended but left processes behind: {left}")
        except BaseException:
            process.kill()
            for child in filter(alive, started):
                os.kill(child, signal.SIGKILL)
            output.seek(0)
            sys.stderr.write(output.read().decode("utf-8", "replace"))
            raise


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]).resolve())
    print("lockboard serve: answers, and ends with 0 on SIGTERM")
