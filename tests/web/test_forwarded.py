"""What proxies say of a request, through the middleware alone and through a real gunicorn."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from lockboard.web.forwarded import PEER, Forwarded, Networks
from tests.needs import ROOT

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TRUSTED = ("10.0.0.0/8", "192.0.2.7", "fd00::/8")
PROXY = "10.1.2.3"
STRANGER = "203.0.113.9"


def seen(peer: str, headers: dict[str, str], networks: Sequence[str] = TRUSTED) -> dict[str, Any]:
    """What the application behind the middleware has in its environment."""
    found: dict[str, Any] = {}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found.update(environ)
        start_response("204 No Content", [])
        return []

    environ = EnvironBuilder(headers=list(headers.items())).get_environ() | {"REMOTE_ADDR": peer}
    run_wsgi_app(Forwarded(app, networks), environ)
    return found


def believed(found: dict[str, Any]) -> tuple[str, str]:
    return found["REMOTE_ADDR"], found["wsgi.url_scheme"]


@pytest.mark.parametrize("peer", [PROXY, "192.0.2.7", "fd00::5", "::ffff:10.1.2.3"])
def test_one_hop_is_taken_from_a_proxy_of_ours_and_its_own_address_is_kept(peer: str) -> None:
    found = seen(peer, {"X-Forwarded-For": "198.51.100.77", "X-Forwarded-Proto": "https"})

    assert believed(found) == ("198.51.100.77", "https")
    assert found[PEER] == peer


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("198.51.100.77", "198.51.100.77"),
        ("127.0.0.1, 198.51.100.77", "198.51.100.77"),
        ("127.0.0.1,10.0.0.1,198.51.100.77", "198.51.100.77"),
        ('"evil, 127.0.0.1", 198.51.100.77', "198.51.100.77"),
        (" 198.51.100.77 ", "198.51.100.77"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:198.51.100.77", "198.51.100.77"),
        ("198.51.100.77, unknown", PROXY),
        ("198.51.100.77,", PROXY),
        (",", PROXY),
        ("", PROXY),
        ("localhost", PROXY),
        ("_hidden", PROXY),
        ("198.51.100.77:4711", PROXY),
        ("[2001:db8::1]", PROXY),
        ("fe80::1%<script>", PROXY),
        ("198.51.100.077", PROXY),
        ("198.51.100", PROXY),
        ("3325256704", PROXY),
        ("198.51.100.77/8", PROXY),
        ('"198.51.100.77"', PROXY),
        ("198.51.100.77\t203.0.113.1", PROXY),
        ("198.51.100.77; for=127.0.0.1", PROXY),
        ("1" * 8000, PROXY),
    ],
)
def test_of_a_chain_the_last_address_counts_and_without_one_the_proxys_own(value: str, address: str) -> None:
    assert seen(PROXY, {"X-Forwarded-For": value})["REMOTE_ADDR"] == address


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("http", "http"),
        ("http, https", "https"),
        ("https, http", "http"),
        ("https, javascript", "http"),
        ("https,", "http"),
        ("on", "http"),
        ("httpss", "http"),
        ("wss", "http"),
        ("https://evil.example", "http"),
        ("", "http"),
    ],
)
def test_a_scheme_is_http_or_https_or_none(value: str, scheme: str) -> None:
    assert seen(PROXY, {"X-Forwarded-Proto": value})["wsgi.url_scheme"] == scheme


CLAIMED = {
    "X-Forwarded": "for=127.0.0.1",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-User": "admin",
    "X-Forwarded-Whatever": "x",
    "Forwarded": "for=127.0.0.1;proto=https",
    "X-Real-IP": "127.0.0.1",
}


@pytest.mark.parametrize(
    "peer", [STRANGER, "127.0.0.1", "::1", "11.0.0.1", "", "@", "localhost", "10.1.2.3 ", "fd00::5%eth0"]
)
def test_from_a_stranger_or_a_unix_socket_nothing_of_the_kind_reaches_the_application(peer: str) -> None:
    found = seen(peer, CLAIMED)

    assert believed(found) == (peer, "http")
    assert found[PEER] == peer
    assert [name for name in found if "FORWARDED" in name or "REAL_IP" in name] == []


def test_with_no_network_configured_nobody_is_believed() -> None:
    assert believed(seen(PROXY, CLAIMED, networks=())) == (PROXY, "http")


def test_a_proxy_of_ours_may_say_address_and_scheme_but_not_host_port_or_prefix() -> None:
    found = seen(PROXY, CLAIMED)
    plain = seen(PROXY, {})

    same = ("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME", "PATH_INFO")
    assert [found[name] for name in same] == [plain[name] for name in same]
    assert sorted(name for name in found if "FORWARDED" in name or "REAL_IP" in name) == [
        "HTTP_X_FORWARDED_FOR",
        "HTTP_X_FORWARDED_PROTO",
        "HTTP_X_FORWARDED_USER",
        "HTTP_X_FORWARDED_WHATEVER",
    ]


def test_other_headers_stay() -> None:
    found = seen(STRANGER, {"X-Lockboard-Proxy-Secret": "s", "X-Forward": "f", "Cookie": "c"})

    assert (found["HTTP_X_LOCKBOARD_PROXY_SECRET"], found["HTTP_X_FORWARD"], found["HTTP_COOKIE"]) == (
        "s",
        "f",
        "c",
    )


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "10.0.0.0/33", "proxy", "", "*"])
def test_a_network_that_is_none_or_is_everybody_stops_the_start(network: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits|IPv4"):
        Forwarded(lambda environ, start: [], [PROXY, network])


def test_addresses_of_the_other_kind_are_in_no_network() -> None:
    assert not Networks(["10.0.0.0/8"]).hold("fd00::1")
    assert not Networks(["fd00::/8"]).hold("10.0.0.1")


def told() -> WSGIApplication:
    """Tells its client what reached it; for gunicorn."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        names = ("REMOTE_ADDR", PEER, "wsgi.url_scheme")
        reached = {name: environ[name] for name in environ if name in names or name.startswith("HTTP_")}
        return [json.dumps(reached).encode()]

    return Forwarded(app, ["127.0.0.2"])


@contextmanager
def gunicorn(*flags: str, app: str = "tests.web.test_forwarded:told()") -> Iterator[int]:
    """A real one on loopback, by its port, with the flags that Lockboard gives it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        command = [sys.executable, "-m", "gunicorn", f"--bind=fd://{listening.fileno()}", "--threads=2"]
        command += ["--no-control-socket", "--forwarded-allow-ips=", "--header-map=refuse", *flags, app]
        server = subprocess.Popen(command, cwd=ROOT, pass_fds=[listening.fileno()], stderr=subprocess.PIPE)
        try:
            yield listening.getsockname()[1]
        finally:
            server.terminate()
            server.communicate(timeout=60)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with gunicorn() as number:
        yield number


def ask(port: int, *headers: tuple[str, str], source: str = "127.0.0.1") -> tuple[int, dict[str, Any]]:
    """Status and answer to a request from a loopback address, its headers sent as they are given."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, 60, (source, 0))) as connection:
        connection.putrequest("GET", "/")
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else {}


def test_behind_gunicorn_the_peer_is_the_sockets_address(port: int) -> None:
    status, told = ask(
        port, ("X-Forwarded-For", "198.51.100.77"), ("X-Forwarded-Proto", "https"), source="127.0.0.2"
    )

    assert status == 200
    assert (told[PEER], *believed(told)) == ("127.0.0.2", "198.51.100.77", "https")


def test_behind_gunicorn_a_stranger_on_loopback_is_not_believed(port: int) -> None:
    status, told = ask(port, *CLAIMED.items())

    assert status == 200
    assert (told[PEER], *believed(told)) == ("127.0.0.1", "127.0.0.1", "http")
    assert [name for name in told if "FORWARDED" in name or "REAL_IP" in name] == []


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize(
    "name",
    [
        "X_Forwarded_User",
        "X-Forwarded_User",
        "X_Forwarded_For",
        "X_Lockboard_Proxy_Secret",
        "X_Amzn_Oidc_Data",
    ],
)
def test_gunicorn_refuses_names_that_look_like_ours_with_an_underscore(
    port: int, name: str, source: str
) -> None:
    assert ask(port, (name, "admin"), source=source)[0] == 400


def test_gunicorn_joins_headers_of_one_name_so_that_a_second_one_shows(port: int) -> None:
    status, told = ask(port, ("X-Amzn-Oidc-Data", "AAA"), ("x-amzn-oidc-data", "EVIL"))

    assert (status, told["HTTP_X_AMZN_OIDC_DATA"]) == (200, "AAA,EVIL")


def test_a_second_forwarded_for_of_the_client_stands_before_the_proxys_own(port: int) -> None:
    headers = [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-For", "198.51.100.77")]
    _, told = ask(port, *headers, source="127.0.0.2")

    assert told["REMOTE_ADDR"] == "198.51.100.77"


def test_contradictory_schemes_end_in_the_last_one(port: int) -> None:
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")]
    _, told = ask(port, *headers, source="127.0.0.2")

    assert told["wsgi.url_scheme"] == "http"
