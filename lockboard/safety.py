"""What Lockboard refuses to start with: settings that are each allowed, and together or here are not safe.

`refusals` decides from facts alone; the rest of the module finds the facts.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from lockboard.adapters.store.engine import network_filesystem, sqlite_file
from lockboard.config import Settings
from lockboard.domain.access import EVERY_BACKEND, Role
from lockboard.domain.audit import SHORTEST_KEY, Verification
from lockboard.domain.errors import LockboardError, SettingsError
from lockboard.domain.signin import Account
from lockboard.domain.text import shown, spoken_span

BIND = "LOCKBOARD_BIND"
"""Environment variable: the hosts listened on, between spaces. `lockboard.web.server` sets it."""
ALLOW_ROOT = "LOCKBOARD_ALLOW_ROOT"

MOST_SKEW = timedelta(minutes=15)
"""What AWS itself allows before it refuses every signed request (RequestTimeTooSkewed)."""
SKEW_SECONDS = 3.0
VERIFY_SECONDS = 5.0

Answer = TypeVar("Answer")

_WIDEST_V4, _WIDEST_V6 = 8, 16
_V4_IN_V6 = IPv6Network("::ffff:0:0/96")
_ACTS = (Role.OPERATOR, Role.ADMINISTRATOR)
_FEWEST_CHARACTERS = 8
_PLACEHOLDERS = re.compile(
    r"change.?me|example|password|placeholder|insecure|lockboard|replace|default", re.IGNORECASE
)
_HOST = re.compile(
    r"\.?[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
_OFF = ("", "0", "false", "no", "off")
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_STS")
_TRUSTING_FLAGS = (
    "--forwarded-allow-ips",
    "--forwarder-headers",
    "--header-map",
    "--proxy-protocol",
    "--proxy-allow-from",
)


def require_safe(
    settings: Settings,
    host: str | None,
    environ: Mapping[str, str],
    *,
    uid: int | None = None,
    mounts: str | None = None,
) -> None:
    """Refuse what `refusals` finds. `uid` and `mounts` are this process's own where left out.

    Raises:
        SettingsError: one line for each complaint; it names the setting.
    """
    found = refusals(
        settings,
        host,
        environ,
        uid=os.geteuid() if uid is None else uid,
        mounts=_mounts() if mounts is None else mounts,
    )
    if found:
        raise SettingsError("\n".join(found))


def refusals(
    settings: Settings, host: str | None, environ: Mapping[str, str], *, uid: int, mounts: str = ""
) -> list[str]:
    """Every reason not to start, each beginning with the setting's name; empty where all is well.

    host: what is listened on; None where the environment says it, and what it does not say is taken for an
    address that others reach.  uid: the user who runs this.  mounts: the text of /proc/self/mountinfo.
    """
    hosts = [host] if host is not None else environ.get(BIND, "").split()
    local = bool(hosts) and all(is_loopback(found) for found in hosts)
    return [
        *_mode(settings),
        *_secrets(settings),
        *_reach(settings, hosts, local=local),
        *_names(settings),
        *_networks(settings),
        *_endpoints(settings, environ),
        *_grants(settings),
        *_surroundings(settings, environ, uid),
        *_database(settings, mounts),
    ]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host, as `--host`, a URL or a Host header names it."""
    name = host.removeprefix("[").removesuffix("]").lower()
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _mode(settings: Settings) -> Iterator[str]:
    if settings.auth.mode is None:
        yield (
            "auth.mode: is missing: say how people sign in: oidc, alb, proxy or local; demo asks nobody, and"
            " is for trying it on loopback"
        )


# ------------------------------------------------------------------ secrets


def _secrets(settings: Settings) -> Iterator[str]:
    given = {
        "LOCKBOARD_SECRET_KEY": settings.secret_key,
        "LOCKBOARD_AUDIT_KEY": settings.audit_key,
        "LOCKBOARD_PROXY_SECRET": settings.proxy_secret,
    }
    mode = settings.auth.mode
    if mode not in ("demo", None):
        why = {
            "LOCKBOARD_SECRET_KEY": "forms and sign-ins are signed with it",
            "LOCKBOARD_AUDIT_KEY": "sign-ins are recorded, in a log that is chained with it",
        }
        for name in [name for name in why if not given[name]]:
            yield f"{name}: is missing: {why[name]}: set it, or {name}_FILE, to {_recipe()}"
    if mode == "proxy" and not settings.proxy_secret:
        yield f"LOCKBOARD_PROXY_SECRET: is missing: the proxy proves with it who it is: {_recipe()}"
    if mode == "oidc" and not settings.oidc_client_secret:
        yield "LOCKBOARD_OIDC_CLIENT_SECRET: is missing: set it to what the provider gave to the client"
    for name, value in given.items():
        if value and (problem := weakness(value)):
            yield f"{name}: {problem}: set it to {_recipe()}"
    names = [name for name, value in given.items() if value]
    for index, name in enumerate(names):
        for other in names[:index]:
            if given[name] == given[other]:
                yield f"{name}: is equal to {other}: give each its own"


def _recipe() -> str:
    return f"at least {SHORTEST_KEY} bytes of random text, from `openssl rand -hex 32`"


def weakness(key: str) -> str:
    """Why somebody could guess a key; "" for one that looks random."""
    if len(key.encode()) < SHORTEST_KEY:
        return f"has fewer than {SHORTEST_KEY} bytes"
    if len(set(key)) < _FEWEST_CHARACTERS or any(
        key == (key[:length] * len(key))[: len(key)] for length in range(1, len(key) // 2 + 1)
    ):
        return "repeats itself"
    if sum(ord(b) - ord(a) == 1 for a, b in pairwise(key)) > len(key) // 2:
        return "is a row of neighbours"
    if _PLACEHOLDERS.search(key):
        return "is an example, not a secret"
    return ""


# ------------------------------------------------------------------ addresses and names


def _reach(settings: Settings, hosts: Sequence[str], *, local: bool) -> Iterator[str]:
    """What has to be so where others reach the pages."""
    web, mode = settings.web, settings.auth.mode
    url = _parts(web.public_url or "")
    public_is_local = is_loopback(url.hostname or "")
    listened = " ".join(hosts) or f"an address that {BIND} does not tell"
    if mode == "demo":
        if not local:
            yield (
                "auth.mode: demo asks nobody to sign in, so it is for loopback only, not for"
                f" --host {listened}: listen on 127.0.0.1, or choose oidc, alb, proxy or local"
            )
        if web.public_url and not public_is_local:
            yield "web.public_url: is not loopback's, and auth.mode demo asks nobody to sign in"
        if any(not is_loopback(name) for name in web.trusted_hosts):
            yield "web.trusted_hosts: names more than loopback, and auth.mode demo asks nobody to sign in"
        if web.proxies:
            yield "web.proxies: is given, and auth.mode demo asks nobody to sign in"
    elif not local and mode is not None and not web.public_url:
        yield (
            f"web.public_url: is missing, which --host {listened} needs: give the https address that people"
            " type (its host is trusted; web.trusted_hosts adds further ones)"
        )
    if mode in ("oidc", "alb") and local and not web.public_url:
        yield f"web.public_url: is missing, and auth.mode {mode} sends people back to it"
    if url.scheme == "http" and not public_is_local:
        yield "web.public_url: is plain http, where anybody on the way can take over a session: use https"


def _names(settings: Settings) -> Iterator[str]:
    for name in settings.web.trusted_hosts:
        if not (is_loopback(name) or _HOST.fullmatch(name) or _is_address(name)):
            yield (
                f"web.trusted_hosts: {shown(name, 80)!r} is no host name: write it without scheme, port and"
                ' `*`; ".example.com" stands for every name below it'
            )


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        return False


def _networks(settings: Settings) -> Iterator[str]:
    given = {"web.proxies": settings.web.proxies}
    if settings.auth.proxy:
        given["auth.proxy.addresses"] = settings.auth.proxy.addresses
    for setting, networks in given.items():
        for network in networks:
            if problem := too_wide(network):
                yield f"{setting}: {shown(network, 80)!r} {problem}"


def too_wide(network: str) -> str:
    """Why a network may not be believed; "" for one that may."""
    try:
        found = ip_network(network)
    except ValueError:
        return (
            "is no network: write an address, or one such as 10.1.0.0/16 with no bits set behind its length"
        )
    if isinstance(found, IPv4Network):
        wide = found.prefixlen < _WIDEST_V4
    elif found.subnet_of(_V4_IN_V6):
        wide = found.prefixlen - 96 < _WIDEST_V4
    else:
        wide = found.prefixlen < _WIDEST_V6
    if wide:
        return (
            f"believes too many: /{_WIDEST_V4} is the widest, /{_WIDEST_V6} with IPv6; name your proxies' own"
        )
    return ""


def _endpoints(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Whatever states, locks and sign-ins travel over."""
    urls = {
        f"backends[{index}].{name}": getattr(backend, name)
        for index, backend in enumerate(settings.backends)
        for name in ("s3_endpoint_url", "dynamodb_endpoint_url")
    }
    urls["audit.witness_endpoint_url"] = settings.audit.witness_endpoint_url
    urls["auth.oidc.issuer"] = settings.auth.oidc.issuer if settings.auth.oidc else None
    urls |= {name: environ.get(name) for name in _ENDPOINTS}
    for name, url in urls.items():
        if url and _plain(url):
            yield f"{name}: is plain http to another machine, where anybody on the way reads along: use https"
    if (proxy := settings.auth.proxy) and proxy.sign_out_url:
        way_out = _parts(proxy.sign_out_url)
        if _plain(proxy.sign_out_url) or not (
            way_out.scheme in ("http", "https") or _is_path(proxy.sign_out_url)
        ):
            yield "auth.proxy.sign_out_url: has to be an https address, or a path that begins with /"


def _plain(url: str) -> bool:
    parts = _parts(url)
    return parts.scheme.lower() == "http" and not is_loopback(parts.hostname or "")


def _parts(url: str) -> SplitResult:
    """Of what is no URL, those of one that leads to another machine in plain http: it is refused."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("http://invalid")


def _is_path(text: str) -> bool:
    return text.startswith("/") and not text.startswith(("//", "/\\"))


# ------------------------------------------------------------------ people


def _grants(settings: Settings) -> Iterator[str]:
    auth = settings.auth
    names = {EVERY_BACKEND, *(backend.name for backend in settings.backends)}
    for index, grant in enumerate(auth.grants):
        for name in [name for name in grant.backends if name not in names]:
            yield f"auth.grants[{index}].backends: there is no backend {shown(name, 80)!r}"
        for prefix in [prefix for prefix in grant.prefixes if any(map(_unseen, prefix))]:
            yield f"auth.grants[{index}].prefixes: {shown(prefix, 80)!r} holds characters that nobody sees"
    if (
        settings.actions.enabled
        and auth.mode in ("oidc", "alb", "proxy")
        and not any(grant.role in _ACTS for grant in auth.grants)
    ):
        yield (
            "actions.enabled: is true, but no auth.grants entry has the role operator or administrator, so"
            " nobody could act: add one, or set it to false"
        )


def _unseen(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def warnings(settings: Settings, accounts: Iterable[Account] = ()) -> list[str]:
    """What is safe, but hardly meant. accounts: the local ones."""
    auth, found = settings.auth, []
    if auth.mode in ("oidc", "alb", "proxy") and not auth.grants:
        found.append("auth.grants: is empty, so nobody who signs in sees anything")
    if auth.mode == "local":
        able = [account for account in accounts if not account.disabled]
        if not able:
            found.append("auth.mode: local has no account yet: add one with `lockboard user add`")
        elif settings.actions.enabled and not any(
            grant.role in _ACTS for account in able for grant in account.grants
        ):
            found.append(
                "actions.enabled: is true, but no account has the role operator or administrator: see"
                " `lockboard user role`"
            )
    return found


# ------------------------------------------------------------------ where it runs


def _surroundings(settings: Settings, environ: Mapping[str, str], uid: int) -> Iterator[str]:
    if environ.get("FLASK_DEBUG", "").lower() not in _OFF:
        yield "FLASK_DEBUG: is set, and shows code and values to whoever meets an error: unset it"
    if environ.get("FLASK_ENV", "").lower() == "development":
        yield "FLASK_ENV: is development: unset it"
    if environ.get("PYTHONDEVMODE", "").lower() not in _OFF:
        yield "PYTHONDEVMODE: is set, which is for developing: unset it"
    believed = [part.strip() for part in environ.get("FORWARDED_ALLOW_IPS", "").split(",") if part.strip()]
    if any(part == "*" or too_wide(part) for part in believed):
        yield (
            "FORWARDED_ALLOW_IPS: believes too many or cannot be read: unset it; web.proxies says whose"
            " X-Forwarded-* headers are believed"
        )
    if any(map(_trusts, _words(environ.get("GUNICORN_CMD_ARGS", "")))):
        yield "GUNICORN_CMD_ARGS: changes whose headers are believed: leave that to web.proxies"
    if uid == 0 and settings.auth.mode != "demo" and environ.get(ALLOW_ROOT) != "1":
        yield f"{ALLOW_ROOT}: is not 1, and this is root, which Lockboard need not be: run it as another user"


def _words(args: str) -> list[str]:
    """As gunicorn takes them apart; it does not start with what cannot be."""
    try:
        return shlex.split(args)
    except ValueError:
        return []


def _trusts(word: str) -> bool:
    """Whether it is one of the flags, or so much of its beginning that gunicorn takes it for one."""
    name = word.partition("=")[0]
    return len(name) > len("--") and any(flag.startswith(name) for flag in _TRUSTING_FLAGS)


def _database(settings: Settings, mounts: str) -> Iterator[str]:
    file = sqlite_file(settings.store_url)
    kind = network_filesystem(file.parent.resolve() / file.name, mounts) if file else None
    if kind:
        yield (
            f"database.url: {shown(str(file), 1024)} is on a network file system ({kind}), where SQLite's"
            " locks do not hold: give a place on a disk of this machine, or take PostgreSQL"
        )


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:  # not Linux
        return ""


@contextmanager
def only_server(store_url: str) -> Iterator[Sequence[int]]:
    """Keep every other `lockboard serve` from a SQLite database while the block runs.

    By an advisory lock on a file beside it, which the system lets go when this process ends, however it ends,
    and every child that was given the descriptors this yields. Reading and administering commands do not ask
    for it. PostgreSQL takes as many as one likes.

    Raises:
        SettingsError: another one has it, or the file cannot be made.
    """
    file = sqlite_file(store_url)
    if file is None:
        yield ()
        return
    lock = file.with_name(file.name + ".serve.lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"database.url: {lock} cannot be made: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            raise SettingsError(
                f"database.url: another `lockboard serve` (process {shown(holder, 20)}), or what is left of"
                f" it, works with {file}: end that one (`fuser {lock}` names its processes), or give this one"
                " a database of its own"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield (handle,)
    finally:
        os.close(handle)


# ------------------------------------------------------------------ what has to be asked


def skew_refusals(skews: Mapping[str, timedelta | None]) -> list[str]:
    """For each backend whose answer shows that this machine's clock is wrong. None is no answer, which is no
    reason: the pages say by themselves that a backend cannot be read.
    """
    return [
        f"backends.{name}: this machine's clock is {spoken_span(abs(skew))}"
        f" {'ahead of' if skew > timedelta() else 'behind'} AWS's, more than {spoken_span(MOST_SKEW)}: set it"
        for name, skew in skews.items()
        if skew is not None and abs(skew) > MOST_SKEW
    ]


def measured_skews(
    askers: Mapping[str, Callable[[], timedelta | None]], seconds: float = SKEW_SECONDS
) -> dict[str, timedelta | None]:
    """What each asker answers, all asked at once; None for one that fails or takes longer than `seconds`."""
    answers = within(askers, seconds)
    return {name: answers.get(name) for name in askers}


def chain_refusals(check: Callable[[], Verification], seconds: float = VERIFY_SECONDS) -> list[str]:
    """Where actions are on: whether the audit log is as it was written. One so long that it takes more than
    `seconds` is left to the web process, which begins no action once it has found a change.
    """

    def found() -> str:
        try:
            return check().problem
        except LockboardError as error:
            return str(error)

    problem = within({"log": found}, seconds).get("log")
    if not problem:
        return []
    said = (
        f"LOCKBOARD_AUDIT_KEY: the audit log cannot be continued with this key: {problem}. Run"
        " `lockboard audit verify`; with actions.enabled = false Lockboard shows the states meanwhile"
    )
    return [said]


def within(askers: Mapping[str, Callable[[], Answer]], seconds: float) -> dict[str, Answer]:
    """What each asker answers within so many seconds, all asked at once. One that is late or fails is left
    out, and nothing waits for it any more.
    """
    answers: SimpleQueue[tuple[str, Answer]] = SimpleQueue()

    def ask(name: str, asker: Callable[[], Answer]) -> None:
        with suppress(LockboardError):
            answers.put((name, asker()))
        done.release()

    done = threading.Semaphore(0)
    for name, asker in askers.items():
        threading.Thread(target=ask, args=(name, asker), daemon=True, name=f"ask-{name}").start()
    ends = time.monotonic() + seconds
    for _ in askers:
        if not done.acquire(timeout=max(0.0, ends - time.monotonic())):
            break
    found: dict[str, Answer] = {}
    while not answers.empty():
        name, answer = answers.get_nowait()
        found[name] = answer
    return found
