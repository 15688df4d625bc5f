from __future__ import annotations

import gzip
import re
from collections.abc import Mapping

import pytest
from werkzeug.test import TestResponse

from lockboard.domain.keys import state_id
from tests.web.fakes import web

KEY = state_id("prod-kr", "app.tfstate")
OWN = {"Sec-Fetch-Site": "same-origin"}
READ = {
    "/": 303,
    "/states": 200,
    "/states?view=all&sort=-key": 200,
    "/states?view=everything": 400,
    "/states/pulse?rev=7": 204,
    "/states/pulse?rev=6": 200,
    "/states.csv": 200,
    "/states.json": 200,
    "/find": 200,
    "/find?q=app.tfstate": 303,
    "/go?lock=nothing": 404,
    f"/s/{KEY}": 200,
    "/s/0000000000000000": 404,
    f"/s/{KEY}/recheck": 405,
    "/health": 200,
    "/settings": 200,
    "/help": 200,
    "/api/v1/states": 200,
    "/healthz": 200,
    "/readyz": 200,
    "/static/lockboard.css": 200,
    "/static/vendor/htmx-4.0.1.min.js": 200,
    "/static/../lockboard/web/app.py": 404,
    "/favicon/3.svg": 200,
    "/favicon/101.svg": 404,
    "/nothing": 404,
}


def protected(answer: TestResponse) -> None:
    headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert headers.getlist("Content-Security-Policy") == [policy]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'; trusted-types htmx" in policy
    assert re.search(r"script-src 'nonce-[\w-]{20,}'$", policy)
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "HX-Request-Type" in headers["Vary"]
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(("path", "code"), READ.items())
def test_every_answer_to_a_get_has_its_status_and_every_header(path: str, code: int) -> None:
    answer = web().client.get(path)

    assert code == answer.status_code
    protected(answer)


@pytest.mark.parametrize(("path", "code"), READ.items())
def test_every_answer_to_htmx_has_every_header(path: str, code: int) -> None:
    protected(web().client.get(path, headers={"HX-Request-Type": "partial"}))


@pytest.mark.parametrize(
    ("path", "data", "headers", "code"),
    [
        ("/prefs", {}, OWN, 303),
        ("/prefs", {}, {}, 403),
        (f"/s/{KEY}/recheck", {}, OWN, 303),
        ("/states", {}, OWN, 405),
        ("/find", {"q": "x" * 70_000}, OWN, 413),
    ],
)
def test_every_answer_to_a_post_has_its_status_and_every_header(
    path: str, data: Mapping[str, str], headers: Mapping[str, str], code: int
) -> None:
    answer = web().client.post(path, data=data, headers=headers)

    assert code == answer.status_code
    protected(answer)


def test_an_error_of_ours_has_every_header_and_says_nothing_of_its_cause() -> None:
    site = web()
    site.board.page = lambda query: 1 / 0  # type: ignore[assignment,return-value]

    answer = site.client.get("/states")

    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    protected(answer)


def test_pages_are_never_stored_and_versioned_files_for_ever() -> None:
    site = web()
    style = re.search(r'href="(/static/lockboard.css\?v=\w+)"', site.client.get("/help").text)
    assert style

    assert site.client.get("/states").headers["Cache-Control"] == "no-store"
    assert site.client.get("/nothing").headers["Cache-Control"] == "no-store"
    assert "immutable" in site.client.get(style[1]).headers["Cache-Control"]
    assert "immutable" in site.client.get("/static/vendor/htmx-4.0.1.min.js").headers["Cache-Control"]
    assert "immutable" in site.client.get("/favicon/3.svg?v=0.1.0").headers["Cache-Control"]
    assert site.client.get("/favicon/3.svg").headers["Cache-Control"] == "no-store"
    assert site.client.get("/static/lockboard.css").headers["Cache-Control"] == "no-store"
    assert site.client.get("/static/lockboard.css?v=0000").headers["Cache-Control"] == "no-store"


def test_each_answer_has_a_nonce_of_its_own_and_its_scripts_and_attributes_carry_it() -> None:
    site = web()
    seen = set()
    for path in ("/states", "/states", "/health", f"/s/{KEY}"):
        answer = site.client.get(path)
        nonce = answer.headers["Content-Security-Policy"].rpartition("'nonce-")[2].rstrip("'")
        used = set(re.findall(r'nonce="([^"]*)"', answer.text))
        seen.add(nonce)

        assert used == {nonce}
        assert answer.text.count("<script") == answer.text.count(f'nonce="{nonce}"></script>') == 3

    assert len(seen) == 4


def test_strict_transport_security_is_sent_over_https_only() -> None:
    site = web()

    assert "Strict-Transport-Security" not in site.client.get("/help").headers
    assert (
        "max-age=31536000"
        in site.client.get("/help", base_url="https://localhost").headers["Strict-Transport-Security"]
    )


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_loopback_names_are_answered(host: str) -> None:
    assert web().client.get("/help", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::2]"]
)
def test_another_hosts_name_is_refused(host: str) -> None:
    answer = web().client.get("/states", headers={"Host": host})

    assert answer.status_code == 400
    protected(answer)


def test_configured_names_are_answered_and_a_leading_dot_stands_for_every_name_below() -> None:
    site = web(hosts=("board.acme.example", ".internal"))

    assert site.client.get("/help", headers={"Host": "board.acme.example"}).status_code == 200
    assert site.client.get("/help", headers={"Host": "a.b.internal:443"}).status_code == 200
    assert site.client.get("/help", headers={"Host": "localhost"}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_only_a_form_of_our_own_pages_changes_anything(headers: Mapping[str, str], code: int) -> None:
    site = web()

    assert site.client.post(f"/s/{KEY}/recheck", headers=headers).status_code == code
    assert bool(site.recheck.asked) == (code == 303)


@pytest.mark.parametrize("name", ["lockboard.js", "lockboard.css", "icons.svg", "vendor/htmx-4.0.1.min.js"])
def test_a_file_is_sent_compressed_to_whoever_takes_it(name: str) -> None:
    client = web().client
    plain = client.get(f"/static/{name}")
    packed = client.get(f"/static/{name}", headers={"Accept-Encoding": "br, gzip"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 2
    assert int(packed.headers["Content-Length"]) == len(packed.data)
    assert "ETag" not in packed.headers
    assert packed.headers["Cache-Control"] == plain.headers["Cache-Control"]
    assert "Content-Encoding" not in plain.headers
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers["Vary"]
        protected(answer)


def test_what_cannot_be_taken_compressed_is_sent_plain() -> None:
    client = web().client
    refused = client.get("/static/lockboard.js", headers={"Accept-Encoding": "gzip;q=0"})
    part = client.get("/static/lockboard.js", headers={"Accept-Encoding": "gzip", "Range": "bytes=0-9"})

    assert "Content-Encoding" not in refused.headers
    assert (part.status_code, len(part.data)) == (206, 10)


def test_script_and_style_of_ours_stay_small() -> None:
    client = web().client
    sizes = {
        name: len(client.get(f"/static/lockboard.{name}", headers={"Accept-Encoding": "gzip"}).data)
        for name in ("js", "css")
    }

    assert sizes["js"] <= 5_000
    assert sizes["css"] <= 10_000
