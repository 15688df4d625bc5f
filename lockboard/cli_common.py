"""What several commands need: the settings, an end with words, and who types."""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from lockboard.config import Settings, load
from lockboard.domain.audit import Person
from lockboard.domain.errors import LockboardError, SettingsError

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (TOML). Without it, LOCKBOARD_CONFIG names one.",
)


class Guarded(click.Group):
    """Commands of which none says more than it knows: status 1 is a finding, so what was not brought to its
    end is 2, whatever kept it from that.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                if sys.stdout:
                    sys.stdout.flush()  # now, while what goes wrong can still be said
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, EOFError, click.Abort):
            fail(LockboardError("stopped before it had ended"))
        except BrokenPipeError:
            _drop_output()
            fail(LockboardError("standard output was closed before all of it was written"))
        except Exception as error:  # noqa: BLE001  a traceback would quote values, and end with status 1
            _drop_output()
            _say_unexpected(error)
            sys.exit(2)


def _drop_output() -> None:
    """Python writes what is left when it ends, and would make a status of its own where it cannot."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_unexpected(error: Exception) -> None:
    from lockboard import logs

    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, error.__traceback__)  # the process speaks in lines of its log
        return
    said = logs.describe(error)
    why = f" ({said['error']})" if said.get("error") else ""
    fail(
        LockboardError(
            f"an error that nobody expected ended this command: {said['exception']}{why} at"
            f" {said['where'][-1]}. If nothing on this machine explains it, report this line"
        )
    )


def fail(error: LockboardError) -> NoReturn:
    """Say why, and end with status 2."""
    for line in str(error).splitlines():
        click.echo(f"lockboard: {line}", err=True)
    sys.exit(2)


def settings_of(path: Path | None, *, acts: bool = False) -> Settings:
    """The settings, or an end that names the wrong one."""
    try:
        return load(path, os.environ, acts=acts)
    except SettingsError as error:
        fail(error)


def typing_person() -> Person:
    """Who runs this command: the user of the operating system."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user ID without a name, as in a container
        name = f"uid {os.getuid()}"
    return Person(name, "command line", "")
