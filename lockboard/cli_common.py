"""What several commands need: the settings, an end with words, and who types."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import NoReturn

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
