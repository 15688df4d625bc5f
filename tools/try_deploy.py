"""`python -m tools.try_deploy`: what docs/deploy/compose describes, on this machine and without an engine.

PostgreSQL, the two web servers and the refresher with the very commands of compose.yaml, nginx with its
nginx.conf and a certificate made for the occasion. Then somebody gets an account as README.md says, signs in
through TLS, and goes on while one of the web servers is gone. It needs nginx and openssl; addresses, ports
and paths are all that is changed in the files. Exit status 0 where everything is as it should be.
"""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import boto3
import yaml

from load.visitors import Form, Forms
from tests.databases import postgresql_server
from tests.emulators import CREDENTIALS, free_port, moto_server
from tools.pins import ROOT

COMPOSE = ROOT / "docs" / "deploy" / "compose"
HOST = "lockboard.example.com"
PERSON = "kim"
KEY = "network/terraform.tfstate"
PATIENCE = 60.0


@dataclass
class Deployment:
    """The ports, and what belongs to them. web: the two servers by their addresses in nginx.conf."""

    folder: Path
    tls: int = field(default_factory=free_port)
    plain: int = field(default_factory=free_port)
    web: Mapping[str, int] = field(
        default_factory=lambda: {"172.30.1.11:8080": free_port(), "172.30.1.12:8080": free_port()}
    )

    @property
    def certificate(self) -> Path:
        return self.folder / "tls" / "fullchain.pem"


class Browser:
    """One person with cookies, who trusts the certificate at hand and no other."""

    def __init__(self, site: Deployment) -> None:
        self._site = site
        self._trust = ssl.create_default_context(cafile=str(site.certificate))
        self.cookies: dict[str, str] = {}

    def ask(
        self, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, str]:
        """One request over a connection of its own. Raises OSError."""
        sent = {"Host": HOST, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body = urlencode(form)
            sent |= {"Content-Type": "application/x-www-form-urlencoded"}
            sent |= {"Origin": f"https://{HOST}", "Sec-Fetch-Site": "same-origin"}
        line = http.client.HTTPConnection("127.0.0.1", self._site.tls, timeout=30)
        raw = socket.create_connection(("127.0.0.1", self._site.tls), timeout=30)
        line.sock = self._trust.wrap_socket(raw, server_hostname=HOST)
        line.request("GET" if form is None else "POST", path, body, sent)
        answer = line.getresponse()
        text = answer.read().decode("utf-8", "replace")
        line.close()
        for given in answer.headers.get_all("Set-Cookie") or ():
            name, _, value = given.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer, text

    def sign_in(self, password: str) -> http.client.HTTPResponse:
        """From the first page to the answer to the sign-in form."""
        answer, text = self.ask("/")
        while answer.status == 303:
            there = urlsplit(str(answer.headers["Location"]))
            answer, text = self.ask(there.path + (f"?{there.query}" if there.query else ""))
        form = sign_in_form(text)
        return self.ask(form.action, {**form.fields, "name": PERSON, "password": password})[0]


def sign_in_form(page: str) -> Form:
    """Raises AssertionError where the page has none."""
    found = [form for form in Forms(page).found if form.action.startswith("/signin")]
    assert found, "nobody is asked to sign in"
    return found[0]


def services() -> dict[str, Any]:
    """Those of compose.yaml."""
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))["services"]
    return found


def nginx_conf(site: Deployment) -> str:
    """That of docs/deploy with this machine's addresses, ports and paths."""
    text = (COMPOSE / "nginx.conf").read_text("utf-8")
    changes = {"listen 8443": f"listen 127.0.0.1:{site.tls}", "listen 8080": f"listen 127.0.0.1:{site.plain}"}
    changes |= {address: f"127.0.0.1:{port}" for address, port in site.web.items()}
    changes |= {"/etc/nginx/tls": str(site.folder / "tls"), "/tmp/nginx": str(site.folder / "nginx")}  # noqa: S108
    for old, new in changes.items():
        if old not in text:
            raise AssertionError(f"nginx.conf has no {old}")
        text = text.replace(old, new)
    return text


def make_certificate(folder: Path) -> None:
    """As README.md does it for a trial."""
    (folder / "tls").mkdir()
    files = ["-keyout", str(folder / "tls" / "privkey.pem"), "-out", str(folder / "tls" / "fullchain.pem")]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run(
        [str(shutil.which("openssl")), "req", "-x509", *curve, *files, *names],
        check=True,
        capture_output=True,
    )


def _settings(endpoint: str) -> str:
    """lockboard.toml of docs/deploy, with an emulator for AWS and nginx on loopback."""
    text = (COMPOSE / "lockboard.toml").read_text("utf-8").replace("172.30.1.2/32", "127.0.0.1/32")
    return text + f's3_endpoint_url = "{endpoint}"\ndynamodb_endpoint_url = "{endpoint}"\n'


def _command(service: Mapping[str, Any], port: int = 0) -> list[str]:
    """What the container would run, from this environment's scripts."""
    entry = service.get("entrypoint", ["lockboard"])
    words = [word.replace("0.0.0.0:8080", f"127.0.0.1:{port}") for word in service["command"]]
    return [sys.executable, "-m", *entry, *words]


def _estate(endpoint: str) -> None:
    """The bucket and the table that lockboard.toml names, with one state."""
    backend = tomllib.loads((COMPOSE / "lockboard.toml").read_text("utf-8"))["backends"][0]
    region, named = backend["region"], {"TableName": backend["dynamodb_table"]}
    keys = [CREDENTIALS[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    s3, dynamodb = (
        boto3.client(
            name, region, endpoint_url=endpoint, aws_access_key_id=keys[0], aws_secret_access_key=keys[1]
        )
        for name in ("s3", "dynamodb")
    )
    s3.create_bucket(Bucket=backend["bucket"], CreateBucketConfiguration={"LocationConstraint": region})
    s3.put_object(Bucket=backend["bucket"], Key=KEY, Body=b'{"version": 4, "serial": 1, "lineage": "l"}')
    schema = [{"AttributeName": "LockID", "KeyType": "HASH"}]
    kinds = [{"AttributeName": "LockID", "AttributeType": "S"}]
    dynamodb.create_table(
        **named, KeySchema=schema, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST"
    )


@contextmanager
def deployed(folder: Path) -> Iterator[tuple[Deployment, Browser, list[subprocess.Popen[bytes]], str]]:
    """(ports, a browser, the web servers, the password): everything runs while the block does."""
    site, password = Deployment(folder), secrets.token_urlsafe(18)
    make_certificate(folder)
    (folder / "moto").mkdir()
    with ExitStack() as stack:
        server, emulator = (
            stack.enter_context(postgresql_server()),
            stack.enter_context(moto_server(folder / "moto")),
        )
        _estate(emulator.url)
        (folder / "lockboard.toml").write_text(_settings(emulator.url))
        environment = _environment(folder, server.fresh())
        add = [sys.executable, "-m", "lockboard", "user", "add", PERSON, "--role", "administrator"]
        given = f"{password}\n".encode()
        subprocess.run([*add, "--password-stdin"], input=given, env=environment, cwd=ROOT, check=True)
        found = services()
        run = _runner(stack, folder, environment)
        run("collect", _command(found["collect"]))
        web = [
            run(name, _command(found[name], port))
            for name, port in zip(("web-a", "web-b"), site.web.values(), strict=True)
        ]
        ports = list(site.web.values())
        _until(lambda: {_status(port, "/readyz") for port in ports} == {200}, "both web servers are ready")
        conf = folder / "nginx.conf"
        conf.write_text(nginx_conf(site))
        run("nginx", [str(shutil.which("nginx")), "-c", str(conf), "-g", "daemon off;"])
        _until(lambda: _status(site.plain, "/") == 308, "nginx is ready")
        yield site, Browser(site), web, password


def _environment(folder: Path, database: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCKBOARD_"))}
    keys = {"secret_key": secrets.token_hex(32), "audit_key": secrets.token_hex(32), "database_url": database}
    files = {}
    for name, value in keys.items():
        file = folder / name
        file.write_text(f"{value}\n")
        files[f"LOCKBOARD_{name.upper()}_FILE"] = str(file)
    config = str(folder / "lockboard.toml")
    root = {"LOCKBOARD_ALLOW_ROOT": "1"} if os.geteuid() == 0 else {}
    return {**kept, **CREDENTIALS, **files, **root, "LOCKBOARD_CONFIG": config}


def _runner(
    stack: ExitStack, folder: Path, environment: Mapping[str, str]
) -> Callable[[str, list[str]], subprocess.Popen[bytes]]:
    def run(name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )
        stack.callback(_end, process)
        return process

    return run


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _status(port: int, path: str) -> int | None:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", path)
        return line.getresponse().status
    except OSError:
        return None
    finally:
        line.close()


def _until(seen: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not seen():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.1)


# ---------------------------------------------------------------- what is looked at


def look(
    site: Deployment, browser: Browser, web: list[subprocess.Popen[bytes]], password: str
) -> Iterator[str]:
    """Each thing that was found to be as it should, in words. Raises AssertionError for one that is not."""
    yield _told("plain http is sent to https", _redirected(site), f"https://{HOST}/states?view=all")
    yield _told("another host name gets no certificate", _refused(site), True)
    yield _told("a wrong password signs nobody in", browser.sign_in("not it, but long").status != 303, True)
    entered = browser.sign_in(password)
    cookie = str(entered.headers["Set-Cookie"])
    yield _told("the right one does", entered.status, 303)
    kept = all(word in cookie for word in ("__Host-", "Secure", "HttpOnly", "SameSite=Lax"))
    yield _told("its cookie is for this host and https alone", kept, True)
    _until(lambda: ' id="r-' in browser.ask("/states?view=all")[1], "a row is on the board")
    page, _ = browser.ask("/states?view=all")
    yield _told("the board has what is in the bucket", page.status, 200)
    yield _told(
        "browsers will insist on https", "max-age" in str(page.headers["Strict-Transport-Security"]), True
    )
    pages = {browser.ask("/states?view=all")[0].status for _ in range(8)}
    yield _told("both servers know the session", pages, {200})
    yield _told("an export has the state", KEY in browser.ask("/states.json?view=all")[1], True)
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=203.0.113.9",
    }
    told = browser.ask("/account", headers=forged)
    yield _told("a browser's word for its address is not taken", "203.0.113.9" in told[1], False)
    yield _told("probes are not for the world", browser.ask("/healthz")[0].status, 404)
    web[0].kill()
    web[0].wait()
    pages = {browser.ask("/states?view=all")[0].status for _ in range(8)}
    yield _told("one server alone goes on with the same session", pages, {200})


def _told(what: str, found: object, wanted: object) -> str:
    assert found == wanted, f"{what}: {found}, not {wanted}"
    return what


def _redirected(site: Deployment) -> str:
    line = http.client.HTTPConnection("127.0.0.1", site.plain, timeout=10)
    line.request("GET", "/states?view=all", headers={"Host": "evil.example"})
    answer = line.getresponse()
    line.close()
    return str(answer.headers["Location"])


def _refused(site: Deployment) -> bool:
    trust = ssl.create_default_context(cafile=str(site.certificate))
    with socket.create_connection(("127.0.0.1", site.tls), timeout=10) as raw:
        try:
            trust.wrap_socket(raw, server_hostname="evil.example")
        except ssl.SSLError as error:
            return "unrecognized" in str(error).lower()
    return False


def main() -> int:
    """Try it and say what was found."""
    if missing := [name for name in ("nginx", "openssl") if shutil.which(name) is None]:
        print(f"this needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="lockboard-deploy-") as folder:
        try:
            with deployed(Path(folder)) as found:
                for words in look(*found):
                    print(f"ok  {words}", flush=True)
        except BaseException:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-1500:]}", file=sys.stderr)
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
