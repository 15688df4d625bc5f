"""State keys and bodies as people have them: each is found, and none is ever called a mismatch."""

from __future__ import annotations

import pytest

from tests.terraform.board import EXIT_NOTHING_WRONG, look, scan
from tests.terraform.conftest import Stacks
from tests.terraform.expect import agree, assert_terraform
from tests.terraform.proxy import s3_proxy
from tests.terraform.stored import md5

pytestmark = pytest.mark.terraform


def of_bytes(size: int) -> str:
    """A key of exactly `size` bytes in UTF-8, with folders as people have them."""
    folders = "생산/네트워크/" * 40
    while len(folders.encode()) > size - len("terraform.tfstate"):
        folders = folders[:-1]
    return folders + "x" * (size - len((folders + "terraform.tfstate").encode())) + "terraform.tfstate"


KEYS: dict[str, str] = {
    "no suffix": "remote",
    "workspace of another stack": "env:/staging/app.tfstate",
    "spaces": "team a/my app .tfstate",
    "plus": "a+b/c++.tfstate",
    "percent": "a%41/%2F%20.tfstate",
    "query": "a?b&c=d#e.tfstate",
    "quotes": 'it\'s "quoted" `so`.tfstate',
    "markup": "<script>alert(1)</script>.tfstate",
    "backslash": "a\\b.tfstate",
    "dots": "a/../b/./c.tfstate",
    "Korean": "운영/서울/terraform.tfstate",
    "1,016 bytes": of_bytes(1016),
    "1,017 bytes": of_bytes(1017),
    "1,018 bytes": of_bytes(1018),
    "1,024 bytes": of_bytes(1024),
}
KMS_KEY = "arn:aws:kms:us-east-1:000000000000:key/7d0c5356-0f1e-4d2c-8b3a-495867768594"
LARGE = 3 * 1024 * 1024
OPENTOFU = (
    b'{"serial":7,"lineage":"3f0c7d8e-2b1a-4c57-9d1e-6a5b4c3d2e1f","meta":{"key_provider.pbkdf2.k":"eyJzYWx0IjoiQUEifQ=="},'
    b'"encrypted_data":"Zm9yIG5vYm9keSdzIGV5ZXM=","encryption_version":"v0"}'
)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_as_people_have_it_is_found_under_its_own_name(stacks: Stacks, key: str) -> None:
    stack = stacks.make(key)
    stack.apply(network="10.0.0.0/16")

    report = scan(stack)

    assert list(report.verdicts) == [key]
    assert report.verdicts[key].words == ("ok", "unlocked", "works", "ok")
    assert report.rc == EXIT_NOTHING_WRONG
    assert_terraform(stack.plan(), does="works")


def test_a_key_without_suffix_and_table_is_found_by_its_lock_file(stacks: Stacks) -> None:
    stack = stacks.make("remote", table=False, use_lockfile=True)
    stack.apply(network="10.0.0.0/16")

    with stack.holding():
        agree(stack, content="no_digest", lock="locked", terraform="waits", severity="busy")


@pytest.mark.parametrize("prefix", [None, "", "teams/blue"])
def test_every_workspace_is_a_row_of_its_own(stacks: Stacks, prefix: str | None) -> None:
    stack = stacks.make(workspace_key_prefix=prefix)
    stack.apply(network="10.0.0.0/16")
    staging = stack.new_workspace("staging")
    staging.apply(network="10.1.0.0/16")

    verdicts = scan(stack).verdicts

    assert set(verdicts) == {stack.stored.key, staging.stored.key}
    assert {verdict.words for verdict in verdicts.values()} == {("ok", "unlocked", "works", "ok")}
    assert_terraform(staging.plan(), does="works")


def test_a_state_above_5_mib_has_a_multipart_etag_and_still_matches(stacks: Stacks) -> None:
    """terraform_data keeps its input twice, as input and as output."""
    stack = stacks.make()
    stack.apply(network="x" * LARGE)
    head = stack.emulator.s3.head_object(Bucket=stack.bucket, Key=stack.key)
    assert "-" in head["ETag"]
    assert head["ContentLength"] > 5 * 1024 * 1024

    verdict = agree(stack, content="ok", terraform="works", severity="ok")

    assert verdict.object["md5"] == stack.stored.digest()


def test_a_state_encrypted_with_kms_matches_although_its_etag_is_no_md5(stacks: Stacks) -> None:
    """No emulator hides the MD5 of a KMS object as S3 does, so a proxy before it does."""
    with s3_proxy(stacks.emulator.url, opaque_etags=True) as url:
        options = {"encrypt": True, "kms_key_id": KMS_KEY}
        stack = stacks.applied(endpoint=url, options=options)
        head = stack.emulator.s3.head_object(Bucket=stack.bucket, Key=stack.key)
        assert head["ServerSideEncryption"] == "aws:kms"

        verdict = agree(stack, content="ok", terraform="works", severity="ok")

        assert verdict.object["etag"] != verdict.object["md5"]
        assert verdict.object["md5"] == stack.stored.digest()


@pytest.mark.parametrize(("digest", "content"), [("matching", "ok"), ("absent", "no_digest")])
def test_a_state_encrypted_by_opentofu_is_judged_as_opentofu_would(
    stacks: Stacks, digest: str, content: str
) -> None:
    """OpenTofu would go on, and Terraform alone cannot read such a body."""
    stack = stacks.applied()
    stack.stored.put_body(OPENTOFU)
    if digest == "matching":
        stack.stored.put_digest(md5(OPENTOFU))
    else:
        stack.stored.delete_digest()

    assert look(stack).words == (content, "unlocked", "works", "ok")
    run = stack.plan()
    assert_terraform(run, does="fails")
    assert 'does not have a "version" attribute' in run.text


def test_serial_and_lineage_of_an_opentofu_body_stay_readable(stacks: Stacks) -> None:
    stack = stacks.applied()
    stack.stored.put_body(OPENTOFU)
    stack.stored.delete_digest()

    found = look(stack).object

    assert (found["serial"], found["lineage"]) == (7, "3f0c7d8e-2b1a-4c57-9d1e-6a5b4c3d2e1f")


def test_an_opentofu_body_that_its_digest_does_not_name_is_a_mismatch_all_the_same(stacks: Stacks) -> None:
    stack = stacks.applied()
    stack.stored.put_body(OPENTOFU)

    agree(stack, content="manual_edit", terraform="blocked", severity="blocked")
