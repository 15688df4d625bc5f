from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from lockboard.domain.errors import AccessDenied, Unreachable
from lockboard.domain.inventory import StateRow
from tests.web.fakes import NOW, OLD, UUID, Web, estate, report, web

OWN = {"Sec-Fetch-Site": "same-origin"}


def named(site: Web, key: str) -> StateRow:
    return next(row for row in site.board.rows.values() if row.key == key)


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def page(site: Web, key: str, query: str = "") -> str:
    return site.client.get(f"/s/{named(site, key).id}{query}").text


@pytest.mark.parametrize("row", estate(), ids=lambda row: f"{row.content}-{row.lock}-{row.key[:12]}")
def test_every_status_has_its_page_with_its_summary(row: StateRow) -> None:
    answer = web().client.get(f"/s/{row.id}")

    assert answer.status_code == 200
    assert row.summary in " ".join(html.unescape(answer.text).split())


def test_a_deleted_state_is_told_the_recommended_way_out_first_and_why_the_other_is_dangerous() -> None:
    text = words(page(web(), "Prod/terraform/rds/terraform.tfstate"))

    restore, remove = (
        text.index("Restore a version recommended"),
        text.index("Remove the digest not recommended"),
    )
    assert restore < remove
    assert (
        "the next apply create every resource a second time" in text
        or "create every resource a second time" in text
    )
    assert f"digest {OLD}" in text or OLD in text
    assert "the digest names this the one to restore" in text
    assert "This Lockboard only reads and changes nothing in AWS" in text
    assert "remove the Digest value stored in the DynamoDB table" in text


def test_a_held_lock_is_shown_with_its_holder_who_is_not_verified_its_id_and_its_clock() -> None:
    text = words(page(web(), "batch/remote"))

    assert "ubuntu@ip-172-31-2-133 claimed, not verified" in text
    assert "4 d 3 h since 2026-11-16 15:00:00 UTC, by the holder's own clock" in text
    assert UUID in text


def test_the_age_of_a_lock_file_is_by_the_clock_of_s3() -> None:
    assert "by S3's clock" in words(page(web(), "env:/pr-502/app.tfstate"))


def test_a_lock_that_cannot_be_read_says_so_and_shows_its_record_folded() -> None:
    text = page(web(), "tools/jenkins.tfstate")

    assert "Nobody can be named" in text
    assert "<details>" in text or "Raw record" not in text


def test_other_locks_of_the_same_holder_are_counted_and_linked() -> None:
    rows = estate()
    stale = next(row for row in rows if row.key == "batch/remote")
    site = web([*rows, replace(stale, id="f" * 16, key="other/remote")])

    assert "The same holder holds 1 other key" in words(page(site, "batch/remote"))
    assert "The same holder holds no other key." in words(page(web(), "batch/remote"))


def test_copy_buttons_carry_the_exact_key_the_lock_id_and_every_command() -> None:
    text = html.unescape(page(web(), "batch/remote"))

    assert 'data-copy="batch/remote"' in text
    assert f'data-copy="{UUID}"' in text
    assert f'data-copy="terraform force-unlock {UUID}"' in text


def test_a_key_that_is_shown_with_escapes_is_not_offered_for_copying() -> None:
    row = next(row for row in estate() if row.key == "app.tfstate")
    odd = replace(row, document={**row.document, "raw_key": "app\u202e.tfstate", "key": "app\\u202e.tfstate"})
    text = web([odd]).client.get(f"/s/{row.id}").text

    assert "Copy key" not in text
    assert "written as escapes" in text
    assert "\u202e" not in text


def test_the_neighbours_are_those_of_the_list_the_page_was_opened_from() -> None:
    site = web()
    text = page(site, "Prod/terraform/vpc/terraform.tfstate", "?view=all&backend=prod-kr&sort=key")
    before = named(site, "Prod/terraform/rds/terraform.tfstate")
    after = named(site, "app.tfstate")

    assert f'href="/s/{before.id}?view=all&amp;backend=prod-kr&amp;sort=key" rel="prev"' in text
    assert f'href="/s/{after.id}?view=all&amp;backend=prod-kr&amp;sort=key" rel="next"' in text
    assert 'href="/states?view=all&amp;backend=prod-kr&amp;sort=key">Back to the list' in text


def test_a_recheck_reads_once_and_comes_back_to_the_page_in_its_list() -> None:
    site = web()
    row = named(site, "cdn/edge.tfstate")
    answer = site.client.post(f"/s/{row.id}/recheck", data={"view": "all", "q": "edge"}, headers=OWN)

    assert site.recheck.asked == [("prod-kr", row.id)]
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/s/{row.id}?view=all&q=edge")


def test_a_recheck_that_is_denied_names_the_permission_and_keeps_what_was_known() -> None:
    site = web()
    site.recheck.error = AccessDenied("s3:GetObjectVersion", "AccessDenied", "not authorized")  # type: ignore[assignment]
    row = named(site, "cdn/edge.tfstate")
    answer = site.client.post(f"/s/{row.id}/recheck", headers=OWN)

    assert answer.status_code == 502
    assert "Missing permission: s3:GetObjectVersion" in words(answer.text)
    assert row.summary in words(answer.text)


def test_a_recheck_without_an_answer_names_no_permission() -> None:
    site = web()
    site.recheck.error = Unreachable("s3:GetObject", "ConnectTimeout", "")  # type: ignore[assignment]
    answer = site.client.post(f"/s/{named(site, 'app.tfstate').id}/recheck", headers=OWN)

    assert "s3:GetObject: ConnectTimeout." in words(answer.text)
    assert "Missing permission" not in answer.text


def test_a_get_never_rechecks() -> None:
    site = web()

    assert site.client.get(f"/s/{named(site, 'app.tfstate').id}/recheck").status_code == 405
    assert site.recheck.asked == []


@pytest.mark.parametrize("missing", sorted(estate()[3].document))
def test_a_document_that_lacks_a_part_still_has_its_page(missing: str) -> None:
    row = estate()[3]
    site = web(
        [replace(row, document={name: part for name, part in row.document.items() if name != missing})]
    )
    answer = site.client.get(f"/s/{row.id}")

    assert answer.status_code == 200
    assert row.summary in words(answer.text)


@pytest.mark.parametrize(
    "part", [None, "text", 5, [], [None], [{}], {"exists": None}, {"present": None}, [["a"]], {"a": {}}]
)
def test_a_document_whose_parts_are_of_another_kind_still_has_its_page(part: object) -> None:
    row = estate()[3]
    document = dict.fromkeys(row.document, part)

    assert web([replace(row, document=document)]).client.get(f"/s/{row.id}").status_code == 200


def test_an_empty_document_is_never_drawn_as_well() -> None:
    row = replace(estate()[3], document={}, content="unknown", lock="unknown", terraform="unknown", rank=3)
    text = web([row]).client.get(f"/s/{row.id}").text

    assert "tone-ok" not in text
    assert "There is no current object." not in text
    assert "There is no digest entry." not in text
    assert "No way out is offered while something is not known" in words(text)


def test_what_was_read_before_an_outage_is_dated() -> None:
    failed = report("prod-kr", complete=False, error="denied", data_at=NOW - timedelta(hours=3))
    site = web(reports=[failed, report("dev-kr"), report("dev-us")])

    assert "What follows was true 2026-11-20 15:00:00 UTC, 3 h ago." in words(page(site, "app.tfstate"))
    assert "could not be read lately" not in page(site, "batch/remote")


def test_the_timeline_is_newest_first_with_both_marks() -> None:
    site = web()
    row = named(site, "app.tfstate")
    site.board.history[row.id] = [
        (NOW - timedelta(hours=1), "ok", "unlocked", ""),
        (NOW - timedelta(hours=2), "ok", "locked", "runner@fv-az881-525"),
    ]
    text = words(page(site, "app.tfstate"))

    assert (
        "2026-11-20 17:00:00 UTC Digest matches Unlocked 2026-11-20 16:00:00 UTC Digest matches Locked"
        in text
    )


def test_a_workspace_and_a_protected_key_are_marked() -> None:
    site = web()

    assert "workspace staging" in words(page(site, "env:/staging/app.tfstate"))
    assert ">protected<" in page(site, "Prod/terraform/vpc/terraform.tfstate")
    assert ">protected<" not in page(site, "app.tfstate")


def test_words_on_the_page_lead_to_their_help() -> None:
    site = web()
    text = page(site, "Prod/terraform/iam/terraform.tfstate")
    anchors = re.findall(r'href="/help#([\w-]+)"', text)
    help_page = site.client.get("/help").text

    assert anchors == ["digest_behind", "crashed_mid_write", "terraform-blocked"]
    assert all(f'id="{anchor}"' in help_page for anchor in anchors)


def strange(site: Web, key: str) -> list[tuple[str, bool]]:
    """Each version's name and whether it is called another lineage's."""
    table = page(site, key).partition("<h2>Versions")[2]
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]
    return [(re.findall(r"<code>([^<]+)</code>", found)[0], "another lineage" in found) for found in rows]


def with_lineages(current: str | None, *lineages: str) -> Web:
    row = next(row for row in estate() if row.key == "cdn/edge.tfstate")
    document = dict(row.document)
    if current is not None:
        document["object"] = {"exists": True, "lineage": current}
    else:
        document["object"] = {"exists": False}
    document["versions"] = [{"version_id": f"v{n}", "lineage": name} for n, name in enumerate(lineages)]
    return web([replace(row, document=document)])


def test_another_lineage_is_one_that_is_not_the_current_object_s_however_many_have_it() -> None:
    site = with_lineages("new", "new", "old", "old", "old")

    assert [odd for _, odd in strange(site, "cdn/edge.tfstate")] == [False, True, True, True]


def test_without_a_current_lineage_the_usual_one_is_that_of_the_newest_version_that_has_one() -> None:
    for current in (None, ""):
        site = with_lineages(current, "", "new", "old", "old")

        assert [odd for _, odd in strange(site, "cdn/edge.tfstate")] == [False, False, True, True]


def test_a_reload_keeps_the_address_and_after_a_failed_recheck_leads_to_the_page_itself() -> None:
    site = web()
    row = named(site, "app.tfstate")
    site.recheck.error = Unreachable("s3:GetObject", "ConnectTimeout", "")  # type: ignore[assignment]
    failed = site.client.post(f"/s/{row.id}/recheck", headers=OWN).text

    assert 'class="ghost reload" href=""' in page(site, "app.tfstate", "?view=all&done=3")
    assert f'class="ghost reload" href="/s/{row.id}' in failed
