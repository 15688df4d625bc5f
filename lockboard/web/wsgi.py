"""The application as gunicorn starts it: settings, store and clients joined to the pages."""

from __future__ import annotations

import gc
import os

from flask import Flask

from lockboard import __version__
from lockboard.config import effective, load
from lockboard.services.recheck import Rechecker
from lockboard.web.app import Services, build_app
from lockboard.web.app import SettingLine as PageSettingLine
from lockboard.web.security import LOOPBACK
from lockboard.wiring import open_backends, open_store, utc_now


def application() -> Flask:
    """Everything opened once, in the worker.

    Raises:
        SettingsError, StoreError: with the setting's name.
    """
    settings = load(None, os.environ)
    _, _, board = open_store(settings)
    opened = open_backends(settings)
    ports = {item.backend.name: (item.backend, item.states, item.table) for item in opened}
    services = Services(
        board=board,
        backends={item.backend.name: item.backend for item in opened},
        recheck=Rechecker(board, ports, utc_now),
        settings=[PageSettingLine(*line) for line in effective(settings, os.environ)],
        clock=utc_now,
        refresh_every=settings.refresh.every,
        version=__version__,
    )
    app = build_app(services, trusted_hosts=[*LOOPBACK, *settings.web.trusted_hosts])
    gc.collect()
    gc.freeze()  # what is loaded now stays for ever, so collections need not look at it again for each page
    return app
