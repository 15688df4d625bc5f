from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lockboard.adapters.policies import actor_policy, reader_policy
from lockboard.config import ActionSettings, AuditSettings, BackendSettings, load
from lockboard.domain.diagnose import diagnose
from lockboard.domain.holders import held_locks
from lockboard.domain.locks import Lock, LockStore
from lockboard.domain.model import (
    Action,
    Content,
    Effect,
    History,
    LockStatus,
    Observation,
    Severity,
    StateObject,
    Unread,
    Verdict,
)
from lockboard.domain.plans import Plan, Situation, Wanted, plan_for
from lockboard.domain.words import words_for
from lockboard.web.ways import WAYS
from tests.domain.strategies import NOW, POLICY
from tests.domain.test_diagnose import CONTENT_ROWS, LOCK_ROWS, NEW, OLD, state_body, version
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
        if link.startswith(("http://", "https://", "mailto:")):
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


# ---------------------------------------------------------------- runbook

RUNBOOK = ROOT / "docs" / "runbook"
_PARTS = ["What you see", "Why it happens", "What Terraform does now", "In Lockboard", "What not to do"]
_PARTS_WITH_ACTIONS = [*_PARTS[:4], "Afterwards", "By hand", _PARTS[4]]
_ROW = re.compile(r"^\| \*\*(.+?)\*\* \| (.+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
_BUTTON = re.compile(r"\*\*([^*\n]+…)\*\*")
_IN_THE_VERSIONS = "Restore…"
"""The button of a row of the table of versions."""

every_status = pytest.mark.parametrize("status", [*Content, *LockStatus], ids=repr)


class Offered:
    """One action on one status: everything that plans for it ever do, and how the state's page offers it."""

    def __init__(self) -> None:
        self.remedy, self.recommended = False, False
        self.calls: set[tuple[str, ...]] = set()
        self.typed: set[bool] = set()
        self.serial = False


def situations() -> Iterator[Observation]:
    """Every content of the decision table beside every lock in either store and in both."""
    for row, lockfiles in product(CONTENT_ROWS, (False, True)):
        seen = replace(with_more_versions(row.seen), lockfile_history=lockfiles)
        yield seen
        for lock in LOCK_ROWS:
            for key, (table, file) in product({seen.key, lock.seen.key}, places(lock.seen)):
                yield replace(seen, key=key, table_lock=table, file_lock=file, sibling=lock.seen.sibling)
    for row in LOCK_ROWS:
        for table, file in places(row.seen):
            yield replace(row.seen, table_lock=table, file_lock=file)


def with_more_versions(seen: Observation) -> Observation:
    """With an older version that no digest names, and with a history where an object has none."""
    if isinstance(seen.history, Unread) or (seen.history is None and not isinstance(seen.state, StateObject)):
        return seen
    kept = seen.history.versions if seen.history else (version("v2", NEW, latest=True), version("v1", OLD))
    oldest = version("v0", state_body("0" * 32, 0))
    return replace(seen, history=History((*kept, oldest), seen.history is None or seen.history.complete))


def places(seen: Observation) -> Iterator[tuple[Lock | None | Unread, Lock | None | Unread]]:
    """(table, file): the locks as they are, and a single lock in the other store and in both."""
    yield seen.table_lock, seen.file_lock
    locks = held_locks(seen)
    if len(locks) == 1 and not any(isinstance(part, Unread) for part in (seen.table_lock, seen.file_lock)):
        acquired = locks[0].since
        item = replace(locks[0], store=LockStore.DYNAMODB, acquired=None)
        file = replace(locks[0], store=LockStore.TFLOCK, acquired=acquired)
        yield from ((item, None), (None, file), (item, file))


@cache
def offers() -> Mapping[Content | LockStatus, Mapping[Action, Offered]]:
    """What the domain offers for each status: for one of the content while nobody holds a lock."""
    found: dict[Content | LockStatus, dict[Action, Offered]] = defaultdict(lambda: defaultdict(Offered))
    for seen in situations():
        verdict = diagnose(seen, POLICY, NOW)
        statuses: list[Content | LockStatus] = [verdict.lock]
        if verdict.lock is LockStatus.UNLOCKED:
            statuses.append(verdict.content)
        for remedy, status in product(verdict.remedies, statuses):
            found[status][remedy.action].remedy = True
            found[status][remedy.action].recommended |= remedy.recommended
        for plan, status in product(plans(seen, verdict), statuses):
            offer = found[status][plan.action]
            offer.calls.add(tuple(call.operation for call in plan.calls))
            offer.typed.add(bool(plan.confirm))
            offer.serial |= bool(plan.accept_serial)
    return found


def plans(seen: Observation, verdict: Verdict) -> Iterator[Plan]:
    """Everything that can be asked of one situation and is not refused."""
    table = "locks" if seen.has_table else None
    situation = Situation(seen, verdict, POLICY, NOW, "0" * 16, table, "enabled", "eu-west-1")
    versions = seen.history.versions if isinstance(seen.history, History) else ()
    for action, store in product(Action, ("", *LockStore)):
        restores = action in (Action.RESTORE_VERSION, Action.TAKE_OVER)
        for wanted in ("", *(v.version_id for v in versions if restores)):
            plan = plan_for(Wanted(action, store, wanted), situation)
            if isinstance(plan, Plan):
                yield plan


def page_of(status: Content | LockStatus) -> str | None:
    name = words_for(status).runbook
    return (ROOT / "docs" / name).read_text("utf-8") if name else None


def buttons_of(status: Content | LockStatus) -> dict[Action, str]:
    """The words of the buttons that the state's page shows."""
    return {
        action: _IN_THE_VERSIONS
        if action is Action.RESTORE_VERSION and not offer.remedy
        else WAYS[action].link
        for action, offer in offers()[status].items()
    }


def rows_of(page: str) -> dict[str, tuple[str, ...]]:
    """The rows of a page's table of buttons, by button."""
    return {found[1]: found.groups()[1:] for found in _ROW.finditer(page)}


@every_status
def test_a_runbook_page_is_headed_by_the_title_and_the_name_of_its_status(
    status: Content | LockStatus,
) -> None:
    page = page_of(status)
    if page is None:
        assert status in (Content.OK, LockStatus.UNLOCKED)
        return
    assert f"`{status.value}`" in page
    assert words_for(status).title.lower() in page.lower().splitlines()[0]
    assert "\n**Safe to act?** " in page.partition("\n## ")[0]
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == (_PARTS_WITH_ACTIONS if offers()[status] else _PARTS)


@every_status
def test_a_runbook_page_has_a_row_for_each_action_that_is_offered_and_for_no_other(
    status: Content | LockStatus,
) -> None:
    page = page_of(status)
    if page is not None:
        assert sorted(rows_of(page)) == sorted(buttons_of(status).values())
        named = {button for button in _BUTTON.findall(page) if button != "Undo…"}
        assert named <= {*buttons_of(status).values(), *([_IN_THE_VERSIONS] if "Restor" in page else [])}


@every_status
def test_a_runbook_page_calls_recommended_what_is_and_nothing_else(status: Content | LockStatus) -> None:
    page = page_of(status)
    if page is not None:
        said = set(re.findall(r"\*\*([^*\n]+…)\*\*,[\s]+(?:which[\s]+is[\s]+|the[\s]+)?recommended", page))
        meant = {
            buttons_of(status)[action] for action, offer in offers()[status].items() if offer.recommended
        }
        assert said == meant


@every_status
def test_a_runbook_page_lists_the_calls_of_each_action_in_the_order_of_its_plans(
    status: Content | LockStatus,
) -> None:
    page = page_of(status)
    for action, button in buttons_of(status).items() if page else ():
        assert page is not None
        listed = rows_of(page)[button][1]
        operations = tuple(re.findall(r"`((?:s3|dynamodb):\w+)`", listed))
        planned = offers()[status][action].calls
        if " or " in listed:
            assert {(operation,) for operation in operations} == planned
        else:
            assert operations in planned
            assert all(is_part(one, operations) for one in planned)


def is_part(some: Collection[str], whole: Collection[str]) -> bool:
    """Whether `some` are among the whole, in the same order."""
    left = iter(whole)
    return all(any(call == other for other in left) for call in some)


@every_status
def test_a_runbook_page_says_what_has_to_be_typed(status: Content | LockStatus) -> None:
    page = page_of(status)
    for action, button in buttons_of(status).items() if page else ():
        assert page is not None
        offer, typed = offers()[status][action], rows_of(page)[button][2]
        assert ("the name" in typed) == (True in offer.typed), button
        assert ("nothing more" in typed) == (False in offer.typed), button
        assert "serial" in typed or not offer.serial, button


def test_the_runbook_lists_a_page_for_every_status_and_no_other_page() -> None:
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", (RUNBOOK / "README.md").read_text("utf-8")))
    named = (words_for(status).runbook for status in (*Content, *LockStatus))

    assert listed == {Path(name).name for name in named if name}
    assert listed == {page.name for page in RUNBOOK.glob("*.md")} - {"README.md"}


# ---------------------------------------------------------------- settings


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
    assert set(AuditSettings.model_fields) == settings.audit.model_fields_set
    assert set(ActionSettings.model_fields) == settings.actions.model_fields_set


@pytest.mark.parametrize(
    "name",
    [
        *BackendSettings.model_fields,
        *ActionSettings.model_fields,
        *AuditSettings.model_fields,
        "every",
        "url",
        "trusted_hosts",
    ],
)
def test_configure_describes_every_setting(name: str) -> None:
    assert f"| `{name}` |" in (ROOT / "docs" / "configure.md").read_text("utf-8")


# ---------------------------------------------------------------- permissions

PERMISSIONS = ROOT / "docs" / "permissions.md"
BUCKET = "acme-tfstate"
TABLE = "arn:aws:dynamodb:ap-northeast-2:111122223333:table/terraform-lock"
KMS_KEY = "arn:aws:kms:ap-northeast-2:111122223333:key/11111111-2222-3333-4444-555555555555"
_JSON = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)

both_policies = pytest.mark.parametrize(
    ("make", "heading"),
    [(reader_policy, "The reader's policy"), (actor_policy, "The actor's policy")],
    ids=["reader", "actor"],
)


def printed_policies(heading: str) -> list[Any]:
    """The JSON blocks below a heading of docs/permissions.md, in their order."""
    text = PERMISSIONS.read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    [section] = [found for found in sections if found.startswith(f"{heading}\n")]
    return [json.loads(block) for block in _JSON.findall(section)]


def statements(policy: Any) -> list[Any]:
    found: list[Any] = policy["Statement"]
    return found


def added(more: Any, less: Any) -> list[Any]:
    """The statements of one policy that the other does not have in just this form."""
    return [statement for statement in statements(more) if statement not in statements(less)]


@both_policies
def test_the_policy_on_the_permissions_page_is_the_one_that_the_code_makes(make: Any, heading: str) -> None:
    assert printed_policies(heading)[0] == make(BUCKET, "", TABLE)


@both_policies
def test_the_statement_for_a_kms_key_on_the_permissions_page_is_the_one_that_the_code_makes(
    make: Any, heading: str
) -> None:
    with_key = make(BUCKET, "", TABLE, kms_key_arns=[KMS_KEY])

    assert [printed_policies(heading)[1]] == added(with_key, make(BUCKET, "", TABLE))


@pytest.mark.parametrize(("make", "number"), [(reader_policy, 0), (actor_policy, 1)], ids=["reader", "actor"])
def test_the_statements_for_a_prefix_on_the_permissions_page_are_those_that_the_code_makes(
    make: Any, number: int
) -> None:
    with_prefix = make(BUCKET, "network/", TABLE)

    assert printed_policies("A part of a bucket")[number] == added(with_prefix, make(BUCKET, "", TABLE))


def test_the_permissions_page_names_the_statements_that_a_backend_without_a_table_leaves_out() -> None:
    left_out = [
        statement["Sid"]
        for make in (reader_policy, actor_policy)
        for statement in added(make(BUCKET, "", TABLE), make(BUCKET))
    ]

    [sentence] = re.findall(r"\*\*No lock table\*\* .*?leave out (.*?)\.\n", PERMISSIONS.read_text("utf-8"))
    assert re.findall(r"`(\w+)`", sentence) == left_out


def test_the_permissions_page_explains_every_statement_of_the_actor() -> None:
    rows = re.findall(r"^\| `(\w+)(\.\.\.)?` \|", PERMISSIONS.read_text("utf-8"), re.MULTILINE)
    names = tuple(name for name, cut in rows if not cut)
    starts = tuple(name for name, cut in rows if cut)
    for statement in statements(actor_policy(BUCKET, "", TABLE)):
        assert statement["Sid"] in names or statement["Sid"].startswith(starts), statement["Sid"]
