"""`lockboard serve`: the web server and the refresher as two processes under one parent that ends both
cleanly.

The refresher has a process of its own because parsing listings in the web process would hold its interpreter
lock and slow every page down.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from lockboard import logs
from lockboard.domain.errors import SettingsError
from lockboard.safety import is_loopback
from lockboard.web.overload import THREADS

GRACE = 55.0
"""Seconds a child has to end by itself; requests are cut after 45, when every action has ended."""

HEADER_SIZE = 8190
HEADER_SIZE_OF_ALB = 16380
"""Bytes of one header field: a load balancer passes a whole JWT on, with the groups in it."""

NICENESS = 19
"""How much lower the refresher's priority is than that of the pages, where there is no class below theirs."""


def require_loopback(host: str) -> None:
    """Refuse to listen where others could reach the demo's pages, which ask nobody to sign in.

    Raises:
        SettingsError: the host is not a loopback address.
    """
    if not is_loopback(host):
        raise SettingsError(
            f"--host {host}: only loopback (127.0.0.1 or ::1) is allowed: the demo asks nobody to sign in"
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


def web_command(host: str, port: int, threads: int = THREADS, *, header_size: int = HEADER_SIZE) -> list[str]:
    """The gunicorn command line; its other settings are those of `lockboard.web.server`. The configuration
    file's path reaches the application through LOCKBOARD_CONFIG.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "--config=python:lockboard.web.server",
        f"--bind={address}",
        f"--threads={threads}",
        f"--limit-request-field_size={header_size}",
        "--no-control-socket",
        "lockboard.web.wsgi:application()",
    ]


def serve(
    config: Path, host: str, port: int, *, header_size: int = HEADER_SIZE, held: Sequence[int] = ()
) -> int:
    """Run both until a signal or until one of them ends. Returns 0 after a signal, 1 where a child ended by
    itself. Whether the settings are safe is for the caller to ask. held: as in `run_together`.

    Raises:
        SettingsError: the port is taken.
    """
    require_free(host, port)
    commands = {
        "collect": [sys.executable, "-m", "lockboard", "collect", "--config", str(config)],
        "web": web_command(host, port, header_size=header_size),
    }
    return run_together(commands, {"LOCKBOARD_CONFIG": str(config.resolve())}, held)


def yield_to_pages() -> None:
    """Let the pages go first where both want the processor; called before the refresher starts threads.

    While pages keep every processor busy, the refresher waits, and they say how old their data is.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed here
        os.nice(NICENESS)


def run_together(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], held: Sequence[int] = ()
) -> int:
    """Start every command, by the name it has in the log; end all when told to or when one ends.

    held: descriptors that the commands hold as well, so that a lock outlives this process as long as they do:
    where it is killed, nobody is left to end them.
    """
    told: SimpleQueue[int] = SimpleQueue()
    with _signals(told):
        children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name, command in commands.items():
                children[name] = subprocess.Popen(
                    command, env={**os.environ, **environment}, start_new_session=True, pass_fds=held
                )
            while True:
                try:
                    told.get(timeout=0.2)
                    return 0
                except Empty:
                    ended = {name: child.poll() for name, child in children.items()}
                if any(status is not None for status in ended.values()):
                    _say_who_ended(ended)
                    return 1
        finally:
            _end(list(children.values()))


def _say_who_ended(ended: Mapping[str, int | None]) -> None:
    log = logs.get("serve")
    for name, status in ended.items():
        if status is not None:
            log.error("a process ended by itself, so all end", process=name, status=status)


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
