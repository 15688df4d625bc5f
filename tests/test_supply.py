from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.needs import ROOT
from tests.test_vendored import listed
from tools.audit_deps import NotDone, report
from tools.pins import Pin, container_pins
from tools.sbom import complaint

LOCKED = sorted((ROOT / "requirements").glob("*.txt"))
_FIRST_LINES = re.compile(r"^([a-z0-9.-]+)==([^\s;]+)(?: ; ([^\\\n]*))?", re.MULTILINE)

each_file = pytest.mark.parametrize("file", LOCKED, ids=lambda file: file.name)


@each_file
def test_a_requirements_file_names_no_index_and_no_address(file: Path) -> None:
    text = file.read_text("utf-8")

    assert "://" not in text
    assert re.findall(r"^\s*-(?!-hash=).*", text, re.MULTILINE) == []


@each_file
def test_every_line_of_a_requirements_file_is_one_version_with_its_hashes(file: Path) -> None:
    text = file.read_text("utf-8")
    kept = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    first, hashes = [n for n in kept if not n.startswith(" ")], [n for n in kept if n.startswith(" ")]

    assert first
    assert all(re.fullmatch(r"[a-z0-9.-]+==[^\s;]+( ; .+?)? \\", line) for line in first)
    assert all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)
    assert len([line for line in hashes if not line.endswith("\\")]) == len(first)


# ---------------------------------------------------------------- bill of materials


@cache
def bill(turn: int = 0) -> str:
    """As `make sbom` writes it; another `turn` writes it anew."""
    run = [sys.executable, "-m", "tools.sbom", "/dev/stdout"]
    output = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    return output[: output.rindex("}") + 1]


def components(kind: str) -> list[dict[str, Any]]:
    return [each for each in json.loads(bill())["components"] if each["purl"].startswith(f"pkg:{kind}/")]


def test_the_bill_of_materials_is_valid_cyclonedx_1_6() -> None:
    assert json.loads(bill())["specVersion"] == "1.6"
    assert complaint(bill()) == ""
    assert complaint(bill().replace('"type": "library"', '"type": "thing"')) != ""


def test_the_bill_of_materials_lists_each_pin_of_the_container_and_nothing_else_of_python() -> None:
    text = (ROOT / "requirements" / "container.txt").read_text("utf-8")
    elsewhere = ("win32", "< '3.12'")
    pinned = {
        f"{name}=={version}"
        for name, version, marker in _FIRST_LINES.findall(text)
        if not any(other in marker for other in elsewhere)
    }

    assert {f"{each['name']}=={each['version']}" for each in components("pypi")} == pinned


def test_the_bill_of_materials_has_the_hashes_of_every_pin() -> None:
    told = {each["name"]: [one["content"] for one in each["hashes"]] for each in components("pypi")}

    assert told == {pin.name: list(pin.hashes) for pin in container_pins()}


def test_the_bill_of_materials_names_the_project_and_its_vendored_scripts() -> None:
    vendored = {file.name for file in listed(ROOT / "static" / "vendor")}
    project = json.loads(bill())["metadata"]["component"]

    assert (project["name"], project["type"]) == ("lockboard", "application")
    assert {each["name"] for each in components("npm")} == vendored


def test_the_bill_of_materials_is_the_same_each_time_and_says_nothing_of_where_it_was_made() -> None:
    assert bill(1) == bill(2)
    assert re.findall(r"\w+://[^\"]+", bill()) == ["http://cyclonedx.org/schema/bom-1.6.schema.json"]
    assert str(ROOT) not in bill()
    assert "serialNumber" not in bill()
    assert "timestamp" not in bill()


def test_a_pin_for_another_system_or_python_is_not_in_the_container() -> None:
    text = "\n".join(
        f"{line} \\\n    --hash=sha256:{'0' * 64}"
        for line in (
            "a==1 ; sys_platform == 'win32'",
            "b==1 ; python_full_version < '3.12'",
            "b==2 ; python_full_version >= '3.12'",
            "c==3",
        )
    )

    assert [pin[:2] for pin in container_pins(text, "FROM python:3.12-slim\n")] == [("b", "2"), ("c", "3")]


@pytest.mark.parametrize("line", ["a==1", "a>=1 --hash=sha256:" + "0" * 64, "--index-url there", "a @ there"])
def test_a_line_that_is_no_hashed_pin_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a version with its hashes"):
        container_pins(line, "FROM python:3.12\n")


# ---------------------------------------------------------------- known vulnerabilities

PINS = [Pin("a", "1", ("0" * 64,)), Pin("b", "2", ("1" * 64,))]


def known(pins: Sequence[Pin], **vulns: list[dict[str, Any]]) -> dict[str, Any]:
    """What pip-audit prints."""
    rows = [{"name": pin.name, "version": pin.version, "vulns": vulns.get(pin.name, [])} for pin in pins]
    return {"dependencies": rows, "fixes": []}


def test_packages_without_a_known_vulnerability_pass() -> None:
    assert report(PINS, known) == (0, "None of 2 packages has a known vulnerability.")


def test_a_known_vulnerability_fails_by_its_name() -> None:
    status, words = report(
        PINS, lambda pins: known(pins, b=[{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}])
    )

    assert (status, words.splitlines()[1]) == (1, "b 2: PYSEC-1, mended in 2.1")


def test_an_index_that_knows_none_of_them_is_no_all_clear_and_is_asked_once() -> None:
    asked: list[int] = []

    def mirror(pins: Sequence[Pin]) -> Any:
        asked.append(len(pins))
        return {"dependencies": [{"name": pin.name, "skip_reason": "not found"} for pin in pins]}

    status, words = report(PINS, mirror)

    assert (status, asked) == (2, [1])
    assert words.startswith("NOT DONE: the 2 packages were not checked")


def test_a_package_that_is_left_out_is_no_all_clear() -> None:
    assert report(PINS, lambda pins: known(pins[:1]))[0] == 2


def test_a_service_that_cannot_be_reached_is_said_to_be_so() -> None:
    def unreachable(pins: Sequence[Pin]) -> Any:
        raise NotDone("pip-audit failed: no route to host")

    status, words = report(PINS, unreachable)

    assert status == 2
    assert words.startswith("NOT DONE")
    assert words.endswith("no route to host")
