"""Settings: what is refused, by which name, and what the effective configuration says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockboard.config import AuthSettings, effective, load
from lockboard.domain.access import NO_RIGHTS, Area, Grant, Identity, Role
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
        (GOOD + 'stale_after = "9999999999d"', "backends[0].stale_after", "longer than 36500d"),
        (GOOD + 'sweep_every = "36501d"', "backends[0].sweep_every", "longer than 36500d"),
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


def test_what_keys_are_compared_with_keeps_its_spaces(tmp_path: Path) -> None:
    more = 'prefix = " x"\ninclude = ["* "]\nprotected = ["prod/* "]\nworkspace_key_prefix = "env "\n'
    more += '[backends.stale_after_by_prefix]\n"x " = "1d"\n'
    (found,) = load(write(tmp_path, GOOD + more), {}).backends
    assert (found.prefix, found.include, found.protected) == (" x", ("* ",), ("prod/* ",))
    assert (found.workspace_key_prefix, list(found.stale_after_by_prefix)) == ("env ", ["x "])
    auth = AuthSettings.model_validate(
        {"grants": [{"role": "viewer", "groups": [" ops "], "prefixes": ["prod "]}]}
    )
    assert (auth.grants[0].prefixes, auth.grants[0].groups) == (("prod ",), ("ops",))


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
    assert shown["backends.prod-kr.region"][:3] == ("backends.prod-kr.region", "ap-northeast-2", "file")
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


SIGNED_IN = """
[auth]
mode = "oidc"
[auth.oidc]
issuer = "https://idp.example.com"
client_id = "lockboard"
[[auth.grants]]
role = "operator"
groups = ["sre"]
people = ["kim@example.com", "https://idp.example.com|8f3a"]
backends = ["prod-kr"]
prefixes = ["Prod/", "payments/"]
protected = true
[[auth.grants]]
role = "viewer"
groups = ["everybody"]
"""


def identity(name: str = "mo", subject: str = "x|1", groups: tuple[str, ...] = ()) -> Identity:
    return Identity(subject, name, "oidc", frozenset(groups), datetime(2026, 11, 20, tzinfo=UTC))


@pytest.mark.parametrize(
    "who",
    [
        identity(groups=("sre",)),
        identity(name="kim@example.com"),
        identity(subject="https://idp.example.com|8f3a"),
    ],
)
def test_a_grant_is_for_its_groups_and_its_people_by_name_or_subject(who: Identity, tmp_path: Path) -> None:
    rights = load(write(tmp_path, GOOD + SIGNED_IN), {}).auth.rights(who)

    assert rights.grants == (
        Grant(Role.OPERATOR, Area("prod-kr", "Prod/"), protected=True),
        Grant(Role.OPERATOR, Area("prod-kr", "payments/"), protected=True),
    )


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("postgresql://lb:hunter2@db/lb", "postgresql://lb:••••@db/lb"),
        ("postgresql://:hunter2@db/lb", "postgresql://:••••@db/lb"),
        ("postgresql://lb@acme:hunter2@db/lb", "postgresql://lb@acme:••••@db/lb"),
        ("postgresql://lb:hun@ter2@db/lb", "postgresql://lb:••••@db/lb"),
        ("postgresql://lb:hun/ter2?@db/lb", "postgresql://lb:••••@db/lb"),
        ("postgresql://lb@db/lb?password=hunter2", "postgresql://lb@db/lb?password=••••"),
        ("postgresql:///lb?host=db&PASSWORD=a=hunter2", "postgresql:///lb?host=db&PASSWORD=••••"),
        ("postgresql:///lb?pass%77ord=hunter2", "postgresql:///lb?pass%77ord=••••"),
        (
            "postgresql://db/lb?sslmode=verify-full&sslpassword=hunter2&passfile=/hunter2&user=lb",
            "postgresql://db/lb?sslmode=verify-full&sslpassword=••••&passfile=••••&user=lb",
        ),
        ("postgresql://db/lb?conninfo=password%3Dhunter2", "postgresql://db/lb?conninfo=••••"),
        ("postgresql://lb:hunter2@db/lb?sslpassword=hun@ter2", "postgresql://lb:••••@db/lb?sslpassword=••••"),
        ("postgresql:///lb?sslpassword=hun:@ter2", "postgresql:///lb?sslpassword=••••"),
        ("sqlite:////var/lib/lockboard/lockboard.db", "sqlite:////var/lib/lockboard/lockboard.db"),
    ],
)
def test_wherever_a_databases_address_has_its_password_it_is_not_shown(
    url: str, value: str, tmp_path: Path
) -> None:
    environ = {"LOCKBOARD_DATABASE_URL": url}
    by_environment = effective(load(write(tmp_path, GOOD), environ), environ)
    by_file = effective(load(write(tmp_path, f'[database]\nurl = "{url}"\n{GOOD}'), {}), {})

    assert {line.name: line.value for line in by_environment}["database_url"] == value
    assert {line.name: line.value for line in by_file}["database.url"] == value


NAMED = st.text("k|1", min_size=1, max_size=4)


@given(entry=NAMED, name=NAMED, issuer=st.text("k1", max_size=2), subject=NAMED)
def test_no_name_takes_what_is_granted_to_a_subject_nor_the_other_way_round(
    entry: str, name: str, issuer: str, subject: str
) -> None:
    auth = AuthSettings.model_validate({"grants": [{"role": "operator", "people": [entry]}]})
    who = identity(name=name, subject=f"{issuer}|{subject}")

    assert (auth.rights(who) != NO_RIGHTS) == (entry == (who.subject if "|" in entry else who.name))


def test_grants_add_up_and_nobody_gets_what_no_grant_gives(tmp_path: Path) -> None:
    auth = load(write(tmp_path, GOOD + SIGNED_IN), {}).auth

    assert auth.rights(identity(groups=("everybody", "sre"))).roles == (Role.VIEWER, Role.OPERATOR)
    assert auth.rights(identity(groups=("SRE", "sre2"))) == NO_RIGHTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[auth]\nmode = "ldap"\n', "auth.mode"),
        ('[auth]\nmode = "oidc"\n', "[auth.oidc] is missing"),
        ('[auth]\nmode = "local"\n[auth.proxy]\naddresses = ["10.0.0.0/24"]\n', "[auth.proxy] is given"),
        (
            '[auth]\nmode = "local"\n[[auth.grants]]\nrole = "viewer"\npeople = ["kim"]\n',
            "lockboard user role",
        ),
        ('[auth]\nmode = "demo"\n[[auth.grants]]\nrole = "viewer"\npeople = ["kim"]\n', "leave them out"),
        ('[[auth.grants]]\nrole = "viewer"\n', "is for nobody"),
        ('[[auth.grants]]\nrole = "king"\npeople = ["kim"]\n', "auth.grants[0].role"),
        (
            '[[auth.grants]]\nrole = "viewer"\npeople = ["kim"]\nprotected = true\n',
            "belong to the role operator",
        ),
        ('[[auth.grants]]\nrole = "viewer"\npeople = ["kim"]\nprefixes = ["a\\\\b"]\n', "backslash"),
        ('[[auth.grants]]\nrole = "viewer"\npeople = ["kim"]\nprefixes = ["a\\u202e"]\n', "cannot be seen"),
        ('[[auth.grants]]\nrole = "viewer"\npeople = ["kim"]\nbackends = []\n', "covers nothing"),
        ('[actions]\nenabled = false\napproval_lasts = "2d"\n', "actions.approval_lasts"),
        ('[web]\npublic_url = "lockboard.example.com"\n', "web.public_url"),
        ('[web]\npublic_url = "https://user@lockboard.example.com"\n', "web.public_url"),
    ],
)
def test_a_way_to_sign_in_that_cannot_be_meant_is_refused_by_its_name(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        load(write(tmp_path, GOOD + text), {})


def test_the_host_of_the_public_address_is_trusted_beside_those_listed(tmp_path: Path) -> None:
    text = '[web]\npublic_url = "https://lockboard.example.com/"\ntrusted_hosts = ["alias.example.com"]\n'
    settings = load(write(tmp_path, GOOD + text), {})

    assert settings.hosts == ("lockboard.example.com", "alias.example.com")
    assert settings.secure


def test_grants_are_shown_in_force_and_for_administrators_only(tmp_path: Path) -> None:
    lines = effective(load(write(tmp_path, GOOD + SIGNED_IN), {}), {})
    inner = {line.name: line.value for line in lines if line.inner}

    assert inner["auth.oidc.issuer"] == "https://idp.example.com"
    assert "kim@example.com" in inner["auth.grants 1"]
    assert not any("kim@example.com" in line.value for line in lines if not line.inner)
