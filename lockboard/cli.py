"""The commands; each a few lines over a service."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from lockboard import __version__
from lockboard.cli_common import Guarded, config_option, fail, settings_of, typing_person
from lockboard.cli_people import token, user
from lockboard.config import Settings
from lockboard.domain.audit import Entry, Head, Kind, Verification
from lockboard.domain.errors import LockboardError, SettingsError
from lockboard.domain.inventory import BackendReport
from lockboard.domain.signin import Account
from lockboard.domain.text import spoken_span, utc

EXIT_HELP = (
    "Exit status: 0 nothing is wrong, 1 something needs attention, 2 a backend could not"
    " be read or the settings are wrong."
)


def _settings_path(path: Path | None) -> Path:
    """The file that `settings_of` read."""
    return path or Path(os.environ["LOCKBOARD_CONFIG"])


@click.group(cls=Guarded, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lockboard")
def main() -> None:
    """Every Terraform state key in S3 beside its lock and its digest: what is wrong, and the ways out."""
    # A core would hold the states that were in memory. What is started from here inherits it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@main.command(epilog=EXIT_HELP)
@config_option
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--settle",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Seconds a mismatch must stand before it is called one.",
)
@click.option("--all", "everything", is_flag=True, help="In the table, list healthy keys too.")
def scan(config_path: Path | None, form: str, settle: float, everything: bool) -> None:
    """Read every backend once, look again at what seems wrong, and print the verdicts."""
    from lockboard.adapters.store import SqlBoard, SqlInventory, open_memory
    from lockboard.services.scan import scan as run
    from lockboard.wiring import open_backends, utc_now

    settings = settings_of(config_path)
    try:
        engine = open_memory()
        inventory = SqlInventory(engine)
        backends = open_backends(settings, timedelta(seconds=settle))
        result = run(
            [backend.refresher(inventory) for backend in backends], SqlBoard(engine), utc_now, time.sleep
        )
    except LockboardError as error:
        fail(error)
    if form == "json":
        _print_json(result.contract())
    else:
        _print_table(result.states(), result.reports, everything=everything)
    sys.exit(result.exit_status())


def _print_json(contract: dict[str, Any]) -> None:
    """One line a state, written as it is read, so that no estate is too large."""
    head = {name: value for name, value in contract.items() if name != "states"}
    sys.stdout.write(json.dumps(head)[:-1] + ', "states": [')
    for number, state in enumerate(contract["states"]):
        sys.stdout.write((",\n" if number else "\n") + json.dumps(state))
    sys.stdout.write("\n]}\n")


def _print_table(
    states: Iterator[Mapping[str, Any]], reports: Sequence[BackendReport], *, everything: bool
) -> None:
    listed = healthy = 0
    for state in states:
        if state["severity"] in ("ok", "busy") and not everything:
            healthy += 1
            continue
        listed += 1
        click.echo(
            f"{state['severity']:<9} {state['content']} / {state['lock']}  {state['backend']}  {state['key']}"
        )
        click.echo(f"          Terraform: {state['terraform']}. {state['summary']}")
        for remedy in state["remedies"][:1]:
            if remedy["recommended"]:
                click.echo(f"          Recommended: {remedy['action']}: {remedy['why']}")
    for report in reports:
        _print_report(report)
    click.echo(f"{listed} listed, {healthy} healthy or busy not listed (--all lists them).")


def _print_report(report: BackendReport) -> None:
    state = "complete" if report.complete else f"COULD NOT BE READ: {report.error}"
    if report.complete and report.sweep_error:
        state = f"complete, but deleted states could not be looked for: {report.sweep_error}"
    foreign = f", {report.foreign_items} items of other buckets" if report.foreign_items else ""
    click.echo(f"{report.backend}: {report.states} state keys{foreign}; {state}.")


@main.command(epilog="Exit status: 0 all that is needed is there, 2 something is missing.")
@config_option
def check(config_path: Path | None) -> None:
    """Connect to every backend and print each permission it needs, versioning and the clock's skew.

    Where actions are switched on, their writes too: tried under conditions that cannot hold.
    """
    from lockboard.wiring import open_backends, utc_now

    settings = settings_of(config_path, acts=True)
    missing = 0
    try:
        for opened in open_backends(settings):
            place = f"s3://{opened.settings.bucket}/{opened.settings.prefix}"
            click.echo(
                f"{opened.settings.name}: {place}, table {opened.settings.dynamodb_table or 'none'},"
                f" {opened.settings.region}"
            )
            tried = opened.probe() + (opened.probe_writes() if settings.actions.enabled else [])
            for probe in tried:
                missing += not probe.ok
                click.echo(f"  {'ok     ' if probe.ok else 'MISSING'} {probe.action:<30} {probe.detail}")
            click.echo(f"  versioning: {opened.states.versioning()}")
            skew = opened.states.clock_skew()
            click.echo(f"  clock: {_spoken_skew(skew)} (our time {utc(utc_now())})")
    except LockboardError as error:
        fail(error)
    sys.exit(2 if missing else 0)


def _spoken_skew(skew: timedelta | None) -> str:
    if skew is None:
        return "no answer to compare with"
    if abs(skew) < timedelta(seconds=2):
        return "agrees with AWS"
    side = "ahead of" if skew > timedelta() else "behind"
    warning = "; no lock is called stale until this is mended" if abs(skew) > timedelta(seconds=60) else ""
    return f"{spoken_span(abs(skew))} {side} AWS{warning}"


@main.command()
@config_option
def collect(config_path: Path | None) -> None:
    """Keep the inventory true: refresh every backend again and again. One such process is enough."""
    from lockboard import logs
    from lockboard.services.collect import collect as run
    from lockboard.services.collect import pause
    from lockboard.supervisor import yield_to_pages
    from lockboard.wiring import open_backends, open_store

    settings = settings_of(config_path)
    logs.configure(sys.stderr)
    yield_to_pages()
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    try:
        _, inventory, _ = open_store(settings)
        inventory.forget_backends([backend.name for backend in settings.backends])
        backends = open_backends(settings, sleep=pause(stop))
        refreshers = [(opened.backend.name, opened.refresher(inventory)) for opened in backends]
        run(refreshers, settings.refresh.every, stop, _logger())
    except LockboardError as error:
        logs.get("collect").error("the refresher cannot go on", error=str(error))
        sys.exit(2)


def _logger() -> Callable[[str, BackendReport], None]:
    """One line for a refresh that says something: the first, a failure, a recovery, rows written."""
    from lockboard import logs

    log = logs.get("collect")
    last: dict[str, str | None] = {}

    def write(name: str, report: BackendReport) -> None:
        if name in last and last[name] == report.error and not report.rows_written:
            return
        last[name] = report.error
        log.info(
            "refresh",
            backend=name,
            complete=report.complete,
            error=report.error,
            states=report.states,
            rows_written=report.rows_written,
            requests=dict(report.requests),
            seconds=report.duration_seconds,
        )

    return write


@main.command(epilog="What it refuses to start with: docs/configure.md.")
@config_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. One that others reach needs [web] public_url, and a sign-in.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
def serve(config_path: Path | None, host: str, port: int) -> None:
    """Run the web pages and the refresher together until SIGTERM or Ctrl-C."""
    from lockboard.safety import only_server, require_safe, warnings

    settings = settings_of(config_path, acts=True)
    try:
        require_safe(settings, host, os.environ)

        from lockboard import logs
        from lockboard.supervisor import HEADER_SIZE, HEADER_SIZE_OF_ALB, require_free
        from lockboard.supervisor import serve as run
        from lockboard.wiring import open_store

        require_free(host, port)
        open_store(settings)[0].dispose()  # fails here, in words, rather than in two processes at once
        with only_server(settings.store_url) as held:
            _require_sound(settings)
            logs.configure(sys.stderr)
            for said in warnings(settings, _accounts(settings)):
                logs.get("serve").warning("this setting is hardly meant so", error=said)
            logs.get("serve").info("serving", url=_address(host, port), version=__version__)
            size = HEADER_SIZE_OF_ALB if settings.auth.mode == "alb" else HEADER_SIZE
            sys.exit(run(_settings_path(config_path), host, port, header_size=size, held=held))
    except LockboardError as error:
        fail(error)


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _accounts(settings: Settings) -> Sequence[Account]:
    """The local accounts, where they are how people sign in."""
    from lockboard.wiring import open_people

    return open_people(settings).accounts.every() if settings.auth.mode == "local" else []


def _require_sound(settings: Settings) -> None:
    """Ask what only the log and AWS can tell: is the log whole, is this machine's clock right.

    Raises:
        SettingsError: one of them is not.
    """
    from lockboard.safety import chain_refusals, measured_skews, skew_refusals
    from lockboard.wiring import OpenBackend, open_backends

    def skew(opened: OpenBackend) -> timedelta | None:
        opened.states.versioning()  # the cheapest question there is; its answer is not what is wanted
        return opened.states.clock_skew()

    found = chain_refusals(partial(_chain, settings)) if settings.actions.enabled else []
    askers = {opened.backend.name: partial(skew, opened) for opened in open_backends(settings)}
    found += skew_refusals(measured_skews(askers))
    if found:
        raise SettingsError("\n".join(found))


def _chain(settings: Settings) -> Verification:
    """Whether the audit log is as it was written, read on connections that are closed again."""
    from lockboard.adapters.store import SqlAudit, open_audit_engine
    from lockboard.adapters.witness import stdout_witness
    from lockboard.wiring import utc_now

    engine = open_audit_engine(settings.store_url)
    try:
        log = SqlAudit(engine, _audit_key(settings), utc_now, stdout_witness(sys.stdout))
        return log.verify()
    finally:
        engine.dispose()


@main.group()
def audit() -> None:
    """The log of what was done, and the proof that nobody changed it."""


@audit.command(
    "verify",
    epilog="Exit status: 0 every record is as it was written, 1 the log was changed, 2 it could not be"
    " checked.",
)
@config_option
@click.option(
    "--witness",
    "witnesses",
    type=click.File("r", encoding="utf-8", errors="replace"),
    multiple=True,
    metavar="FILE",
    help="Output of Lockboard's processes as your log collector kept it (- for standard input); may be"
    " repeated. Without any witness, a tail that was cut off, or an older copy put back, cannot be noticed.",
)
@click.option(
    "--witness-bucket",
    "bucket",
    is_flag=True,
    help="Also against every head in the bucket that [audit] witness_bucket names, overwritten and hidden"
    " objects too. Needs s3:ListBucketVersions and s3:GetObjectVersion.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--no-record",
    is_flag=True,
    help="Do not record in the log that it was verified: nothing is written, so a copy stays as it is.",
)
def audit_verify(
    config_path: Path | None, witnesses: Sequence[TextIO], bucket: bool, as_json: bool, no_record: bool
) -> None:
    """Check the audit log's chain from its first record to its last, against the heads that witnesses saw."""
    from lockboard.adapters.store import SqlAudit, open_audit_engine
    from lockboard.adapters.witness import read_heads, stdout_witness
    from lockboard.wiring import utc_now

    settings = settings_of(config_path)
    try:
        heads = [head for file in witnesses for head in _heads_in(file, read_heads)]
        heads += _heads_in_bucket(settings) if bucket else []
        key = _audit_key(settings)
        engine = open_audit_engine(settings.store_url, reads_only=no_record)
        log = SqlAudit(engine, key, utc_now, stdout_witness(sys.stderr))
        found = log.verify(heads)
    except LockboardError as error:
        fail(error)
    witnessed = max((head.seq for head in heads), default=None)
    recorded, unrecorded = None, None
    if found.ok and not no_record:
        try:
            recorded = log.append(_verified(found, witnessed)).seq
        except LockboardError as error:
            unrecorded = SettingsError(f"{error} (--no-record checks without recording it)")
    result = {
        "ok": found.ok,
        "checked": found.checked,
        "head": found.head._asdict() if found.head else None,
        "bad_seq": found.bad_seq,
        "problem": found.problem,
        "tail_proven": found.tail_proven,
        "witnessed": witnessed,
        "recorded": recorded,
    }
    if as_json:
        click.echo(json.dumps(result))
    else:
        _print_verification(found, witnessed, recorded)
    if unrecorded:
        fail(unrecorded)
    sys.exit(0 if found.ok else 1)


def _audit_key(settings: Settings) -> bytes:
    if settings.audit_key is None:
        raise SettingsError(
            "the audit key is not set: set LOCKBOARD_AUDIT_KEY or LOCKBOARD_AUDIT_KEY_FILE to the key that"
            " the log was written with"
        )
    return settings.audit_key.encode()


def _heads_in(file: TextIO, read_heads: Callable[[TextIO], list[Head]]) -> list[Head]:
    try:
        heads = read_heads(file)
    except OSError as error:
        raise SettingsError(f"--witness {file.name}: cannot be read: {error.strerror}") from None
    if not heads:
        raise SettingsError(f"--witness {file.name}: holds no head of an audit log, so it proves nothing")
    return heads


def _heads_in_bucket(settings: Settings) -> list[Head]:
    from lockboard.adapters.aws import Access, open_session
    from lockboard.adapters.witness import read_s3_heads

    place = settings.audit
    if not (place.witness_bucket and place.witness_region):
        raise SettingsError("--witness-bucket: [audit] witness_bucket is not set, so there is none to read")
    access = Access(region=place.witness_region, s3_endpoint_url=place.witness_endpoint_url)
    heads = read_s3_heads(open_session(access).s3, place.witness_bucket, place.witness_prefix)
    if not heads:
        where = f"s3://{place.witness_bucket}/{place.witness_prefix}"
        raise SettingsError(f"--witness-bucket: {where} holds no head of an audit log, so it proves nothing")
    return heads


def _verified(found: Verification, witnessed: int | None) -> Entry:
    """The record of a verification that ended well."""
    return Entry(
        Kind.EVENT,
        "verify",
        typing_person(),
        message=f"{found.checked} records are as they were written.",
        facts={
            "checked": found.checked,
            "head": list(found.head) if found.head else None,
            "tail_proven": found.tail_proven,
            "witnessed": witnessed,
        },
    )


def _print_verification(found: Verification, witnessed: int | None, recorded: int | None) -> None:
    if not found.ok:
        click.echo(f"THE AUDIT LOG WAS CHANGED. {found.problem[:1].upper()}{found.problem[1:]}.")
        click.echo(f"The {found.checked} records before it are as they were written.")
        click.echo(
            "What to do: switch actions off. Keep a copy of the database, of its backups and of every"
            " witness's lines. Check copies with --no-record, which leaves them as they are. Compare the"
            " records from this one on with the newest backup that verifies, and with CloudTrail. If it is"
            " record 1, the key may be another: try the one the log was made with."
        )
        return
    head = f", head {found.head.mac}" if found.head else ""
    click.echo(f"{found.checked} records are as they were written{head}.")
    if witnessed is None:
        click.echo(
            "The tail is not provable without a witness: records cut off the end, or an older copy put back,"
            " would not show. Give --witness FILE or --witness-bucket."
        )
    else:
        click.echo(f"Nothing is missing up to record {witnessed}, the last that a witness saw.")
    if recorded is not None:
        click.echo(f"This verification is record {recorded}.")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--no-team", is_flag=True, help="Without the background team that takes and releases locks.")
def demo(host: str, port: int, no_team: bool) -> None:
    """Start the dashboard on an embedded estate: no AWS account, nothing to configure."""
    from lockboard.supervisor import require_free, require_loopback

    try:
        from lockboard.demo.run import run
    except ImportError as error:
        fail(SettingsError(f"the demo needs the emulator: install lockboard[demo] ({error.name} is missing)"))
    try:
        require_loopback(host)
        require_free(host, port)
        sys.exit(run(host=host, port=port, team=not no_team))
    except LockboardError as error:
        fail(error)


main.add_command(user)
main.add_command(token)
