"""Two independent AWS emulators for tests, each a process of its own on a free loopback port.

moto and MiniStack share no code, so what holds on both is worth more than what holds on one. Where an
emulator answers otherwise than AWS does, `DEVIATIONS` says so; a test that needs the real behaviour asks
`Emulator.deviates`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

REGION = "us-east-1"
READY_WITHIN_SECONDS = 60.0
END_WITHIN_SECONDS = 10.0
START_ATTEMPTS = 3

CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""The whole AWS environment of a test: no account, no profile, no metadata service can be reached with it."""

DEVIATIONS: Mapping[str, Mapping[str, str]] = {
    "moto": {
        "copy honours If-None-Match": "CopyObject overwrites whatever the condition says",
        "copy honours the source's ETag": "CopySourceIfMatch is ignored",
        "a transaction's token is honoured": "TransactWriteItems runs again with the same client token",
        "a key may hold a newline": "the put itself is answered with 404",
        "a KMS object's ETag is no MD5": "the ETag is the MD5 whatever the encryption",
        "a key ends at 1,024 bytes": "longer keys are accepted",
    },
    "ministack": {
        "copy honours If-None-Match": "CopyObject overwrites whatever the condition says",
        "a KMS object's ETag is no MD5": "the ETag is the MD5 whatever the encryption",
        "a key ends at 1,024 bytes": "longer keys are accepted",
    },
}
"""Emulator -> behaviour of AWS it lacks -> what it does instead. `tests/terraform/test_emulators.py` probes
each behaviour, so neither a new deviation nor one that was mended goes unseen."""


MOTO = """
import sys
from moto.server import main
from werkzeug.serving import WSGIRequestHandler

WSGIRequestHandler.wbufsize = -1
answer = WSGIRequestHandler.run_wsgi

def continue_at_once(self):
    if self.headers.get("Expect", "").lower() == "100-continue":
        del self.headers["Expect"]
        self.wfile.write(b"HTTP/1.1 100 Continue\\r\\n\\r\\n")
        self.wfile.flush()
    answer(self)

WSGIRequestHandler.run_wsgi = continue_at_once
main(sys.argv[1:])
"""
MINISTACK = """
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import RawData
from ministack.app import main

send = TCPServer.protocol_send

async def send_together(self, event):
    held = vars(self).pop("held", b"")
    data = event.data if isinstance(event, RawData) else None
    if not held and data and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
        self.held = data
        return
    if data is not None:
        event = RawData(data=held + data)
    elif held:
        await send(self, RawData(data=held))
    await send(self, event)

TCPServer.protocol_send = send_together
main()
"""
"""The programs that start the emulators so that head and body of an answer leave in one packet. When the
body came a tenth of a millisecond after its head, Terraform's client dropped the answer now and then, sent
the request again and met the lock that it had just taken itself: 19 times in 1,580 applies on MiniStack.
Since then in none of 800 there, nor in 600 on moto."""

Command = Callable[[int], tuple[Sequence[str], Mapping[str, str]]]
"""Port -> the command line that serves it, and the settings it takes from the environment."""


class EmulatorDidNotStart(RuntimeError):
    """The process ended, or did not answer in `READY_WITHIN_SECONDS`; its log is the message."""


@lru_cache(maxsize=32)
def _client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "total_max_attempts": 2}),
    )


@dataclass(frozen=True)
class Emulator:
    """A running emulator: its name in `DEVIATIONS`, and the URL at which every service of it answers."""

    name: str
    url: str

    def client(self, service: str) -> Any:
        """A boto3 client with dummy credentials; one per service, shared."""
        return _client(service, self.url)

    @property
    def s3(self) -> Any:
        return self.client("s3")

    @property
    def dynamodb(self) -> Any:
        return self.client("dynamodb")

    def make_bucket(self, *, versioned: bool = True) -> str:
        """Create an empty bucket and return its name, which no other test has."""
        name = f"tfstate-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=name)
        if versioned:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def make_table(self) -> str:
        """Create a lock table as Terraform wants it (hash key `LockID`, a string) and return its name."""
        name = f"locks-{uuid.uuid4().hex[:12]}"
        self.dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "LockID", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "LockID", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        return name

    def deviates(self, behaviour: str) -> bool:
        """Whether the table says that this emulator lacks `behaviour` of AWS."""
        return behaviour in DEVIATIONS[self.name]


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def moto_server(folder: Path) -> Iterator[Emulator]:
    """Run moto's server under the running interpreter; `folder` gets its log."""

    def command(port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        return [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", str(port)], {}

    with _running("moto", folder, command) as emulator:
        yield emulator


@contextmanager
def ministack_server(executable: str, folder: Path) -> Iterator[Emulator]:
    """Run MiniStack with the four services that Terraform's S3 backend can meet, from an empty `folder`."""
    python = Path(executable).with_name("python")

    def command(port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        return [str(python), "-c", MINISTACK], {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3,dynamodb,sts,iam",
            "LOG_LEVEL": "WARNING",
        }

    with _running("ministack", folder, command) as emulator:
        yield emulator


@contextmanager
def _running(name: str, folder: Path, command: Command) -> Iterator[Emulator]:
    log = folder.with_suffix(".log")
    process, url = _start(command, folder, log)
    try:
        yield Emulator(name, url)
    finally:
        _end(process)


def _start(command: Command, folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Another process may take the free port first, so a start that ends at once is tried on another port."""
    for attempt in range(1, START_ATTEMPTS + 1):
        port = free_port()
        args, settings = command(port)
        with log.open("ab") as output:
            process = subprocess.Popen(
                args,
                cwd=folder,
                env={**_environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{port}"
        if _answers(process, url):
            return process, url
        _end(process)
        if attempt == START_ATTEMPTS:
            break
    raise EmulatorDidNotStart(log.read_text(errors="replace")[-4000:])


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, **CREDENTIALS}


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return process.poll() is None
        except urllib.error.HTTPError:
            return process.poll() is None
        except OSError:
            time.sleep(0.05)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask, then insist: the process leads a group of its own, so nothing it started stays behind."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(END_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
