"""`lockboard demo`: the emulator, a configuration for it, and the dashboard, all of it gone when it ends."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import click

from lockboard.demo.emulator import ANY_KEY, DEAF, Emulator
from lockboard.demo.estate import CLUSTERS, ROWS, Cluster

Serve = Callable[[Path, str, int], int]
"""What `lockboard serve` does with a configuration file, a host and a port; gives the exit status."""

_STALE_AFTER = {"dev-kr": "2h", "dev-us": "2h"}
_PROTECTED = {"prod-kr": ["Prod/*", "payments/*"], "prod-us": ["platform/*", "billing/*"]}
_LOOK_AT = "Prod/terraform/rds/terraform.tfstate"


def run(host: str, port: int, team: bool = True) -> int:
    """Show the demo until Ctrl-C, SIGTERM or SIGHUP, then stop everything and remove its folder.

    This process's environment loses every `AWS_` and `LOCKBOARD_` variable, so that neither a real account
    nor a real database can be reached from a demo.

    Args:
        host: the address that the dashboard listens on.
        port: its port.
        team: whether invented colleagues change the estate all the while.

    Returns:
        the exit status of the dashboard; 0 when it was told to end.

    Raises:
        EmulatorError: the emulator could not be started.
    """
    from lockboard.supervisor import serve  # noqa: PLC0415 -- `show` needs no supervisor

    return show(host, port, team=team, serve=serve, environ=os.environ, say=click.echo)


def show(
    host: str,
    port: int,
    *,
    team: bool,
    serve: Serve,
    environ: MutableMapping[str, str],
    say: Callable[[str], object],
) -> int:
    """`run` with its surroundings as arguments: how to serve, the environment, where words go."""
    _deafen(environ)
    try:
        with (
            _ended_by_signals(),
            TemporaryDirectory(prefix="lockboard-demo-") as folder,
            Emulator.start(datetime.now(UTC), team=team) as emulator,
        ):
            config = Path(folder, "lockboard.toml")
            config.write_text(configuration(emulator.url, Path(folder)), encoding="utf-8")
            say(f"Lockboard's demo: http://{host}:{port}/")
            say(f"{len(ROWS)} invented states. Look at {_LOOK_AT} of prod-kr, deleted by hand. Ctrl-C ends.")
            return serve(config, host, port)
    except KeyboardInterrupt:
        return 0


def configuration(url: str, folder: Path) -> str:
    """A `lockboard.toml` for the estate behind the endpoint `url`, with its database in `folder`."""
    database = {"url": f"sqlite:///{folder.resolve() / 'lockboard.db'}"}
    tables = [
        _table("[database]", database),
        _table("[refresh]", {"every": "5s"}),
        "[actions]\nenabled = true\n",
        _table("[auth]", {"mode": "demo"}),
    ]
    return "\n".join([*tables, *(_table("[[backends]]", _backend(cluster, url)) for cluster in CLUSTERS)])


def _backend(cluster: Cluster, url: str) -> dict[str, object]:
    table = {"dynamodb_table": cluster.table, "dynamodb_endpoint_url": url} if cluster.table else {}
    return {
        "name": cluster.name,
        "bucket": cluster.bucket,
        "region": cluster.region,
        **table,
        "s3_endpoint_url": url,
        "stale_after": _STALE_AFTER.get(cluster.name, "1h"),
        "protected": _PROTECTED.get(cluster.name, []),
    }


def _table(header: str, settings: Mapping[str, object]) -> str:
    """A TOML table; JSON's strings and lists of strings are TOML's."""
    lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items())
    return f"{header}\n{''.join(lines)}"


def _deafen(environ: MutableMapping[str, str]) -> None:
    for name in [name for name in environ if name.startswith(("AWS_", "LOCKBOARD_"))]:
        del environ[name]
    environ.update(DEAF)
    environ.update(AWS_ACCESS_KEY_ID=ANY_KEY, AWS_SECRET_ACCESS_KEY=ANY_KEY)
    environ.update(LOCKBOARD_SECRET_KEY=secrets.token_hex(32), LOCKBOARD_AUDIT_KEY=secrets.token_hex(32))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP unwind as Ctrl-C does, so that nothing is left behind."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
