from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lockboard.config import BackendSettings, load
from lockboard.domain.model import Content, Effect, LockStatus, Severity
from lockboard.domain.words import words_for
from tests.needs import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLE = ROOT / "docs" / "lockboard.example.toml"
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMENTED = re.compile(r"^# (?=[a-z0-9_]+ = |\[\[)", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text("utf-8")):
        if link.startswith(("http://", "https://", "mailto:")) or link.endswith(".png"):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pages
def test_every_shell_block_is_shell(page: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        script = re.sub(r"<[A-Za-z ]+>", "WORD", block)
        run = subprocess.run([bash, "-n"], input=script, text=True, capture_output=True, check=False)
        assert run.returncode == 0, f"{block}\n{run.stderr}"


@pytest.mark.parametrize("status", [*Content, *LockStatus, *Severity, *Effect], ids=repr)
def test_how_it_decides_names_every_status_as_the_pages_do(
    status: Content | LockStatus | Severity | Effect,
) -> None:
    text = (ROOT / "docs" / "how-it-decides.md").read_text("utf-8")
    assert f"`{status.value}`" in text
    if isinstance(status, Content | LockStatus):
        assert f"| `{status.value}` | {words_for(status).title} |" in text


@pytest.mark.parametrize("status", [*Content, *LockStatus], ids=repr)
def test_a_runbook_page_is_headed_by_the_title_and_the_name_of_its_status(
    status: Content | LockStatus,
) -> None:
    words = words_for(status)
    if words.runbook is None:
        return
    text = (ROOT / "docs" / words.runbook).read_text("utf-8")
    assert f"`{status.value}`" in text
    assert words.title.lower() in text.lower().splitlines()[0]
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [
        "What you see",
        "Why it happens",
        "What Terraform does now",
        "What to do",
        "What not to do",
    ]


def test_the_example_file_is_a_configuration() -> None:
    settings = load(EXAMPLE, {})

    assert [backend.name for backend in settings.backends] == ["prod-kr"]


def test_the_example_file_is_one_with_every_comment_taken_away_too(tmp_path: Path) -> None:
    file = tmp_path / "lockboard.toml"
    file.write_text(_COMMENTED.sub("", EXAMPLE.read_text("utf-8")), "utf-8")

    settings = load(file, {})

    assert len(settings.backends) == 2
    named = set(settings.backends[0].model_fields_set)
    assert set(BackendSettings.model_fields) == named


@pytest.mark.parametrize("name", [*BackendSettings.model_fields, "every", "url", "trusted_hosts", "enabled"])
def test_configure_describes_every_setting(name: str) -> None:
    assert f"| `{name}` |" in (ROOT / "docs" / "configure.md").read_text("utf-8")
