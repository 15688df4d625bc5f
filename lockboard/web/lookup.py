"""Finding one state from whatever somebody has at hand: the find page and the stable deep link."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from urllib.parse import quote_plus

from flask import Blueprint, Response, request

from lockboard.domain.inventory import ListRow
from lockboard.domain.keys import split_lock_id
from lockboard.domain.text import shown
from lockboard.services.find import Finding, candidates, understand
from lockboard.web.desk import Desk, answer, favicon, render, see_other
from lockboard.web.rows import lines

SHOWN = 20
"""Rows of the find page."""

LONGEST_PASTE = 65_536
"""Characters of a paste that are looked at; a message of Terraform has 4,000, the log around it more."""

_PASTE = re.compile(
    r"s3://|arn:aws[a-z-]*:s3|https?://|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}(-md5)?$"
    r"|.*(Lock Info:|state lock|expected content|Stored checksum|following value)",
    re.IGNORECASE | re.DOTALL,
)


def looks_pasted(text: str) -> bool:
    """Whether a search is rather an address, an ID or a message than words of a key."""
    return len(text) >= 12 and _PASTE.match(text) is not None


def blueprint(desk: Desk) -> Blueprint:
    """The routes that find."""
    pages = Blueprint("lookup", __name__)

    @pages.route("/find", methods=["GET", "POST"])
    def find() -> Response:
        text = request.values.get("q", "")[:LONGEST_PASTE]
        finding = understand(_unfolded(text)) if text.strip() else Finding()
        return _found(desk, finding, text, 200)

    @pages.get("/go")
    def go() -> Response:
        finding = _named(request.args.to_dict())
        return _found(
            desk,
            finding,
            shown(request.args.get("lock") or request.args.get("path") or request.args.get("key") or ""),
            404,
        )

    return pages


def _unfolded(text: str) -> str:
    """A field of one line swallows the breaks of what is pasted; Terraform's bars say where they were."""
    return text if "\n" in text else text.replace("│", "\n│")


def _named(args: dict[str, str]) -> Finding:
    """What a deep link names: `lock=`, or `bucket=` and `key=`, or `path=` as Terraform prints it."""
    if path := args.get("path"):
        bucket, key = split_lock_id(path) or ("", path)
        return Finding(bucket=bucket, key=key)
    return Finding(bucket=args.get("bucket", ""), key=args.get("key", ""), lock_id=args.get("lock", ""))


def search(desk: Desk, finding: Finding) -> Sequence[ListRow]:
    """The rows a finding means: by address, else by an exact value, else by a part of a name. One more than
    are shown tells that these are not all.
    """
    find = partial(desk.board.find, limit=SHOWN + 1)
    ids = candidates(finding, list(desk.backends.values()))
    if ids and (rows := find(ids=ids)):
        return rows
    if finding.exact and (rows := find(exact=shown(finding.exact))):
        return rows
    return find(fragment=shown(finding.words)) if finding.words else ()


def _found(desk: Desk, finding: Finding, text: str, none_found: int) -> Response:
    snapshot = desk.watch.snapshot()
    rows = search(desk, finding)
    if len(rows) == 1:
        return see_other(f"/s/{rows[0].id}")
    times = desk.times()
    health = desk.health(snapshot, times)
    attention = desk.counted(snapshot)[0].get("attention", 0)
    html = render(
        "find/find.html",
        title="Find · Lockboard",
        icon=favicon(attention),
        attention=attention,
        health=health,
        old_after=int(desk.old_after.total_seconds()),
        text=text if none_found == 200 else "",
        asked_for=_understood(finding),
        more=len(rows) > SHOWN,
        rows=lines(
            rows[:SHOWN],
            times,
            {report.backend: moment.short for report, moment in health.unread if moment.iso},
        ),
        zone=times.zone_name,
        searched=not finding.nothing or bool(text.strip()),
        foreign=_foreign_bucket(desk, finding),
        search_url=f"/states?view=all&q={quote_plus(shown(finding.words), errors='replace')}"
        if finding.words
        else "",
    )
    return answer(html, none_found if not rows and not finding.nothing else 200)


def _understood(finding: Finding) -> list[tuple[str, str]]:
    """What was read out of the paste, for people to check."""
    named = (
        ("Bucket", finding.bucket),
        ("Key", finding.key),
        ("Lock ID", finding.lock_id),
        ("Digest", finding.digest),
        ("Holder", finding.holder),
    )
    return [(name, shown(value, 1100)) for name, value in named if value]


def _foreign_bucket(desk: Desk, finding: Finding) -> str:
    """The bucket that was named and is not configured, "" where it is."""
    mine = {backend.bucket for backend in desk.backends.values()}
    return shown(finding.bucket) if finding.bucket and finding.bucket not in mine else ""
