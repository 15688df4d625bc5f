"""Two thousand hostile texts in every field, through the real way from AWS's answer to every page and file:
the page is made of what it is made of for a harmless text, and every file can be read.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from markupsafe import escape

from lockboard.domain.keys import state_id
from lockboard.domain.text import shown
from tests.hostile.payloads import COUNT, FAMILIES, LARGEST, Payload, payloads, sample
from tests.hostile.skeleton import Bones, NotOurHtml, elements, names_of, skeleton, unfit
from tests.hostile.world import BUCKET, Aws, Rows, client_of, harmless, ids_of, open_world, place
from tests.recovery.house import BACKEND, House

FORMULA = ("=", "+", "-", "@", "\t", "\r")
ALIKE = 37
"""Of so many pages one is read by the standard library's parser as well."""
NEXT = re.compile(r'<a href="([^"]+)" rel="next">')
ROW = re.compile(r'<tr role="row" id="r-([0-9a-f]{16})".*?</tr>\n', re.DOTALL)


@dataclass
class World:
    """The dashboard over all of it. known: what each kind of page is made of where the text is harmless."""

    house: House
    client: FlaskClient
    hostile: Mapping[Payload, Rows]
    harmless: Sequence[Rows]
    known: dict[str, set[Bones]] = field(default_factory=dict)
    read: int = 0

    def page(self, url: str, *fine: int) -> str:
        answer = self.client.get(url, buffered=True)
        assert answer.status_code in (fine or (200,)), (answer.status_code, url, answer.text[:300])
        return answer.text

    def bones(self, url: str) -> Bones:
        """Of a page, in which no character may stand that changes how it reads."""
        text = self.page(url)
        found = skeleton(text)
        assert not unfit(text), (url, unfit(text))
        self.read += 1
        if self.read % ALIKE == 0:
            assert elements(text) == names_of(found)
        return found

    def learn(self, kind: str, urls: Sequence[str]) -> None:
        self.known.setdefault(kind, set()).update(self.bones(url) for url in urls)

    def strange(self, kind: str, url: str) -> bool:
        """Whether the page is made of anything but what it is made of for a harmless text."""
        return self.bones(url) not in self.known[kind]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    aws, found = Aws(), payloads()
    texts = [payload.text for payload in found]
    rows = {
        payload: place(
            aws,
            f"{n:04d}",
            payload.text,
            texts[n + 1 : n + 4] if n % 4 == 0 else (),
            file=n % 4 == 0 or payload.family == "lock record",
        )
        for n, payload in enumerate(found)
    }
    plain = [
        place(aws, f"{first}{n:03d}{file:d}", text, ("x", "y", "z"), file=file)
        for first in "!~"  # before all others and behind them
        for file in (True, False)
        for n, text in enumerate(harmless(texts, f"{first}{file:d}"))
    ]
    house = open_world(tmp_path_factory.mktemp("hostile"), aws)
    reports = [house.refresher.refresh() for _ in range(3)]
    assert reports[-1].complete, reports[-1].error
    assert reports[-1].states == len(aws.deleted) + sum(not key.endswith(".tflock") for key in aws.objects)
    return World(house, client_of(house), rows, plain)


def test_there_are_two_thousand_texts_of_every_family() -> None:
    found = payloads()
    by_family = Counter(payload.family for payload in found)

    assert len({payload.text for payload in found}) == len(found) == COUNT
    assert set(by_family) == set(FAMILIES)
    assert min(by_family.values()) >= 20
    assert max(len(payload.text.encode("utf-8", "surrogatepass")) for payload in found) >= LARGEST
    assert payloads() == found


def test_the_reader_of_pages_refuses_what_no_template_of_ours_writes() -> None:
    for text in (
        "<p>a < b</p>",
        "<P>",
        "<p class=a>",
        "<p class='a'>",
        '<p class="a"onclick="b">',
        '<p onclick="b">',
        '<p style="b">',
        "<!-- c -->",
        "<script",
        '<a href="//evil.example">',
        '<a href="javascript:alert(1)">',
        '<a href="/\\evil.example">',
    ):
        with pytest.raises(NotOurHtml):
            skeleton(text)
    assert skeleton('<p class="a">b</p>') != skeleton('<p class="b">b</p>')
    assert skeleton('<p title="a">b</p>') == skeleton('<p title="b">c</p>')


def test_the_page_of_every_state_is_made_of_the_same_whatever_its_texts(world: World) -> None:
    strange = []
    for at in range(3):
        kind = f"detail {at}"
        world.learn(kind, [f"/s/{ids_of(rows)[at]}" for rows in world.harmless])
        for number, (payload, rows) in enumerate(world.hostile.items()):
            if number % (1, 2, 4)[at]:
                continue
            if world.strange(kind, f"/s/{ids_of(rows)[at]}"):
                strange.append((at, payload.family, payload.text[:80]))
    assert strange == []


def test_every_row_of_every_page_of_the_list_is_made_of_the_same(world: World) -> None:
    plain = {id_ for rows in world.harmless for id_ in ids_of(rows)}
    fine, found, frames = set(), {}, set()
    url: str | None = "/states?view=all"
    while url:
        text = world.page(url)
        assert not unfit(text), url
        for row in ROW.finditer(text):
            bones = skeleton(row[0])
            found[row[1]] = bones
            if row[1] in plain:
                fine.add(bones)
        frames |= set(skeleton(ROW.sub("", text)))
        following = NEXT.search(text)
        url = html.unescape(following[1]) if following else None

    assert len(found) == len(
        {*plain, *(id_ for rows in world.hostile.values() for id_ in ids_of(rows))} & set(found)
    )
    assert len(found) == sum(1 for _ in _states(world))
    assert {id_: bones for id_, bones in found.items() if bones not in fine} == {}
    assert {name for name, _ in frames} <= {
        name for name, _ in skeleton(world.page("/states?view=all&q=a!0"))
    }


def _states(world: World) -> Iterator[Mapping[str, object]]:
    document = json.loads(world.page("/states.json?view=all"))
    yield from document["states"]


def test_the_json_of_all_can_be_read_and_holds_every_key_as_it_is(world: World) -> None:
    keys = [state["raw_key"] for state in _states(world)]
    wanted = {rows.named for rows in world.hostile.values()} | {rows.held for rows in world.hostile.values()}

    assert len(keys) == len(set(keys))
    assert wanted <= set(keys)
    for state in _states(world):
        assert state["id"] == state_id(BACKEND, str(state["raw_key"]))


def test_the_csv_of_all_has_one_line_for_each_key_and_no_cell_that_a_spreadsheet_runs(world: World) -> None:
    text = world.page("/states.csv?view=all")
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    cells = [cell for line in lines[1:] for cell in line]

    assert not unfit(text, "\r\n")
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines) - 1 == sum(1 for _ in _states(world))
    assert [cell for cell in cells if cell.startswith(FORMULA)] == []
    assert sum(cell.startswith("'") for cell in cells) >= 20


def test_what_is_searched_for_is_only_text(world: World) -> None:
    def bones(path: str, name: str, asked: str) -> set[object]:
        answer = world.client.get(path, query_string={name: asked}, buffered=True)
        assert answer.status_code in (200, 303, 404), (answer.status_code, asked)
        if answer.status_code == 303:
            assert re.fullmatch(r"/s/[0-9a-f]{16}", answer.headers["Location"])
            return set()
        return set(skeleton(answer.text))

    words = ("x", "a!000", "a!001/", "nowhere-at-all", "=x", "s3://b/k", f"{BUCKET}/nowhere", "f" * 32, "a b")
    ways = (("/find", "q"), ("/go", "lock"), ("/go", "path"), ("/go", "key"))
    fine = {bone for word in words for path, name in ways for bone in bones(path, name, word)}
    wrong = []
    for number, payload in enumerate(payloads()):
        asked = payload.text[:3000].encode("utf-8", "replace").decode()
        path, name = ways[number % len(ways)]
        if not bones(path, name, asked) <= fine:
            wrong.append((path, payload.family, payload.text[:80], bones(path, name, asked) - fine))
    assert wrong == []


def test_a_filter_of_the_list_is_only_text(world: World) -> None:
    def bones(**asked: str) -> set[object]:
        answer = world.client.get("/states", query_string={"view": "all", **asked}, buffered=True)
        assert answer.status_code in (200, 303, 400), (asked, answer.status_code)
        assert not unfit(answer.text)
        return {name for name, _ in skeleton(answer.text)} if answer.status_code != 303 else set()

    fine = bones(q="a!000") | bones(q="nowhere-at-all") | bones(holder="nobody") | bones(prefix="a!000/")
    for payload in sample(200):
        asked = payload.text[:1000].encode("utf-8", "replace").decode()
        for name in ("q", "holder", "prefix", "status", "backend", "sort", "after"):
            assert bones(**{name: asked}) <= fine, (name, payload)


def test_the_page_that_asks_is_made_of_the_same_whatever_the_texts(world: World) -> None:
    def way(rows: Rows, at: int) -> str:
        id_ = ids_of(rows)[at]
        if at < 2:
            return f"/s/{id_}/unlock"
        offered = re.search(rf'href="(/s/{id_}/restore/[^"]+)"', world.page(f"/s/{id_}"))
        assert offered, world.page(f"/s/{id_}")
        return html.unescape(offered[1])

    strange = []
    for at in range(3):
        kind = f"confirm {at}"
        world.learn(kind, [way(rows, at) for rows in world.harmless])
        for number, (payload, rows) in enumerate(world.hostile.items()):
            if number % 16 == 0 and world.strange(kind, way(rows, at)):
                strange.append((at, payload.family, payload.text[:80]))
    assert strange == []


def test_the_folder_of_the_database_holds_nothing_but_it(world: World) -> None:
    """No text became the name of a file."""
    file = Path(world.house.settings.store_url.removeprefix("sqlite:///"))
    assert {found.name.partition(".db")[0] for found in file.parent.iterdir()} == {file.stem}


def test_a_text_longer_than_is_shown_says_how_much_is_left_out(world: World) -> None:
    longest = max(world.hostile, key=lambda payload: len(payload.text))
    page = world.page(f"/s/{ids_of(world.hostile[longest])[1]}")

    assert escape(shown(longest.text, 4096)[-40:]) in page
    assert len(page) < 150_000
