"""What `lockboard serve` refuses to start with: each case through the real command, then rule by rule."""

from __future__ import annotations

import http.client
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import make_url

from lockboard.adapters.store.engine import network_filesystem, sqlite_file
from lockboard.config import Settings, load
from lockboard.domain.access import Grant, Role
from lockboard.domain.audit import Verification
from lockboard.domain.errors import SettingsError, StoreError
from lockboard.domain.signin import Account
from lockboard.safety import (
    chain_refusals,
    is_loopback,
    measured_skews,
    only_server,
    refusals,
    require_safe,
    skew_refusals,
    too_wide,
    warnings,
    weakness,
)
from tests.databases import postgresql_server
from tests.needs import ROOT

SECRET = "7b1f0a53c6d94e8fb2a7135ce09d46b81f3a5c7e9d0b2468ace13579bdf02468"
AUDIT = "e4c09b7d31a85f62c7f0419be83d5a26903b8e1f7ad4c652081f9b3e6d7ca540"
PROXY = "c5d8a1f4e7b03962815bde7f40a9c3d61e2f7b8054a9d3c6e1f0b7283946ad5e"
KEYS = {"LOCKBOARD_SECRET_KEY": SECRET, "LOCKBOARD_AUDIT_KEY": AUDIT}
NO_ROOT = {"LOCKBOARD_ALLOW_ROOT": "1"}

LOCAL = '[auth]\nmode = "local"\n'
DEMO = '[auth]\nmode = "demo"\n'
OIDC = (
    '[auth]\nmode = "oidc"\n[auth.oidc]\nissuer = "https://idp.acme.test"\nclient_id = "lockboard"\n'
    '[[auth.grants]]\nrole = "viewer"\ngroups = ["ops"]\n'
)
ALB_ARN = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/lockboard/50dc6c495c0c9188"
ALB = (
    f'[auth]\nmode = "alb"\n[auth.alb]\narn = "{ALB_ARN}"\nissuer = "https://idp.acme.test"\n'
    'client_id = "lockboard"\n[[auth.grants]]\nrole = "viewer"\ngroups = ["ops"]\n'
)
BEHIND_PROXY = (
    '[auth]\nmode = "proxy"\n[auth.proxy]\naddresses = ["10.1.2.0/24"]\n'
    '[[auth.grants]]\nrole = "viewer"\ngroups = ["ops"]\n'
)
WEB = '[web]\npublic_url = "https://lockboard.acme.test"\n'
ACTING = "[actions]\nenabled = true\n"
BACKEND = '[[backends]]\nname = "prod"\nbucket = "acme-tfstate"\nregion = "eu-west-1"\n'


def settings(folder: Path, text: str, environ: Mapping[str, str] = KEYS, backend: str = BACKEND) -> Settings:
    return load(config(folder, text, backend), environ)


def config(folder: Path, text: str, backend: str = BACKEND) -> Path:
    path = folder / "lockboard.toml"
    database = "" if "[database]" in text else f'[database]\nurl = "sqlite:///{folder / "lockboard.db"}"\n'
    path.write_text(database + text + backend, "utf-8")
    return path


def environment(more: Mapping[str, str | None]) -> dict[str, str]:
    """The environment without whatever is set for Lockboard, and with `more`; None takes away."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCKBOARD_")}
    given = {**kept, **KEYS, **NO_ROOT, **more}
    return {name: value for name, value in given.items() if value is not None}


# ------------------------------------------------------------------ the command


class Bad(NamedTuple):
    """A start that has to be refused. named: what the complaint begins with."""

    text: str
    named: str
    environ: Mapping[str, str | None] = {}
    host: str = "127.0.0.1"
    backend: str = BACKEND


BAD = {
    "no mode": Bad("", "auth.mode: is missing"),
    "an unknown mode": Bad('[auth]\nmode = "none"\n', "auth.mode"),
    "a short secret key": Bad(LOCAL, "LOCKBOARD_SECRET_KEY", {"LOCKBOARD_SECRET_KEY": "short"}),
    "a short audit key": Bad(LOCAL, "LOCKBOARD_AUDIT_KEY", {"LOCKBOARD_AUDIT_KEY": "short"}),
    "equal keys": Bad(LOCAL, "LOCKBOARD_SECRET_KEY", {"LOCKBOARD_AUDIT_KEY": SECRET}),
    "one character again and again": Bad(LOCAL, "LOCKBOARD_SECRET_KEY", {"LOCKBOARD_SECRET_KEY": "0" * 64}),
    "an example as a key": Bad(
        LOCAL, "LOCKBOARD_AUDIT_KEY", {"LOCKBOARD_AUDIT_KEY": "changeme-4f9a1c7e0b3d8265-changeme"}
    ),
    "no secret key": Bad(LOCAL, "LOCKBOARD_SECRET_KEY: is missing", {"LOCKBOARD_SECRET_KEY": None}),
    "no audit key": Bad(LOCAL, "LOCKBOARD_AUDIT_KEY: is missing", {"LOCKBOARD_AUDIT_KEY": None}),
    "alb without its ARN": Bad(ALB.replace(f'arn = "{ALB_ARN}"\n', "") + WEB, "auth.alb.arn"),
    "alb without its issuer": Bad(
        ALB.replace('issuer = "https://idp.acme.test"\n', "") + WEB, "auth.alb.issuer"
    ),
    "alb without its client": Bad(ALB.replace('client_id = "lockboard"\n', "") + WEB, "auth.alb.client_id"),
    "alb without a public address": Bad(ALB, "web.public_url: is missing"),
    "a proxy without its networks": Bad(
        BEHIND_PROXY.replace('addresses = ["10.1.2.0/24"]', ""),
        "auth.proxy.addresses",
        {"LOCKBOARD_PROXY_SECRET": PROXY},
    ),
    "a proxy without its secret": Bad(BEHIND_PROXY, "LOCKBOARD_PROXY_SECRET: is missing"),
    "a proxy with a short secret": Bad(
        BEHIND_PROXY, "LOCKBOARD_PROXY_SECRET: has fewer", {"LOCKBOARD_PROXY_SECRET": "f3a9c1"}
    ),
    "a proxy that may call from everywhere": Bad(
        BEHIND_PROXY.replace("10.1.2.0/24", "0.0.0.0/0"),
        "auth.proxy.addresses",
        {"LOCKBOARD_PROXY_SECRET": PROXY},
    ),
    "every network's headers believed": Bad(LOCAL + '[web]\nproxies = ["::/0"]\n', "web.proxies"),
    "a star for a network": Bad(LOCAL + '[web]\nproxies = ["*"]\n', "web.proxies"),
    "gunicorn told to believe everybody": Bad(LOCAL, "FORWARDED_ALLOW_IPS", {"FORWARDED_ALLOW_IPS": "*"}),
    "gunicorn's flags in the environment": Bad(
        LOCAL, "GUNICORN_CMD_ARGS", {"GUNICORN_CMD_ARGS": "--forwarded-allow-ips='*'"}
    ),
    "reached by others without a trusted host": Bad(LOCAL, "web.public_url: is missing", host="0.0.0.0"),
    "a star for a host": Bad(LOCAL + '[web]\ntrusted_hosts = ["*"]\n', "web.trusted_hosts"),
    "a demo that others reach": Bad(DEMO, "auth.mode: demo", host="0.0.0.0"),
    "a demo with a public address": Bad(DEMO + WEB, "web.public_url"),
    "a public address in plain http": Bad(
        LOCAL + '[web]\npublic_url = "http://lockboard.acme.test"\n', "web.public_url: is plain http"
    ),
    "oidc without a public address": Bad(
        OIDC, "web.public_url: is missing", {"LOCKBOARD_OIDC_CLIENT_SECRET": "given-by-the-provider"}
    ),
    "oidc without the client's secret": Bad(OIDC + WEB, "LOCKBOARD_OIDC_CLIENT_SECRET: is missing"),
    "S3 in plain http": Bad(
        LOCAL,
        "backends[0].s3_endpoint_url: is plain http",
        backend=BACKEND + 's3_endpoint_url = "http://minio.acme.test:9000"\n',
    ),
    "DynamoDB in plain http": Bad(
        LOCAL,
        "AWS_ENDPOINT_URL_DYNAMODB: is plain http",
        {"AWS_ENDPOINT_URL_DYNAMODB": "http://10.0.0.5:8000"},
    ),
    "Flask's debugger": Bad(LOCAL, "FLASK_DEBUG", {"FLASK_DEBUG": "1"}),
    "Flask for development": Bad(LOCAL, "FLASK_ENV", {"FLASK_ENV": "development"}),
    "actions that nobody may do": Bad(ACTING + ALB + WEB, "actions.enabled: is true, but no auth.grants"),
    "a grant for a backend that is none": Bad(
        ALB.replace('groups = ["ops"]', 'groups = ["ops"]\nbackends = ["prdo"]') + WEB,
        "auth.grants[0].backends",
    ),
    "a grant for a prefix that nobody can read": Bad(
        ALB.replace('groups = ["ops"]', 'groups = ["ops"]\nprefixes = ["a\\u200b/"]') + WEB,
        "auth.grants[0].prefixes",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_unsafe_configuration_refuses_by_name(bad: Bad, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    status, said = refused(config(tmp_path, bad.text, bad.backend), bad.environ, bad.host)
    assert status == 2
    assert any(bad.named in line for line in said), said
    assert all(line.startswith("lockboard: ") for line in said)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of processor time: how busy the machine is otherwise says nothing about the command.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root")
def test_root_is_refused_by_name(tmp_path: Path) -> None:
    status, said = refused(config(tmp_path, LOCAL), {"LOCKBOARD_ALLOW_ROOT": None})
    assert status == 2
    assert "LOCKBOARD_ALLOW_ROOT: is not 1" in said[0]


def test_a_clock_that_is_wrong_is_refused_by_the_backend_that_tells(tmp_path: Path) -> None:
    with s3_of(timedelta(minutes=20)) as url:
        bad = config(tmp_path, DEMO, BACKEND + f's3_endpoint_url = "{url}"\n')
        status, said = refused(bad, {})
    assert status == 2
    assert "backends.prod: this machine's clock is 20 min" in said[0]
    assert "ahead of AWS's" in said[0]


def test_an_audit_log_of_another_key_is_refused_where_actions_are_on(tmp_path: Path) -> None:
    good = config(tmp_path, DEMO + ACTING, BACKEND + 's3_endpoint_url = "http://127.0.0.1:9"\n')
    with serving(good, {}):
        pass
    status, said = refused(good, {"LOCKBOARD_AUDIT_KEY": PROXY})
    assert status == 2
    assert "LOCKBOARD_AUDIT_KEY: the audit log cannot be continued" in said[0]


def test_an_audit_log_of_another_key_keeps_nobody_from_the_states_where_actions_are_off(
    tmp_path: Path,
) -> None:
    good = config(tmp_path, DEMO, BACKEND + 's3_endpoint_url = "http://127.0.0.1:9"\n')
    with serving(good, {}):
        pass
    with serving(good, {"LOCKBOARD_AUDIT_KEY": PROXY}) as port:
        assert asked(port, "/healthz", {}).status == 200
        export = asked(port, "/audit.csv", {"Sec-Fetch-Site": "same-origin"})
    assert export.status == 503
    said = good.with_suffix(".out").read_text("utf-8")
    assert "the audit log is broken, or its key is another" in said


@pytest.mark.postgres
def test_a_postgresql_that_may_lose_what_it_called_done_is_refused_by_the_setting(tmp_path: Path) -> None:
    with postgresql_server() as server:
        url = server.fresh()
        server.run(f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = off")
        status, said = refused(config(tmp_path, DEMO), {"LOCKBOARD_DATABASE_URL": url})
    assert status == 2
    assert "synchronous_commit = off" in said[0]


def test_a_second_serve_on_the_same_file_is_refused_and_other_commands_are_not(tmp_path: Path) -> None:
    good = config(tmp_path, DEMO, BACKEND + 's3_endpoint_url = "http://127.0.0.1:9"\n')
    with serving(good, {}):
        status, said = refused(good, {})
        verified = run("audit", "verify", "--config", str(good))
    assert status == 2
    assert "database.url: another `lockboard serve` (process " in said[0]
    assert verified.returncode == 0, verified.stderr
    with serving(good, {}):
        """Once the first has ended, the next may."""


def test_what_is_safe_starts_and_keeps_gunicorn_from_believing_anybody(tmp_path: Path) -> None:
    good = config(tmp_path, DEMO, BACKEND + 's3_endpoint_url = "http://127.0.0.1:9"\n')
    with serving(good, {"FORWARDED_ALLOW_IPS": "127.0.0.1"}) as port:
        plain = asked(port, "/healthz", {})
        spoofed = asked(port, "/healthz", {"X-Forwarded-Proto": "https"})
        twins = asked(port, "/healthz", {"X_Forwarded_Proto": "https"})
        long = asked(port, "/healthz", {"X-Long": "x" * 9000})
    assert plain.status == spoofed.status == 200
    assert "Strict-Transport-Security" not in spoofed.headers, "only https gets it"
    assert plain.headers["Server"] == "Lockboard"
    assert twins.status == 400
    assert long.status == 431
    for answer in (twins, long):
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Server"] == "Lockboard"
        assert b"FORWARDED" not in answer.body.upper()


def run(*words: str, environ: Mapping[str, str | None] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lockboard", *words]
    return subprocess.run(
        command, env=environment(environ or {}), capture_output=True, text=True, timeout=60, check=False
    )


def refused(path: Path, environ: Mapping[str, str | None], host: str = "127.0.0.1") -> tuple[int, list[str]]:
    """Exit status and what was said."""
    done = run("serve", "--config", str(path), "--host", host, "--port", "0", environ=environ)
    return done.returncode, done.stderr.splitlines()


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def asked(port: int, path: str, headers: Mapping[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=dict(headers))
        found = connection.getresponse()
        return Answer(found.status, found.headers, found.read())
    finally:
        connection.close()


@contextmanager
def serving(path: Path, environ: Mapping[str, str | None]) -> Iterator[int]:
    """`lockboard serve`, ready; the port it listens on. Afterwards it has to end well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "lockboard", "serve", "--config", str(path), "--port", str(port)]
    output = path.with_suffix(".out")
    with output.open("wb") as stream:
        process = subprocess.Popen(command, env=environment(environ), stdout=stream, stderr=stream)
        try:
            wait_until(lambda: process.poll() is not None or answers(port), output)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    assert status == 0, output.read_text("utf-8")


def answers(port: int) -> bool:
    try:
        return asked(port, "/healthz", {}).status == 200
    except OSError:
        return False


def wait_until(seen: Callable[[], bool], output: Path) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline, output.read_text("utf-8")
        time.sleep(0.05)


@contextmanager
def s3_of(behind: timedelta) -> Iterator[str]:
    """An S3 whose clock is behind this machine's; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", format_datetime(datetime.now(UTC) - behind, usegmt=True))
            body = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not on the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# ------------------------------------------------------------------ the rules


def found(
    folder: Path,
    text: str,
    environ: Mapping[str, str] = KEYS,
    host: str | None = "127.0.0.1",
    **more: Any,
) -> list[str]:
    return refusals(settings(folder, text, environ), host, environ, **({"uid": 1000} | more))


GOOD = {
    "local on loopback": (LOCAL, KEYS, "127.0.0.1"),
    "local behind a proxy": (LOCAL + WEB, KEYS, "0.0.0.0"),
    "demo": (DEMO, {}, "::1"),
    "demo with the names of loopback": (
        DEMO + '[web]\ntrusted_hosts = ["localhost", "[::1]"]\n',
        {},
        "localhost",
    ),
    "oidc": (OIDC + WEB, KEYS | {"LOCKBOARD_OIDC_CLIENT_SECRET": "given-by-the-provider"}, "10.0.0.7"),
    "alb": (ALB + WEB, KEYS, "0.0.0.0"),
    "proxy": (BEHIND_PROXY + WEB, KEYS | {"LOCKBOARD_PROXY_SECRET": PROXY}, "0.0.0.0"),
    "actions with an operator": (ACTING + ALB.replace("viewer", "operator") + WEB, KEYS, "0.0.0.0"),
    "hosts below a name": (LOCAL + '[web]\ntrusted_hosts = [".acme.test", "10.1.2.3"]\n', KEYS, "127.0.0.1"),
}


@pytest.mark.parametrize(("text", "environ", "host"), GOOD.values(), ids=GOOD)
def test_what_is_safe_is_not_refused(
    text: str, environ: Mapping[str, str], host: str, tmp_path: Path
) -> None:
    assert found(tmp_path, text, environ, host) == []


FLAGS = (
    "--forwarded-allow-ips",
    "--forwarder-headers",
    "--header-map",
    "--proxy-protocol",
    "--proxy-allow-from",
)


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_that_says_whose_headers_are_believed_is_refused_however_short_it_is_written(
    flag: str, tmp_path: Path
) -> None:
    given = settings(tmp_path, LOCAL)
    for length in range(4, len(flag) + 1):
        for between in (" ", "="):
            args = f"--threads 4 {flag[:length]}{between}x"
            found = refusals(given, "127.0.0.1", {"GUNICORN_CMD_ARGS": args}, uid=1000)
            assert (args, [line.partition(":")[0] for line in found]) == (args, ["GUNICORN_CMD_ARGS"])


@pytest.mark.parametrize(
    "args",
    ["--threads 4", "--keep-alive=30 --log-level info", "--preload --name 'the header-map'", "-w 2", "'"],
)
def test_flags_that_change_nothing_about_headers_are_not(args: str, tmp_path: Path) -> None:
    assert not refusals(settings(tmp_path, LOCAL), "127.0.0.1", {"GUNICORN_CMD_ARGS": args}, uid=1000)


def test_every_complaint_is_told_at_once(tmp_path: Path) -> None:
    bad = settings(tmp_path, LOCAL + '[web]\nproxies = ["*"]\ntrusted_hosts = ["*"]\n', {})
    with pytest.raises(SettingsError) as refusal:
        require_safe(bad, "0.0.0.0", {"FLASK_DEBUG": "1"}, uid=0, mounts="")
    names = [line.partition(":")[0] for line in str(refusal.value).splitlines()]
    assert names == [
        "LOCKBOARD_SECRET_KEY",
        "LOCKBOARD_AUDIT_KEY",
        "web.public_url",
        "web.trusted_hosts",
        "web.proxies",
        "FLASK_DEBUG",
        "LOCKBOARD_ALLOW_ROOT",
    ]


@pytest.mark.parametrize(
    ("environ", "safe"),
    [
        ({"LOCKBOARD_BIND": "127.0.0.1 ::1"}, True),
        ({"LOCKBOARD_BIND": "127.0.0.1 0.0.0.0"}, False),
        ({"LOCKBOARD_BIND": "/run/lockboard.sock"}, False),
        ({}, False),
    ],
)
def test_a_web_server_of_its_own_says_where_it_listens_and_nothing_counts_as_everywhere(
    environ: dict[str, str], safe: bool, tmp_path: Path
) -> None:
    assert (refusals(settings(tmp_path, DEMO, {}), None, environ, uid=0) == []) is safe


def test_root_may_run_the_demo_and_what_somebody_allows(tmp_path: Path) -> None:
    assert found(tmp_path, DEMO, {}, uid=0) == []
    assert found(tmp_path, LOCAL, KEYS | NO_ROOT, uid=0) == []
    (complaint,) = found(tmp_path, LOCAL, KEYS | {"LOCKBOARD_ALLOW_ROOT": "0"}, uid=0)
    assert complaint.startswith("LOCKBOARD_ALLOW_ROOT:")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//evil.test/", "http://proxy.test/out", "out"])
def test_people_are_not_signed_out_to_just_anywhere(url: str, tmp_path: Path) -> None:
    bad = BEHIND_PROXY.replace("addresses", f'sign_out_url = "{url}"\naddresses')
    (complaint,) = found(tmp_path, bad, KEYS | {"LOCKBOARD_PROXY_SECRET": PROXY})
    assert complaint.startswith("auth.proxy.sign_out_url:")


def test_a_provider_in_plain_http_is_for_loopback_only(tmp_path: Path) -> None:
    environ = KEYS | {"LOCKBOARD_OIDC_CLIENT_SECRET": "given-by-the-provider"}
    (complaint,) = found(tmp_path, OIDC.replace("https://idp", "http://idp") + WEB, environ)
    assert complaint.startswith("auth.oidc.issuer: is plain http")
    assert (
        found(tmp_path, OIDC.replace("https://idp.acme.test", "http://127.0.0.1:9090") + WEB, environ) == []
    )


@pytest.mark.parametrize(
    "name", ["*", ".", "*.acme.test", "https://acme.test", "acme.test:443", "a b", "", "a..b"]
)
def test_what_is_no_host_name_is_not_trusted(name: str, tmp_path: Path) -> None:
    (complaint,) = found(tmp_path, LOCAL + f'[web]\ntrusted_hosts = ["{name}"]\n')
    assert complaint.startswith("web.trusted_hosts:")


@pytest.mark.parametrize(
    "network",
    [
        "*",
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "10.0.0.0/7",
        "2000::/3",
        "fe00::/15",
        "::ffff:0:0/96",
        "10.1.2.3/24",
    ],
)
def test_a_network_of_too_many_or_of_none_is_refused(network: str) -> None:
    assert too_wide(network)


@pytest.mark.parametrize(
    "network", ["127.0.0.1", "10.0.0.0/8", "fd00::/16", "2001:db8::/32", "::ffff:10.0.0.0/104"]
)
def test_a_network_of_ones_own_is_believed(network: str) -> None:
    assert too_wide(network) == ""


@pytest.mark.parametrize(
    "key",
    [
        "a" * 64,
        "ab" * 20,
        "0123456789abcdef" * 4,
        "abcdefghijklmnopqrstuvwxyz012345",
        "change-me-please-9fa1c7e0b3d8265",
        "my-lockboard-key-9fa1c7e0b3d8265",
        "9fa1c7e0",
    ],
)
def test_a_key_that_somebody_could_guess_is_weak(key: str) -> None:
    assert weakness(key)


def test_the_documentation_prints_no_key_that_somebody_could_copy() -> None:
    files = [
        file
        for kind in ("*.md", "*.toml", "*.y*ml", "*.env", "*.tf")
        for file in ROOT.glob(f"docs/**/{kind}")
    ]
    printed = re.compile(r"(?:_KEY|_SECRET|_PASSWORD)(?:_FILE)?[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9+/_-]{32,}")
    assert len(files) > 20
    assert [
        str(file) for file in [*files, ROOT / "README.md"] if printed.search(file.read_text("utf-8"))
    ] == []


@pytest.mark.parametrize("key", [SECRET, AUDIT, "t3rG8vQ1mZ0yKx7HcWbN5sPaLdJfUe2Ro9Iq4TnVg6E="])
def test_a_key_that_looks_random_is_not(key: str) -> None:
    assert weakness(key) == ""


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("LOCALHOST", True),
        ("localhost.acme.test", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("::", False),
        ("", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


# ------------------------------------------------------------------ the database

MOUNTS = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw
30 22 0:40 / /srv rw,relatime shared:2 - nfs4 files.acme.test:/srv rw,vers=4.2
31 30 259:2 / /srv/local rw shared:3 - xfs /dev/nvme1n1 rw
32 22 0:41 / /mnt/with\\040space rw - fuse.sshfs ops@host:/ rw
33 22 0:42 / /data rw - ext4 /dev/sdb rw
34 33 0:43 / /data rw - cifs //files/data rw
35 22 0:44 / /efs rw shared:9 master:3 - nfs4 127.0.0.1:/ rw
"""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/var/lib/lockboard/lockboard.db", None),
        ("/srv/lockboard.db", "nfs4"),
        ("/srv/local/lockboard.db", None),
        ("/srvx/lockboard.db", None),
        ("/mnt/with space/lockboard.db", "fuse.sshfs"),
        ("/data/lockboard.db", "cifs"),
        ("/efs/a/b/lockboard.db", "nfs4"),
    ],
)
def test_the_file_system_of_a_file_is_that_of_the_innermost_and_latest_mount(
    file: str, kind: str | None
) -> None:
    assert network_filesystem(Path(file), MOUNTS) == kind


def test_lines_of_another_form_are_passed_over() -> None:
    assert network_filesystem(Path("/srv/x"), "\n\nrubbish\n1 2 3 - nfs4\n" + MOUNTS) == "nfs4"
    assert network_filesystem(Path("/srv/x"), "") is None


def test_sqlite_on_a_network_file_system_is_refused_by_name(tmp_path: Path) -> None:
    mounts = f"1 1 0:1 / {tmp_path.resolve()} rw - nfs4 files.acme.test:/srv rw\n"
    (complaint,) = found(tmp_path, LOCAL, mounts=mounts)
    assert complaint.startswith("database.url:")
    assert "(nfs4)" in complaint
    there = LOCAL + '[database]\nurl = "postgresql://lockboard@db.acme.test/lockboard"\n'
    assert found(tmp_path, there, mounts=mounts) == []


def test_a_link_to_a_network_file_system_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = f"1 1 0:1 / {tmp_path.resolve() / 'far'} rw - nfs4 files.acme.test:/srv rw\n"
    bad = f'[database]\nurl = "sqlite:///{tmp_path / "near" / "lockboard.db"}"\n' + LOCAL
    assert "(nfs4)" in found(tmp_path, bad, mounts=mounts)[0]


def test_only_a_file_of_sqlite_is_locked(tmp_path: Path) -> None:
    assert sqlite_file("postgresql://lockboard@db.acme.test/lockboard") is None
    assert sqlite_file("sqlite://") is None
    assert sqlite_file("no url") is None
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with only_server(url):
        with pytest.raises(SettingsError, match=rf"database.url: .*process {os.getpid()}"), only_server(url):
            raise AssertionError("two at once")
        sqlite3.connect(tmp_path / "a.db").close()
    with only_server(url), only_server("postgresql://a/b"), only_server("postgresql://a/b"):
        """A lock that was let go is free; PostgreSQL has none."""


def test_a_folder_that_cannot_hold_the_lock_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"database.url: .*cannot be made"),
        only_server(f"sqlite:///{tmp_path / 'none' / 'a.db'}"),
    ):
        raise AssertionError("nowhere to lock")


# ------------------------------------------------------------------ what is asked


def test_only_a_clock_that_is_far_off_is_refused() -> None:
    skews = {"a": timedelta(minutes=15), "b": timedelta(minutes=-14), "c": None, "d": timedelta(minutes=-16)}
    (complaint,) = skew_refusals(skews)
    assert complaint.startswith("backends.d: this machine's clock is 16 min")
    assert "behind AWS's" in complaint


def test_a_backend_that_does_not_answer_in_time_or_fails_has_no_skew() -> None:
    never = threading.Event()

    def late() -> timedelta | None:
        never.wait(60)
        return timedelta(hours=1)

    def fails() -> timedelta | None:
        raise StoreError("no")

    answers = measured_skews({"late": late, "fails": fails, "right": lambda: timedelta(seconds=1)}, 0.2)
    never.set()
    assert answers == {"late": None, "fails": None, "right": timedelta(seconds=1)}


def test_a_log_that_was_changed_is_refused_and_a_whole_one_is_not() -> None:
    def fails() -> Verification:
        raise StoreError("the disk is gone")

    whole = Verification(3, None)
    changed = Verification(2, None, 3, "record 3 was changed")
    assert chain_refusals(lambda: whole) == []
    assert "record 3 was changed" in chain_refusals(lambda: changed)[0]
    assert "the disk is gone" in chain_refusals(fails)[0]


NOW = datetime(2026, 11, 20, tzinfo=UTC)


def account(role: Role, *, disabled: bool = False) -> Account:
    return Account("kim", (Grant(role),), "", disabled, NOW, NOW)


def test_what_is_hardly_meant_is_a_warning(tmp_path: Path) -> None:
    local = settings(tmp_path, ACTING + LOCAL)
    assert warnings(local, [account(Role.OPERATOR)]) == []
    assert warnings(local, [account(Role.VIEWER)])[0].startswith("actions.enabled:")
    assert warnings(local, [account(Role.OPERATOR, disabled=True)])[0].startswith(
        "auth.mode: local has no account"
    )
    empty = ALB[: ALB.index("[[auth.grants]]")] + WEB
    assert warnings(settings(tmp_path, empty))[0].startswith("auth.grants: is empty")
