"""What a test needs of the machine: there, else skipped with a reason; in CI a missing tool is a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent


def missing(what: str, how: str) -> NoReturn:
    """Skip the test and say how to get `what`; where CI is set, fail instead, so that nothing goes untested
    unseen.
    """
    reason = f"{what} is not on this machine: {how}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def terraform() -> str:
    """Path of a terraform 1.10 or newer executable (`LOCKBOARD_TERRAFORM` names another than the one on
    PATH).
    """
    found = shutil.which(os.environ.get("LOCKBOARD_TERRAFORM", "terraform"))
    return found or missing("terraform", "install Terraform 1.10 or newer and put it on PATH")


def ministack() -> str:
    """Path of the MiniStack executable, which lives in a virtual environment of its own because it pins
    botocore.
    """
    here = os.environ.get("LOCKBOARD_MINISTACK", str(ROOT / ".venv-ministack" / "bin" / "ministack"))
    return shutil.which(here) or missing("MiniStack", "run `make ministack`")


def chromium() -> str:
    """Path of Debian's Chromium or another Chromium/Chrome executable."""
    for name in (os.environ.get("LOCKBOARD_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    missing("Chromium", "install the package `chromium`")
