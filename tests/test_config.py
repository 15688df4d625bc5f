"""Settings: what is refused, by which name, and what the effective configuration says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lockboard.config import effective, load
from lockboard.domain.errors import SettingsError

GOOD = """
[[backends]]
name = "prod-kr"
bucket = "acme-tfstate"
region = "ap-northeast-2"
dynamodb_table = "terraform-lock"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "lockboard.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_minimal_file_has_sound_defaults(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GOOD), {})
    backend = settings.backends[0].backend()
    assert backend.state_key("server/terraform.tfstate")
    assert not backend.state_key("readme.md")
    assert backend.policy_for("x").stale_after == timedelta(hours=1)
    assert settings.refresh.every == timedelta(seconds=15)


@pytest.mark.parametrize(
    ("text", "named", "said"),
    [
        (GOOD + 'colour = "red"', "backends[0].colour", "no such setting"),
        (GOOD + 'stale_after = "soon"', "backends[0].stale_after", '"1h"'),
        (GOOD + "stale_after = 3600", "backends[0].stale_after", "a number and a unit"),
        (GOOD + "include = []", "backends[0].include", "at least one pattern"),
        (GOOD + 'external_id = "abc"', "backends[0]", "without role_arn"),
        (GOOD + "actor_source_identity = true", "backends[0]", "without actor_role_arn"),
        (GOOD + 'role_arn = "admin"', "backends[0].role_arn", "must look like"),
        (GOOD + 's3_endpoint_url = "localhost"', "backends[0].s3_endpoint_url", "must look like"),
        (GOOD.replace('region = "ap-northeast-2"', ""), "backends[0].region", "is missing"),
        (GOOD.replace("ap-northeast-2", "Seoul!"), "backends[0].region", "must look like"),
        (GOOD + GOOD, "backends", "'prod-kr' is used twice"),
        (GOOD + GOOD.replace("prod-kr", "other"), "backends", "same bucket and prefix"),
        ("[actions]\nenabled = true\n" + GOOD, "actions.enabled", "needs LOCKBOARD_SECRET_KEY"),
        (GOOD + '[audit]\nwitness_bucket = "heads"\n', "audit", "name the bucket's region"),
        ('[refresh]\nevery = "0s"\n' + GOOD, "refresh.every", "between 1s and 1d"),
        ('audit_key = "0123456789"\n' + GOOD, "audit_key", "LOCKBOARD_AUDIT_KEY"),
        ("", "backends", "is missing"),
        ("backends = 3", "backends", ""),
        ("[[backends", "", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    tmp_path: Path, text: str, named: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), {})
    assert named in str(caught.value)
    assert said in str(caught.value)


def test_a_complaint_never_repeats_the_value_which_may_be_a_secret_in_the_wrong_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, GOOD + 'stale_after = "hunter2"'), {})
    assert "hunter2" not in str(caught.value)


def test_no_file_says_how_to_give_one() -> None:
    with pytest.raises(SettingsError, match="--config FILE or set LOCKBOARD_CONFIG"):
        load(None, {})


def test_the_environment_names_the_file_and_gives_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://lb:hunter2@db/lb\n")
    environ = {
        "LOCKBOARD_CONFIG": str(write(tmp_path, GOOD)),
        "LOCKBOARD_DATABASE_URL_FILE": str(tmp_path / "url"),
        "LOCKBOARD_SECRET_KEY": "k" * 32,
    }
    settings = load(None, environ)
    assert settings.store_url == "postgresql://lb:hunter2@db/lb"
    shown = {line.name: line for line in effective(settings, environ)}
    assert shown["secret_key"].value == "••••"
    assert shown["database_url"].value == "postgresql://lb:••••@db/lb"
    assert shown["database_url"].source == "environment, by file"
    assert shown["backends.prod-kr.region"] == ("backends.prod-kr.region", "ap-northeast-2", "file")
    assert shown["backends.prod-kr.prefix"].source == "default"
    assert not any("hunter2" in line.value for line in shown.values())


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    environ = {"LOCKBOARD_SECRET_KEY": "a", "LOCKBOARD_SECRET_KEY_FILE": "b"}
    with pytest.raises(SettingsError, match="both set"):
        load(write(tmp_path, GOOD), environ)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"LOCKBOARD_SECRET_KEY": "short", "LOCKBOARD_AUDIT_KEY": "a" * 32},
            "LOCKBOARD_SECRET_KEY: must have",
        ),
        (
            {"LOCKBOARD_SECRET_KEY": "s" * 32, "LOCKBOARD_AUDIT_KEY": "short"},
            "LOCKBOARD_AUDIT_KEY: must have",
        ),
        ({"LOCKBOARD_SECRET_KEY": "s" * 32, "LOCKBOARD_AUDIT_KEY": "s" * 32}, "give each its own"),
        ({"LOCKBOARD_SECRET_KEY": "s" * 32}, "needs LOCKBOARD_AUDIT_KEY"),
    ],
)
def test_actions_need_two_long_keys_that_differ(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    config = write(tmp_path, "[actions]\nenabled = true\n" + GOOD)
    with pytest.raises(SettingsError) as caught:
        load(config, environ)
    assert said in str(caught.value)
    assert "short" not in str(caught.value)

    assert load(config, {"LOCKBOARD_SECRET_KEY": "s" * 32, "LOCKBOARD_AUDIT_KEY": "a" * 32}).actions.enabled


def test_a_command_that_only_reads_needs_no_keys(tmp_path: Path) -> None:
    config = write(tmp_path, "[actions]\nenabled = true\n" + GOOD)
    assert load(config, {}, acts=False).actions.enabled
    with pytest.raises(SettingsError, match="must have at least"):
        load(config, {"LOCKBOARD_AUDIT_KEY": "short"}, acts=False)


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LOCKBOARD_AUDIT_KEY_FILE"):
        load(write(tmp_path, GOOD), {"LOCKBOARD_AUDIT_KEY_FILE": str(tmp_path / "none")})


def test_the_longest_prefix_sets_the_stale_limit(tmp_path: Path) -> None:
    text = GOOD + 'stale_after_by_prefix = { "prod/" = "4h", "prod/db/" = "1d" }\nprotected = ["prod/*"]'
    policy_for = load(write(tmp_path, text), {}).backends[0].backend().policy_for
    assert policy_for("prod/db/x").stale_after == timedelta(days=1)
    assert policy_for("prod/web").stale_after == timedelta(hours=4)
    assert policy_for("dev/web").stale_after == timedelta(hours=1)
    assert (policy_for("prod/web").protected, policy_for("dev/web").protected) == (True, False)


def test_one_wrong_setting_of_a_backend_is_one_complaint(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, GOOD + 'colour = "red"'), {})
    assert len(str(caught.value).splitlines()) == 1
