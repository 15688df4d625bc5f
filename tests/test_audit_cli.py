"""`lockboard audit verify` as somebody types it: its exit status, and the words that an auditor acts on."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url, text

from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.store import SqlAudit, migrate, open_audit_engine, open_engine
from lockboard.adapters.witness import S3Witness, stdout_witness
from lockboard.cli import main
from lockboard.domain.audit import AuditQuery, Entry, Head, Kind, Person, Record, Witness
from tests.databases import postgresql_server, sqlite_url
from tests.emulators import REGION, Emulator

KEY = "the key of the audit log in tests"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RECORDS = 12
TAIL_NOT_PROVABLE = "The tail is not provable without a witness"


def silent(_head: Head, _at: datetime) -> None:
    return


def an_event(number: int = 0, person: str = "kim@example.com") -> Entry:
    return Entry(Kind.EVENT, "export", Person(person, "demo", "127.0.0.1"), reason=f"reason {number}")


@dataclass(frozen=True)
class Estate:
    """A database with a log of `RECORDS` records, what a witness kept of it, and settings that name it."""

    folder: Path
    url: str

    def log(self, witness: Witness = silent) -> SqlAudit:
        return SqlAudit(open_audit_engine(self.url), KEY.encode(), lambda: NOON, witness)

    @property
    def witness(self) -> Path:
        return self.folder / "lockboard.log"

    def fill(self) -> None:
        migrate(open_engine(self.url))
        with self.witness.open("w", encoding="utf-8") as stream:
            stream.write("[INFO] Listening at: http://127.0.0.1:8080\n")
            log = self.log(stdout_witness(stream))
            for number in range(1, RECORDS + 1):
                log.append(an_event(number))

    def settings(self, more: str = "") -> str:
        path = self.folder / "lockboard.toml"
        path.write_text(
            f'[[backends]]\nname = "only"\nbucket = "acme"\nregion = "{REGION}"\n{more}', encoding="utf-8"
        )
        return str(path)

    def verify(
        self,
        *words: str,
        more: str = "",
        feed: str | None = None,
        environ: Mapping[str, str | None] | None = None,
    ) -> Result:
        env = {"LOCKBOARD_DATABASE_URL": self.url, "LOCKBOARD_AUDIT_KEY": KEY, **(environ or {})}
        words = ("audit", "verify", "--config", self.settings(more), *words)
        return CliRunner(env=env).invoke(main, words, input=feed)

    def change(self, *statements: str) -> None:
        """As somebody who owns the database."""
        engine = open_engine(self.url)
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                for name in ("no_update", "no_delete", "no_replace"):
                    connection.execute(text(f"DROP TRIGGER audit_{name}"))
            else:
                connection.execute(text("DROP TRIGGER audit_insert_only ON audit"))
            for statement in statements:
                connection.execute(text(statement))

    def records(self) -> list[Record]:
        return list(self.log().export(AuditQuery()))[::-1]


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    made = Estate(tmp_path, sqlite_url(tmp_path))
    made.fill()
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as server:
        yield server.fresh()


@pytest.mark.postgres
def test_a_log_in_postgresql_is_checked_recorded_and_found_changed(server: str, tmp_path: Path) -> None:
    estate = Estate(tmp_path, server)
    estate.fill()
    result = estate.verify("--witness", str(estate.witness))
    assert (result.exit_code, estate.records()[-1].entry.action) == (0, "verify")
    estate.change("UPDATE audit SET person = 'nobody' WHERE seq = 5")
    result = estate.verify()
    assert result.exit_code == 1
    assert "Record 5: a column beside it says something else than the record." in result.stdout


def test_an_untouched_log_is_exit_status_0_and_its_tail_is_said_not_to_be_provable(estate: Estate) -> None:
    head = estate.records()[-1]
    result = estate.verify()
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{RECORDS} records are as they were written, head {head.mac}.",
        (
            f"{TAIL_NOT_PROVABLE}: records cut off the end, or an older copy put back, would not show."
            " Give --witness FILE or --witness-bucket."
        ),
        f"This verification is record {RECORDS + 1}.",
    ]


def test_with_a_witness_the_last_record_that_it_saw_is_named(estate: Estate) -> None:
    result = estate.verify("--witness", str(estate.witness))
    assert result.exit_code == 0
    assert f"Nothing is missing up to record {RECORDS}, the last that a witness saw." in result.stdout
    assert TAIL_NOT_PROVABLE not in result.stdout


def test_a_verification_is_recorded_and_its_head_goes_to_standard_error(estate: Estate) -> None:
    head = estate.records()[-1]
    result = estate.verify("--witness", str(estate.witness))
    (line,) = result.stderr.splitlines()
    kept = estate.records()[-1]
    assert (json.loads(line)["seq"], json.loads(line)["mac"]) == (kept.seq, kept.mac)
    assert (kept.seq, kept.entry.kind, kept.entry.action) == (RECORDS + 1, Kind.EVENT, "verify")
    assert kept.entry.person.method == "command line"
    assert kept.entry.person.name != ""
    assert kept.entry.facts == {
        "checked": RECORDS,
        "head": [RECORDS, head.mac],
        "tail_proven": True,
        "witnessed": RECORDS,
    }
    with estate.witness.open("a", encoding="utf-8") as stream:
        stream.write(result.stderr)
    assert f"up to record {RECORDS + 1}" in estate.verify("--witness", str(estate.witness)).stdout


def test_a_verification_that_is_not_to_be_recorded_leaves_the_log_as_it_is(estate: Estate) -> None:
    result = estate.verify("--no-record")
    assert (result.exit_code, result.stderr, len(estate.records())) == (0, "", RECORDS)
    assert "This verification is record" not in result.stdout


def test_an_empty_log_is_right(tmp_path: Path) -> None:
    estate = Estate(tmp_path, sqlite_url(tmp_path))
    migrate(open_engine(estate.url))
    result = estate.verify("--no-record")
    assert result.exit_code == 0
    assert result.stdout.startswith("0 records are as they were written.\n")


CHANGES: dict[str, tuple[str, int, str]] = {
    "edited": (
        "UPDATE audit SET body = replace(body, 'reason 5', 'reason 6') WHERE seq = 5",
        5,
        "its MAC does not fit: the record, the one before it or the key is another",
    ),
    "a column edited": (
        "UPDATE audit SET person = 'nobody' WHERE seq = 7",
        7,
        "a column beside it says something else than the record",
    ),
    "removed": ("DELETE FROM audit WHERE seq = 1", 1, "it is missing"),
    "renumbered": ("UPDATE audit SET seq = 99 WHERE seq = 3", 3, "it is missing"),
    "not text": (
        "UPDATE audit SET body = x'ff00' WHERE seq = 9",
        9,
        "its bytes are not those of an audit record",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_log_is_exit_status_1_and_the_first_bad_record_is_named_with_what_to_do(
    estate: Estate, name: str
) -> None:
    statement, seq, problem = CHANGES[name]
    estate.change(statement, "UPDATE audit SET ticket = 'later' WHERE seq = 11")
    result = estate.verify("--witness", str(estate.witness))
    assert result.exit_code == 1
    said, before, advice = result.stdout.splitlines()
    assert said == f"THE AUDIT LOG WAS CHANGED. Record {seq}: {problem}."
    assert before.startswith(f"The {seq - 1} records before it are as they were written")
    assert advice.startswith("What to do: switch actions off.")
    assert result.stderr == ""


def test_a_changed_log_gets_no_record_of_its_verification(estate: Estate) -> None:
    estate.change("UPDATE audit SET ticket = 'x' WHERE seq = 2")
    estate.verify()
    assert len(estate.records()) == RECORDS


def test_a_tail_cut_off_is_found_with_a_witness_and_not_without(estate: Estate) -> None:
    estate.change(f"DELETE FROM audit WHERE seq > {RECORDS - 2}")
    alone = estate.verify("--no-record")
    assert alone.exit_code == 0
    assert TAIL_NOT_PROVABLE in alone.stdout
    result = estate.verify("--witness", str(estate.witness))
    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"THE AUDIT LOG WAS CHANGED. Record {RECORDS - 1}: it is missing, although records up to {RECORDS}"
        " were written.\n"
    )


def test_an_older_copy_on_which_somebody_went_on_is_found_with_a_witness(estate: Estate) -> None:
    estate.change(f"DELETE FROM audit WHERE seq > {RECORDS - 3}")
    log = estate.log()
    for number in range(5):
        log.append(an_event(number, person="somebody else"))
    assert estate.verify("--no-record").exit_code == 0
    result = estate.verify("--witness", str(estate.witness))
    assert result.exit_code == 1
    assert f"Record {RECORDS - 2}: a witness saw another record under this number." in result.stdout


def test_another_key_is_exit_status_1_at_the_first_record_and_the_key_is_suspected(estate: Estate) -> None:
    result = estate.verify(environ={"LOCKBOARD_AUDIT_KEY": "another key of at least thirty-two bytes"})
    assert result.exit_code == 1
    assert "Record 1: its MAC does not fit" in result.stdout
    assert "If it is record 1, the key may be another" in result.stdout
    assert len(estate.records()) == RECORDS


def test_the_key_may_come_from_a_file(estate: Estate) -> None:
    file = estate.folder / "audit.key"
    file.write_text(KEY + "\n", encoding="utf-8")
    environ = {"LOCKBOARD_AUDIT_KEY": None, "LOCKBOARD_AUDIT_KEY_FILE": str(file)}
    assert estate.verify(environ=environ).exit_code == 0


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LOCKBOARD_AUDIT_KEY": None}, "the audit key is not set: set LOCKBOARD_AUDIT_KEY"),
        ({"LOCKBOARD_AUDIT_KEY": "short"}, "LOCKBOARD_AUDIT_KEY: must have at least 32 bytes"),
        ({"LOCKBOARD_DATABASE_URL": "sqlite:////nowhere/lockboard.db"}, "there is no database at /nowhere/"),
        ({"LOCKBOARD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "cannot be opened"),
        ({"LOCKBOARD_DATABASE_URL": "mysql://nobody@127.0.0.1/none"}, "mysql is not supported"),
        ({"LOCKBOARD_DATABASE_URL": "postgresql://kim:hunter2@host:54x/lb"}, "LOCKBOARD_DATABASE_URL"),
        ({"LOCKBOARD_DATABASE_URL": "postgresql://kim:pa@s:hunter2@host/lb"}, "LOCKBOARD_DATABASE_URL"),
        ({"LOCKBOARD_DATABASE_URL": "postgresql://kim:pa@hunter2@host/lb"}, "LOCKBOARD_DATABASE_URL"),
    ],
)
def test_what_cannot_be_checked_is_exit_status_2_in_one_line(
    estate: Estate, environ: dict[str, str | None], said: str
) -> None:
    result = estate.verify(environ=environ)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("lockboard: ")
    assert said in line
    assert KEY not in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "stopped before it had ended"),
        (EOFError(), "stopped before it had ended"),
        (ValueError("hunter2"), "nobody expected ended this command: ValueError at "),
        (PermissionError(13, "Permission denied", "hunter2"), "PermissionError (Permission denied) at "),
    ],
)
def test_a_check_that_was_not_brought_to_its_end_is_exit_status_2_and_never_1(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    monkeypatch.setattr(SqlAudit, "verify", Mock(side_effect=error))
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)  # as in a process that keeps no log
    result = estate.verify()
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "hunter2" not in result.stderr


def test_an_answer_that_nobody_reads_is_exit_status_2(estate: Estate) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lockboard", "audit", "verify", "--config", estate.settings()]
    environ = {**os.environ, "LOCKBOARD_DATABASE_URL": estate.url, "LOCKBOARD_AUDIT_KEY": KEY}
    done = subprocess.run(
        [*command, "--no-record"], env=environ, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.returncode == 2
    assert done.stderr == "lockboard: standard output was closed before all of it was written\n"


def test_a_database_without_a_log_is_exit_status_2(tmp_path: Path) -> None:
    estate = Estate(tmp_path, sqlite_url(tmp_path))
    sqlite3.connect(make_url(estate.url).database or "").close()
    result = estate.verify()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the audit log does not answer: no such table: audit" in result.stderr


def test_a_missing_database_is_not_made(estate: Estate) -> None:
    missing = sqlite_url(estate.folder)
    assert estate.verify(environ={"LOCKBOARD_DATABASE_URL": missing}).exit_code == 2
    assert not Path(make_url(missing).database or "").exists()


@pytest.mark.parametrize("lines", ["", "other\nlines\n", '{"event": "audit_head", "seq": 0, "mac": ""}\n'])
def test_a_witness_file_without_a_head_proves_nothing_and_is_exit_status_2(
    estate: Estate, lines: str
) -> None:
    empty = estate.folder / "empty.log"
    empty.write_text(lines, encoding="utf-8")
    result = estate.verify("--witness", str(estate.witness), "--witness", str(empty))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--witness {empty}: holds no head of an audit log, so it proves nothing" in result.stderr


def test_a_witness_file_that_is_not_there_is_exit_status_2(estate: Estate) -> None:
    result = estate.verify("--witness", str(estate.folder / "missing.log"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "missing.log" in result.stderr


def test_bytes_around_the_heads_that_are_no_text_do_not_matter(estate: Estate) -> None:
    with estate.witness.open("ab") as stream:
        stream.write(b"\xff\xfe\x00audit_head\x80\n" + b"\x00" * 5000)
    assert estate.verify("--witness", str(estate.witness)).exit_code == 0


def test_several_witnesses_and_standard_input_count_together(estate: Estate) -> None:
    lines = estate.witness.read_text(encoding="utf-8").splitlines(keepends=True)
    first = estate.folder / "first.log"
    first.write_text("".join(lines[:4]), encoding="utf-8")
    words = ("--no-record", "--witness", str(first), "--witness", "-")
    result = estate.verify(*words, feed="".join(lines[4:]))
    assert result.exit_code == 0
    assert f"up to record {RECORDS}" in result.stdout
    forked = lines[3].replace(json.loads(lines[3])["mac"][:8], "00000000")
    result = estate.verify(*words, feed=forked)
    assert result.exit_code == 1
    assert "the log was forked or rolled back" in result.stdout


def test_one_json_object_says_the_same(estate: Estate) -> None:
    head = estate.records()[-1]
    result = estate.verify("--json", "--witness", str(estate.witness))
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "ok": True,
        "checked": RECORDS,
        "head": {"seq": RECORDS, "mac": head.mac},
        "bad_seq": None,
        "problem": "",
        "tail_proven": True,
        "witnessed": RECORDS,
        "recorded": RECORDS + 1,
    }
    estate.change("DELETE FROM audit WHERE seq = 4")
    result = estate.verify("--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ok"], found["bad_seq"], found["problem"]) == (False, 4, "record 4: it is missing")
    assert (found["checked"], found["tail_proven"], found["witnessed"], found["recorded"]) == (
        3,
        False,
        None,
        None,
    )


def test_a_verification_that_cannot_be_recorded_says_what_it_found_and_is_exit_status_2(
    estate: Estate,
) -> None:
    estate.change("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END")
    result = estate.verify()
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{RECORDS} records are as they were written")
    assert "did not take the record: no room (--no-record checks without recording it)" in result.stderr
    assert estate.verify("--no-record").exit_code == 0


def test_a_copy_is_checked_offline_without_credentials(estate: Estate, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    place.mkdir()
    source = sqlite3.connect(make_url(estate.url).database or "")
    target = sqlite3.connect(place / "lockboard.db")
    source.backup(target)
    source.close()
    target.close()
    copy = Estate(place, f"sqlite:///{place / 'lockboard.db'}")
    shutil.copy(estate.witness, copy.witness)
    nothing: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("AWS_"))
    result = copy.verify("--no-record", "--witness", str(copy.witness), environ=nothing)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_check_that_is_not_recorded_changes_nothing_of_a_copy_and_needs_no_right_to_write_it(
    estate: Estate, tmp_path: Path
) -> None:
    place = tmp_path / "evidence"
    place.mkdir()
    file = place / "lockboard.db"
    live = sqlite3.connect(make_url(estate.url).database or "")
    with closing(live) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)
    before = file.read_bytes()
    file.chmod(0o444)
    place.chmod(0o555)
    result = estate.verify("--no-record", environ={"LOCKBOARD_DATABASE_URL": f"sqlite:///{file}"})
    place.chmod(0o755)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{RECORDS} records are as they were written")
    assert file.read_bytes() == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert list(place.iterdir()) == [file]


def test_a_check_that_is_not_recorded_sees_what_is_still_in_the_journal(estate: Estate) -> None:
    log = estate.log()
    log.append(an_event(RECORDS + 1))
    result = estate.verify("--no-record")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{RECORDS + 1} records are as they were written")


def test_a_broken_log_is_to_be_checked_as_a_copy_that_is_left_as_it_is(estate: Estate) -> None:
    estate.change("UPDATE audit SET ticket = 'x' WHERE seq = 2")
    assert "Check copies with --no-record, which leaves them as they are" in estate.verify().stdout


# A witness's bucket


def in_bucket(estate: Estate, emulator: Emulator) -> tuple[str, Callable[..., Result]]:
    """The estate's heads in a bucket, and the command that reads them."""
    bucket = emulator.make_bucket()
    client = open_session(Access(region=REGION, s3_endpoint_url=emulator.url)).s3
    witness = S3Witness(client, bucket, "lockboard-audit/", silent, lambda: NOON, stream=io.StringIO())
    for record in estate.records():
        witness(Head(record.seq, record.mac), record.at)
    witness.close(30)
    more = (
        f'[audit]\nwitness_bucket = "{bucket}"\nwitness_region = "{REGION}"\n'
        f'witness_endpoint_url = "{emulator.url}"\n'
    )

    def verify(*words: str) -> Result:
        return estate.verify("--witness-bucket", *words, more=more)

    return bucket, verify


def test_the_bucket_of_the_settings_is_a_witness_as_a_file_is(estate: Estate, emulator: Emulator) -> None:
    _, verify = in_bucket(estate, emulator)
    result = verify("--no-record")
    assert result.exit_code == 0
    assert f"Nothing is missing up to record {RECORDS}" in result.stdout
    estate.change(f"DELETE FROM audit WHERE seq = {RECORDS}")
    result = verify()
    assert result.exit_code == 1
    assert f"Record {RECORDS}: it is missing" in result.stdout


def test_a_head_overwritten_in_the_bucket_still_counts(estate: Estate, emulator: Emulator) -> None:
    bucket, verify = in_bucket(estate, emulator)
    other = json.dumps({"event": "audit_head", "seq": 3, "mac": "0" * 64})
    emulator.s3.put_object(Bucket=bucket, Key=f"lockboard-audit/{3:020d}.json", Body=other.encode())
    result = verify()
    assert result.exit_code == 1
    assert "Record 3: a witness saw two different records under this number" in result.stdout


def test_a_bucket_that_cannot_be_read_or_holds_nothing_is_exit_status_2(
    estate: Estate, moto: Emulator
) -> None:
    empty = moto.make_bucket()
    for bucket, said in ((empty, "holds no head of an audit log"), ("no-such-bucket-here", "NoSuchBucket")):
        more = (
            f'[audit]\nwitness_bucket = "{bucket}"\nwitness_region = "{REGION}"\n'
            f'witness_endpoint_url = "{moto.url}"\n'
        )
        result = estate.verify("--witness-bucket", more=more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr


def test_a_witness_bucket_that_no_setting_names_is_exit_status_2(estate: Estate) -> None:
    result = estate.verify("--witness-bucket")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "[audit] witness_bucket is not set" in result.stderr


def test_the_help_says_what_each_exit_status_means() -> None:
    result = CliRunner().invoke(main, ["audit", "verify", "--help"])
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    for words in (
        "0 every record is as it was written",
        "1 the log was changed",
        "2 it could not be checked",
    ):
        assert words in said
