from __future__ import annotations

import os
import signal
import tomllib
from pathlib import Path
from urllib.request import urlopen

import pytest

from lockboard.demo.estate import CLUSTERS
from lockboard.demo.run import configuration, show

FAR_AWAY = {
    "AWS_PROFILE": "production",
    "LOCKBOARD_DATABASE_URL": "postgresql://db.example.com/real",
    "LANG": "C",
}


class Dashboard:
    """A `serve` that looks at what it was given, and then does as it is told."""

    def __init__(self, status: int = 0, signal_to_send: signal.Signals | None = None) -> None:
        self.status, self.signal_to_send = status, signal_to_send
        self.folder = Path()
        self.url = ""
        self.answered = 0

    def __call__(self, config: Path, host: str, port: int) -> int:
        self.folder = config.parent
        self.url = tomllib.loads(config.read_text(encoding="utf-8"))["backends"][0]["s3_endpoint_url"]
        with urlopen(self.url, timeout=5) as answer:
            self.answered = answer.status
        if self.signal_to_send:
            os.kill(os.getpid(), self.signal_to_send)
        return self.status


def shown(dashboard: Dashboard, environ: dict[str, str] | None = None) -> tuple[int, list[str]]:
    said: list[str] = []
    found = {} if environ is None else environ
    status = show("127.0.0.1", 8123, team=False, serve=dashboard, environ=found, say=said.append)
    return status, said


def nothing_is_left_of(dashboard: Dashboard) -> bool:
    with pytest.raises(OSError, match="refused"):
        urlopen(dashboard.url, timeout=5)
    return not dashboard.folder.exists()


def test_the_dashboard_finds_the_emulator_and_its_exit_status_is_the_demos() -> None:
    dashboard = Dashboard(status=3)
    status, said = shown(dashboard)
    assert (status, dashboard.answered) == (3, 200)
    assert "http://127.0.0.1:8123/" in said[0]
    assert nothing_is_left_of(dashboard)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_signal_ends_the_demo_and_leaves_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    dashboard = Dashboard(signal_to_send=number)
    status, _ = shown(dashboard)
    assert (status, signal.getsignal(number)) == (0, before)
    assert nothing_is_left_of(dashboard)


def test_the_demo_cannot_reach_a_real_account_or_database() -> None:
    environ = dict(FAR_AWAY)
    shown(Dashboard(), environ)
    assert environ["LANG"] == "C"
    assert environ["AWS_ACCESS_KEY_ID"] == "demo"
    assert not {"AWS_PROFILE", "LOCKBOARD_DATABASE_URL"} & set(environ)


def test_the_configuration_names_every_cluster_and_a_database_in_the_folder(tmp_path: Path) -> None:
    settings = tomllib.loads(configuration("http://127.0.0.1:9", tmp_path))
    assert settings["database"]["url"] == f"sqlite:///{tmp_path}/lockboard.db"
    assert settings["refresh"] == {"every": "5s"}
    assert [backend["name"] for backend in settings["backends"]] == [cluster.name for cluster in CLUSTERS]
    assert [backend.get("dynamodb_table") for backend in settings["backends"]] == [c.table for c in CLUSTERS]
