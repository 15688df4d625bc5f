"""Lines of the list. A page is made of fifty of them, so its rows are written here and not by a template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote_plus

from markupsafe import Markup

from lockboard.domain.inventory import ListRow
from lockboard.web.marks import CONTENT, DISAGREE, Mark, content_mark, effect_mark, lock_mark, tone_of
from lockboard.web.times import NEVER, Moment, Times, size

_PLAIN_LEAVES = frozenset(("terraform.tfstate", "remote"))
_SPECIAL = re.compile(r"[&<>\"']")
_UNREAD = frozenset(("unknown", "state_unreadable"))
"""Of these, what was not seen is not known to be absent."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}


class Line(NamedTuple):
    """One row, ready to print. Texts are not yet escaped; "" means there is nothing to show."""

    id: str
    tone: str
    href: str
    content: Mark
    lock: Mark
    plan: Mark
    backend: str
    before: str
    name: str
    behind: str
    summary: str
    holder: str
    holder_href: str
    operation: str
    since: Moment
    digest: str
    digest_note: str
    written: Moment
    size: str
    late: str


def lines(rows: Iterable[ListRow], times: Times, late: Mapping[str, str]) -> list[Line]:
    """Every row, also one whose fields cannot be used.

    `late` says for each backend that could not be read when its rows were last true.
    """
    return [_any_line(row, times, late.get(row.backend, "")) for row in rows]


def _any_line(row: ListRow, times: Times, late: str) -> Line:
    try:
        return _line(row, times.at(row.locked_since), times.at(row.modified), "", late)
    except (TypeError, ValueError, AttributeError):
        return _bad(row, "")


def table_rows(
    rows: Iterable[ListRow], times: Times, query: str, late: Mapping[str, str], icons: str
) -> Markup:
    """The list's `<tr>` elements, every text escaped; a row whose fields cannot be used is shown as unknown.

    `query` is the list's canonical query string, which links to a key carry along; `icons`: the sprite's URL.
    """
    suffix = f"?{query}" if query else ""
    made = [_any_row(row, times, suffix, late, icons) for row in rows]
    return Markup("".join(made))  # noqa: S704 - escaped piece by piece


def _any_row(row: ListRow, times: Times, suffix: str, late: Mapping[str, str], icons: str) -> str:
    try:
        since, written = times.at(row.locked_since), times.at(row.modified)
        return _kept_row(row, since, written, suffix, late.get(row.backend, ""), icons)
    except (TypeError, ValueError, AttributeError):
        return _table_row(_bad(row, suffix), icons)


@lru_cache(maxsize=4096)
def _kept_row(row: ListRow, since: Moment, written: Moment, suffix: str, late: str, icons: str) -> str:
    """From one page to the next most rows stay as they are, to the minute of their ages."""
    return _table_row(_line(row, since, written, suffix, late), icons)


def _line(row: ListRow, since: Moment, written: Moment, suffix: str, late: str) -> Line:
    before, name, behind = split_key(row.key)
    digest, note = digest_words(row.content, row.digest)
    return Line(
        row.id,
        tone_of(row.rank),
        f"/s/{row.id}{suffix}",
        content_mark(row.content),
        lock_mark(row.lock),
        effect_mark(row.terraform),
        row.backend,
        before,
        name,
        behind,
        row.summary,
        row.holder,
        f"/states?view=all&holder={quote_plus(row.holder, errors='replace')}" if row.holder else "",
        operation_words(row.operation),
        since,
        digest,
        note,
        written,
        size(row.size),
        late,
    )


def _bad(row: ListRow, suffix: str) -> Line:
    return Line(
        str(row.id),
        "unknown",
        f"/s/{row.id}{suffix}",
        content_mark("unknown"),
        lock_mark("unknown"),
        effect_mark("unknown"),
        str(row.backend),
        "",
        str(row.key),
        "",
        "What the store holds of this key cannot be shown. Re-check it.",
        "",
        "",
        "",
        NEVER,
        "",
        "",
        NEVER,
        "",
        "",
    )


def _table_row(line: Line, icons: str) -> str:
    e = escaped
    late = f'<span class="late">as of {e(line.late)}</span>' if line.late else ""
    return (
        f'<tr role="row" id="r-{e(line.id)}" class="row edge-{line.tone}">'
        f'<td role="cell" class="c-state">{_mark(line.content, icons)}{_mark(line.lock, icons)}</td>'
        f'<td role="cell" class="c-key"><a class="key" href="{e(line.href)}">'
        f'<span class="dim">{e(line.before)}</span><b>{e(line.name)}</b>'
        f'<span class="dim">{e(line.behind)}</span></a>'
        f'<span class="why"><span class="backend">{e(line.backend)}</span>{late}{e(line.summary)}</span></td>'
        f'<td role="cell" class="c-plan">{_mark(line.plan, icons)}</td>'
        f'<td role="cell" class="c-held">{_held(line)}</td>'
        f'<td role="cell" class="c-written">{_written(line)}{_digest(line)}</td></tr>\n'
    )


def _mark(mark: Mark, icons: str) -> str:
    return (
        f'<span class="mark tone-{mark.tone}"><svg aria-hidden="true"><use href="{icons}#{mark.icon}"/></svg>'
        f"{escaped(mark.title)}</span>"
    )


def _held(line: Line) -> str:
    held = line.since
    work = f"{escaped(line.operation)}, " if line.operation else ""
    since = (
        f'<b><time class="ago" datetime="{held.iso}" title="{held.long}">{held.age}</time></b> '
        f'<span class="dim">{work}{held.short}</span>'
        if held.iso
        else ""
    )
    if not line.holder:
        return since
    href, holder = escaped(line.holder_href), escaped(line.holder)
    return f'{since}<a href="{href}" title="Everything this holder holds">{holder}</a>'


def _written(line: Line) -> str:
    at = line.written
    if not at.iso:
        return "" if line.content.tone == "unknown" else '<span class="dim">no object</span>'
    return (
        f'<time class="ago" datetime="{at.iso}" title="{at.long}">{at.age}</time> ago '
        f'<span class="dim">{line.size}</span>'
    )


def _digest(line: Line) -> str:
    if line.digest:
        digest = escaped(line.digest).replace("…", "&hellip;")
        return f'<span class="digest"><code>{digest}</code> {line.digest_note}</span>'
    words = {"none": "no digest", "malformed": "digest malformed"}.get(line.digest_note, "")
    return f'<span class="digest">{words}</span>' if words else ""


def escaped(text: str) -> str:
    """As markupsafe does it, at once where there is nothing to escape, as in nearly every text of a list."""
    return text if _SPECIAL.search(text) is None else _SPECIAL.sub(lambda found: _ENTITIES[found[0]], text)


def split_key(key: str) -> tuple[str, str, str]:
    """(folders before, the part that tells it apart, the part behind it).

    `terraform.tfstate` tells nothing apart, the folder above it does. That part is never empty, but of an
    empty key.
    """
    folder, slash, leaf = key.rpartition("/")
    if leaf in _PLAIN_LEAVES or not leaf:
        before, inner, name = folder.rpartition("/")
        if name:
            return before + inner, name, slash + leaf
    return (folder + slash, leaf, "") if leaf else ("", key, "")


def operation_words(operation: str) -> str:
    """`OperationTypeApply` is `apply` to everybody but Terraform."""
    return (
        operation.removeprefix("OperationType").lower()
        if operation.startswith("OperationType")
        else operation
    )


def digest_words(content: str, digest: str) -> tuple[str, str]:
    """(the digest's first characters, what is to be said of it)."""
    if not digest:
        if content == "digest_ignored":
            return "", "malformed"
        return "", "none" if content in CONTENT and content not in _UNREAD else ""
    short = digest if len(digest) <= 10 else f"{digest[:8]}…"
    if content == "ok":
        return short, "matches"
    if content in DISAGREE:
        return short, "does not match"
    return short, "ignored" if content == "digest_ignored" else ""
