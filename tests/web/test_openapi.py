"""The description of the interface is a true one: Schemathesis asks everything that it says may be asked,
over HTTP, and holds every answer against it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.needs import ROOT, missing
from tests.web.api_site import LIVE, OPERATOR, STALE, VIEWER, ApiSite, api_site, bearer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

EXAMPLES = 4
"""Made-up requests for each operation, besides those that cover every part of its description."""
NOT_SUCH = {
    "act": ["2xx", "400", "401", "403", "404", "409", "422"],  # a made-up token is of no plan
    "audit": ["2xx", "400", "401", "403"],  # its days may be the wrong way round
}
"""Answers to what is well formed, where a made-up value cannot be a right one."""


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def served(site: ApiSite) -> Iterator[str]:
    """Where it listens. Minutes go by between two requests, so that no limit is met."""

    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        site.clock.pass_by(400)
        return site.app(environ, start)

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def described(site: ApiSite) -> dict[str, Any]:
    found: dict[str, Any] = site.get("/openapi.json").get_json()
    return found


def configured(url: str, secret: str, state_id: str, *, stateful: bool) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": 20261120,
            "base-url": url,
            "headers": bearer(secret) if secret else {},
            "workers": 1,
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"enabled": stateful}},
            "operations": [
                {
                    "include-operation-id": name,
                    "checks": {"positive_data_acceptance": {"expected-statuses": statuses}},
                }
                for name, statuses in NOT_SUCH.items()
            ],
            **({"parameters": {"path.id": state_id}} if state_id else {}),
        }
    )


def probed(
    site: ApiSite, secret: str, state_id: str = "", *, stateful: bool = False
) -> tuple[list[str], Counter[tuple[str, int]]]:
    """What does not hold, and how often each operation gave each status."""
    wrong: list[str] = []
    statuses: Counter[tuple[str, int]] = Counter()
    with served(site) as url:
        config = configured(url, secret, state_id, stateful=stateful)
        schema = schemathesis.openapi.from_dict(described(site), config=config)
        schema.validate()
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                wrong += failures(event)
                statuses += answers(event)
            elif isinstance(event, events.NonFatalError):
                wrong.append(f"{event.label}: {event.value!r}")
            elif isinstance(event, events.FatalError):
                wrong.append(repr(event.exception))
    return wrong, statuses


def failures(event: events.ScenarioFinished) -> Iterator[str]:
    for nodes in event.recorder.checks.values():
        for node in nodes:
            if node.failure_info:
                found = node.failure_info
                yield f"{event.label}: {node.name}: {found.failure}\n{found.code_sample}"


def answers(event: events.ScenarioFinished) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for case_id, one in event.recorder.interactions.items():
        if one.response is not None:
            label = event.recorder.cases[case_id].value.operation.definition.raw["operationId"]
            found[label, one.response.status_code] += 1
    return found


def of(statuses: Counter[tuple[str, int]], name: str) -> set[int]:
    """The statuses that an operation gave."""
    return {status for label, status in statuses if label == name}


def test_an_operator_gets_what_is_described_on_one_state_from_plan_to_action() -> None:
    site = api_site()

    wrong, statuses = probed(site, OPERATOR, STALE, stateful=True)

    assert wrong == []
    assert of(statuses, "plan") >= {200, 400, 401, 405, 409, 415}
    assert of(statuses, "act") >= {200, 400, 401, 405, 415}
    assert of(statuses, "audit") >= {200, 400, 401, 405}
    assert any(sent.token in site.actions.plans for sent in site.actions.sent)


def test_a_viewer_gets_what_is_described_and_acts_on_nothing() -> None:
    site = api_site()

    wrong, statuses = probed(site, VIEWER)

    assert wrong == []
    assert of(statuses, "states") >= {200, 400, 401, 405}
    assert of(statuses, "state") >= {401, 404, 405}
    for name in ("plan", "act", "audit"):
        assert of(statuses, name) == {401, 403, 405}
    assert not site.actions.sent
    assert not site.actions.prepared


def test_without_a_token_nothing_is_answered() -> None:
    site = api_site()
    records = len(site.log.records)

    wrong, statuses = probed(site, "")

    assert wrong == []
    assert {status for _, status in statuses} == {401, 405}
    assert not site.actions.sent
    assert len(site.log.records) == records


# ---------------------------------------------------------------- the document itself


def test_every_route_for_programs_is_described_and_nothing_else_is() -> None:
    site = api_site()
    routes = {
        (re.sub(r"<(?:\w+:)?state_id>", "{id}", rule.rule), method.lower())
        for rule in site.app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    found = described(site)

    assert {
        (f"/api/v1{path}", method)
        for path, item in found["paths"].items()
        for method in item
        if method != "parameters"
    } == routes


def test_the_description_says_which_lockboard_it_is_of() -> None:
    assert described(api_site())["info"]["version"] == "0.1.0"


def schema_of(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": found["components"]}


@pytest.mark.parametrize("path", ["plans", "actions"])
def test_the_examples_are_what_they_are_examples_of(path: str) -> None:
    found = described(api_site())
    body = found["paths"][f"/states/{{id}}/{path}"]["post"]["requestBody"]["content"]["application/json"]

    for example in body["examples"].values():
        jsonschema.validate(example["value"], {**body["schema"], "components": found["components"]})


def undescribed(value: Any, schema: Mapping[str, Any], found: Mapping[str, Any], at: str) -> Iterator[str]:
    """The fields of a value that its schema does not name."""
    if "$ref" in schema:
        schema = found["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for item in value:
            yield from undescribed(item, schema["items"], found, f"{at}[]")
    elif isinstance(value, dict) and "properties" in schema:
        for name, part in value.items():
            if name in schema["properties"]:
                yield from undescribed(part, schema["properties"][name], found, f"{at}.{name}")
            else:
                yield f"{at}.{name}"


def test_every_field_of_every_state_is_described() -> None:
    site = api_site()
    found, estate = described(site), site.get("/states").get_json()

    jsonschema.validate(estate, schema_of(found, "Estate"))
    assert set(undescribed(estate, found["components"]["schemas"]["Estate"], found, "estate")) == set()


def test_every_field_of_a_plan_and_of_a_result_is_described() -> None:
    site = api_site()
    found, plan = described(site), site.plan(LIVE)
    done = site.post(
        f"/states/{LIVE}/actions", {"token": plan["token"], "reason": "gone", "confirm": plan["confirm"]}
    )

    assert done.status_code == 200
    for name, value in (("Plan", plan), ("Result", done.get_json())):
        jsonschema.validate(value, schema_of(found, name))
        assert set(undescribed(value, found["components"]["schemas"][name], found, name)) == set()


# ---------------------------------------------------------------- docs/api.md

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
HERE = "http://127.0.0.1:8080"
EXAMPLES_OF_CURL = [
    block for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "curl " in block
]


def run(script: str, folder: Path, site: ApiSite, secret: str) -> str:
    """What the shell prints; its commands have to succeed."""
    for tool in ("bash", "curl", "jq"):
        if shutil.which(tool) is None:
            missing(tool, f"install the package `{tool}`")
    (folder / "lockboard.header").write_text(f"Authorization: Bearer {secret}\n", "ascii")
    with served(site) as url:
        script = f"set -eo pipefail\n{script.replace(HERE, url.removesuffix('/api/v1'))}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, text=True, capture_output=True, check=False, timeout=60
        )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", EXAMPLES_OF_CURL, ids=range(len(EXAMPLES_OF_CURL)))
def test_the_examples_on_the_page_do_what_it_says(block: str, tmp_path: Path) -> None:
    site = api_site()
    acts = "/actions" in block
    site.board.rows = {STALE: site.board.rows[STALE]} if acts else site.board.rows
    printed = run(block, tmp_path, site, OPERATOR if acts else VIEWER)

    assert printed
    assert len(site.actions.sent) == acts
    if acts:
        assert site.get(f"/states/{STALE}").get_json()["lock"] == "unlocked"
        assert (site.log.records[-1].entry.ticket, printed.split()[-1]) == ("OPS-311", "true")


def test_the_example_of_an_action_leaves_another_lock_alone(tmp_path: Path) -> None:
    site = api_site()
    [block] = [block for block in EXAMPLES_OF_CURL if "/actions" in block]
    other = block.replace(".state.locks[].id]", '"another"]')
    run(f"({other}) || echo stopped", tmp_path, site, OPERATOR)

    assert site.actions.prepared
    assert not site.actions.sent


def test_the_page_has_a_row_for_every_status_that_is_described() -> None:
    found = described(api_site())
    statuses = {
        status
        for item in found["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
        for status in operation["responses"]
    }

    assert statuses | {"405"} == set(re.findall(r"^\| ([2-5][0-9]{2}) \|", PAGE, re.MULTILINE))


def test_the_page_names_every_field_that_is_sent_and_answered() -> None:
    schemas = described(api_site())["components"]["schemas"]
    sent = [*schemas["PlanRequest"]["oneOf"], schemas["ActionRequest"]]
    named = [schemas[name]["properties"] for name in ("Error", "Plan", "Result", "State", "Lock", "Backend")]

    for name in {name for part in (*named, *(one["properties"] for one in sent)) for name in part}:
        assert f"`{name}`" in PAGE, name
