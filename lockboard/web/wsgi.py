"""The application as gunicorn starts it: settings, store and clients joined to the pages."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time

from flask import Flask

from lockboard import __version__
from lockboard.config import effective, load
from lockboard.services.recheck import Rechecker
from lockboard.services.reconcile import Upkeep
from lockboard.web.app import Services, build_app
from lockboard.web.app import SettingLine as PageSettingLine
from lockboard.web.security import LOOPBACK
from lockboard.wiring import (
    open_actions,
    open_audit,
    open_backends,
    open_store,
    person_at,
    places_of,
    utc_now,
)


def application() -> Flask:
    """Everything opened once, in the worker.

    Raises:
        SettingsError, StoreError: with the setting's name.
        AuditError: the audit log does not take records.
    """
    settings = load(None, os.environ)
    _, _, board = open_store(settings)
    opened = open_backends(settings)
    audit = open_audit(settings, sys.stdout)
    acting = open_actions(settings, opened, board, audit)
    services = Services(
        board=board,
        backends={item.backend.name: item.backend for item in opened},
        recheck=Rechecker(board, places_of(opened), utc_now),
        settings=[PageSettingLine(*line) for line in effective(settings, os.environ)],
        clock=utc_now,
        refresh_every=settings.refresh.every,
        version=__version__,
        who=person_at,
        audit=audit,
        actions=acting[0] if acting else None,
    )
    app = build_app(services, trusted_hosts=[*LOOPBACK, *settings.web.trusted_hosts])
    if audit is not None:
        upkeep = Upkeep(audit, acting[1] if acting else None, time.monotonic, __version__)
        upkeep.start()  # fails here, in words, rather than at the first action
        over = threading.Event()
        threading.Thread(target=upkeep.run, args=(over.wait, _complain), name="upkeep", daemon=True).start()
    gc.collect()
    gc.freeze()  # what is loaded now stays for ever, so collections need not look at it again for each page
    return app


def _complain(text: str) -> None:
    sys.stderr.write(json.dumps({"event": "upkeep", "error": text}) + "\n")
