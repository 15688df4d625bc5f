"""The application as gunicorn starts it: settings, store and clients joined to the pages."""

from __future__ import annotations

import gc
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from flask import Flask

from lockboard import __version__, logs
from lockboard.adapters.alb import LoadBalancer, fetcher
from lockboard.config import Settings, effective, load
from lockboard.domain.access import Identity, Rights
from lockboard.domain.audit import Audit, AuditError
from lockboard.domain.errors import SettingsError
from lockboard.domain.ports import Clock
from lockboard.domain.signin import FRESH, Accounts
from lockboard.safety import require_safe
from lockboard.services.actions import Actions
from lockboard.services.recheck import Rechecker
from lockboard.services.reconcile import Upkeep
from lockboard.web.app import Services, build_app
from lockboard.web.app import SettingLine as PageSettingLine
from lockboard.web.doors import HeaderDoor
from lockboard.web.entrances import Cookie, HeaderEntrance, RightsOf, SessionEntrance, noting
from lockboard.web.header_doors import AlbDoor, ProxyDoor
from lockboard.web.oidc import OidcDoor
from lockboard.web.oidc_site import OidcClient
from lockboard.web.security import LOOPBACK
from lockboard.web.signin import Doorkeeper, demo_door
from lockboard.wiring import (
    People,
    open_actions,
    open_audit,
    open_backends,
    open_people,
    open_store,
    places_of,
    utc_now,
)

KEPT_ATTEMPTS = timedelta(hours=1)
"""Longer than anything is counted: failed sign-ins for 15 minutes, used states of OpenID Connect for 20."""

CALLBACK = "/signin/callback"
"""Where an OpenID provider sends people back to."""


def application(*, limited: bool = True) -> Flask:
    """Everything opened once, in the worker. limited: whether requests of one person are counted; benchmarks,
    in which one asks like a thousand, say no.

    Raises:
        SettingsError, StoreError: with the setting's name.
        AuditError: the audit log does not take records, and actions are on.
    """
    logs.configure(sys.stderr, gather=True)
    settings = load(None, os.environ)
    require_safe(settings, None, os.environ)
    _, _, board = open_store(settings)
    opened = open_backends(settings)
    audit = open_audit(settings, sys.stdout)
    people = open_people(settings)
    acting = open_actions(settings, opened, board, audit, approvals=people.approvals)
    services = Services(
        board=board,
        backends={item.backend.name: item.backend for item in opened},
        recheck=Rechecker(board, places_of(opened), utc_now),
        settings=[PageSettingLine(*line) for line in effective(settings, os.environ)],
        clock=utc_now,
        refresh_every=settings.refresh.every,
        version=__version__,
        door=open_door(settings, people, audit),
        audit=audit,
        actions=acting[0] if acting else None,
        tokens=people.tokens,
        second_person=settings.actions.second_person,
        counters=people.rates,
        limited=limited,
    )
    app = build_app(services, trusted_hosts=(*LOOPBACK, *settings.hosts), proxies=settings.in_front)
    if audit is not None:
        reconcile = acting[1] if acting else None
        chores = _chores(people, acting[0] if acting else None)
        upkeep = Upkeep(audit, reconcile, time.monotonic, __version__, chores)
        _begin(upkeep, acts=settings.actions.enabled)
        over = threading.Event()
        threading.Thread(target=upkeep.run, args=(over.wait, _complain), name="upkeep", daemon=True).start()
    gc.collect()
    gc.freeze()  # what is loaded now stays for ever, so collections need not look at it again for each page
    return app


def _begin(upkeep: Upkeep, *, acts: bool) -> None:
    """Record the start. Where nothing can be changed, a log that takes no record hides no state: what has to
    be recorded, such as a sign-in or an export, is refused each time.
    """
    try:
        upkeep.start()
    except AuditError as error:
        if acts:
            raise  # here, in words, rather than at the first action
        _complain(
            f"the audit log: {error}. Until it takes records nobody can sign in, and nothing is exported"
        )


def _chores(people: People, actions: Actions | None) -> list[Callable[[], object]]:
    """What is over is dropped, and requests that nobody approved are ended."""
    return [
        *([actions.expire] if actions else []),
        lambda: people.sessions.sweep(utc_now()),
        lambda: people.attempts.sweep(utc_now() - KEPT_ATTEMPTS),
    ]


def open_door(settings: Settings, people: People, audit: Audit | None, clock: Clock = utc_now) -> Doorkeeper:
    """The way in that the settings choose. Nothing is sent yet.

    Raises:
        SettingsError: none is chosen, or something that it needs is missing.
    """
    mode, secret = settings.auth.mode, settings.secret_key
    if mode == "demo":
        return demo_door(secret or secrets.token_urlsafe(32), utc_now)
    if mode is None or secret is None:
        raise SettingsError("auth.mode: is missing, or LOCKBOARD_SECRET_KEY is: nobody could sign in")
    cookie, note, home = Cookie(settings.secure), noting(audit), (settings.web.public_url or "").rstrip("/")
    keeper = partial(
        Doorkeeper,
        secret=secret,
        clock=clock,
        note=note,
        sessions=people.sessions,
        cookie=cookie,
        attempts=people.attempts,
        home=home,
    )
    if mode == "local":
        entrance = SessionEntrance(mode, people.sessions, _of_account(people.accounts), cookie)
        return keeper(entrance, accounts=people.accounts)
    if mode == "oidc":
        client = _oidc_client(settings, f"{home}{CALLBACK}")
        door = OidcDoor(client, secret=secret, attempts=people.attempts, clock=clock)
        entrance = SessionEntrance(mode, people.sessions, settings.auth.rights, cookie)
        return keeper(entrance, redirect_door=door)
    in_front = _header_door(settings)
    return keeper(
        HeaderEntrance(in_front, people.sessions, settings.auth.rights, cookie, note), header_door=in_front
    )


def _of_account(accounts: Accounts) -> RightsOf:
    """What an account may do now: it may have been disabled since its sign-in."""

    def rights_of(identity: Identity) -> Rights | None:
        found = accounts.find(identity.subject.removeprefix("local|"))
        return None if found is None or found.disabled else Rights(found.grants)

    return rights_of


def _oidc_client(settings: Settings, redirect_uri: str) -> OidcClient:
    found = settings.auth.oidc
    if found is None or settings.oidc_client_secret is None:
        raise SettingsError("auth.oidc: is missing, or LOCKBOARD_OIDC_CLIENT_SECRET is")
    return OidcClient(
        issuer=found.issuer,
        client_id=found.client_id,
        client_secret=settings.oidc_client_secret,
        redirect_uri=redirect_uri,
        scopes=found.scopes,
        name_claim=found.name_claim,
        groups_claim=found.groups_claim,
        ca_file=found.ca_file,
        fresh=FRESH,
    )


def _header_door(settings: Settings) -> HeaderDoor:
    alb, proxy = settings.auth.alb, settings.auth.proxy
    if alb is not None:
        balancer = LoadBalancer(alb.arn, alb.issuer, alb.client_id, fetcher())
        return AlbDoor(balancer.claims, alb.issuer, alb.name_claim, alb.groups_claim)
    if proxy is None or settings.proxy_secret is None:
        raise SettingsError("auth.proxy: is missing, or LOCKBOARD_PROXY_SECRET is")
    return ProxyDoor(
        proxy.addresses,
        settings.proxy_secret,
        proxy.secret_header,
        proxy.user_header,
        proxy.name_header,
        proxy.groups_header,
        proxy.sign_out_url,
    )


def _complain(text: str) -> None:
    logs.get("upkeep").error("upkeep", error=text)
