"""Secrets that never leak: forty canaries in states, environment, requests and AWS's own complaints, a whole
`lockboard serve` over an emulator, everything done that can be done and much of it made to fail; then
everything that any process wrote or answered is searched for them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from lockboard.domain.keys import state_id
from lockboard.domain.locks import LockInfo, lock_text
from tests.canaries import MARK, canary, found_below, found_in, planted
from tests.emulators import REGION, Emulator, free_port
from tests.faults import Deed, Fault, FaultProxy, Seen, fault_proxy, instead, refuse
from tests.terraform.stored import Stored, md5

BACKEND = "prod"
READY_SECONDS = 60.0
LARGE = 10 * 1024**2
LINEAGE = "3f8c1c1e-6d0a-4b7e-9c55-0a1b2c3d4e5f"

IN_STATES = (
    "output",
    "sensitive output",
    "output of a list",
    "attribute",
    "sensitive attribute",
    "nested attribute",
    "private of an instance",
    "name of an attribute",
    "check result",
    "unknown field of the head",
    "older version",
    "deleted version",
    "encrypted data",
    "encryption meta",
    "cut off",
    "not JSON",
    "HTML page",
    "wrong serial",
    "wrong lineage",
    "wrong version",
    "wrong terraform_version",
    "large body",
    "state at a lock file's key",
    "tail of a lock file",
    "empty ID of a lock file",
    "foreign attribute of a lock item",
    "metadata of an object",
    "tag of an object",
)
IN_THE_ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "secret access key",
    "AWS_SESSION_TOKEN": "session token",
    "LOCKBOARD_SECRET_KEY": "secret key",
    "LOCKBOARD_AUDIT_KEY": "audit key",
    "LOCKBOARD_OIDC_CLIENT_SECRET": "OIDC client secret",
    "LOCKBOARD_PROXY_SECRET": "proxy secret",
    "SOMEBODY_ELSES_PASSWORD": "password of another program",
}
IN_REQUESTS = (
    "cookie",
    "Authorization header",
    "other header",
    "field of a form that has none",
    "query that no page has",
    "pasted and not stored",
    "password of a Referer",
)
IN_COMPLAINTS = ("echoed header", "echoed token", "garbage instead of an answer", "external ID")
ALL = (*IN_STATES, *IN_THE_ENVIRONMENT.values(), *IN_REQUESTS, *IN_COMPLAINTS, "access key ID")

WATCH = """
import os, sys
_log = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_write = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
def _told(event, args):
    if event == "open":
        path, mode, flags = args
        if isinstance(path, int) or not (set(mode or "") & set("wax+") or (not mode and flags & _write)):
            return
    elif event in ("sqlite3.connect", "tempfile.mkstemp", "tempfile.mkdtemp", "os.mkdir", "os.rename"):
        path = args[0]
    else:
        return
    os.write(_log, (os.fsdecode(path) + "\\n").encode("utf-8", "replace"))
sys.addaudithook(_told)
"""
"""Python tells of every file that it opens to write; the child processes note each."""


def test_there_are_forty_canaries_and_more_and_no_two_are_alike() -> None:
    assert len({canary(name) for name in ALL}) == len(ALL) >= 40
    assert all(canary(name).startswith(MARK) for name in ALL)


@pytest.mark.parametrize("how", planted())
def test_the_search_finds_a_canary_that_is_there(how: str, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "artefact").write_bytes(b"\0" * 70_000 + planted()[how])

    assert list(found_below(tmp_path)) == ["below/artefact"]


def test_the_search_finds_none_where_none_is(tmp_path: Path) -> None:
    (tmp_path / "artefact").write_bytes(os.urandom(100_000) + MARK[:-1].encode())

    assert found_below(tmp_path) == {}


# ---------------------------------------------------------------- the estate


def state(serial: int, /, **more: Any) -> dict[str, Any]:
    """A state of format 4 with a canary wherever a provider or a person may keep a secret."""
    attributes = {
        "password": canary("attribute"),
        "tags": {"deep": [{"deeper": canary("nested attribute")}]},
        canary("name of an attribute"): "x",
        "token": canary("sensitive attribute"),
    }
    instance = {
        "schema_version": 0,
        "attributes": attributes,
        "sensitive_attributes": [[{"type": "get_attr", "value": "token"}]],
        "private": canary("private of an instance"),
    }
    provider = 'provider["terraform.io/builtin/terraform"]'
    resource = {
        "mode": "managed",
        "type": "aws_db",
        "name": "x",
        "provider": provider,
        "instances": [instance],
    }
    outputs = {
        "plain": {"value": canary("output"), "type": "string"},
        "secret": {"value": canary("sensitive output"), "type": "string", "sensitive": True},
        "list": {"value": [canary("output of a list")], "type": ["list", "string"]},
    }
    checks = [{"object_kind": "resource", "config_addr": canary("check result"), "status": "pass"}]
    head = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": LINEAGE}
    told = {**head, "outputs": outputs, "resources": [resource], "check_results": checks}
    return {**told, "remark": canary("unknown field of the head"), **more}


def body(serial: int, /, **more: Any) -> bytes:
    return json.dumps(state(serial, **more), indent=2).encode()


def odd_bodies() -> Mapping[str, bytes]:
    """By key: bodies that Terraform refuses, or that only OpenTofu reads, and a large one."""
    encrypted = {
        "serial": 4,
        "lineage": LINEAGE,
        "meta": {"key_provider.pbkdf2.x": canary("encryption meta")},
        "encrypted_data": canary("encrypted data"),
        "encryption_version": "v0",
    }
    half = body(5)
    cut = half[: half.index(canary("nested attribute").encode()) + 20] + canary("cut off").encode()
    return {
        "odd/encrypted.tfstate": json.dumps(encrypted).encode(),
        "odd/cut.tfstate": cut,
        "odd/not-json.tfstate": canary("not JSON").encode() * 10,
        "odd/page.tfstate": f"<html><title>{canary('HTML page')}</title></html>".encode() * 3,
        "odd/serial.tfstate": body(1, serial=canary("wrong serial")),
        "odd/lineage.tfstate": body(1, lineage={"x": canary("wrong lineage")}),
        "odd/version.tfstate": body(1, version=canary("wrong version")),
        "odd/written-by.tfstate": body(1, terraform_version=canary("wrong terraform_version")),
        "odd/large.tfstate": body(
            1, outputs={"x": {"value": canary("large body") * (LARGE // 40), "type": "string"}}
        ),
    }


@dataclass
class Run:
    """A running `lockboard serve`. said: every answer as it came, headers too."""

    url: str
    folder: Path
    emulator: Emulator
    proxy: FaultProxy
    bucket: str
    table: str
    cookies: dict[str, str] = field(default_factory=dict)
    said: list[tuple[str, bytes]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)

    def stored(self, key: str) -> Stored:
        return Stored(self.emulator, self.bucket, self.table, key)

    def ask(
        self, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """(status, where it leads, text); the answer is kept for the search."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.url).netloc, timeout=60)
        sent = {"Sec-Fetch-Site": "same-origin", **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(
                filter(None, [sent.get("Cookie", ""), *(f"{k}={v}" for k, v in self.cookies.items())])
            )
        data = None
        if form is not None:
            data = urllib.parse.urlencode(form)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("GET" if form is None else "POST", path, data, sent)
        answer = connection.getresponse()
        text = answer.read()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                self.cookies.update({k: morsel.value for k, morsel in SimpleCookie(value).items()})
        self.said.append((path, f"{answer.status} {answer.getheaders()}".encode() + text))
        connection.close()
        return answer.status, answer.headers.get("Location", ""), text.decode("utf-8", "replace")

    def submit(self, page: str, action: str, **fields: str) -> tuple[int, str, str]:
        """Send the form of the page that goes to `action`, with what it holds and asks to be typed."""
        status, _, text = self.ask(page)
        assert status == 200, (page, status, text[-3000:])
        reader = Forms()
        reader.feed(text)
        form = reader.forms.get(action)
        assert form is not None, (action, list(reader.forms), " ".join("".join(reader.words).split())[:3000])
        asked = {"reason": "the runner was killed"} if "reason" in form else {}
        return self.ask(action, {**form, **asked, **reader.typed, **fields})

    def act(self, key: str, way: str, **fields: str) -> tuple[int, str, str]:
        """Confirm one way out of a key."""
        path = f"/s/{state_id(BACKEND, key)}/{way}"
        return self.submit(path, path, **fields)

    def wait(self, happened: Callable[[], object], what: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while not happened():
            if time.monotonic() > end:
                raise AssertionError(f"this never happened: {what}\n{self.log()}")
            time.sleep(0.05)

    def log(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in self.folder.glob("serve.*"))[-6000:]

    def seen(self, key: str) -> bool:
        """Whether the refresher found it."""
        return self.ask(f"/s/{state_id(BACKEND, key)}")[0] == 200


class Forms(HTMLParser):
    """The forms of a page: by their action the fields they hold; and what is to be typed where."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self.typed: dict[str, str] = {}
        self.words: list[str] = []
        self._form: dict[str, str] | None = None
        self._label = ""
        self._code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = self.forms.setdefault(named.get("action", ""), {})
        elif tag == "input" and self._form is not None and named.get("name"):
            self._form[named["name"]] = named.get("value", "")
        elif tag == "label":
            self._label = named.get("for", "")
        self._code = tag == "code"

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        if tag == "label":
            self._label = ""
        self._code = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._label and self._code:
            self.typed[self._label] = self.typed.get(self._label, "") + data


def lock_of(stored: Stored, *, table: bool = True, file: bool = True) -> None:
    """A lock as Terraform writes it."""
    info = LockInfo(
        "6dbcc1a4-52bc-0b13-1e4f-9a8b7c6d5e4f",
        "OperationTypeApply",
        "",
        "ci@runner-7",
        "1.11.4",
        None,
        stored.lock_id,
    )
    text = lock_text(info).replace("0001-01-01T00:00:00Z", "2026-01-02T03:04:05Z")
    if file:
        stored.put_lockfile(text.encode())
    if table:
        extra = {"remark": {"S": canary("foreign attribute of a lock item")}}
        stored.put_item(stored.lock_id, Info={"S": text}, **extra)


def healthy(run: Run, key: str) -> Stored:
    """An older and a newer version, the digest of the newer."""
    stored = run.stored(key)
    stored.put_body(body(1, remark2=canary("older version")))
    stored.put_body(body(2))
    stored.put_digest(md5(body(2)))
    return stored


def fill(run: Run) -> None:
    """One key for each thing to be done, and the odd ones."""
    for key in ("act/unlock.tfstate", "act/unlock-file.tfstate", "act/restore-live.tfstate"):
        healthy(run, key)
    for number in range(len(WRITE_FAULTS)):
        lock_of(healthy(run, f"fault/{number}.tfstate"))
    lock_of(run.stored("act/unlock.tfstate"), file=False)
    lock_of(run.stored("act/unlock-file.tfstate"), table=False)
    lock_of(run.stored("act/takeover.tfstate"))  # before the state, which is written under it
    for key in ("act/digest.tfstate", "act/takeover.tfstate", "read/behind.tfstate"):
        healthy(run, key).put_digest(md5(body(1, remark2=canary("older version"))))
    for key in ("act/restore.tfstate", "act/clear.tfstate"):
        stored = healthy(run, key)
        stored.put_body(body(3, remark2=canary("deleted version")))
        stored.put_digest(md5(body(3, remark2=canary("deleted version"))))
        stored.delete_object()
    for key, data in odd_bodies().items():
        run.stored(key).put_body(data)
        if "large" not in key:
            run.stored(key).put_digest("0" * 32)
    odd = healthy(run, "odd/lock.tfstate")
    odd.put_lockfile(body(1, remark=canary("state at a lock file's key")))
    odd = healthy(run, "odd/tail.tfstate")
    odd.put_lockfile(b'{"ID":"x"}' + canary("tail of a lock file").encode())
    odd = healthy(run, "odd/empty-id.tfstate")
    odd.put_lockfile(json.dumps({"ID": "", "Secret": canary("empty ID of a lock file")}).encode())
    run.emulator.s3.put_object(
        Bucket=run.bucket,
        Key="odd/metadata.tfstate",
        Body=body(1),
        Metadata={"secret": canary("metadata of an object")},
        Tagging=f"secret={canary('tag of an object')}",
    )


# ---------------------------------------------------------------- what goes wrong


def echo(code: str) -> str:
    """S3's complaint about a request, which repeats the request with its headers and its token."""
    return (
        f"<Error><Code>{code}</Code><Message>The request was not accepted.</Message>"
        f"<AWSAccessKeyId>{canary('access key ID')}</AWSAccessKeyId>"
        f"<CanonicalRequest>GET\nx-amz-security-token:{canary('echoed token')}\n</CanonicalRequest>"
        f"<StringToSign>authorization:{canary('echoed header')}</StringToSign>"
        f"<Token-0>{canary('echoed token')}</Token-0><ExternalId>{canary('external ID')}</ExternalId></Error>"
    )


def echoed(code: str) -> str:
    """DynamoDB's, whose message quotes the header."""
    said = f"Authorization=AWS4-HMAC-SHA256 Credential=x, Signature={canary('echoed header')}"
    return json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": said})


GARBAGE = f"<html>{canary('garbage instead of an answer')}".encode()
READ_FAULTS: Sequence[tuple[str, Deed]] = (
    ("closed", Fault.CLOSE_BEFORE),
    ("reply lost", Fault.DROP_REPLY),
    ("half", Fault.HALF_REPLY),
    ("signature", refuse(403, echo("SignatureDoesNotMatch").encode())),
    ("token", refuse(400, echo("ExpiredToken").encode())),
    ("denied", refuse(403, echo("AccessDenied").encode())),
    ("malformed header", refuse(400, echo("AuthorizationHeaderMalformed").encode())),
    ("incomplete", refuse(400, echoed("IncompleteSignatureException").encode())),
    ("unrecognized", refuse(400, echoed("UnrecognizedClientException").encode())),
    ("garbage", instead(200, GARBAGE)),
)
WRITE_FAULTS: Sequence[tuple[str, Deed]] = (
    *READ_FAULTS[:5],
    READ_FAULTS[-1],
    ("after it was done", instead(500, echo("InternalError").encode())),
)
READS = ("GetObject", "GetItem", "ListObjectVersions")
LISTINGS = ("ListObjectsV2", "Scan")


def read_all(run: Run, keys: Sequence[str]) -> None:
    """Every page of every key, every list, every file."""
    for path in (
        *(
            "/",
            "/states?view=all",
            "/states?view=attention",
            "/states/pulse?view=all",
            "/health",
            "/settings",
        ),
        *("/help", "/find", "/audit", "/states.csv?view=all", "/states.json?view=all", "/api/v1/states"),
        *("/audit.csv", "/audit.jsonl", "/healthz", "/readyz", "/nowhere", "/s/nowhere", "/metrics"),
        *(f"/audit/{seq}" for seq in range(1, 40)),
        f"/go?key={keys[0]}",
    ):
        run.ask(path)
    for key in keys:
        run.ask(f"/s/{state_id(BACKEND, key)}")
    for key in keys[:6]:
        for way in ("unlock", "digest", "digest/clear", "takeover"):
            run.ask(f"/s/{state_id(BACKEND, key)}/{way}")


def recheck(run: Run, key: str) -> int:
    path = f"/s/{state_id(BACKEND, key)}"
    return run.submit(path, f"{path}/recheck")[0]


def do_everything(run: Run) -> None:
    """Every action, its undo where there is one, and the chain's verification."""
    for key, way in (
        ("act/unlock.tfstate", "unlock"),
        ("act/unlock-file.tfstate", "unlock"),
        ("act/digest.tfstate", "digest"),
        ("act/takeover.tfstate", "takeover"),
        ("act/clear.tfstate", "digest/clear"),
        ("act/restore.tfstate", f"restore/{newest(run, 'act/restore.tfstate')}"),
        ("act/restore-live.tfstate", f"restore/{oldest(run, 'act/restore-live.tfstate')}"),
    ):
        status, where, text = run.act(key, way)
        assert status == 303, (key, way, status, words(text))
        told = run.ask(where)[2]
        seq = where.rpartition("done=")[2].partition("&")[0]
        assert f"/audit/{seq}" in told, (key, words(told))
        if way in ("unlock", "digest"):
            undone = run.act(key, f"undo/{seq}")
            assert undone[0] == 303, (key, words(undone[2]))
    assert run.submit("/audit", "/audit/verify")[0] == 303


def words(text: str) -> str:
    reader = Forms()
    reader.feed(text)
    return " ".join("".join(reader.words).split())[:1500]


def newest(run: Run, key: str) -> str:
    return versions(run, key)[0]


def oldest(run: Run, key: str) -> str:
    return versions(run, key)[-1]


def versions(run: Run, key: str) -> list[str]:
    found = run.emulator.s3.list_object_versions(Bucket=run.bucket, Prefix=key)["Versions"]
    return [version["VersionId"] for version in found if version["Key"] == key]


def send_secrets(run: Run, key: str) -> None:
    """Requests that carry what nobody should keep."""
    carried = {
        "Cookie": f"other={canary('cookie')}",
        "Authorization": f"Bearer {canary('Authorization header')}",
        "X-Api-Key": canary("other header"),
        "Referer": f"https://user:{canary('password of a Referer')}@example.com/",
    }
    base = f"/s/{state_id(BACKEND, key)}"
    for path in (
        "/states?view=all",
        base,
        "/health",
        "/nowhere",
        f"/healthz?x={canary('query that no page has')}",
    ):
        run.ask(path, headers=carried)
    run.ask(f"{base}/recheck", {"password": canary("field of a form that has none")}, carried)
    run.ask(f"{base}/unlock", {"token": "x", "password": canary("field of a form that has none")}, carried)
    run.ask("/find", {"q": canary("pasted and not stored")})
    path, answer = run.said.pop()  # it is shown to who pasted it, and to nobody else
    assert path == "/find"
    assert found_in(answer)


def break_reads(run: Run, key: str, operation: str) -> None:
    for _, deed in READ_FAULTS:
        run.proxy.on(on_key(operation, key), deed)
        assert recheck(run, key) in (303, 502)
        run.proxy.clear_rules()


def break_listings(run: Run) -> None:
    for operation in LISTINGS:
        for _, deed in READ_FAULTS[2:]:
            before = len(run.proxy.recording.requests)
            run.proxy.on(FaultProxy.operation(operation), deed)

            def met(start: int = before, name: str = operation) -> bool:
                return sum(seen.operation == name for seen in run.proxy.recording.requests[start:]) >= 2

            run.wait(met, f"two more {operation}")
            run.proxy.clear_rules()
            run.ask("/health")
            run.ask("/states?view=all")


def on_key(operation: str, key: str) -> Callable[[Seen], bool]:
    def fits(seen: Seen) -> bool:
        return seen.operation == operation and (
            key in seen.path or key.encode() in seen.body or key in seen.query.values()
        )

    return fits


def change_of(key: str) -> Callable[[Seen], bool]:
    def fits(seen: Seen) -> bool:
        return seen.mutates and (key in seen.path or key.encode() in seen.body)

    return fits


def break_writes(run: Run) -> None:
    for number, (_, deed) in enumerate(WRITE_FAULTS):
        key = f"fault/{number}.tfstate"
        run.proxy.on(change_of(key), deed)
        status, where, _ = run.act(key, "unlock")
        run.proxy.clear_rules()
        assert status in (200, 303, 409, 502, 503), (key, status)
        if where:
            run.ask(where)


# ---------------------------------------------------------------- the run


def configuration(run: Run) -> str:
    endpoints = f's3_endpoint_url = "{run.proxy.url}"\ndynamodb_endpoint_url = "{run.proxy.url}"\n'
    return (
        f'[database]\nurl = "sqlite:///{run.folder / "store" / "lockboard.db"}"\n'
        '[auth]\nmode = "demo"\n[refresh]\nevery = "1s"\n[actions]\nenabled = true\n'
        f'[[backends]]\nname = "{BACKEND}"\nbucket = "{run.bucket}"\nregion = "{REGION}"\n'
        f'dynamodb_table = "{run.table}"\nprotected = ["act/*"]\n{endpoints}'
        f'[[backends]]\nname = "assumed"\nbucket = "{run.bucket}"\nprefix = "odd/"\nregion = "{REGION}"\n'
        f'role_arn = "arn:aws:iam::123456789012:role/reader"\n'
        f'external_id = "{canary("external ID")}"\n{endpoints}'
    )


def environment(run: Run) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LOCKBOARD_"))}
    secrets = {name: canary(what) for name, what in IN_THE_ENVIRONMENT.items()}
    return {
        **kept,
        **secrets,
        "AWS_ACCESS_KEY_ID": f"AKIA{canary('access key ID').upper()}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL_STS": run.proxy.url,
        "HOME": str(run.folder / "home"),
        "TMPDIR": str(run.folder / "tmp"),
        "XDG_STATE_HOME": str(run.folder / "home"),
        "PYTHONPATH": os.pathsep.join([str(run.folder / "watch"), str(Path(__file__).resolve().parents[1])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENED": str(run.folder / "opened"),
    }


@contextlib.contextmanager
def serving(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    """`lockboard serve` in a folder of its own, told to end at the end.

    Each part of the test has one of its own, which has not yet counted how often it was asked: nobody asks as
    often as this test.
    """
    for name in ("store", "home", "tmp", "watch", "work"):
        (run.folder / name).mkdir(exist_ok=True)
    database = run.folder / "store" / "lockboard.db"
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as counted:
            counted.execute("DELETE FROM rates")
            counted.commit()
    (run.folder / "watch" / "sitecustomize.py").write_text(WATCH)
    config = run.folder.parent / "lockboard.toml"  # it holds the external ID, so it is no artefact
    config.write_text(configuration(run))
    port = urllib.parse.urlsplit(run.url).port
    command = [sys.executable, "-m", "lockboard", "serve", "--config", str(config), "--port", str(port)]
    with (run.folder / "serve.out").open("ab") as out, (run.folder / "serve.err").open("ab") as err:
        process = subprocess.Popen(
            command,
            cwd=run.folder / "work",
            env=environment(run),
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        run.wait(lambda: process.poll() is not None or answers(run), "the server answers")
        assert process.poll() is None, run.log()
        yield process
        for path in (*(run.folder / "store").iterdir(), *(run.folder / "tmp").rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                run.said.append((f"{path.name} while it ran", path.read_bytes() if path.is_file() else b""))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def run(moto: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Everything done; what is left are its artefacts."""
    folder = tmp_path_factory.mktemp("canaries") / "artefacts"
    folder.mkdir()
    with fault_proxy(moto.url, one_at_a_time=True) as proxy:
        run = Run(
            f"http://127.0.0.1:{free_port()}", folder, moto, proxy, moto.make_bucket(), moto.make_table()
        )
        fill(run)
        keys = [key for key in every_key(run) if not key.endswith(".tflock")]
        with serving(run):
            run.wait(lambda: all(run.seen(key) for key in keys), "every key is seen")
            read_all(run, keys)
        with serving(run):
            assert {key: recheck(run, key) for key in keys} == dict.fromkeys(keys, 303)
            do_everything(run)
        with serving(run):
            send_secrets(run, "act/digest.tfstate")
            break_writes(run)
        with serving(run):
            for operation in READS[:2]:
                break_reads(run, "read/behind.tfstate", operation)
        with serving(run) as process:
            break_reads(run, "read/behind.tfstate", READS[2])
            break_listings(run)
            read_all(run, keys)
            run.limits += [limits(pid) for pid in (process.pid, *children(process.pid))]
        yield run


def answers(run: Run) -> bool:
    try:
        return run.ask("/healthz")[0] == 200
    except OSError:
        return False


def every_key(run: Run) -> list[str]:
    found = run.emulator.s3.list_object_versions(Bucket=run.bucket)
    return sorted({row["Key"] for row in found["Versions"]})


def limits(pid: int) -> str:
    return Path(f"/proc/{pid}/limits").read_text("utf-8")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]


def test_no_process_leaves_a_core(run: Run) -> None:
    cores = [line.split()[4] for text in run.limits for line in text.splitlines() if "core file" in line]

    assert cores == ["0", "0", "0"]


def test_the_states_were_read_and_everything_was_done(run: Run) -> None:
    """Else it would be no wonder that nothing is found."""
    fetched = {seen.path for seen in run.proxy.recording.requests if MARK.encode() in seen.answer}
    results = [json.loads(line) for line in audit_lines(run)]
    done = {
        record["record"]["action"] for record in results if record.get("record", {}).get("result") == "done"
    }
    carried = b"".join(str(seen.headers).encode() + seen.body for seen in run.proxy.recording.requests)

    assert len(fetched) >= 15
    assert {"force_unlock", "set_digest", "clear_digest", "restore_version", "take_over", "undo"} <= done
    assert canary("session token").encode() in carried
    assert canary("external ID").encode() in carried


def audit_lines(run: Run) -> list[str]:
    text = next(text for path, text in reversed(run.said) if path == "/audit.jsonl").decode()
    return text[text.index('{"about"') :].splitlines()


def test_no_answer_holds_a_secret(run: Run) -> None:
    assert len(run.said) > 300
    assert {path: found_in(text) for path, text in run.said if found_in(text)} == {}


def test_no_file_and_no_line_of_any_process_holds_a_secret(run: Run) -> None:
    """The database with its log, what went to standard output and error, and every file left anywhere."""
    assert (run.folder / "serve.err").stat().st_size > 0
    assert (run.folder / "store" / "lockboard.db").stat().st_size > 0
    assert found_below(run.folder) == {}


def test_nothing_is_written_anywhere_but_the_store(run: Run) -> None:
    opened = set((run.folder / "opened").read_text("utf-8").splitlines())
    fine = (str(run.folder / "store"), os.devnull, "/dev/shm/wgunicorn-", ":memory:", "file:")

    assert str(run.folder / "store" / "lockboard.db") in opened
    assert [path for path in sorted(opened) if not path.startswith(fine)] == []
    assert list((run.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("command", ["serve", "scan", "check", "collect"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(run: Run, command: str) -> None:
    url = f"postgresql://lockboard:{canary('database password')}@127.0.0.1:9/lockboard"
    config = run.folder.parent / "lockboard.toml"
    found = subprocess.run(
        [sys.executable, "-m", "lockboard", command, "--config", str(config)],
        env={**environment(run), "LOCKBOARD_DATABASE_URL": url},
        cwd=run.folder / "work",
        capture_output=True,
        timeout=120,
        check=False,
    )

    assert found_in(found.stdout + found.stderr) == []
