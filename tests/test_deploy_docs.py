"""docs/deploy is what a stranger follows: its files are read here as Compose, ECS, nginx and Lockboard read
them, and what they describe is run on this machine.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from lockboard.config import Settings, load
from lockboard.safety import refusals
from tests import needs
from tests.needs import ROOT
from tools.try_deploy import Deployment, make_certificate, nginx_conf, services

DEPLOY = ROOT / "docs" / "deploy"
COMPOSE = DEPLOY / "compose"
ECS = DEPLOY / "ecs"
KEYS = {
    f"LOCKBOARD_{name}": secrets.token_hex(32) for name in ("SECRET_KEY", "AUDIT_KEY", "OIDC_CLIENT_SECRET")
}
DATABASE = {"LOCKBOARD_DATABASE_URL": "postgresql://lockboard@postgres/lockboard"}

SETTINGS = [COMPOSE / "lockboard.toml", COMPOSE / "lockboard.oidc.toml", ECS / "lockboard.toml"]
TASKS = [ECS / "task-definition.json", ECS / "task-definition-collect.json"]

each_file_of_settings = pytest.mark.parametrize(
    "file", SETTINGS, ids=lambda file: f"{file.parent.name}/{file.name}"
)
each_task = pytest.mark.parametrize("file", TASKS, ids=lambda file: file.stem)
each_service = pytest.mark.parametrize("name", ["nginx", "web-a", "web-b", "collect", "postgres"])


def nginx() -> str:
    found = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    return found or needs.missing("nginx", "install the package `nginx-light`")


def settings(file: Path) -> Settings:
    return load(file, KEYS | DATABASE)


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))
    return found


# ---------------------------------------------------------------- settings


@each_file_of_settings
def test_the_settings_of_a_deployment_are_read_and_safe_where_others_reach_them(file: Path) -> None:
    assert refusals(settings(file), "0.0.0.0", KEYS | DATABASE, uid=10001) == []


@each_file_of_settings
def test_actions_are_off_until_somebody_switches_them_on(file: Path) -> None:
    assert not settings(file).actions.enabled


@each_file_of_settings
def test_the_settings_hold_no_secret(file: Path) -> None:
    assert (
        re.findall(r"(?i)^\s*\w*(secret|password|_key)\w*\s*=", file.read_text("utf-8"), re.MULTILINE) == []
    )


def test_each_way_to_deploy_has_the_sign_in_that_its_page_describes() -> None:
    assert [settings(file).auth.mode for file in SETTINGS] == ["local", "oidc", "alb"]


# ---------------------------------------------------------------- compose


def test_the_services_are_two_web_servers_one_refresher_a_database_and_a_proxy() -> None:
    assert sorted(services()) == ["collect", "nginx", "postgres", "web-a", "web-b"]


def test_only_the_proxy_is_published_and_it_does_not_reach_the_database() -> None:
    published = {name for name, service in services().items() if "ports" in service}

    assert published == {"nginx"}
    assert set(services()["nginx"]["networks"]) == {"front", "inside"}
    assert services()["postgres"]["networks"] == ["data"]
    assert {name for name, network in compose()["networks"].items() if network.get("internal")} == {
        "inside",
        "data",
    }


@each_service
def test_every_container_is_read_only_without_rights_and_within_limits(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"]["core"] == 0
    assert {"pids_limit", "mem_limit", "tmpfs", "restart", "healthcheck", "logging"} <= {
        *service,
        "healthcheck",
    }
    assert not service["user"].startswith(("0", "root"))


@each_service
def test_every_image_is_named_in_the_environment_file_which_says_how_to_pin_it(name: str) -> None:
    found = re.fullmatch(r"\$\{(\w+):\?see \.env\.example\}", services()[name]["image"])
    example = (COMPOSE / ".env.example").read_text("utf-8")

    assert found is not None
    assert re.search(rf"^{found[1]}=", example, re.MULTILINE)
    assert "imagetools inspect" in example


@each_service
def test_every_file_that_a_container_mounts_is_there_or_made_by_a_command_of_the_page(name: str) -> None:
    page = (COMPOSE / "README.md").read_text("utf-8")
    mounts = [volume.split(":")[0] for volume in services()[name].get("volumes", ())]
    secret_files = [compose()["secrets"][secret]["file"] for secret in services()[name].get("secrets", ())]
    for path in [*(mount for mount in mounts if mount.startswith("./")), *secret_files]:
        assert (COMPOSE / path).exists() or path.removeprefix("./") in page, path


def test_every_secret_is_used_and_every_network_and_volume_is_declared() -> None:
    used = {secret for service in services().values() for secret in service.get("secrets", ())}
    networks = {network for service in services().values() for network in service["networks"]}

    assert used == set(compose()["secrets"])
    assert networks == set(compose()["networks"])
    assert services()["postgres"]["volumes"][0].split(":")[0] in compose()["volumes"]


def test_what_the_environment_names_is_mounted_there() -> None:
    for name in ("web-a", "web-b", "collect"):
        service = services()[name]
        targets = {volume.split(":")[1] for volume in service["volumes"]}
        for variable, path in service["environment"].items():
            mounted = path in targets or path.removeprefix("/run/secrets/") in service["secrets"]
            assert mounted, variable


def test_the_addresses_of_the_proxy_and_the_web_servers_agree_in_all_three_files() -> None:
    inside = ip_network(compose()["networks"]["inside"]["ipam"]["config"][0]["subnet"])
    at = {
        name: service["networks"]["inside"]["ipv4_address"]
        for name, service in services().items()
        if "inside" in service["networks"]
    }
    upstream = re.findall(
        r"^\s*server ([\d.]+):8080 ", (COMPOSE / "nginx.conf").read_text("utf-8"), re.MULTILINE
    )

    assert all(ip_address(address) in inside for address in at.values())
    assert upstream == [at["web-a"], at["web-b"]]
    for file in SETTINGS[:2]:
        assert settings(file).web.proxies == (f"{at['nginx']}/32",)


def test_the_variant_for_openid_changes_services_that_exist_and_mounts_what_it_names() -> None:
    variant = yaml.safe_load((COMPOSE / "compose.oidc.yaml").read_text("utf-8"))
    for name, service in variant["services"].items():
        assert name in services()
        assert any(service["environment"]["LOCKBOARD_CONFIG"] in volume for volume in service["volumes"])
        assert set(service["secrets"]) <= set(variant["secrets"])


def test_the_host_name_is_one_in_all_files_so_that_one_command_changes_it() -> None:
    conf = (COMPOSE / "nginx.conf").read_text("utf-8")

    assert re.findall(r"server_name ([\w.]+);", conf) == ["_", "_", "lockboard.example.com"]
    assert {settings(file).web.public_url for file in SETTINGS} == {"https://lockboard.example.com"}


def test_no_file_of_a_deployment_holds_anything_like_a_key() -> None:
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            assert re.findall(r"[0-9a-f]{32,}|AKIA[0-9A-Z]{16}", file.read_text("utf-8")) == [], file


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    conf = tmp_path / "nginx.conf"
    conf.write_text(nginx_conf(Deployment(tmp_path)))
    run = subprocess.run([nginx(), "-t", "-c", str(conf)], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert "[warn]" not in run.stderr


def test_nginx_waits_longer_than_an_action_may_take_and_lets_no_header_of_a_browser_speak_for_it() -> None:
    conf = (COMPOSE / "nginx.conf").read_text("utf-8")

    assert "proxy_read_timeout 60s" in conf
    assert dict(re.findall(r"proxy_set_header (\S+) (\S+);", conf)) == {
        "Connection": '""',
        "Host": "$host",
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-Host": '""',
        "Forwarded": '""',
        "X-Real-IP": '""',
    }


@pytest.mark.postgres
def test_somebody_signs_in_through_tls_and_goes_on_when_one_of_two_servers_is_killed() -> None:
    nginx()
    run = subprocess.run(
        [sys.executable, "-m", "tools.try_deploy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "ok  one server alone goes on with the same session" in run.stdout.splitlines()


# ---------------------------------------------------------------- ECS


def container(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))["containerDefinitions"][0]
    return found


@each_task
def test_a_task_is_read_only_without_rights_and_gets_its_secrets_from_the_secrets_manager(file: Path) -> None:
    task, found = json.loads(file.read_text("utf-8")), container(file)

    assert task["networkMode"] == "awsvpc"
    assert (found["readonlyRootFilesystem"], found["privileged"], found["user"]) == (
        True,
        False,
        "10001:10001",
    )
    assert found["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
    assert {secret["name"] for secret in found["secrets"]} == {
        "LOCKBOARD_SECRET_KEY",
        "LOCKBOARD_AUDIT_KEY",
        "LOCKBOARD_DATABASE_URL",
    }
    assert all(":secretsmanager:" in secret["valueFrom"] for secret in found["secrets"])
    assert not any("KEY" in variable["name"] for variable in found["environment"])
    assert found["stopTimeout"] >= 60
    assert "@sha256:" in found["image"]


@each_task
def test_the_role_that_starts_a_task_may_read_its_secrets_and_no_others(file: Path) -> None:
    statements = json.loads((ECS / "execution-role.json").read_text("utf-8"))["Statement"]
    [allowed] = [statement["Resource"] for statement in statements if statement["Sid"] == "Secrets"]

    assert {f"{secret['valueFrom']}-??????" for secret in container(file)["secrets"]} == set(allowed)


def test_a_task_may_do_nothing_itself_but_take_the_two_roles_of_its_settings() -> None:
    [statement] = json.loads((ECS / "task-role.json").read_text("utf-8"))["Statement"]
    backend = settings(ECS / "lockboard.toml").backends[0]

    assert set(statement["Action"]) == {"sts:AssumeRole", "sts:SetSourceIdentity"}
    assert set(statement["Resource"]) == {backend.role_arn, backend.actor_role_arn}


def test_the_web_server_of_ecs_takes_headers_as_long_as_a_load_balancers_token() -> None:
    assert "--limit-request-field_size=16380" in container(TASKS[0])["command"]


def test_the_load_balancer_signs_people_in_before_it_forwards_and_for_the_same_client_and_issuer() -> None:
    rule = json.loads((ECS / "listener-rule.json").read_text("utf-8"))
    alb, asked = settings(ECS / "lockboard.toml").auth.alb, rule[0]["AuthenticateOidcConfig"]

    assert alb is not None
    assert [(action["Type"], action["Order"]) for action in rule] == [
        ("authenticate-oidc", 1),
        ("forward", 2),
    ]
    assert (asked["Issuer"], asked["ClientId"]) == (alb.issuer, alb.client_id)
    assert asked["OnUnauthenticatedRequest"] == "authenticate"
    assert asked["SessionTimeout"] <= 8 * 3600


def test_the_health_check_of_a_container_is_the_one_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    [command] = re.findall(r"CMD (\[\"python\".*\])", dockerfile)

    assert container(TASKS[0])["healthCheck"]["command"] == ["CMD", *json.loads(command)]
