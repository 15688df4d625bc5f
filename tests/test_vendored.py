from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = [ROOT / "static" / "vendor", ROOT / "tests" / "vendor"]


class Vendored(NamedTuple):
    """One line of a VENDOR.txt: a file of another project and where it came from."""

    folder: Path
    name: str
    package: str
    version: str
    source: str
    licence: str
    licence_text: str
    sha384: str


def listed(folder: Path) -> list[Vendored]:
    lines = (folder / "VENDOR.txt").read_text(encoding="utf-8").splitlines()
    return [Vendored(folder, *line.split()) for line in lines if line and not line.startswith("#")]


EVERY_FILE = [file for folder in FOLDERS for file in listed(folder)]
each_file = pytest.mark.parametrize("file", EVERY_FILE, ids=lambda file: file.name)
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)


@each_file
def test_a_vendored_file_has_the_bytes_that_were_reviewed(file: Vendored) -> None:
    digest = hashlib.sha384((file.folder / file.name).read_bytes()).digest()

    assert file.sha384 == base64.b64encode(digest).decode("ascii")


@each_file
def test_a_vendored_file_has_its_version_in_its_name_so_caches_may_keep_it(file: Vendored) -> None:
    assert f"-{file.version}.min.js" in file.name


@each_file
def test_a_vendored_file_comes_with_its_licence(file: Vendored) -> None:
    assert (file.folder / file.licence_text).read_text(encoding="utf-8").strip()


@each_folder
def test_nothing_lies_in_a_vendor_folder_unlisted(folder: Path) -> None:
    scripts = {path.name for path in folder.iterdir() if not path.name.startswith(("LICENSE", "VENDOR"))}

    assert {file.name for file in listed(folder)} == scripts


def test_the_browser_is_given_htmx_and_its_security_extension_of_one_version() -> None:
    served = {(file.source, file.version) for file in listed(ROOT / "static" / "vendor")}

    assert {("dist/htmx.min.js", "4.0.1"), ("dist/ext/hx-csp.min.js", "4.0.1")} == served


def test_pages_load_a_vendored_script_by_its_hash() -> None:
    page = (ROOT / "templates" / "base.html").read_text(encoding="utf-8")
    named = [file for file in EVERY_FILE if file.folder == FOLDERS[0]]

    assert named
    for file in named:
        assert f'assets["vendor/{file.name}"] }}}}" integrity="sha384-{file.sha384}"' in page
