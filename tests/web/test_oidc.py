from __future__ import annotations

import re
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
import requests
from flask import Flask, redirect, request
from werkzeug.wrappers import Response

from lockboard.domain.access import UNTOLD, Identity
from lockboard.domain.errors import SettingsError
from lockboard.web.doors import RedirectDoor, SignInRefused
from lockboard.web.oidc import OidcDoor
from lockboard.web.oidc_site import OidcClient
from tests.oidc_provider import Defect, Provider, Registered, Someone, provider, serve

NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
SECRET = "a secret of the tests, 32 bytes and more"
CLIENT_SECRET = "client-secret-of-the-tests"
ANNA = {"email": "anna@example.com", "email_verified": True, "groups": ["platform", "on-call"]}


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class KeptAttempts:
    """Attempts in memory."""

    notes: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))

    def count(self, name: str, since: datetime) -> int:
        return sum(moment >= since for moment in self.notes[name])

    def note(self, name: str, now: datetime) -> None:
        self.notes[name].append(now)

    def forget(self, name: str) -> None:
        self.notes.pop(name, None)

    def sweep(self, before: datetime) -> int:
        return 0


class OvertakenAttempts(KeptAttempts):
    """Another replica notes the same, between our note and our count."""

    def note(self, name: str, now: datetime) -> None:
        super().note(name, now)
        super().note(name, now)


class World:
    """A small site that uses the door, the provider, and a browser, all over real HTTP."""

    def __init__(self, home: Provider, clock: Clock) -> None:
        self.home, self.clock = home, clock
        self.attempts = KeptAttempts()
        self.signed_in: list[Identity] = []
        self.refused: list[str] = []
        self.url = ""
        self.app = self._app()
        self.door: RedirectDoor

    def open(self, **settings: Any) -> None:
        """Put a new door in, as a restart or another replica does."""
        monotonic = settings.pop("monotonic", None)
        client = OidcClient(
            **{
                "issuer": self.home.issuer,
                "client_id": "lockboard",
                "client_secret": CLIENT_SECRET,
                "redirect_uri": f"{self.url}/signin/callback",
                **settings,
            }
        )
        extra = {"monotonic": monotonic} if monotonic else {}
        self.door = OidcDoor(client, secret=SECRET, attempts=self.attempts, clock=self.clock, **extra)

    def browser(self) -> requests.Session:
        found = requests.Session()
        found.trust_env = False
        return found

    def way_back(
        self, browser: requests.Session, user: str = "anna", then: str = "/s/1", again: bool = False
    ) -> str:
        """The address with which the provider sends a browser back to us, not yet followed."""
        wanted = {"then": then, **({"again": "yes"} if again else {})}
        answer = browser.get(f"{self.url}/signin", params=wanted, allow_redirects=False)
        while not answer.is_redirect or not self._is_back(answer):
            if answer.is_redirect:
                answer = browser.get(self._next(answer), allow_redirects=False)
            else:
                answer = self._fill_in(browser, answer, user)
        return self._next(answer)

    def sign_in(self, browser: requests.Session, **asked: Any) -> requests.Response:
        return browser.get(self.way_back(browser, **asked), allow_redirects=False)

    def refuses_to_begin(self) -> str:
        answer = self.browser().get(f"{self.url}/signin", allow_redirects=False)
        assert (answer.status_code, self.signed_in) == (502, [])
        return self.refused[-1]

    def _fill_in(self, browser: requests.Session, page: requests.Response, user: str) -> requests.Response:
        assert "<title>Sign in" in page.text, page.text
        then = re.search(r'name="then" value="([^"]*)"', page.text)
        assert then is not None
        filled = {"user": user, "password": f"{user}'s password", "then": unescape(then[1])}
        return browser.post(f"{self.home.issuer}/login", data=filled, allow_redirects=False)

    def _next(self, answer: requests.Response) -> str:
        return urljoin(answer.url, answer.headers["Location"])

    def _is_back(self, answer: requests.Response) -> bool:
        return self._next(answer).startswith(f"{self.url}/signin/callback")

    def _app(self) -> Flask:
        app = Flask("site")
        app.add_url_rule("/signin", view_func=self._begin, endpoint="begin")
        app.add_url_rule("/signin/callback", view_func=self._finish, endpoint="finish")
        return app

    def _begin(self) -> Response | tuple[str, int]:
        try:
            return self.door.begin(request.args.get("then", "/"), again="again" in request.args)
        except SignInRefused as error:
            self.refused.append(str(error))
            return "It did not work.", 502

    def _finish(self) -> Response | tuple[str, int]:
        try:
            identity, path = self.door.finish(self.clock())
        except SignInRefused as error:
            self.refused.append(str(error))
            return "It did not work.", 403
        self.signed_in.append(identity)
        return redirect(path, 303)


@contextmanager
def running(alg: str = "RS256", tls: Path | None = None) -> Iterator[World]:
    clock = Clock()
    with provider(clock, alg, tls) as home:
        world = World(home, clock)
        with serve(world.app) as port:
            world.url = f"http://127.0.0.1:{port}"
            home.people["anna"] = Someone("anna-1", "anna's password", dict(ANNA))
            home.people["ben"] = Someone("ben-2", "ben's password", {"email": "ben@example.com"})
            home.clients["lockboard"] = Registered(
                "lockboard", CLIENT_SECRET, {f"{world.url}/signin/callback"}
            )
            home.secrets.add(CLIENT_SECRET)
            if tls is None:
                world.open()
            yield world
            for reason in world.refused:
                assert reason.isprintable()
                assert not [secret for secret in home.secrets if secret in reason]


@pytest.fixture
def world() -> Iterator[World]:
    with running() as found:
        yield found


def changed(address: str, **values: str | None) -> str:
    """An address with other query parameters; None leaves one out."""
    parts = urlsplit(address)
    query = {name: found[0] for name, found in parse_qs(parts.query).items()}
    kept = {name: value for name, value in {**query, **values}.items() if value is not None}
    return parts._replace(query=urlencode(kept)).geturl()


def follow(world: World, browser: requests.Session, address: str) -> int:
    return browser.get(address, allow_redirects=False).status_code


def test_somebody_who_signs_in_at_the_provider_is_known_with_groups_and_returns_where_they_began(
    world: World,
) -> None:
    answer = world.sign_in(world.browser(), then="/s/1?tab=lock")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/s/1?tab=lock")
    assert world.refused == []
    assert world.signed_in == [
        Identity(
            subject=f"{world.home.issuer}|anna-1",
            name="anna@example.com",
            method="oidc",
            groups=frozenset({"platform", "on-call"}),
            signed_in_at=NOW,
        )
    ]


def test_the_request_asks_for_a_code_with_a_challenge_a_state_and_a_nonce(world: World) -> None:
    world.sign_in(world.browser())

    [asked] = world.home.asked
    assert asked["response_type"] == "code"
    assert asked["scope"] == "openid email profile"
    assert asked["code_challenge_method"] == "S256"
    assert re.fullmatch(r"[\w-]{43}", asked["code_challenge"])
    assert len(asked["nonce"]) == 43
    assert asked["max_age"] == "28800"
    assert "prompt" not in asked
    assert "anna" not in asked["state"]


def test_no_two_requests_share_a_state_a_nonce_or_a_challenge(world: World) -> None:
    browser = world.browser()
    world.sign_in(browser)
    world.sign_in(browser)

    first, second = world.home.asked
    assert not {first[name] for name in ("state", "nonce", "code_challenge")} & set(second.values())


def test_where_somebody_goes_afterwards_cannot_be_read_from_the_state(world: World) -> None:
    address = world.way_back(world.browser(), then="/find?q=prod/network.tfstate")
    [state] = parse_qs(urlsplit(address).query)["state"]

    opened = b64decode(state + "==", altchars=b"-_")
    assert b"network" not in opened
    assert "network" not in address


TOKEN_DEFECTS = {
    Defect.KEYS_REDIRECT: "jwks: the answer leads elsewhere",
    Defect.KEYS_ARE_HUGE: "jwks: the answer is longer than 262144 bytes",
    Defect.KEYS_ARE_NO_SET: "jwks: the answer is no key set",
    Defect.KEYS_AT_NO_ADDRESS: "https://.example.com/jwks: cannot be asked: InvalidURL",
    Defect.KEY_IS_GARBAGE: "the ID token's signature is not the provider's",
    Defect.ALG_NONE: "signed with 'none', which is not accepted",
    Defect.HS256_SECRET: "signed with 'HS256', which is not accepted",
    Defect.HS256_PUBLIC_KEY: "signed with 'HS256', which is not accepted",
    Defect.FOREIGN_KEY: "the ID token's signature is not the provider's",
    Defect.FOREIGN_KEY_IN_HEADER: "the ID token's key 'key-1' is not one of the provider's",
    Defect.UNKNOWN_KEY_ID: "the ID token's key 'key-3' is not one of the provider's",
    Defect.ALTERED: "the ID token's signature is not the provider's",
    Defect.SHORT_KEY: "the provider's key is shorter than 2048 bits",
    Defect.NOT_A_JWT: "the ID token cannot be read",
    Defect.ACCESS_TOKEN_AS_ID_TOKEN: "the token is no ID token but 'at+jwt'",
    Defect.WRONG_ISSUER: "the ID token is of another issuer: 'https://evil.example'",
    Defect.WRONG_AUDIENCE: "the ID token is for another client",
    Defect.NO_AUDIENCE: "the ID token is for another client",
    Defect.SEVERAL_AUDIENCES: "the ID token was given to another client (azp)",
    Defect.OTHER_PARTY: "the ID token was given to another client (azp)",
    Defect.EXPIRED: "the ID token has expired",
    Defect.NO_EXPIRY: "the ID token's exp is missing or is no number",
    Defect.EXPIRY_NOT_A_NUMBER: "the ID token's exp is no time",
    Defect.EXPIRY_IS_TEXT: "the ID token's exp is missing or is no number",
    Defect.ISSUED_IN_FUTURE: "the ID token is of the future (iat)",
    Defect.ISSUED_LONG_AGO: "the ID token is old (iat)",
    Defect.NO_ISSUE_TIME: "the ID token's iat is missing or is no number",
    Defect.NOT_YET_VALID: "the ID token is not valid yet (nbf)",
    Defect.WRONG_NONCE: "the ID token's nonce is missing or is of another sign-in",
    Defect.NO_NONCE: "the ID token's nonce is missing or is of another sign-in",
    Defect.ODD_NONCE: "the ID token's nonce is missing or is of another sign-in",
    Defect.NO_SUBJECT: "the ID token's sub is not 1 to 255 printable characters",
    Defect.EMPTY_SUBJECT: "the ID token's sub is not 1 to 255 printable characters",
    Defect.LONG_SUBJECT: "the ID token's sub is not 1 to 255 printable characters",
    Defect.SUBJECT_OF_TWO_LINES: "the ID token's sub is not 1 to 255 printable characters",
    Defect.WRONG_AT_HASH: "the ID token is of another access token (at_hash)",
    Defect.PROVED_IN_FUTURE: "the person signed in in the future (auth_time)",
    Defect.GROUPS_ARE_AN_OBJECT: "the claim 'groups' is no list of texts",
    Defect.GROUPS_ARE_NUMBERS: "the claim 'groups' is no list of texts",
    Defect.NO_ID_TOKEN: "the provider gave no ID token",
    Defect.TOKENS_ARE_HTML: "token: the answer is no JSON object with tokens",
    Defect.TOKENS_FAIL: "token: the answer is no JSON object with tokens",
    Defect.TOKENS_REDIRECT: "token: the answer leads elsewhere",
    Defect.TOKENS_OF_ANOTHER_TYPE: "token: the token is of another type than Bearer",
    Defect.TOKENS_LAST_FOREVER: "token: the answer is no JSON object with tokens",
    Defect.CODE_IS_ECHOED: "did not take the code: invalid_grant: no code\\x0d\\x0a[hidden] with [hidden]",
    Defect.DECLINES: "the provider signed nobody in: access_denied",
    Defect.ANOTHER_ISSUER_ANSWERS: "the answer is of another issuer: 'https://evil.example'",
    Defect.ISSUER_LEFT_OUT: "the answer does not name its issuer, which the provider always does",
}
BEGIN_DEFECTS = {
    Defect.OTHER_ISSUER_IN_DISCOVERY: "it names another issuer",
    Defect.PLAIN_HTTP_ENDPOINT: "the provider's token_endpoint is not an https address: 'http://idp.example",
    Defect.NO_TOKEN_ENDPOINT: "the provider's token_endpoint is not an https address: 'None'",
    Defect.NO_KNOWN_AUTH_METHOD: "neither client_secret_basic nor client_secret_post",
    Defect.DISCOVERY_REDIRECTS: "openid-configuration: the answer leads elsewhere",
    Defect.DISCOVERY_IS_DEEP: "openid-configuration: the answer is no JSON object",
    Defect.DISCOVERY_IS_HTML: "openid-configuration: the answer is no JSON object",
}
AGAIN_DEFECTS = {
    Defect.STALE_PROOF: "a new sign-in was asked for, and an old one came back (auth_time)",
    Defect.NO_PROOF_TIME: "the provider left auth_time out",
}


def test_every_defect_of_the_provider_is_tried() -> None:
    elsewhere = {Defect.DISCOVERY_IS_SILENT, Defect.USERINFO_OF_ANOTHER}
    assert TOKEN_DEFECTS.keys() | BEGIN_DEFECTS.keys() | AGAIN_DEFECTS.keys() | elsewhere == set(Defect)


@pytest.mark.parametrize("defect", TOKEN_DEFECTS, ids=str)
@pytest.mark.filterwarnings("ignore:Key size should be")
def test_nobody_is_signed_in_when(defect: Defect, world: World) -> None:
    world.home.defects.add(defect)
    answer = world.sign_in(world.browser())

    assert (answer.status_code, world.signed_in) == (403, [])
    [reason] = world.refused
    assert TOKEN_DEFECTS[defect] in reason


@pytest.mark.parametrize("defect", BEGIN_DEFECTS, ids=str)
def test_nobody_is_sent_away_when(defect: Defect, world: World) -> None:
    world.home.defects.add(defect)

    assert BEGIN_DEFECTS[defect] in world.refuses_to_begin()
    assert world.home.asked == []


@pytest.mark.parametrize("defect", AGAIN_DEFECTS, ids=str)
def test_a_new_proof_that_was_asked_for_is_refused_when(defect: Defect, world: World) -> None:
    browser = world.browser()
    world.home.defects.add(defect)
    world.sign_in(browser)
    assert len(world.signed_in) == 1
    answer = world.sign_in(browser, again=True)

    assert (answer.status_code, len(world.signed_in)) == (403, 1)
    [reason] = world.refused
    assert AGAIN_DEFECTS[defect] in reason


def test_a_provider_that_knows_the_person_still_signs_them_in_with_the_time_of_their_proof(
    world: World,
) -> None:
    browser = world.browser()
    world.sign_in(browser)
    world.clock.forward(hours=1)
    world.sign_in(browser)

    assert [identity.signed_in_at for identity in world.signed_in] == [NOW, NOW]


def test_a_new_proof_is_asked_for_and_given(world: World) -> None:
    browser = world.browser()
    world.sign_in(browser)
    world.clock.forward(hours=1)
    world.sign_in(browser, again=True)

    assert (world.home.asked[-1]["prompt"], world.home.asked[-1]["max_age"]) == ("login", "300")
    assert world.signed_in[-1].signed_in_at == NOW + timedelta(hours=1)


def test_a_proof_is_new_for_exactly_as_long_as_is_set(world: World) -> None:
    browser = world.browser()
    in_time = world.way_back(browser, again=True)
    late = world.way_back(browser, again=True)
    world.clock.forward(minutes=5)
    assert follow(world, browser, in_time) == 303
    world.clock.forward(seconds=1)

    assert follow(world, browser, late) == 403
    assert "an old one came back" in world.refused[-1]


def test_a_sign_in_without_a_time_of_proof_is_good_to_look_and_not_to_act(world: World) -> None:
    world.home.defects.add(Defect.NO_PROOF_TIME)
    world.sign_in(world.browser())

    assert world.signed_in[0].signed_in_at == datetime(1970, 1, 1, tzinfo=UTC)


BAD_WAYS_BACK: dict[str, tuple[dict[str, str | None], str]] = {
    "without a state": ({"state": None}, "the answer has no state, or several"),
    "with an empty state": ({"state": ""}, "the answer has no state, or several"),
    "with another state": ({"state": "another"}, "the state is not ours"),
    "with a state of 3,000 characters": ({"state": "x" * 3000}, "the state is longer than any of ours"),
    "with a state in other letters": ({"state": "\u00e9\u4e2d"}, "the state is not ours"),
    "without a code": ({"code": None}, "the answer has no code, or several"),
    "with another code": ({"code": "another"}, "did not take the code: invalid_grant"),
    "of another issuer": ({"iss": "https://evil.example"}, "the answer is of another issuer"),
    "with an error": (
        {"error": "server_error\r\nforged", "error_description": None},
        "the provider signed nobody in: server_error\\x0d\\x0aforged",
    ),
}


@pytest.mark.parametrize("bad", BAD_WAYS_BACK)
def test_nobody_is_signed_in_by_an_answer(bad: str, world: World) -> None:
    values, reason = BAD_WAYS_BACK[bad]
    browser = world.browser()
    status = follow(world, browser, changed(world.way_back(browser), **values))

    assert (status, world.signed_in) == (403, [])
    assert reason in world.refused[0]


@pytest.mark.parametrize("name", ["state", "code", "iss"])
def test_nobody_is_signed_in_by_an_answer_that_says_something_twice(name: str, world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)
    [value] = parse_qs(urlsplit(address).query)[name]

    assert follow(world, browser, f"{address}&{urlencode({name: value})}") == 403
    assert world.signed_in == []


def test_an_altered_state_is_not_ours(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)
    [state] = parse_qs(urlsplit(address).query)["state"]
    other = state[:40] + ("A" if state[40] != "A" else "B") + state[41:]

    assert follow(world, browser, changed(address, state=other)) == 403
    assert world.refused == ["the state is not ours, or is older than 10 minutes"]


def test_an_answer_counts_once(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)

    assert [follow(world, browser, address) for _ in range(3)] == [303, 403, 403]
    assert len(world.signed_in) == 1
    assert world.refused == ["the state was used before"] * 2


def test_an_answer_counts_once_even_if_the_first_came_with_another_code(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)

    assert follow(world, browser, changed(address, code="guessed")) == 403
    assert follow(world, browser, address) == 403
    assert world.refused[-1] == "the state was used before"
    assert world.signed_in == []


def test_an_answer_counts_once_over_all_replicas(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)
    follow(world, browser, address)
    world.open()

    assert follow(world, browser, address) == 403
    assert world.refused == ["the state was used before"]


def test_of_two_answers_at_the_same_time_at_most_one_counts(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)
    world.attempts = OvertakenAttempts()
    world.open()

    assert follow(world, browser, address) == 403
    assert (world.refused, world.signed_in) == (["the state was used before"], [])


def test_one_replica_finishes_what_another_began(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)
    world.open()

    assert follow(world, browser, address) == 303
    assert len(world.signed_in) == 1


def test_a_state_ends_after_ten_minutes(world: World) -> None:
    browser = world.browser()
    in_time, late = world.way_back(browser), world.way_back(browser)
    world.clock.forward(minutes=10)
    assert follow(world, browser, in_time) == 303
    world.clock.forward(seconds=1)

    assert follow(world, browser, late) == 403
    assert world.refused == ["the state is not ours, or is older than 10 minutes"]


def test_an_answer_in_another_browser_signs_nobody_in(world: World) -> None:
    address = world.way_back(world.browser())

    assert follow(world, world.browser(), address) == 403
    assert world.refused == ["the state is of another browser, or this one keeps no cookies"]
    assert world.signed_in == []


def test_an_answer_in_another_browser_that_signs_in_itself_signs_nobody_in(world: World) -> None:
    attacker, victim = world.browser(), world.browser()
    address = world.way_back(attacker, user="ben")
    world.way_back(victim)

    assert follow(world, victim, address) == 403
    assert world.refused == ["the state is of another browser, or this one keeps no cookies"]


def test_an_answer_in_another_browser_does_not_use_the_state_up(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)
    follow(world, world.browser(), address)

    assert follow(world, browser, address) == 303


def test_two_tabs_sign_in_side_by_side(world: World) -> None:
    browser = world.browser()
    first = world.way_back(browser, then="/s/1")
    second = world.way_back(browser, then="/s/2")
    ends = [browser.get(address, allow_redirects=False) for address in (first, second)]

    assert [answer.headers["Location"] for answer in ends] == ["/s/1", "/s/2"]


def test_somebody_elses_code_does_not_fit_our_verifier(world: World) -> None:
    attacker, victim = world.browser(), world.browser()
    [code] = parse_qs(urlsplit(world.way_back(attacker, user="ben")).query)["code"]
    address = changed(world.way_back(victim), code=code)

    assert follow(world, victim, address) == 403
    assert world.refused == ["the provider did not take the code: invalid_grant: Code challenge failed."]
    assert world.signed_in == []


def test_a_code_of_another_client_signs_nobody_in(world: World) -> None:
    world.home.clients["another"] = Registered("another", "s", {f"{world.url}/signin/callback"})
    world.open(client_id="another", client_secret="s")
    browser = world.browser()
    address = world.way_back(browser)
    world.open()

    assert follow(world, browser, address) == 403
    assert world.refused == ["the provider did not take the code: invalid_grant: Invalid 'code' in request."]


@pytest.mark.parametrize("verifier", [None, "x" * 64])
def test_the_provider_of_these_tests_gives_nothing_without_the_verifier(
    verifier: str | None, world: World
) -> None:
    [code] = parse_qs(urlsplit(world.way_back(world.browser())).query)["code"]
    asked = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": f"{world.url}/signin/callback",
        **({"code_verifier": verifier} if verifier else {}),
    }
    answer = world.browser().post(f"{world.home.issuer}/token", data=asked, auth=("lockboard", CLIENT_SECRET))

    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_request", "invalid_grant")


def test_a_wrong_client_secret_signs_nobody_in_and_is_told(world: World) -> None:
    world.open(client_secret="another secret")

    assert world.sign_in(world.browser()).status_code == 403
    assert "the provider did not take the code: invalid_client" in world.refused[0]
    assert "another secret" not in world.refused[0]


@pytest.mark.parametrize("offered", [["client_secret_post"], ["client_secret_basic"], None])
def test_the_client_proves_itself_as_the_provider_offers(offered: list[str] | None, world: World) -> None:
    world.home.auth_methods = offered
    client = world.home.clients["lockboard"]
    client.auth_method = offered[0] if offered else "client_secret_basic"

    assert world.sign_in(world.browser()).status_code == 303


@pytest.mark.parametrize("alg", ["RS512", "PS256", "ES256", "ES384", "Ed25519"])
def test_asymmetric_signatures_are_accepted(alg: str) -> None:
    with running(alg) as world:
        assert world.sign_in(world.browser()).status_code == 303


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_the_older_name_of_ed25519_is_accepted() -> None:
    with running("EdDSA") as world:
        assert world.sign_in(world.browser()).status_code == 303


def test_what_the_provider_says_of_itself_and_its_keys_are_read_once_in_ten_minutes(world: World) -> None:
    browser = world.browser()
    for minutes in (0, 9, 1):
        world.clock.forward(minutes=minutes)
        world.sign_in(browser)

    assert world.home.calls.count("/jwks") == 2
    assert world.home.calls.count("/.well-known/openid-configuration") == 2


def test_keys_that_the_provider_changed_are_found(world: World) -> None:
    browser = world.browser()
    world.sign_in(browser)
    world.clock.forward(seconds=5)
    world.home.rotate()

    assert world.sign_in(browser).status_code == 303
    assert world.home.calls.count("/jwks") == 2


def test_unknown_keys_have_the_keys_read_again_once_in_thirty_seconds(world: World) -> None:
    browser = world.browser()
    world.sign_in(browser)
    world.home.defects.add(Defect.UNKNOWN_KEY_ID)
    read = []
    for seconds in (0, 10, 19, 1):
        world.clock.forward(seconds=seconds)
        world.sign_in(browser)
        read.append(world.home.calls.count("/jwks"))

    assert read == [2, 2, 2, 3]
    assert len(world.signed_in) == 1


def test_a_provider_that_is_down_sends_nobody_away_and_signs_nobody_in(world: World) -> None:
    browser = world.browser()
    address = world.way_back(browser)
    with serve(Flask("gone")) as port:
        pass
    world.open(issuer=f"http://127.0.0.1:{port}")

    assert "no answer" in world.refuses_to_begin()
    assert follow(world, browser, changed(address, iss=f"http://127.0.0.1:{port}")) == 403
    assert "no answer" in world.refused[-1]


def test_a_provider_that_keeps_silent_is_not_waited_for(world: World) -> None:
    world.open(timeout=0.2)
    world.home.defects.add(Defect.DISCOVERY_IS_SILENT)

    assert "openid-configuration: no answer" in world.refuses_to_begin()


def test_a_provider_on_loopback_is_not_asked_through_the_proxy_of_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Flask("gone")) as port:
        pass
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert world.sign_in(world.browser()).status_code == 303


def test_an_answer_that_drips_in_is_given_up(world: World) -> None:
    moments = iter(range(0, 1000, 6))
    world.open(monotonic=lambda: float(next(moments)))

    assert world.refuses_to_begin().endswith("openid-configuration: the answer took longer than 5 s")


def test_a_provider_mends_and_the_next_sign_in_works(world: World) -> None:
    world.home.defects.add(Defect.DISCOVERY_IS_HTML)
    world.refuses_to_begin()
    world.home.defects.clear()

    assert world.sign_in(world.browser()).status_code == 303


def test_e_mail_and_groups_come_from_userinfo_where_the_token_lacks_them(world: World) -> None:
    world.home.separate = True
    world.sign_in(world.browser())

    assert (world.signed_in[0].name, world.signed_in[0].groups) == (
        "anna@example.com",
        frozenset({"platform", "on-call"}),
    )


def test_userinfo_is_not_asked_where_the_token_says_it_all(world: World) -> None:
    world.sign_in(world.browser())

    assert "/userinfo" not in world.home.calls


UNSIGNED_TIMES = ("now", 0, -1, 1e30, float(2**60), "1732200000", None, [1], {"at": 1}, True)


@pytest.mark.parametrize("value", UNSIGNED_TIMES)
def test_when_somebody_signed_in_is_never_taken_from_userinfo(value: Any, world: World) -> None:
    world.home.separate = True
    world.home.defects.add(Defect.NO_PROOF_TIME)
    proved = int(world.clock().timestamp()) if value == "now" else value
    world.home.people["anna"].claims |= {"auth_time": proved}

    assert world.sign_in(world.browser()).status_code == 303
    assert [identity.signed_in_at for identity in world.signed_in] == [UNTOLD]


def test_userinfo_of_somebody_else_signs_nobody_in(world: World) -> None:
    world.home.separate = True
    world.home.defects.add(Defect.USERINFO_OF_ANOTHER)

    assert world.sign_in(world.browser()).status_code == 403
    assert world.refused == ["the userinfo endpoint speaks of somebody else"]


NAMES: dict[str, tuple[dict[str, Any], str]] = {
    "the e-mail address": ({"email": "a@example.com"}, "a@example.com"),
    "no unverified e-mail address": ({"email": "root@example.com", "email_verified": False}, "anna-1"),
    "nor one that is unverified in words": (
        {"email": "root@example.com", "email_verified": "false"},
        "anna-1",
    ),
    "one that is verified in words": ({"email": "a@example.com", "email_verified": "true"}, "a@example.com"),
    "no unverified address under another name": (
        {"email": "root@example.com", "email_verified": False, "preferred_username": "root@example.com"},
        "anna-1",
    ),
    "no user name, which people choose": ({"preferred_username": "anna"}, "anna-1"),
    "no address that people chose as their user name": ({"preferred_username": "root@example.com"}, "anna-1"),
    "the subject where there is nothing else": ({}, "anna-1"),
    "no text of two lines": ({"email": "anna\nroot"}, "anna-1"),
    "no text that reads backwards": ({"email": "anna\u202etoor"}, "anna-1"),
    "no number": ({"email": 5}, "anna-1"),
    "no text of 256 characters": ({"email": "x" * 256}, "anna-1"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_person_is_called_by(case: str, world: World) -> None:
    claims, name = NAMES[case]
    world.home.people["anna"].claims = {"groups": [], **claims}
    world.sign_in(world.browser())

    assert [identity.name for identity in world.signed_in] == [name]


def test_another_claim_can_be_the_name_unless_it_is_an_unverified_address(world: World) -> None:
    world.open(name_claim="upn")
    person = world.home.people["anna"]
    person.claims = {"upn": "anna@corp.example", "email": "a@example.com", "email_verified": False}
    world.sign_in(world.browser())
    person.claims["upn"] = "A@example.com"
    world.sign_in(world.browser())

    assert [identity.name for identity in world.signed_in] == ["anna@corp.example", "anna-1"]


GROUPS: dict[str, tuple[Any, frozenset[str]]] = {
    "a list": (["b", "a", "b"], frozenset({"a", "b"})),
    "a text": ("platform team", frozenset({"platform team"})),
    "an empty list": ([], frozenset()),
    "nothing": (None, frozenset()),
    "a text that cannot be shown": (["a", "a\u200b", "\ud800"], frozenset({"a"})),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups_come_from(case: str, world: World) -> None:
    given, groups = GROUPS[case]
    world.open(groups_claim="cognito:groups")
    world.home.separate = True
    world.home.people["anna"].claims = {"email": "a@example.com", "cognito:groups": given}
    world.sign_in(world.browser())

    assert [identity.groups for identity in world.signed_in] == [groups]


@pytest.mark.parametrize(
    "path", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\nb", "", "/" + "x" * 600]
)
def test_a_path_that_is_not_ours_leads_home(path: str, world: World) -> None:
    answer = world.sign_in(world.browser(), then=path)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


@pytest.mark.parametrize("path", ["/", "/s/0123456789abcdef/unlock?a=b", "/" + "x" * 599])
def test_a_path_of_ours_is_returned_to(path: str, world: World) -> None:
    assert world.sign_in(world.browser(), then=path).headers["Location"] == path


def test_the_longest_way_back_fits_into_the_line_that_the_server_reads(world: World) -> None:
    address = world.way_back(world.browser(), then="/" + "x" * 599)

    assert len(address) < 4094 - 2000, "codes of some providers have 2,000 characters"


def test_over_https_the_cookie_is_for_this_host_alone(world: World) -> None:
    world.open(redirect_uri="https://lockboard.example.com/signin/callback")
    with world.app.test_request_context("/signin", base_url="https://lockboard.example.com"):
        headers = world.door.begin("/", again=False).headers

    assert re.fullmatch(
        r"__Host-lockboard-signin=[\w-]{43}; Expires=[^;]+; Max-Age=600; Secure; HttpOnly; Path=/;"
        r" SameSite=Lax",
        headers["Set-Cookie"],
    )
    assert headers["Cache-Control"] == "no-store"


def test_on_loopback_the_cookie_has_no_prefix_that_asks_for_https(world: World) -> None:
    answer = world.browser().get(f"{world.url}/signin", allow_redirects=False)

    assert re.fullmatch(
        r"lockboard-signin=[\w-]{43}; Expires=[^;]+; Max-Age=600; HttpOnly; Path=/; SameSite=Lax",
        answer.headers["Set-Cookie"],
    )


def test_a_provider_with_a_certificate_of_its_own_is_believed_only_where_that_is_set(tmp_path: Path) -> None:
    with running(tls=tmp_path) as world:
        browser = world.browser()
        browser.verify = str(tmp_path / "ca.pem")
        world.open()
        assert "CERTIFICATE_VERIFY_FAILED" in world.refuses_to_begin()
        world.open(ca_file=tmp_path / "missing.pem")
        assert "missing.pem" in world.refuses_to_begin()
        world.open(ca_file=tmp_path / "ca.pem")

        assert world.sign_in(browser).status_code == 303
        assert world.signed_in[0].subject == f"{world.home.issuer}|anna-1"


CLIENT = OidcClient(
    issuer="https://idp.example.com",
    client_id="lockboard",
    client_secret="s",
    redirect_uri="https://lockboard.example.com/signin/callback",
)
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "an issuer without TLS": ({"issuer": "http://idp.example.com"}, "issuer must be an https address"),
    "an issuer that looks like loopback": ({"issuer": "http://localhost.example.com"}, "issuer must be"),
    "an issuer with a user": ({"issuer": "https://a@idp.example.com"}, "issuer must be an https address"),
    "an issuer that is a file": ({"issuer": "file:///etc/passwd"}, "issuer must be an https address"),
    "a way back without TLS": ({"redirect_uri": "http://lockboard.example.com/x"}, "redirect_uri must be"),
    "a way back that is a path": ({"redirect_uri": "/signin/callback"}, "redirect_uri must be"),
    "no secret": ({"client_secret": ""}, "client_secret must be printable ASCII text"),
    "a secret with a line break": ({"client_secret": "s\n"}, "client_secret must be printable ASCII text"),
    "no openid scope": ({"scopes": ("email",)}, 'scopes must hold "openid"'),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_the_door_does_not_open_with(case: str) -> None:
    values, reason = SETTINGS[case]
    with pytest.raises(SettingsError) as raised:
        replace(CLIENT, **values)

    assert reason in str(raised.value)


def test_the_secret_is_not_shown_with_the_settings() -> None:
    client = replace(CLIENT, client_secret="hush-hush")

    assert "hush-hush" not in repr(client)
    assert "idp.example.com" in repr(client)
