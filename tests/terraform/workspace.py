"""A working directory of real Terraform whose S3 backend is an emulator.

Only `terraform_data` resources: they are built into Terraform, so nothing is downloaded. A lock is held by an
apply whose provisioner reads from a FIFO: it ends when the test writes a line, or when the test kills it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.emulators import CREDENTIALS, REGION, Emulator
from tests.terraform.stored import Stored

RUN_WITHIN_SECONDS = 120.0
CONFIGURATION = "main.tf.json"


@dataclass(frozen=True)
class Run:
    """What one terraform command said: exit status, both streams as printed, and how long it took."""

    args: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def text(self) -> str:
        """Both streams, every run of white space as one space: Terraform wraps its errors at 78 columns."""
        return " ".join(f"{self.stdout} {self.stderr}".split())

    def __str__(self) -> str:
        command = " ".join(("terraform", *self.args))
        return f"{command} -> {self.rc} after {self.seconds:.1f} s\n{self.stdout}{self.stderr}"


@dataclass(frozen=True)
class Stack:
    """One working directory: a state key in a bucket, locked by `table` and/or a lock file.

    `endpoint` stands in the way of S3 (a proxy) where it is set; `options` are further backend settings.
    """

    terraform: str
    folder: Path
    emulator: Emulator
    bucket: str
    key: str
    table: str | None
    use_lockfile: bool = False
    workspace: str = "default"
    workspace_key_prefix: str | None = None
    endpoint: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stored(self) -> Stored:
        """What the backend holds for the selected workspace."""
        key = self.key
        if self.workspace != "default":
            prefix = "env:" if self.workspace_key_prefix is None else self.workspace_key_prefix
            key = f"{prefix}/{self.workspace}/{self.key}" if prefix else f"{self.workspace}/{self.key}"
        return Stored(self.emulator, self.bucket, self.table, key)

    @property
    def s3_url(self) -> str:
        return self.endpoint or self.emulator.url

    # The configuration

    def write(self, inputs: Mapping[str, str], *, waiting_on: Path | None = None) -> None:
        """Write the configuration: a `terraform_data` per input, and one that waits for a line of a FIFO."""
        resources: dict[str, Any] = {name: {"input": value} for name, value in inputs.items()}
        if waiting_on is not None:
            command = f"read line < '{waiting_on}'"
            resources["waiting"] = {"input": "x", "provisioner": [{"local-exec": {"command": command}}]}
        content = {
            "terraform": {"backend": {"s3": self._backend()}},
            "resource": {"terraform_data": resources},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / CONFIGURATION).write_text(json.dumps(content, ensure_ascii=False, indent=2), "utf-8")

    @property
    def inputs(self) -> dict[str, str]:
        """The inputs last written, by resource name."""
        content = json.loads((self.folder / CONFIGURATION).read_text("utf-8"))
        return {name: body["input"] for name, body in content["resource"]["terraform_data"].items()}

    def _backend(self) -> dict[str, Any]:
        backend = {
            "bucket": self.bucket,
            "key": self.key,
            "region": REGION,
            "endpoints": {"s3": self.s3_url, "dynamodb": self.emulator.url},
            "use_path_style": True,
            "skip_credentials_validation": True,
            "skip_metadata_api_check": True,
            "skip_region_validation": True,
            "skip_requesting_account_id": True,
        }
        backend |= {"dynamodb_table": self.table} if self.table else {}
        backend |= {"use_lockfile": True} if self.use_lockfile else {}
        if self.workspace_key_prefix is not None:
            backend["workspace_key_prefix"] = self.workspace_key_prefix
        return backend | dict(self.options)

    # The commands

    def init(self) -> Run:
        return self.run("init")

    def plan(self) -> Run:
        return self.run("plan")

    def apply(self, **inputs: str) -> Run:
        """Write `inputs` as the configuration and apply it; it must succeed."""
        self.write(inputs)
        if not (self.folder / ".terraform").exists():
            self.must("init")
        return self.must("apply", "-auto-approve")

    def force_unlock(self, lock_id: str) -> Run:
        return self.run("force-unlock", "-force", lock_id)

    def must(self, *args: str) -> Run:
        """Run a command that is only there to make the situation: a failure ends the test."""
        run = self.run(*args)
        assert run.rc == 0, str(run)
        return run

    def run(self, *args: str) -> Run:
        began = time.monotonic()
        process = self._start(args)
        return self._finish(process, args, began)

    def new_workspace(self, name: str) -> Stack:
        """Create and select a workspace; the answer is this directory with that workspace selected."""
        self.must("workspace", "new", name)
        return replace(self, workspace=name)

    def fresh_copy(self, name: str) -> Stack:
        """A colleague's working directory: same backend, same configuration, nothing initialised."""
        other = replace(self, folder=self.folder.with_name(name))
        other.write(self.inputs)
        return other

    @contextmanager
    def holding(self) -> Iterator[Holder]:
        """Hold the lock with an apply that adds a waiting resource, from the moment the lock is really there.

        Inside, the configuration is back to what it was; at the end the apply is released unless it ended.
        """
        inputs = self.inputs
        fifo = self.folder / "fifo"
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        self.write(inputs, waiting_on=fifo)
        args = ("apply", "-auto-approve")
        began = time.monotonic()
        line = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        process = self._start(args)
        holder = Holder(self, process, line, args, began)
        try:
            holder.lock_id = self.stored.wait_for_lock(
                in_table=bool(self.table),
                in_file=self.use_lockfile,
                while_true=lambda: process.poll() is None,
            )
            self.write(inputs)
            yield holder
        finally:
            holder.release()
            os.close(line)

    def leave_a_lock(self) -> str:
        """Kill an apply while it holds the lock, as a cancelled job does; the ID of the lock left behind."""
        with self.holding() as holder:
            holder.kill()
            return holder.lock_id

    def _start(self, args: tuple[str, ...]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.terraform, *args],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _finish(self, process: subprocess.Popen[str], args: tuple[str, ...], began: float) -> Run:
        try:
            stdout, stderr = process.communicate(timeout=RUN_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
        return Run(args, process.returncode, stdout, stderr, time.monotonic() - began)

    def _environment(self) -> dict[str, str]:
        """Nothing of the person's own Terraform: no CLI configuration, no call home, no data elsewhere."""
        empty = self.folder / "terraform.rc"
        empty.touch()
        workspace = {} if self.workspace == "default" else {"TF_WORKSPACE": self.workspace}
        return (
            dict(CREDENTIALS)
            | workspace
            | {
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self.folder),
                "LC_ALL": "C.UTF-8",
                "TF_IN_AUTOMATION": "1",
                "TF_INPUT": "0",
                "TF_CLI_ARGS": "-no-color",
                "TF_CLI_CONFIG_FILE": str(empty),
                "TF_DATA_DIR": str(self.folder / ".terraform"),
                "CHECKPOINT_DISABLE": "1",
            }
        )


@dataclass
class Holder:
    """An apply that holds the lock, and the two ways in which it can end."""

    stack: Stack
    process: subprocess.Popen[str]
    line: int
    args: tuple[str, ...]
    began: float
    lock_id: str = ""
    ended: Run | None = None

    def release(self) -> Run:
        """Let the apply finish: it writes its state and gives the lock back. Once; then it is as it ended."""
        if self.ended is None:
            os.write(self.line, b"go\n")
            self.ended = self.stack._finish(self.process, self.args, self.began)
        return self.ended

    def kill(self) -> Run:
        """SIGKILL the apply and whatever it started, and nothing else; its lock stays."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.ended = self.stack._finish(self.process, self.args, self.began)
        return self.ended
