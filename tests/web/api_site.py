"""The application as programs meet it: over fakes, with API tokens, and closed to whoever has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lockboard.domain.access import Actor, Area, Grant, Role
from lockboard.domain.audit import Entry, Kind
from lockboard.domain.keys import state_id
from lockboard.domain.signin import ApiToken, Approval
from lockboard.web.access import Visitor
from lockboard.web.app import Services, build_app
from lockboard.web.signin import Doorkeeper
from tests.web.audit_fakes import KIM, FakeAudit
from tests.web.entrances import SECRET, nobody_noted
from tests.web.fake_actions import FakeActions
from tests.web.fakes import BACKENDS, NOW, SETTINGS, STORIES, FakeBoard, Recheck, Ticking, estate, report

STALE = state_id("dev-kr", "batch/remote")
LIVE = state_id("dev-kr", "Dev/terraform/eks/terraform.tfstate")
DELETED = state_id("prod-kr", "Prod/terraform/rds/terraform.tfstate")
CRASHED = state_id("prod-kr", "Prod/terraform/iam/terraform.tfstate")

VIEWER, OPERATOR, AUDITOR, NARROW = "lbt_viewer", "lbt_operator", "lbt_auditor", "lbt_narrow"
GRANTS: Mapping[str, Grant] = {
    VIEWER: Grant(Role.VIEWER),
    OPERATOR: Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True),
    AUDITOR: Grant(Role.AUDITOR),
    NARROW: Grant(Role.OPERATOR, Area("dev-kr", "Dev/"), unlock_unsuspected=True),
}
"""What the token of each secret may do."""


class FakeTokens:
    """`ApiTokens` by secret. `over`: secrets that open nothing any more."""

    def __init__(self, grants: Mapping[str, Grant]) -> None:
        self.tokens = {
            secret: ApiToken(
                number,
                secret.removeprefix("lbt_"),
                "kim",
                (grant,),
                NOW,
                NOW + timedelta(days=90),
                None,
                None,
            )
            for number, (secret, grant) in enumerate(grants.items(), start=1)
        }

    def add(
        self, name: str, owner: str, grants: Sequence[Grant], now: datetime, expires_at: datetime
    ) -> tuple[str, ApiToken]:
        number = len(self.tokens) + 1
        made = ApiToken(number, name, owner, tuple(grants), now, expires_at, None, None)
        self.tokens[f"lbt_{number}"] = made
        return f"lbt_{number}", made

    def find(self, secret: str, now: datetime) -> ApiToken | None:
        found = self.tokens.get(secret)
        return None if found is None or found.is_over(now) else found

    def every(self) -> Sequence[ApiToken]:
        return [*self.tokens.values()]

    def revoke(self, number: int, now: datetime) -> ApiToken | None:
        for secret, token in self.tokens.items():
            if token.number == number:
                self.tokens[secret] = replace(token, revoked_at=now)
                return self.tokens[secret]
        return None


@dataclass
class ApiActions(FakeActions):
    """asked: requests for a second person."""

    asked: list[Approval] = field(default_factory=list)

    def requests(self, actor: Actor) -> Sequence[Approval]:
        return self.asked


class Closed:
    """A sign-in that nobody came through."""

    mode = "local"

    def visitor(self, now: datetime) -> Visitor | None:
        return None


class Reader(FlaskClient):
    """Reads every answer to its end, as a server sends it: until then a request counts as being at work."""

    def open(self, *args: Any, **named: Any) -> Any:
        return super().open(*args, **{"buffered": True, **named})


@dataclass
class ApiSite:
    """The application with the handles a test turns."""

    board: FakeBoard
    log: FakeAudit
    actions: ApiActions
    tokens: FakeTokens
    clock: Ticking
    app: Flask

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def get(self, path: str, secret: str = OPERATOR) -> TestResponse:
        return self.client.get(f"/api/v1{path}", headers=bearer(secret))

    def post(self, path: str, body: object, secret: str = OPERATOR) -> TestResponse:
        return self.client.post(f"/api/v1{path}", json=body, headers=bearer(secret))

    def send(self, path: str, data: bytes, kind: str = "application/json") -> TestResponse:
        """Whatever bytes, from the operator."""
        return self.client.post(
            f"/api/v1{path}", data=data, headers={**bearer(OPERATOR), "Content-Type": kind}
        )

    def plan(self, id_: str = STALE, action: str = "force_unlock", /, **fields: Any) -> dict[str, Any]:
        """What the answer to a plan says; it has to be one."""
        answer = self.post(f"/states/{id_}/plans", {"action": action, **fields})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.get_json()
        return found


def bearer(secret: str) -> dict[str, str]:
    """The header of a program with this secret."""
    return {"Authorization": f"Bearer {secret}"}


def api_site(*, acts: bool = True, keeps_log: bool = True) -> ApiSite:
    """Every story of the estate, three records, and the tokens of `GRANTS`."""
    clock = Ticking()
    board = FakeBoard(estate(), [report(name) for name in BACKENDS])
    log, tokens = FakeAudit(clock), FakeTokens(GRANTS)
    for backend, key in (("", ""), ("dev-kr", "Dev/a.tfstate"), ("prod-kr", "app.tfstate")):
        log.append(Entry(Kind.EVENT, "start", KIM, backend=backend, key=key, message="Something happened."))
    actions = ApiActions(board, BACKENDS, log, clock)
    for story in STORIES:
        actions.look(story.seen())
    services = Services(
        board,
        BACKENDS,
        Recheck(board),
        SETTINGS,
        clock,
        timedelta(seconds=15),
        "0.1.0",
        Doorkeeper(Closed(), SECRET, clock, nobody_noted),
        audit=log if keeps_log else None,
        actions=actions.as_actions() if acts else None,
        tokens=tokens,
    )
    app = build_app(services, monotonic=clock.monotonic)
    app.test_client_class = Reader
    return ApiSite(board, log, actions, tokens, clock, app)
