from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockboard.adapters import fast_pages
from lockboard.adapters.fast_pages import VersionRow, collector_paused, items_of, objects_of, versions_of
from lockboard.domain.ports import TableItem
from tests.stub_aws import (
    WRITTEN,
    Answer,
    Kept,
    StubAws,
    dynamo,
    listing,
    object_row,
    page,
    stub_aws,
    version_listing,
    version_row,
)

ETAG = "49f68a5c8493ec2c0bf489821c21fc3b"


def parsed(answer: Answer, operation: str, *, hooks: bool = True) -> Mapping[str, Any]:
    """What a client makes of one answer."""
    with stub_aws(lambda _: answer) as stub:
        return ask(stub, operation, hooks=hooks)


def ask(stub: StubAws, operation: str, *, hooks: bool = True) -> Mapping[str, Any]:
    client = stub.client("dynamodb" if operation in ("scan", "get_item") else "s3")
    if hooks:
        fast_pages.install(client)
    parameters: dict[str, Any] = {"Bucket": "b", "EncodingType": "url"}
    if operation == "scan":
        parameters = {"TableName": "t"}
    if operation == "get_item":
        parameters = {"TableName": "t", "Key": {"LockID": {"S": "x"}}}
    answer: Mapping[str, Any] = getattr(client, operation)(**parameters)
    return answer


def took_rows(answer: Mapping[str, Any]) -> bool:
    return "Contents" not in answer and "Versions" not in answer and "Items" not in answer


def test_a_page_as_aws_writes_it_is_read_without_botocore_s_rows() -> None:
    answer = parsed(listing([Kept("a b+c/한국.tfstate", size=7), Kept("z")]), "list_objects_v2")
    assert took_rows(answer)
    assert objects_of(answer) == [("a b+c/한국.tfstate", ETAG, 7, WRITTEN), ("z", ETAG, 2, WRITTEN)]
    assert answer["IsTruncated"] is False


def test_the_token_of_a_page_survives_the_cut() -> None:
    answer = parsed(listing([Kept("a")], "1/token+=&<"), "list_objects_v2")
    assert (answer["NextContinuationToken"], answer["IsTruncated"]) == ("1/token+=&<", True)


def test_an_empty_page_has_no_rows() -> None:
    assert objects_of(parsed(listing([]), "list_objects_v2")) == []


KEY, TIME, SIZE = "<Key>a</Key>", f"<LastModified>{WRITTEN}</LastModified>", "<Size>2</Size>"
OWNER = "<Owner><ID>x</ID><DisplayName>y</DisplayName></Owner>"
CHECKSUMS = "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA256</ChecksumAlgorithm>"


@pytest.mark.parametrize(
    "row",
    [
        f"<Contents>{SIZE}{KEY}<ETag>&quot;{ETAG}&quot;</ETag>{TIME}</Contents>",
        f"<Contents><ETag>{ETAG}</ETag>{TIME}{SIZE}{KEY}{OWNER}</Contents>",
        f"<Contents xmlns='x'>{KEY}{TIME}<ETag>{ETAG}</ETag>{SIZE}</Contents>",
    ],
)
def test_elements_in_another_order_are_left_to_botocore_and_read_the_same(row: str) -> None:
    answer = parsed(page("ListBucketResult", [object_row(Kept("0")), row]), "list_objects_v2")
    assert not took_rows(answer)
    assert objects_of(answer) == [("0", ETAG, 2, WRITTEN), ("a", ETAG, 2, WRITTEN)]


@pytest.mark.parametrize(
    "row",
    [
        f'<Contents>\n {KEY}\n {TIME}\n <ETag>"{ETAG}"</ETag>\n {SIZE}\n {OWNER}\n</Contents>\n',
        f"<Contents>{KEY}{TIME}<ETag>&#34;{ETAG}&#34;</ETag>{CHECKSUMS}{SIZE}{OWNER}</Contents>",
    ],
)
def test_white_space_and_further_elements_do_not_slow_a_page_down(row: str) -> None:
    answer = parsed(page("ListBucketResult", [row]), "list_objects_v2")
    assert took_rows(answer)
    assert objects_of(answer) == [("a", ETAG, 2, WRITTEN)]


def test_a_store_that_knows_no_encoding_type_has_its_keys_taken_as_they_are() -> None:
    row = object_row(Kept("x")).replace("<Key>x<", "<Key>a%20b+c&amp;&lt;&#x9;&#10;&quot;\x01<")
    answer = parsed(page("ListBucketResult", [row], encoded=False), "list_objects_v2")
    assert objects_of(answer) == [('a%20b+c&<\t\n"\x01', ETAG, 2, WRITTEN)]


def test_page_elements_between_the_rows_are_not_lost() -> None:
    rows = [object_row(Kept("a")), "<NextContinuationToken>t</NextContinuationToken>", object_row(Kept("b"))]
    answer = parsed(page("ListBucketResult", rows, truncated=True), "list_objects_v2")
    assert answer["NextContinuationToken"] == "t"
    assert [row[0] for row in objects_of(answer)] == ["a", "b"]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_page_cut_short_is_an_error_and_not_a_short_page(keep: float) -> None:
    whole = listing([Kept(f"k{n}") for n in range(20)])
    body = whole.body[: int(len(whole.body) * keep)]
    with pytest.raises(Exception, match=r"500|Unable to parse"):
        parsed(Answer(200, body, whole.headers), "list_objects_v2")


@settings(max_examples=150, deadline=None)
@given(keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), max_size=8))
def test_every_key_comes_back_as_it_went(keys: list[str]) -> None:
    taken: dict[str, Any] = {}
    given_answer = listing([Kept(key) for key in keys])
    response = {"body": given_answer.body, "status_code": 200}
    fast_pages._take_objects(response, taken)
    assert [row[0] for row in objects_of(taken)] == keys


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), cut=st.integers(0, 400))
def test_no_body_makes_a_hook_fail(body: bytes, cut: int) -> None:
    page_body = version_listing([version_row("k", "v", latest=True)]).body
    for hook in fast_pages._HOOKS.values():
        for mangled in (body, page_body[:cut] + body + page_body[cut:], b'{"Items":' + body + b"}"):
            hook({"body": mangled, "status_code": 200}, {})


@pytest.mark.parametrize("items", ["[1]", "7", '[{"LockID": 3}]', '{"a": {}}', '[["LockID"]]'])
def test_items_of_another_shape_are_no_items(items: str) -> None:
    taken: dict[str, Any] = {}
    fast_pages._take_items({"body": f'{{"Items": {items}}}'.encode(), "status_code": 200}, taken)
    assert items_of(taken) is None


def test_versions_and_markers_keep_the_order_of_the_answer() -> None:
    rows = [
        version_row("a b", "v3", latest=True, deleted=True),
        version_row("a b", "v2"),
        version_row("a b", "v1", deleted=True),
        version_row("a b", "v0", size=9),
    ]
    answer = parsed(version_listing(rows, ("a b", "v0")), "list_object_versions")
    assert took_rows(answer)
    assert versions_of(answer) == [
        VersionRow("a b", "v3", True, True, WRITTEN, "", 0),
        VersionRow("a b", "v2", False, False, WRITTEN, ETAG, 2),
        VersionRow("a b", "v1", False, True, WRITTEN, "", 0),
        VersionRow("a b", "v0", False, False, WRITTEN, ETAG, 9),
    ]
    assert answer["NextVersionIdMarker"] == "v0"


def test_versions_with_fields_in_another_order_read_the_same() -> None:
    swapped = (
        f'<Version><ETag>"{ETAG}"</ETag><Size>2</Size><Key>a</Key><VersionId>v</VersionId>'
        f"<IsLatest>true</IsLatest><LastModified>{WRITTEN}</LastModified></Version>"
    )
    answer = parsed(page("ListVersionsResult", [version_row("0", "v"), swapped]), "list_object_versions")
    assert took_rows(answer)
    assert versions_of(answer)[1] == VersionRow("a", "v", True, False, WRITTEN, ETAG, 2)


def test_versions_read_by_botocore_are_the_same_but_for_their_order() -> None:
    rows = [version_row("a", "v2", latest=True, deleted=True), version_row("a+b", "v1")]
    answer = parsed(version_listing(rows), "list_object_versions", hooks=False)
    assert set(versions_of(answer)) == set(versions_of(parsed(version_listing(rows), "list_object_versions")))


def test_attributes_stay_as_dynamodb_writes_them() -> None:
    items = [
        {"LockID": {"S": "b/k"}, "Info": {"B": "eHg="}},
        {"LockID": {"S": "b/k-md5"}, "Digest": {"S": "x"}},
        {"LockID": {"N": "1"}},
        {"Digest": {"S": "x"}},
    ]
    answer = parsed(dynamo({"Items": items, "Count": 4, "LastEvaluatedKey": {"LockID": {"S": "q"}}}), "scan")
    assert items_of(answer) == [
        TableItem("b/k", {"B": "eHg="}, None),
        TableItem("b/k-md5", None, {"S": "x"}),
    ]
    assert answer["LastEvaluatedKey"] == {"LockID": {"S": "q"}}


def scanned(items: str) -> list[TableItem] | None:
    """What the hook makes of a Scan answer with this array."""
    taken: dict[str, Any] = {}
    body = f'{{"Items":[{items}],"Count":1}}'.encode()
    fast_pages._take_items({"body": body, "status_code": 200}, taken)
    return items_of(taken)


@pytest.mark.parametrize(
    "item",
    [
        '{"LockID":{"S":"b/k-md5"},"Digest":{"S":"x"}}',
        '{"Digest":{"S":"x"},"LockID":{"S":"b/k-md5"}}',
        '{ "Digest" : {"S" : "x"}, "LockID" : {"S" : "b/k-md5"} }',
        '{"LockID":{"S":"b\\/k-md5"},"Digest":{"S":"\\u0078"}}',
    ],
)
def test_a_digest_is_the_same_however_the_service_spells_it(item: str) -> None:
    assert scanned(item) == [TableItem("b/k-md5", None, {"S": "x"})]


def test_locks_among_digests_are_read_with_them() -> None:
    digest, lock = (
        '{"LockID":{"S":"b/k-md5"},"Digest":{"S":"x"}}',
        '{"LockID":{"S":"b/k"},"Info":{"S":"{\\"ID\\":1}"}}',
    )
    found = scanned(f"{digest},{lock},{digest.replace('b/k', 'b/l')}")
    assert found is not None
    assert sorted(found) == [
        TableItem("b/k", {"S": '{"ID":1}'}, None),
        TableItem("b/k-md5", None, {"S": "x"}),
        TableItem("b/l-md5", None, {"S": "x"}),
    ]


def test_what_looks_like_a_digest_within_an_attribute_is_part_of_it() -> None:
    inner = '{"LockID":{"S":"b/other-md5"},"Digest":{"S":"x"}}'
    nested = f'{{"LockID":{{"S":"b/k-md5"}},"Digest":{{"M":{inner}}}}}'
    assert scanned(nested) == [TableItem("b/k-md5", None, {"M": json.loads(inner)})]
    told = json.dumps({"LockID": {"S": "b/k"}, "Info": {"S": inner}})
    assert scanned(f"{told},{inner}") == [
        TableItem("b/other-md5", None, {"S": "x"}),
        TableItem("b/k", {"S": inner}, None),
    ]


@settings(max_examples=300)
@given(items=st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_every_digest_comes_back_as_it_went(items: list[tuple[str, str]]) -> None:
    written = [{"LockID": {"S": name}, "Digest": {"S": digest}} for name, digest in items]
    for ascii_only in (False, True):
        text = ",".join(json.dumps(item, ensure_ascii=ascii_only, separators=(",", ":")) for item in written)
        found = scanned(text)
        assert found is not None
        assert sorted(found, key=repr) == sorted(
            (TableItem(name, None, {"S": digest}) for name, digest in items), key=repr
        )


def test_one_item_is_read_the_same_way() -> None:
    info = {"M": {"deep": {"L": [{"NULL": True}]}}}
    answer = parsed(dynamo({"Item": {"LockID": {"S": "b/k"}, "Info": info}}), "get_item")
    assert items_of(answer) == [TableItem("b/k", info, None)]
    assert items_of(parsed(dynamo({}), "get_item")) == []


def test_threads_on_one_client_each_get_their_own_rows() -> None:
    def respond(asked: Any) -> Answer:
        return listing([Kept(f"{asked.query['prefix']}{n}") for n in range(50)])

    wrong: list[str] = []
    with stub_aws(respond) as stub:
        client = stub.client("s3")
        fast_pages.install(client)

        def many(prefix: str) -> None:
            for _ in range(10):
                answer = client.list_objects_v2(Bucket="b", Prefix=prefix, EncodingType="url")
                wrong.extend(row[0] for row in objects_of(answer) if not row[0].startswith(prefix))

        run_together([lambda prefix=prefix: many(prefix) for prefix in "abcdefgh"])  # type: ignore[misc]
    assert wrong == []


def test_installing_twice_takes_the_rows_once() -> None:
    with stub_aws(lambda _: listing([Kept("a")])) as stub:
        client = stub.client("s3")
        fast_pages.install(client)
        fast_pages.install(client)
        assert len(objects_of(client.list_objects_v2(Bucket="b", EncodingType="url"))) == 1


def test_the_collector_is_off_within_and_back_on_after_overlapping_pauses() -> None:
    seen: list[bool] = []
    both_in = threading.Barrier(8)

    def pause() -> None:
        with collector_paused():
            both_in.wait(10)
            seen.append(gc.isenabled())

    assert gc.isenabled()
    run_together([pause] * 8)
    assert (seen, gc.isenabled()) == ([False] * 8, True)


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_back_on_after_a_broken_page() -> None:
    fast_pages._take_items({"body": b"{", "status_code": 200}, {})
    assert gc.isenabled()


def test_an_error_answer_is_left_alone() -> None:
    body = json.dumps({"__type": "X", "Items": []}).encode()
    response: dict[str, Any] = {"body": body, "status_code": 400}
    fast_pages._take_items(response, {})
    assert response["body"] == body


def run_together(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
