"""Settings: one TOML file and the environment, read once.

A wrong setting stops the start, by its name and with what is allowed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lockboard.domain.access import EVERY_BACKEND, Area, Grant, Identity, Rights, Role
from lockboard.domain.audit import SHORTEST_KEY
from lockboard.domain.errors import SettingsError
from lockboard.domain.keys import DEFAULT_WORKSPACE_PREFIX, matcher
from lockboard.domain.model import Backend, Policy
from lockboard.domain.people import is_plain_prefix
from lockboard.domain.text import masked

SECRETS = ("secret_key", "audit_key", "database_url", "oidc_client_secret", "proxy_secret")
"""Settings that only the environment gives: LOCKBOARD_<NAME>, or LOCKBOARD_<NAME>_FILE naming a file that
holds it.
"""

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_LONGEST_DAYS = 36_500
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)\s*\Z")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.match(value) if isinstance(value, str) else None
    if not found:
        raise ValueError('write a number and a unit: "45s", "30m", "1h" or "2d"')
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST_DAYS * _UNITS["d"]:
        raise ValueError(f"is longer than {_LONGEST_DAYS}d")
    return timedelta(seconds=seconds)


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Verbatim = Annotated[str, StringConstraints(strip_whitespace=False)]
"""Something that keys are compared with: a space at its end is part of it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class DatabaseSettings(_Section):
    """Where the inventory is kept."""

    url: str = Field(
        default="",
        description="SQLAlchemy URL; SQLite by default, PostgreSQL where there is more than one replica",
    )


class ActionSettings(_Section):
    """Whether Lockboard may change anything in AWS. Off unless switched on."""

    enabled: bool = False
    second_person: bool = Field(
        default=False, description="Whether an action on a protected key waits for somebody else's approval"
    )
    approval_lasts: Duration = timedelta(minutes=30)

    @field_validator("approval_lasts")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= value <= timedelta(days=1):
            raise ValueError("must lie between 1m and 1d")
        return value


class GrantSettings(_Section):
    """Who has a role, and where: members of these groups and these people, on these backends and prefixes."""

    role: Role
    groups: tuple[str, ...] = ()
    people: tuple[str, ...] = Field(
        default=(), description="Names, or subjects (with a `|`), as the identity provider gives them"
    )
    backends: tuple[str, ...] = (EVERY_BACKEND,)
    prefixes: tuple[Verbatim, ...] = ("",)
    unlock_unsuspected: bool = Field(
        default=False, description="Whether an operator may also release locks that are not suspected stale"
    )
    protected: bool = Field(
        default=False,
        description=("Whether an operator may also act on protected keys, and approve such actions"),
    )

    @field_validator("prefixes")
    @classmethod
    def _plain(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Keys are compared as S3 has them and as pages show them; a plain prefix means the same in both."""
        if any(not is_plain_prefix(prefix) for prefix in value):
            raise ValueError(
                "a prefix has a backslash or a character that cannot be seen: name a plain beginning of keys"
            )
        return value

    @model_validator(mode="after")
    def _for_somebody(self) -> GrantSettings:
        if not (self.groups or self.people):
            raise ValueError("is for nobody: name groups or people")
        if not (self.backends and self.prefixes):
            raise ValueError("covers nothing: leave backends and prefixes out to cover everything")
        if (self.unlock_unsuspected or self.protected) and self.role is not Role.OPERATOR:
            raise ValueError("unlock_unsuspected and protected belong to the role operator")
        return self

    def is_for(self, identity: Identity) -> bool:
        """Whether somebody has it. Of `people`, an entry with a `|` is a subject and any other a name: who
        chooses what they are called is not to choose a subject of somebody else.
        """
        return bool(identity.groups.intersection(self.groups)) or any(
            entry == (identity.subject if "|" in entry else identity.name) for entry in self.people
        )

    def grants(self) -> tuple[Grant, ...]:
        """One for each backend and prefix."""
        return tuple(
            Grant(self.role, Area(backend, prefix), self.unlock_unsuspected, self.protected)
            for backend in self.backends
            for prefix in self.prefixes
        )


class OidcSettings(_Section):
    """An OpenID provider. The client's secret comes from LOCKBOARD_OIDC_CLIENT_SECRET."""

    issuer: str = Field(pattern=r"^https?://[^/?#]+[^?#]*$")
    client_id: str = Field(min_length=1)
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    name_claim: str = "email"
    groups_claim: str = "groups"
    ca_file: Path | None = Field(
        default=None, description=("Certificates to trust, where the system's do not do")
    )


class AlbSettings(_Section):
    """An AWS load balancer that signs people in and passes `x-amzn-oidc-data` on."""

    arn: str = Field(
        pattern=r"^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:\d{12}:loadbalancer/app/[A-Za-z0-9-]+/[0-9a-f]+$"
    )
    issuer: str = Field(pattern=r"^https://")
    client_id: str = Field(min_length=1)
    name_claim: str = "email"
    groups_claim: str = "groups"


class ProxySettings(_Section):
    """A reverse proxy that signs people in. Its secret comes from LOCKBOARD_PROXY_SECRET."""

    addresses: tuple[str, ...] = Field(min_length=1, description="Networks that the proxy calls from (CIDR)")
    secret_header: str = "X-Lockboard-Proxy-Secret"  # noqa: S105 - its name
    user_header: str = "X-Forwarded-User"
    name_header: str = "X-Forwarded-Email"
    groups_header: str = "X-Forwarded-Groups"
    sign_out_url: str = Field(default="", description="Where the proxy signs people out")


class AuthSettings(_Section):
    """How people sign in. One mode; without one nothing is served."""

    mode: Literal["oidc", "alb", "proxy", "local", "demo"] | None = None
    grants: tuple[GrantSettings, ...] = ()
    oidc: OidcSettings | None = None
    alb: AlbSettings | None = None
    proxy: ProxySettings | None = None

    @model_validator(mode="after")
    def _mode_is_described(self) -> AuthSettings:
        for mode in ("oidc", "alb", "proxy"):
            if (self.mode == mode) != (getattr(self, mode) is not None):
                there = "is missing" if self.mode == mode else "is given"
                raise ValueError(f'[auth.{mode}] {there}: it belongs to mode = "{mode}", and only to it')
        if self.mode in ("local", "demo") and self.grants:
            raise ValueError(
                f'grants do not belong to mode = "{self.mode}": '
                + (
                    "`lockboard user role` says what an account may do"
                    if self.mode == "local"
                    else "leave them out"
                )
            )
        return self

    def rights(self, identity: Identity) -> Rights:
        """What the grants give to somebody."""
        return Rights(
            tuple(grant for found in self.grants if found.is_for(identity) for grant in found.grants())
        )


class AuditSettings(_Section):
    """Where the heads of the audit log go besides standard output, so that a cut tail shows."""

    witness_bucket: str | None = Field(
        default=None, min_length=3, max_length=2048, description="An S3 bucket with Object Lock"
    )
    witness_region: str | None = Field(default=None, pattern=r"^[a-z0-9-]{3,40}$")
    witness_prefix: Verbatim = Field(default="lockboard-audit/", max_length=512)
    witness_endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^/]+")

    @model_validator(mode="after")
    def _region_for_bucket(self) -> AuditSettings:
        if self.witness_bucket and not self.witness_region:
            raise ValueError("witness_bucket is given without witness_region: name the bucket's region")
        return self


class RefreshSettings(_Section):
    """How often AWS is read."""

    every: Duration = timedelta(seconds=15)

    @field_validator("every")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(days=1):
            raise ValueError("must lie between 1s and 1d")
        return value


class WebSettings(_Section):
    """The pages."""

    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#@]+/?$",
        description="The address that people type; its host is trusted",
    )
    trusted_hosts: tuple[str, ...] = Field(
        default=(), description="Further host names that requests may carry, besides those of loopback"
    )
    proxies: tuple[str, ...] = Field(
        default=(),
        description="Networks (CIDR) of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed",
    )


class BackendSettings(_Section):
    """One bucket, how it is reached, and how its keys are judged."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    bucket: str = Field(min_length=3, max_length=2048)
    region: str = Field(pattern=r"^[a-z0-9-]{3,40}$")
    dynamodb_table: str | None = Field(default=None, min_length=3, max_length=1011)
    prefix: Verbatim = Field(default="", max_length=1024)
    include: tuple[Verbatim, ...] = ("*.tfstate",)
    protected: tuple[Verbatim, ...] = ()
    stale_after: Duration = timedelta(hours=1)
    stale_after_by_prefix: dict[Verbatim, Duration] = Field(default_factory=dict)
    workspace_key_prefix: Verbatim = DEFAULT_WORKSPACE_PREFIX
    sweep_every: Duration = timedelta(hours=1)
    role_arn: str | None = Field(default=None, pattern=r"^arn:[a-z-]+:iam::\d{12}:role/.+$")
    actor_role_arn: str | None = Field(
        default=None,
        pattern=r"^arn:[a-z-]+:iam::\d{12}:role/.+$",
        description="Role assumed for each action alone; without it actions use the reader's credentials",
    )
    actor_source_identity: bool = Field(
        default=False,
        description="Whether the person's name is also set as the source identity of an action's session",
    )
    external_id: str | None = Field(default=None, min_length=2, max_length=1224)
    profile: str | None = None
    s3_endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^/]+")
    dynamodb_endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^/]+")

    @field_validator("include")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(value):
            raise ValueError('needs at least one pattern, such as "*.tfstate"')
        return value

    @model_validator(mode="after")
    def _role_for_external_id(self) -> BackendSettings:
        if self.external_id and not (self.role_arn or self.actor_role_arn):
            raise ValueError(
                "external_id is given without role_arn: name the role to assume, or leave external_id out"
            )
        if self.actor_source_identity and not self.actor_role_arn:
            raise ValueError("actor_source_identity is given without actor_role_arn: name the role it is for")
        return self

    def backend(self, settle: timedelta = timedelta(seconds=10)) -> Backend:
        """The backend as the domain knows it.

        A mismatch under a lock is taken for a write under way half as long again as `settle`.
        """
        is_protected = matcher(self.protected) if self.protected else lambda key: False
        limits = sorted(self.stale_after_by_prefix.items(), key=lambda pair: -len(pair[0]))

        def policy_for(key: str) -> Policy:
            stale_after = next(
                (limit for prefix, limit in limits if key.startswith(prefix)), self.stale_after
            )
            return Policy(
                stale_after=stale_after, settle=settle, in_flight=settle * 1.5, protected=is_protected(key)
            )

        return Backend(
            name=self.name,
            bucket=self.bucket,
            region=self.region,
            table=self.dynamodb_table,
            prefix=self.prefix,
            state_key=matcher(self.include),
            policy_for=policy_for,
            workspace_prefix=self.workspace_key_prefix,
            sweep_every=self.sweep_every,
        )


class Settings(BaseSettings):
    """Everything Lockboard is told. Secrets come from the environment, the rest from the file."""

    model_config = SettingsConfigDict(env_prefix="LOCKBOARD_", extra="forbid", frozen=True)

    database: DatabaseSettings = DatabaseSettings()
    actions: ActionSettings = ActionSettings()
    audit: AuditSettings = AuditSettings()
    auth: AuthSettings = AuthSettings()
    refresh: RefreshSettings = RefreshSettings()
    web: WebSettings = WebSettings()
    backends: tuple[BackendSettings, ...] = Field(min_length=1)
    database_url: str | None = None
    secret_key: str | None = None
    audit_key: str | None = None
    oidc_client_secret: str | None = None
    proxy_secret: str | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # the environment is read by `load`, which alone knows *_FILE

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        names = [backend.name for backend in self.backends]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"backends: the name {twice[0]!r} is used twice; give each backend its own")
        places = [(backend.bucket, backend.prefix) for backend in self.backends]
        if len(set(places)) < len(places):
            raise ValueError(
                "backends: two of them have the same bucket and prefix; list a bucket once, or give"
                " prefixes that differ"
            )
        return self

    @model_validator(mode="after")
    def _keys(self) -> Settings:
        for name in ("secret_key", "audit_key"):
            value = getattr(self, name)
            variable = f"LOCKBOARD_{name.upper()}"
            if value is not None and len(value.encode()) < SHORTEST_KEY:
                raise ValueError(f"{variable}: must have at least {SHORTEST_KEY} bytes of random text")
        if self.secret_key is not None and self.secret_key == self.audit_key:
            raise ValueError("LOCKBOARD_SECRET_KEY and LOCKBOARD_AUDIT_KEY are equal: give each its own")
        return self

    @property
    def store_url(self) -> str:
        """Where the inventory is kept: the environment before the file, else a SQLite file in the current
        user's state folder.
        """
        if self.database_url or self.database.url:
            return self.database_url or self.database.url
        return f"sqlite:///{default_folder() / 'lockboard.db'}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names that requests may carry besides loopback's: of the public address and those listed."""
        own = urlsplit(self.web.public_url).hostname if self.web.public_url else None
        return (*((own,) if own else ()), *self.web.trusted_hosts)

    @property
    def in_front(self) -> tuple[str, ...]:
        """The networks of proxies whose word on the browser's address and scheme is taken."""
        signs_in = self.auth.proxy.addresses if self.auth.proxy else ()
        return tuple(dict.fromkeys((*self.web.proxies, *signs_in)))

    @property
    def secure(self) -> bool:
        """Whether people come by https."""
        return (self.web.public_url or "").startswith("https://")


def default_folder() -> Path:
    """Where the inventory is kept if no setting says otherwise: the user's folder for state (XDG).

    Raises:
        SettingsError: this user has no home.
    """
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "lockboard"
    except RuntimeError:
        raise SettingsError(
            "[database] url: is missing, and this user has no home folder to keep a database in: set it to"
            " sqlite:////path/to/file or to a PostgreSQL URL"
        ) from None


class SettingLine(NamedTuple):
    """One effective setting as the settings page shows it. inner: about people, so for administrators."""

    name: str
    value: str
    source: str
    inner: bool = False


def load(path: Path | None, environ: Mapping[str, str], *, acts: bool = True) -> Settings:
    """Read the file, put the environment's secrets over it, and check everything.

    acts: False for a command that only reads: it needs none of the keys that actions need.

    Raises:
        SettingsError: names the setting and says what is allowed.
    """
    chosen = path or (Path(environ["LOCKBOARD_CONFIG"]) if environ.get("LOCKBOARD_CONFIG") else None)
    if chosen is None:
        raise SettingsError(
            "no configuration: give --config FILE or set LOCKBOARD_CONFIG (an example ships as"
            " docs/lockboard.example.toml)"
        )
    try:
        data = tomllib.loads(chosen.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{chosen}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{chosen}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{chosen}: is not valid TOML: {error}") from None
    misplaced = sorted(set(data) & set(SECRETS))
    if misplaced:
        name = misplaced[0]
        raise SettingsError(
            f"{chosen}: {name} does not belong in the file: set LOCKBOARD_{name.upper()} or"
            f" LOCKBOARD_{name.upper()}_FILE"
        )
    data |= _secrets(environ)
    try:
        settings = Settings(**data)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{chosen}: {line}" for line in _complaints(error))) from None
    missing = [name for name in ("secret_key", "audit_key") if getattr(settings, name) is None]
    if acts and settings.actions.enabled and missing:
        variable = f"LOCKBOARD_{missing[0].upper()}"
        raise SettingsError(
            f"{chosen}: actions.enabled: needs {variable} (or {variable}_FILE): at least {SHORTEST_KEY} bytes"
            " of random text, from `openssl rand -hex 32`"
        )
    return settings


def _secrets(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in SECRETS:
        variable = f"LOCKBOARD_{name.upper()}"
        if environ.get(variable) and environ.get(variable + "_FILE"):
            raise SettingsError(f"{variable} and {variable}_FILE are both set; keep one")
        if environ.get(variable):
            found[name] = environ[variable]
        elif environ.get(variable + "_FILE"):
            try:
                found[name] = Path(environ[variable + "_FILE"]).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise SettingsError(
                    f"{variable}_FILE: {environ[variable + '_FILE']} cannot be read"
                ) from None
    return found


def _complaints(error: ValidationError) -> list[str]:
    """One line for each wrong setting; the value itself is left out, since it may be a secret in the wrong
    place.
    """
    lines = []
    inside = any(len(item["loc"]) > 1 and item["loc"][0] == "backends" for item in error.errors())
    for item in error.errors(include_url=False, include_input=False):
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(
            "."
        )
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such setting"
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] == "too_short" and where == "backends":
            if inside:
                continue  # a backend with a wrong setting is not counted as one
            message = "is missing: configure at least one [[backends]] with name, bucket and region"
        elif item["type"] == "string_pattern_mismatch":
            message = f"must look like {item.get('ctx', {}).get('pattern', 'the documented form')}"
        lines.append(f"{where}: {message}" if where else message)
    return lines


def effective(settings: Settings, environ: Mapping[str, str]) -> list[SettingLine]:
    """Every setting with its value and where that came from; secrets masked."""
    lines: list[SettingLine] = []
    given = settings.model_dump(exclude_unset=True)
    for section in ("database", "refresh", "actions", "audit", "web"):
        values: dict[str, Any] = getattr(settings, section).model_dump()
        for name, value in values.items():
            source = "file" if name in given.get(section, {}) else "default"
            lines.append(SettingLine(f"{section}.{name}", _spoken(value), source))
    lines += _effective_auth(settings.auth)
    for index, backend in enumerate(settings.backends):
        for name, value in backend.model_dump().items():
            source = "file" if name in given["backends"][index] else "default"
            lines.append(
                SettingLine(
                    f"backends.{backend.name}.{name}",
                    "••••" if name == "external_id" and value else _spoken(value),
                    source,
                )
            )
    for name in SECRETS:
        value = getattr(settings, name)
        shown_value = masked(value) if name == "database_url" and value else "••••" if value else "not set"
        file_given = bool(environ.get(f"LOCKBOARD_{name.upper()}_FILE"))
        source = "environment, by file" if file_given else "environment"
        lines.append(SettingLine(name, shown_value, source if value else "default"))
    return lines


def _effective_auth(auth: AuthSettings) -> Iterator[SettingLine]:
    yield SettingLine("auth.mode", auth.mode or "not set", "file" if auth.mode else "default")
    chosen = {"oidc": auth.oidc, "alb": auth.alb, "proxy": auth.proxy}.get(auth.mode or "")
    given_here = chosen.model_fields_set if chosen else set()
    for name, value in chosen.model_dump().items() if chosen else ():
        source = "file" if name in given_here else "default"
        yield SettingLine(f"auth.{auth.mode}.{name}", _spoken(value), source, inner=True)
    for number, grant in enumerate(auth.grants, 1):
        given = {name: value for name, value in grant.model_dump().items() if name in grant.model_fields_set}
        yield SettingLine(f"auth.grants {number}", _spoken(given), "file", inner=True)


def _spoken(value: object) -> str:
    if value is None or value == () or value == "" or value == {}:
        return "not set"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_spoken(item)}" for name, item in value.items())
    return masked(str(value))
