"""The README's pictures: `python -m tests.browser.screenshots OUT_DIR` starts the demo without its team and
takes them.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tests import needs
from tests.browser.conftest import ARGUMENTS, PHONE, WIDE

PATIENCE = 90.0
"""Seconds until the demo has to be up and sure of every verdict."""
LARGEST = 250_000
"""Bytes of a picture."""
DELETED = ("prod-kr", "Prod/terraform/rds/terraform.tfstate")
"""The state that the demo's estate has deleted by hand."""
DEAD = ("dev-kr", "batch/remote")
"""A state under the lock of a run that died."""
DEEDS = (
    ("unlock", DEAD, {"reason": "runner killed, job 4711 is red", "ticket": "OPS-481"}),
    ("digest", ("prod-us", "billing/terraform.tfstate"), {"reason": "apply cut off", "confirm": "billing"}),
    (
        "takeover",
        ("prod-kr", "Prod/terraform/iam/terraform.tfstate"),
        {"reason": "runner killed in mid-write", "ticket": "OPS-482", "confirm": "iam"},
    ),
)
"""What is done before the log is shown."""

States = Mapping[tuple[str, str], str]
"""(backend, key) -> the state's id."""


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with demo() as (url, states), sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=needs.chromium(), args=list(ARGUMENTS))
        board = f"{url}/states?view=attention"
        take(chromium, board, folder / "list-dark.png", WIDE, "dark")
        take(chromium, board, folder / "list-light.png", WIDE, "light")
        take(chromium, f"{url}/s/{states[DELETED]}", folder / "detail.png", WIDE, "light")
        take(chromium, board, folder / "phone.png", PHONE, "dark")
        take(chromium, f"{url}/s/{states[DEAD]}/unlock", folder / "unlock.png", WIDE, "dark", "#ask")
        for action, state, asked in DEEDS:
            act(chromium, f"{url}/s/{states[state]}/{action}", asked)
        take(chromium, f"{url}/audit", folder / "audit.png", WIDE, "light", "main")
        chromium.close()


def act(chromium: Browser, url: str, asked: Mapping[str, str]) -> None:
    """Carry out an action by its page."""
    context = chromium.new_context(viewport=WIDE)
    page = context.new_page()
    page.goto(url)
    for name, text in asked.items():
        page.fill(f"#{name}", text)
    page.locator("#deed [type=submit]").click()
    page.wait_for_url("**done=*")
    context.close()


def take(
    chromium: Browser,
    url: str,
    path: Path,
    size: ViewportSize,
    scheme: Literal["light", "dark"],
    shown: str = "#region",
) -> None:
    context = chromium.new_context(viewport=size, color_scheme=scheme, locale="en-GB")
    page = context.new_page()
    page.goto(url)
    page.locator(shown).wait_for()
    page.screenshot(path=path)
    context.close()
    count = path.stat().st_size
    sys.stdout.write(f"{path}: {count:,} bytes\n")
    if count > LARGEST:
        raise SystemExit(f"{path} has more than {LARGEST:,} bytes")


@contextmanager
def demo() -> Iterator[tuple[str, States]]:
    """`lockboard demo` on a free port, once it is sure of every key: its address, and the states' ids."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "lockboard", "demo", "--no-team", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            yield url, _wait(process, url)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait(process: subprocess.Popen[bytes], url: str) -> States:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the demo ended by itself with status {process.returncode}")
        if found := _once_settled(url):
            return found
        time.sleep(0.5)
    raise SystemExit("the demo was not ready in time")


def _once_settled(url: str) -> States:
    """The states' ids; none while a backend was not read or a verdict may still change."""
    try:
        with urlopen(f"{url}/api/v1/states", timeout=10) as answer:
            found = json.load(answer)
    except (URLError, ConnectionError, TimeoutError):
        return {}
    known = {(state["backend"], state["key"]): state for state in found["states"]}
    complete = all(backend["complete"] for backend in found["backends"])
    settled = all(state["content"] != "settling" for state in known.values())
    deleted = known.get(DELETED, {"content": ""})
    sure = complete and settled and deleted["content"] == "state_deleted"
    return {place: str(state["id"]) for place, state in known.items()} if sure else {}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
