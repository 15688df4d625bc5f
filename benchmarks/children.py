"""Processes of a run: each is told what to do by lines of JSON and answers in kind, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ENVIRONMENT: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""No account, no profile and no metadata service can be reached with it."""

END_SECONDS = 20.0

Command = Callable[..., dict[str, Any]]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every process of a run: this one's, without a person's AWS or Lockboard settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCKBOARD_"))}
    return {**kept, **ENVIRONMENT, **(more or {})}


class Child:
    """`python -m module arguments…`, which calls `answer_commands`. Ends with the block."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=Path(__file__).resolve().parent.parent,
        )
        self._module = module

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process, close_input=True)

    def ask(self, command: str, **parameters: object) -> dict[str, Any]:
        """Send a command and wait for its answer. Raises RuntimeError where the process ended instead."""
        self.send(command, **parameters)
        return self.receive()

    def send(self, command: str, **parameters: object) -> None:
        """Send a command; `receive` has to follow before the next."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, parameters]) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to `send`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def end(process: subprocess.Popen[Any], *, close_input: bool = False) -> None:
    """End a process that this run started, and wait for it."""
    if close_input and process.stdin is not None:
        process.stdin.close()
    elif process.poll() is None:
        process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def answer_commands(commands: Mapping[str, Command]) -> None:
    """Answer each line of standard input until it ends."""
    for line in sys.stdin:
        name, parameters = json.loads(line)
        sys.stdout.write(json.dumps(commands[name](**parameters)) + "\n")
        sys.stdout.flush()
