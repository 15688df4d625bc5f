"""The doors of a load balancer and of a reverse proxy: who comes in, and for what reason others do not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lockboard.domain.access import Identity
from lockboard.domain.errors import SettingsError
from lockboard.web.doors import HeaderDoor, SignInRefused
from lockboard.web.forwarded import PEER, Forwarded
from lockboard.web.header_doors import LONGEST_NAME, AlbDoor, ProxyDoor
from tests.adapters.test_alb import AT, CLAIMS, FORGED, ISSUER, NOW, Keys, balancer, claimed, token
from tests.web.test_forwarded import ask, gunicorn

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SECRET = "a-long-random-text-of-the-proxy-é"
HOME = "https://lockboard.example.com/"


def refusal(door: HeaderDoor, environ: Mapping[str, Any]) -> str:
    with pytest.raises(SignInRefused) as caught:
        door.identity(environ, NOW)
    return str(caught.value)


def alb(name_claim: str = "email", groups_claim: str = "groups") -> AlbDoor:
    return AlbDoor(balancer(Keys()).claims, ISSUER, name_claim, groups_claim)


def by_alb(value: str, identity: str | None = None) -> dict[str, Any]:
    environ = {"HTTP_X_AMZN_OIDC_DATA": value, "REMOTE_ADDR": "10.0.0.1"}
    return environ if identity is None else environ | {"HTTP_X_AMZN_OIDC_IDENTITY": identity}


def came_in(door: AlbDoor, **changes: Any) -> Identity:
    return door.identity(by_alb(claimed(**changes)), NOW)


def test_who_came_through_the_load_balancer_is_known_by_issuer_and_sub() -> None:
    assert alb().identity(by_alb(token(), "8f3a2b"), NOW) == Identity(
        f"{ISSUER}|8f3a2b", "kim@example.com", "alb", frozenset({"ops", "dev"}), NOW
    )


@pytest.mark.parametrize("name", FORGED)
def test_no_forged_token_opens_the_door(name: str) -> None:
    make, reason = FORGED[name]

    said = refusal(alb(), by_alb(make()))
    assert reason in said or "there is no x-amzn-oidc-data" in said


def lacking(*names: str) -> str:
    return token(claims={name: value for name, value in CLAIMS.items() if name not in names})


ALB_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no token": ({}, "there is no x-amzn-oidc-data"),
    "an empty token": (by_alb(""), "there is no x-amzn-oidc-data"),
    "an identity without a token": ({"HTTP_X_AMZN_OIDC_IDENTITY": "8f3a2b"}, "there is no x-amzn-oidc-data"),
    "two tokens, as gunicorn joins them": (by_alb(f"{token()},{token()}"), "more than one token"),
    "an identity that is another": (by_alb(token(), "8f3a2c"), "is not the token's sub"),
    "an identity in other letters": (by_alb(token(), "8F3A2B"), "is not the token's sub"),
    "two identities, as gunicorn joins them": (by_alb(token(), "8f3a2b,8f3a2b"), "is not the token's sub"),
    "an empty identity": (by_alb(token(), ""), "is not the token's sub"),
    "no sub": (by_alb(lacking("sub")), "claim sub is missing or no text"),
    "an empty sub": (by_alb(claimed(sub="")), "claim sub is missing or no text"),
    "a blank sub": (by_alb(claimed(sub=" ")), "claim sub has characters that do not show"),
    "sub as a number": (by_alb(claimed(sub=7)), "claim sub is missing or no text"),
    "sub as null": (by_alb(claimed(sub=None)), "claim sub is missing or no text"),
    "sub as a list": (by_alb(claimed(sub=["8f3a2b"])), "claim sub is missing or no text"),
    "sub as an object": (by_alb(claimed(sub={"sub": "x"})), "claim sub is missing or no text"),
    "a sub that is too long": (by_alb(claimed(sub="x" * 256)), "claim sub is longer than 255"),
    "a sub with a newline": (by_alb(claimed(sub="x\ny")), "claim sub has characters that do not show"),
    "a sub with half a character": (by_alb(claimed(sub="\ud800")), "claim sub has characters that do not"),
    "a sub that turns its text around": (by_alb(claimed(sub="\u202eadmin")), "claim sub has characters"),
    "no name": (by_alb(lacking("email")), "claim email is missing or no text"),
    "a name that is too long": (by_alb(claimed(email="x" * 256)), "claim email is longer than 255"),
    "a name with a zero-width space": (by_alb(claimed(email="kim\u200b@example.com")), "claim email has"),
    "an address that was not verified": (by_alb(claimed(email_verified=False)), "has not verified"),
    "an address that was not verified, as text": (
        by_alb(claimed(email_verified="false")),
        "has not verified",
    ),
    "groups as a number": (by_alb(claimed(groups=7)), "claim groups is neither a text nor a list"),
    "groups as an object": (by_alb(claimed(groups={"ops": True})), "claim groups is neither a text nor"),
    "groups in groups": (by_alb(claimed(groups=["ops", ["dev"]])), "claim groups is neither a text nor"),
    "a group that is too long": (by_alb(claimed(groups=["x" * 256])), "a group is longer than 255"),
    "a group with a control character": (by_alb(claimed(groups=["ops\x00"])), "a group has characters"),
}


@pytest.mark.parametrize(("environ", "reason"), ALB_REFUSED.values(), ids=ALB_REFUSED)
def test_what_a_load_balancer_says_is_refused_where_it_names_nobody(
    environ: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(alb(), environ)


def test_the_names_letters_may_be_of_any_language_and_as_many_as_there_is_room_for() -> None:
    subject = "é" * LONGEST_NAME
    found = alb().identity(
        by_alb(claimed(sub=subject, email="김@example.com"), subject.encode().decode("latin-1")), NOW
    )

    assert (found.subject, found.name) == (f"{ISSUER}|{subject}", "김@example.com")


def test_a_name_of_another_claim_needs_no_verified_address() -> None:
    assert came_in(alb("nickname"), nickname="Kim Lee", email_verified=False).name == "Kim Lee"


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        (["ops", "dev"], {"ops", "dev"}),
        (["Platform team", " ops "], {"Platform team", "ops"}),
        ([], set()),
        (["", "ops"], {"ops"}),
        ("ops,dev", {"ops", "dev"}),
        ("ops dev", {"ops", "dev"}),
        (" ops, dev ,, ", {"ops", "dev"}),
        ("", set()),
        (None, set()),
    ],
)
def test_groups_come_as_a_list_or_as_a_text(value: object, groups: set[str]) -> None:
    assert came_in(alb(), groups=value).groups == groups


def test_who_has_no_groups_claim_has_no_groups() -> None:
    assert alb().identity(by_alb(lacking("groups")), NOW).groups == frozenset()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AT - 240, NOW - timedelta(minutes=4)),
        (str(AT - 240), NOW - timedelta(minutes=4)),
        (AT, NOW),
        (1, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (AT + 1, NOW),
        (0, NOW),
        (-1, NOW),
        (True, NOW),
        (AT - 240.5, NOW),
        (float("nan"), NOW),
        (10**30, NOW),
        ("9" * 5000, NOW),
        ("yesterday", NOW),
        (None, NOW),
        ([AT - 240], NOW),
    ],
)
def test_the_sign_in_is_as_old_as_auth_time_says_if_it_says_so(value: object, expected: datetime) -> None:
    assert came_in(alb(), auth_time=value).signed_in_at == expected


def test_signing_out_ends_every_cookie_of_the_load_balancer_and_goes_home() -> None:
    answer = alb().sign_out(HOME)

    assert (answer.status_code, answer.location) == (303, HOME)
    cookies = answer.headers.getlist("Set-Cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == [
        "AWSELBAuthSessionCookie",
        "AWSELBAuthSessionCookie-0",
        "AWSELBAuthSessionCookie-1",
        "AWSELBAuthSessionCookie-2",
        "AWSELBAuthSessionCookie-3",
    ]
    for cookie in cookies:
        assert {"Max-Age=0", "Path=/", "Secure", "HttpOnly"} <= set(cookie.split("; "))
        assert "Expires=Thu, 01 Jan 1970 00:00:00 GMT" in cookie


def proxy(sign_out_url: str = "", addresses: Iterable[str] = ("10.0.0.0/8", "fd00::/8")) -> ProxyDoor:
    return ProxyDoor(
        addresses,
        SECRET,
        "X-Lockboard-Proxy-Secret",
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        sign_out_url,
    )


def sent(value: str) -> str:
    """Text as WSGI has it."""
    return value.encode().decode("latin-1")


def by_proxy(user: str | None = "kim", **changes: str | None) -> dict[str, Any]:
    """What the proxy sends; None leaves a header out."""
    environ = {
        PEER: "10.0.0.1",
        "REMOTE_ADDR": "198.51.100.77",
        "HTTP_X_LOCKBOARD_PROXY_SECRET": sent(SECRET),
        "HTTP_X_FORWARDED_USER": user,
        "HTTP_X_FORWARDED_EMAIL": "kim@example.com",
        "HTTP_X_FORWARDED_GROUPS": "ops, dev",
    }
    return {name: value for name, value in (environ | changes).items() if value is not None}


def test_who_came_through_the_proxy_is_known_by_its_headers() -> None:
    assert proxy().identity(by_proxy(), NOW) == Identity(
        "proxy|kim", "kim@example.com", "proxy", frozenset({"ops", "dev"}), NOW
    )


@pytest.mark.parametrize("peer", ["10.255.255.255", "::ffff:10.0.0.1", "fd00::1"])
def test_the_proxy_may_call_from_any_of_its_addresses(peer: str) -> None:
    assert proxy().identity(by_proxy() | {PEER: peer}, NOW).subject == "proxy|kim"


@pytest.mark.parametrize("name", [None, ""])
def test_who_has_no_name_is_called_as_the_user(name: str | None) -> None:
    assert proxy().identity(by_proxy(HTTP_X_FORWARDED_EMAIL=name), NOW).name == "kim"


@pytest.mark.parametrize(
    ("value", "groups"),
    [("ops", {"ops"}), ("a b,c", {"a b", "c"}), (" ops ,, ", {"ops"}), ("", set()), (None, set())],
)
def test_the_proxys_groups_are_split_at_commas(value: str | None, groups: set[str]) -> None:
    assert proxy().identity(by_proxy(HTTP_X_FORWARDED_GROUPS=value), NOW).groups == groups


def test_names_and_groups_may_be_in_any_language() -> None:
    environ = by_proxy(sent("김"), HTTP_X_FORWARDED_EMAIL=sent("Zoë"), HTTP_X_FORWARDED_GROUPS=sent("개발"))
    found = proxy().identity(environ, NOW)

    assert (found.subject, found.name, found.groups) == ("proxy|김", "Zoë", frozenset({"개발"}))


NOT_THERE = "did not come from the proxy's addresses"
NO_SECRET = "secret is missing or another"
NO_USER = "the user's header is missing or no text"
HIDDEN = "the user's header has characters that do not show"

PROXY_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "from another address": (by_proxy() | {PEER: "11.0.0.1"}, NOT_THERE),
    "from another address, said to be the proxy's": (
        by_proxy() | {PEER: "203.0.113.9", "REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "10.0.0.1"},
        NOT_THERE,
    ),
    "from loopback": (by_proxy() | {PEER: "127.0.0.1"}, NOT_THERE),
    "from a Unix socket": (by_proxy() | {PEER: ""}, NOT_THERE),
    "from an address that is a name": (by_proxy() | {PEER: "proxy.internal"}, NOT_THERE),
    "from an address of two": (by_proxy() | {PEER: "10.0.0.1, 10.0.0.2"}, NOT_THERE),
    "from an IPv6 address that ends like ours": (by_proxy() | {PEER: "fc00::10.0.0.1"}, NOT_THERE),
    "from a socket that nobody looked at": (
        {name: value for name, value in by_proxy().items() if name != PEER} | {"REMOTE_ADDR": "10.0.0.1"},
        NOT_THERE,
    ),
    "without the secret": (by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=None), NO_SECRET),
    "with an empty secret": (by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=""), NO_SECRET),
    "with another secret": (by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET="x" * len(SECRET)), NO_SECRET),
    "with the start of the secret": (by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=SECRET[:-1]), NO_SECRET),
    "with more than the secret": (by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=sent(SECRET) + "x"), NO_SECRET),
    "with the secret in other letters": (
        by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=sent(SECRET).upper()),
        NO_SECRET,
    ),
    "with the secret in Latin-1": (by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=SECRET), NO_SECRET),
    "with the secret and another": (
        by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=f"x,{sent(SECRET)}"),
        NO_SECRET,
    ),
    "with the secret twice, as gunicorn joins it": (
        by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=f"{sent(SECRET)},{sent(SECRET)}"),
        NO_SECRET,
    ),
    "with the secret in another header": (
        by_proxy(HTTP_X_LOCKBOARD_PROXY_SECRET=None, HTTP_AUTHORIZATION=sent(SECRET)),
        NO_SECRET,
    ),
    "without a user": (by_proxy(None), NO_USER),
    "with an empty user": (by_proxy(""), NO_USER),
    "with a user in another header": (by_proxy(None, HTTP_REMOTE_USER="admin"), NO_USER),
    "with a user whom the server knows": (by_proxy(None, REMOTE_USER="admin"), NO_USER),
    "with two users, as gunicorn joins them": (
        by_proxy("kim,admin"),
        "user's header has more than one value",
    ),
    "with a user and a comma": (by_proxy("kim,"), "user's header has more than one value"),
    "with a blank user": (by_proxy(" "), HIDDEN),
    "with blanks around the user": (by_proxy(" kim"), HIDDEN),
    "with a user of two lines": (by_proxy("kim\r\nadmin"), HIDDEN),
    "with a zero byte": (by_proxy("kim\x00"), HIDDEN),
    "with a tab": (by_proxy("kim\tadmin"), HIDDEN),
    "with text that is turned around": (by_proxy(sent("\u202enimda")), HIDDEN),
    "with a zero-width space": (by_proxy(sent("kim\u200b")), HIDDEN),
    "with a user that is not UTF-8": (by_proxy("kim\xff"), "the user's header is not UTF-8"),
    "with a user that is too long": (by_proxy("x" * 256), "the user's header is longer than 255"),
    "with two names": (by_proxy(HTTP_X_FORWARDED_EMAIL="kim,admin"), "name's header has more than one"),
    "with a name of two lines": (
        by_proxy(HTTP_X_FORWARDED_EMAIL="kim\nadmin"),
        "name's header has characters",
    ),
    "with a name that is too long": (by_proxy(HTTP_X_FORWARDED_EMAIL="x" * 256), "name's header is longer"),
    "with a group of two lines": (by_proxy(HTTP_X_FORWARDED_GROUPS="ops\x0badmin"), "a group has characters"),
    "with a group that is too long": (by_proxy(HTTP_X_FORWARDED_GROUPS="x" * 256), "a group is longer than"),
    "with groups that are not UTF-8": (
        by_proxy(HTTP_X_FORWARDED_GROUPS="\xff"),
        "groups' header is not UTF-8",
    ),
}


@pytest.mark.parametrize(("environ", "reason"), PROXY_REFUSED.values(), ids=PROXY_REFUSED)
def test_a_header_that_the_proxy_did_not_write_so_is_refused(environ: dict[str, Any], reason: str) -> None:
    assert reason in refusal(proxy(), environ)


def test_a_refusal_repeats_nothing_that_the_sender_wrote() -> None:
    said = {refusal(proxy(), environ) for environ, _ in PROXY_REFUSED.values()}
    said |= {refusal(alb(), environ) for environ, _ in ALB_REFUSED.values()}

    assert [
        text for text in said if any(word in text for word in ("admin", "kim", SECRET, "8f3a", "\n"))
    ] == []


def test_the_headers_are_named_as_the_settings_say() -> None:
    door = ProxyDoor(["10.0.0.1"], SECRET, "X-Key", "Remote-User", "Remote-Name", "Remote-Groups")
    environ = {
        PEER: "10.0.0.1",
        "HTTP_X_KEY": sent(SECRET),
        "HTTP_REMOTE_USER": "kim",
        "HTTP_REMOTE_NAME": "Kim Lee",
        "HTTP_REMOTE_GROUPS": "ops",
    }
    assert door.identity(environ, NOW) == Identity("proxy|kim", "Kim Lee", "proxy", frozenset({"ops"}), NOW)


def test_the_name_may_come_from_the_users_header() -> None:
    door = ProxyDoor(["10.0.0.1"], SECRET, "X-Key", "X-User", "X-User", "X-Groups")
    environ = {PEER: "10.0.0.1", "HTTP_X_KEY": sent(SECRET), "HTTP_X_USER": "kim"}

    assert door.identity(environ, NOW).name == "kim"


GOOD: dict[str, Any] = {
    "addresses": ["10.0.0.0/8"],
    "secret": SECRET,
    "secret_header": "X-Key",
    "user_header": "X-User",
    "name_header": "X-Name",
    "groups_header": "X-Groups",
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"addresses": ["0.0.0.0/0"]}, "auth.proxy.addresses: a network of all addresses trusts everybody"),
        ({"addresses": ["10.0.0.0/8", "proxy"]}, "auth.proxy.addresses: 'proxy'"),
        ({"secret": ""}, "LOCKBOARD_PROXY_SECRET: is missing"),
        ({"user_header": "X_User"}, "auth.proxy.user_header: must be a header's name"),
        ({"name_header": ""}, "auth.proxy.name_header: must be a header's name"),
        ({"groups_header": "X-Groups: x"}, "auth.proxy.groups_header: must be a header's name"),
        ({"secret_header": "X-Key\n"}, "auth.proxy.secret_header: must be a header's name"),
        ({"secret_header": "x-user"}, "auth.proxy: the same header is named twice"),
        ({"groups_header": "X-User"}, "auth.proxy: the same header is named twice"),
    ],
)
def test_settings_that_would_let_anybody_in_stop_the_start(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"^{complaint}"):
        ProxyDoor(**GOOD | change)


@pytest.mark.parametrize(
    ("url", "location"), [("", HOME), ("https://login.example.com/out", "https://login.example.com/out")]
)
def test_signing_out_goes_where_the_proxy_signs_people_out_else_home(url: str, location: str) -> None:
    answer = proxy(url).sign_out(HOME)

    assert (answer.status_code, answer.location) == (303, location)
    assert answer.headers.getlist("Set-Cookie") == []


def doors() -> WSGIApplication:
    """Both doors behind the middleware, as gunicorn starts them: who came in, or why nobody did."""
    both: tuple[HeaderDoor, ...] = (alb(), proxy(addresses=["127.0.0.2"]))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        said = {}
        for door in both:
            try:
                said[door.method] = door.identity(environ, NOW).subject
            except SignInRefused as error:
                said[door.method] = str(error)
        start_response("200 OK", [])
        return [json.dumps(said).encode()]

    return Forwarded(app, ["127.0.0.2", "127.0.0.3"])


def test_behind_gunicorn_the_proxy_is_believed_and_its_neighbours_are_not() -> None:
    headers = (
        ("X-Lockboard-Proxy-Secret", sent(SECRET)),
        ("X-Forwarded-User", "kim"),
        ("X-Forwarded-For", "127.0.0.2"),
    )
    with gunicorn(app="tests.web.test_header_doors:doors()") as port:
        found = {
            source: ask(port, *headers, source=source)[1]["proxy"]
            for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        }
        twice = ask(port, *headers, ("X-Forwarded-User", "admin"), source="127.0.0.2")[1]["proxy"]
        alike = ask(port, *headers, ("X_Forwarded_User", "admin"), source="127.0.0.2")[0]

    assert found == {
        "127.0.0.1": "the request did not come from the proxy's addresses",
        "127.0.0.2": "proxy|kim",
        "127.0.0.3": "the request did not come from the proxy's addresses",
    }
    assert twice == "the user's header has more than one value"
    assert alike == 400


def test_behind_gunicorn_a_long_token_arrives_and_a_second_one_shows() -> None:
    long = claimed(groups=["x" * 8000])
    with gunicorn("--limit-request-field_size=16380", app="tests.web.test_header_doors:doors()") as port:
        said = [
            ask(port, *(("X-Amzn-Oidc-Data", value) for value in values))[1]["alb"]
            for values in ([long], [token(), token()])
        ]

    assert 10_000 < len(long) < 16_000
    assert said == [
        "x-amzn-oidc-data: the token's signature does not match",  # that process made a key of its own
        "x-amzn-oidc-data: there is more than one token",
    ]
