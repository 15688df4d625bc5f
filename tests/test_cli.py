"""The commands as somebody types them, against emulators."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result

from lockboard.cli import main
from tests.emulators import REGION, Emulator

STATE = json.dumps(
    {
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": 3,
        "lineage": "5c6c2b1e-0d0f-4f0e-9a55-2f6f1d5e7a10",
        "outputs": {},
        "resources": [],
        "check_results": None,
    }
)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def settings(folder: Path, emulator: Emulator, bucket: str, table: str | None = None) -> str:
    lines = [
        "[[backends]]",
        'name = "only"',
        f'bucket = "{bucket}"',
        f'region = "{REGION}"',
        f's3_endpoint_url = "{emulator.url}"',
        f'dynamodb_endpoint_url = "{emulator.url}"',
    ]
    if table:
        lines.append(f'dynamodb_table = "{table}"')
    path = folder / "lockboard.toml"
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def put_state(emulator: Emulator, bucket: str, table: str, key: str, digest: str | None = None) -> None:
    emulator.s3.put_object(Bucket=bucket, Key=key, Body=STATE.encode())
    md5 = digest or hashlib.md5(STATE.encode(), usedforsecurity=False).hexdigest()
    emulator.dynamodb.put_item(
        TableName=table, Item={"LockID": {"S": f"{bucket}/{key}-md5"}, "Digest": {"S": md5}}
    )


def test_a_healthy_estate_is_exit_status_0_and_the_contract_has_its_names(
    emulator: Emulator, tmp_path: Path
) -> None:
    bucket, table = emulator.make_bucket(versioned=True), emulator.make_table()
    put_state(emulator, bucket, table, "remote")
    result = run(
        "scan", "--config", settings(tmp_path, emulator, bucket, table), "--format", "json", "--settle", "1"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found) == ["generated_at", "backends", "states"]
    (backend,) = found["backends"]
    assert backend["requests"] == {"list": 1, "scan": 1, "get": 0, "versions": 0}
    assert (backend["complete"], backend["error"], backend["states"]) == (True, None, 1)
    (state,) = found["states"]
    contract = {
        "id",
        "backend",
        "bucket",
        "key",
        "severity",
        "content",
        "lock",
        "terraform",
        "summary",
        "object",
    }
    contract |= {"digest", "locks", "remedies", "checked_at"}
    assert contract <= set(state)
    assert {"exists", "version_id", "etag", "size", "last_modified", "md5", "serial", "lineage"} <= set(
        state["object"]
    )
    assert {"present", "valid", "value"} <= set(state["digest"])
    assert (state["content"], state["lock"], state["terraform"]) == ("ok", "unlocked", "works")


def test_something_wrong_is_exit_status_1_and_the_table_says_what(emulator: Emulator, tmp_path: Path) -> None:
    bucket, table = emulator.make_bucket(versioned=True), emulator.make_table()
    put_state(emulator, bucket, table, "a.tfstate")
    put_state(emulator, bucket, table, "b.tfstate", digest="0" * 32)
    result = run("scan", "--config", settings(tmp_path, emulator, bucket, table), "--settle", "1")
    assert result.exit_code == 1, result.output
    assert "blocked   digest_unknown / unlocked  only  b.tfstate" in result.stdout
    assert "a.tfstate" not in result.stdout
    assert "1 listed, 1 healthy or busy not listed" in result.stdout


def test_a_bucket_that_does_not_exist_is_exit_status_2_and_named(emulator: Emulator, tmp_path: Path) -> None:
    config = settings(tmp_path, emulator, "there-is-no-such-bucket")
    result = run("scan", "--config", config, "--format", "json", "--settle", "1")
    assert result.exit_code == 2
    (backend,) = json.loads(result.stdout)["backends"]
    assert backend["complete"] is False
    assert "NoSuchBucket" in backend["error"]


def test_a_hostile_holder_cannot_steer_the_terminal(moto: Emulator, tmp_path: Path) -> None:
    bucket, table = moto.make_bucket(versioned=True), moto.make_table()
    put_state(moto, bucket, table, "a.tfstate")
    info = {"ID": "x", "Who": "\x1b[31mroot\u202e", "Created": "2020-01-01T00:00:00Z", "Operation": "\x1b]0;"}
    item = {"LockID": {"S": f"{bucket}/a.tfstate"}, "Info": {"S": json.dumps(info)}}
    moto.dynamodb.put_item(TableName=table, Item=item)
    result = run("scan", "--config", settings(tmp_path, moto, bucket, table), "--settle", "1", "--all")
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "\\x1b[31mroot\\u202e" in result.output


def test_check_prints_each_permission_versioning_and_the_clock(emulator: Emulator, tmp_path: Path) -> None:
    bucket, table = emulator.make_bucket(versioned=True), emulator.make_table()
    put_state(emulator, bucket, table, "a.tfstate")
    result = run("check", "--config", settings(tmp_path, emulator, bucket, table))
    assert result.exit_code == 0, result.output
    assert "ok      s3:GetObjectVersion            read a.tfstate" in result.stdout
    assert "ok      dynamodb:Scan                  items found" in result.stdout
    assert "versioning: enabled" in result.stdout
    assert "clock: " in result.stdout


def test_check_tries_the_writes_of_actions_only_where_they_are_switched_on(
    emulator: Emulator, tmp_path: Path
) -> None:
    bucket, table = emulator.make_bucket(versioned=True), emulator.make_table()
    config = settings(tmp_path, emulator, bucket, table)
    reads = run("check", "--config", config)
    Path(config).write_text(f"{Path(config).read_text('utf-8')}\n[actions]\nenabled = true\n", "utf-8")
    keys = {"LOCKBOARD_SECRET_KEY": "s" * 32, "LOCKBOARD_AUDIT_KEY": "a" * 32}
    writes = CliRunner(env=keys).invoke(main, ["check", "--config", str(config)])

    assert "PutItem" not in reads.stdout
    assert writes.exit_code == 0, writes.output
    for line in (
        "ok      s3:PutObject, s3:DeleteObject  conditions on .tflock are honoured",
        "ok      s3:PutObject                   allowed on state keys",
        "ok      dynamodb:DeleteItem            allowed in a transaction",
    ):
        assert line in writes.stdout
    assert emulator.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_check_says_what_is_missing(emulator: Emulator, tmp_path: Path) -> None:
    bucket = emulator.make_bucket(versioned=False)
    result = run("check", "--config", settings(tmp_path, emulator, bucket, "no-such-table"))
    assert result.exit_code == 2
    assert "MISSING dynamodb:Scan" in result.stdout
    assert "versioning: off" in result.stdout


@pytest.mark.parametrize("command", ["scan", "check", "collect", "serve"])
def test_no_configuration_is_said_in_one_line(command: str) -> None:
    result = CliRunner(env={"LOCKBOARD_CONFIG": ""}).invoke(main, [command])
    assert result.exit_code == 2
    assert "give --config FILE or set LOCKBOARD_CONFIG" in result.stderr


def test_serve_refuses_to_show_what_nobody_signs_in_to_beyond_loopback(
    moto: Emulator, tmp_path: Path
) -> None:
    config = Path(settings(tmp_path, moto, "some-bucket"))
    config.write_text('[auth]\nmode = "demo"\n' + config.read_text("utf-8"), "utf-8")
    result = run("serve", "--config", str(config), "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "auth.mode: demo asks nobody to sign in" in result.stderr
    assert "http://" not in result.stderr


@pytest.mark.parametrize("environ", [{"XDG_STATE_HOME": "/proc/none"}, {"XDG_STATE_HOME": None, "HOME": ""}])
def test_a_user_without_a_folder_is_told_to_name_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str | None]
) -> None:
    if "HOME" in environ:
        monkeypatch.setattr(
            Path, "home", Mock(side_effect=RuntimeError("Could not determine home directory."))
        )
    config = tmp_path / "lockboard.toml"
    config.write_text(f'[[backends]]\nname = "only"\nbucket = "acme"\nregion = "{REGION}"\n', "utf-8")
    result = CliRunner(env={**environ, "LOCKBOARD_DATABASE_URL": None}).invoke(
        main, ["user", "list", "--config", str(config)]
    )
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "[database] url" in line
