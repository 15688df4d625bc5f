"""What `requirements/container.txt` pins, as the container sees it: on Linux, with its Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent
CONTAINER = ROOT / "requirements" / "container.txt"

_PYTHON = re.compile(r"^FROM python:(\d+\.\d+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)\s*(?:;\s*(.+?))?\s*\Z")


class Pin(NamedTuple):
    """One package at one version, and the SHA-256 of each file of it that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """As a line of a requirements file."""
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash=sha256:{found}" for found in self.hashes)]
        )


def container_pins(requirements: str | None = None, dockerfile: str | None = None) -> list[Pin]:
    """Every pin whose marker holds in the container. Raises ValueError for what is no hashed pin."""
    text = CONTAINER.read_text("utf-8") if requirements is None else requirements
    environment = _environment(dockerfile or (ROOT / "Dockerfile").read_text("utf-8"))
    pins = []
    for entry in _entries(text):
        hashes = tuple(_HASH.findall(entry))
        found = _PIN.match(_HASH.sub("", entry).strip())
        if found is None or not hashes:
            raise ValueError(f"not a version with its hashes: {entry[:80]}")
        name, version, marker = found.groups()
        if marker is None or Marker(marker).evaluate(environment):
            pins.append(Pin(name, version, hashes))
    return pins


def _entries(text: str) -> list[str]:
    """The logical lines, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [entry.strip() for entry in lines.replace("\\\n", " ").splitlines() if entry.strip()]


def _environment(dockerfile: str) -> dict[str, str]:
    found = _PYTHON.search(dockerfile)
    if found is None:
        raise ValueError("the Dockerfile names no Python")
    return {
        "python_version": found[1],
        "python_full_version": f"{found[1]}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
