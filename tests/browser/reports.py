"""What a browser complains about while a test runs."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Response

_VIOLATIONS = """addEventListener("securitypolicyviolation", (e) => lockboardReport(
  `${e.effectiveDirective} blocked ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`))"""


class Complaints:
    """Collects, for every page of a context: reports of the Content-Security-Policy, uncaught errors, what
    the console says, dialogs, and answers that are errors. `expected` names the statuses a test provokes.
    """

    def __init__(self, context: BrowserContext, *, scripted: bool = True) -> None:
        self.forget()
        if scripted:
            context.expose_function("lockboardReport", self._violated)
            context.add_init_script(_VIOLATIONS)
        context.on("page", self._watch)

    def forget(self) -> None:
        """Begin anew."""
        self.policy: list[str] = []
        self.errors: list[str] = []
        self.console: list[str] = []
        self.dialogs: list[str] = []
        self.answers: list[tuple[int, str]] = []
        self.expected: set[int] = set()
        self.lost_connections_are_expected = False

    def all(self) -> list[str]:
        """Everything that no test expected, in words."""
        found = [f"policy: {text}" for text in self.policy]
        found += [f"error: {text}" for text in self.errors]
        found += [f"console: {text}" for text in self.console if not self._known(text)]
        found += [f"dialog: {text}" for text in self.dialogs]
        return found + [f"{status} {url}" for status, url in self.answers if status not in self.expected]

    def _known(self, text: str) -> bool:
        """Chromium repeats each failed answer on the console; `answers` has judged those already."""
        if "Failed to load resource: the server responded" in text:
            return True
        lost = "net::ERR_" in text or "Failed to fetch" in text or "htmx:" in text or "AbortError" in text
        return lost and self.lost_connections_are_expected

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._said)
        page.on("dialog", self._asked)
        page.on("response", self._answered)

    def _violated(self, text: str) -> None:
        self.policy.append(text)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.console.append(message.text)

    def _asked(self, dialog: Dialog) -> None:
        self.dialogs.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.answers.append((response.status, response.url))
