"""Fixtures every room's tests share: an AWS environment that reaches nothing, and the two emulators."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

from tests import needs
from tests.emulators import CREDENTIALS, Emulator, ministack_server, moto_server


@pytest.fixture(scope="session", autouse=True)
def no_real_aws() -> Iterator[None]:
    """Take every AWS setting of the person's shell away and put dummies in their place."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


class _Compiled(BytecodeCache):
    """The templates of every application of this process, each compiled once."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        found = self._kept.get(bucket.key)
        if found is not None:
            bucket.bytecode_from_string(found)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def compiled_templates() -> Iterator[None]:
    """Thousands of tests make an application, and would compile its templates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Flask.jinja_options, "bytecode_cache", _Compiled())
        yield


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """moto, one server for the session."""
    with moto_server(tmp_path_factory.mktemp("moto")) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """MiniStack, one server for the session."""
    with ministack_server(needs.ministack(), tmp_path_factory.mktemp("ministack")) as emulator:
        yield emulator


@pytest.fixture(scope="session", params=["moto", pytest.param("ministack", marks=pytest.mark.ministack)])
def emulator(request: pytest.FixtureRequest) -> Emulator:
    """Each emulator in turn: for everything that must hold on both."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Emulator)
    return found
