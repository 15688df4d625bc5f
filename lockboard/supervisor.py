"""`lockboard serve`: the web server and the refresher as two processes under one parent that ends both
cleanly.

The refresher has a process of its own because parsing listings in the web process would hold its interpreter
lock and slow every page down.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from lockboard.domain.errors import SettingsError

GRACE = 55.0
"""Seconds a child has to end by itself; requests are cut after 45, when every action has ended."""

THREADS = 16

NICENESS = 19
"""How much lower the refresher's priority is than that of the pages, where there is no class below theirs."""


def require_loopback(host: str) -> None:
    """Refuse to listen where others could reach the pages: there is no sign-in yet.

    Raises:
        SettingsError: the host is not a loopback address.
    """
    try:
        allowed = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        allowed = False
    if not allowed:
        raise SettingsError(
            f"--host {host}: only loopback (127.0.0.1 or ::1) is allowed, because there is no sign-in yet;"
            " put a proxy that signs people in on the same host in front of it"
        )


def require_free(host: str, port: int) -> None:
    """Refuse an address that somebody listens on already, in words and before anything is started.

    Raises:
        SettingsError: it cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"port {port} of {host} cannot be listened on ({error.strerror}): choose another with --port"
            ) from None


def web_command(host: str, port: int, threads: int = THREADS) -> list[str]:
    """The gunicorn command line; the configuration file's path reaches the application through
    LOCKBOARD_CONFIG.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = {
        "bind": address,
        "workers": 1,
        "threads": threads,
        "worker-class": "gthread",
        "timeout": 60,
        "graceful-timeout": 45,
        "keep-alive": 75,
        "backlog": 128,
        "limit-request-line": 8190,
        "limit-request-fields": 64,
        "limit-request-field_size": 8190,
        "forwarded-allow-ips": "127.0.0.1",
        "log-level": "warning",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [
        sys.executable,
        "-m",
        "gunicorn",
        *flags,
        "--no-control-socket",
        "lockboard.web.wsgi:application()",
    ]


def serve(config: Path, host: str, port: int) -> int:
    """Run both until a signal or until one of them ends. Returns 0 after a signal, 1 where a child ended by
    itself.

    Raises:
        SettingsError: the host is not loopback, or its port is taken.
    """
    require_loopback(host)
    require_free(host, port)
    commands = (
        [sys.executable, "-m", "lockboard", "collect", "--config", str(config)],
        web_command(host, port),
    )
    return run_together(commands, {"LOCKBOARD_CONFIG": str(config.resolve())})


def yield_to_pages() -> None:
    """Let the pages go first where both want the processor; called before the refresher starts threads.

    While pages keep every processor busy, the refresher waits, and they say how old their data is.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed here
        os.nice(NICENESS)


def run_together(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> int:
    """Start every command; end all when told to or when one ends."""
    told: SimpleQueue[int] = SimpleQueue()
    with _signals(told):
        children: list[subprocess.Popen[bytes]] = []
        try:
            for command in commands:
                children.append(
                    subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
                )
            while True:
                try:
                    told.get(timeout=0.2)
                    return 0
                except Empty:
                    if any(child.poll() is not None for child in children):
                        return 1
        finally:
            _end(children)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def _signals(told: SimpleQueue[int]) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP are put into `told` while the block runs.

    A SimpleQueue may be written from a signal handler; an Event that this very thread waits on may
    not: the handler could wait for a lock that the code it interrupted holds.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        told.put(number)

    names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {name: signal.signal(name, handle) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
