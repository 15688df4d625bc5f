"""The embedded AWS emulator, in a process of its own: started, found ready, and stopped.

The process is `python -m lockboard.demo.launcher`. It ends when its standard input does, so that a parent
which dies in whatever way takes the emulator with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from select import select
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self, cast

import boto3
from botocore.config import Config

HOST = "127.0.0.1"
ANY_KEY = "demo"
"""The emulator asks for credentials and takes any."""
DEAF = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": HOST,
    "no_proxy": HOST,
}
"""Environment that keeps the AWS libraries from a person's own configuration and proxies."""


class EmulatorError(RuntimeError):
    """The emulator could not be started; carries the last line that its process wrote."""


class Emulator(AbstractContextManager["Emulator"]):
    """A running emulator, filled and ready. Use `start`; leaving the `with` block stops it.

    Attributes:
        url: the endpoint of both services, such as `http://127.0.0.1:41873`.
        pid: the process id.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process, self.url, self.pid = process, url, process.pid

    @classmethod
    def start(cls, now: datetime, seed: int = 1, team: bool = False, timeout: float = 30) -> Self:
        """Start a process on a free loopback port and wait until it is filled.

        Args:
            now: the time, aware, that the estate's ages are counted from.
            seed: the same one gives the same estate.
            team: whether a team of invented colleagues works in it.
            timeout: the longest wait, in seconds.

        Raises:
            EmulatorError: it could not be started; nothing is left running.
        """
        words = [
            sys.executable,
            "-m",
            "lockboard.demo.launcher",
            "--now",
            now.isoformat(),
            "--seed",
            str(seed),
        ]
        with TemporaryFile() as complaints:
            process = _spawn([*words, *(["--team"] if team else [])], complaints)
            try:
                return cls(process, _address(process, timeout))
            except EmulatorError as failure:
                process.kill()
                _end(process)
                complaints.seek(0)
                said = complaints.read().decode("utf-8", "replace").strip().splitlines()
                raise EmulatorError(said[-1] if said else str(failure)) from None
            except BaseException:
                process.kill()
                _end(process)
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process and wait for it; again is harmless."""
        _end(self._process)


def client(service: str, region: str, url: str) -> Any:
    """A boto3 client of the emulator for `s3` or `dynamodb`, deaf to the configuration of the person who runs
    it.
    """
    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2}, proxies={})
    session = boto3.session.Session(ANY_KEY, ANY_KEY, region_name=region)
    return session.client(service, endpoint_url=url, config=config)


def _spawn(words: list[str], complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=_environment(os.environ),
        start_new_session=True,  # Ctrl-C is for the parent, which stops us last
    )


def _environment(parent: Mapping[str, str]) -> dict[str, str]:
    """The parent's environment without any word to the AWS libraries, which would otherwise listen to it."""
    spoken = ("AWS_", "MOTO_", "LOCKBOARD_")
    return {**{name: value for name, value in parent.items() if not name.startswith(spoken)}, **DEAF}


def _address(process: subprocess.Popen[bytes], timeout: float) -> str:
    said = cast("IO[bytes]", process.stdout)
    ready, _, _ = select([said], [], [], timeout)
    if not ready:
        raise EmulatorError(f"the emulator was not ready within {timeout:g} s")
    line = said.readline()
    if not line:
        raise EmulatorError("the emulator ended before it was ready")
    return str(json.loads(line)["url"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the standard input, which ends it; kill it where it does not listen."""
    for pipe in (process.stdin, process.stdout):
        cast("IO[bytes]", pipe).close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
