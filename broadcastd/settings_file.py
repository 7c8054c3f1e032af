"""Finds and reads the settings: a TOML file, over it the environment (`BROADCASTD_SERVER__PORT`).

Errors name the key, what it got and what it takes; a secret's value is never in them.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as BadEnvironmentError

from broadcastd import secret_files
from broadcastd.background_settings import BackgroundSettings
from broadcastd.database_tls import without_files_relative_to
from broadcastd.errors import SettingsError
from broadcastd.http_settings import HttpPortSettings
from broadcastd.section import Section
from broadcastd.server_settings import ServerSettings
from broadcastd.settings import IDENTITY_OFF, Settings

S = TypeVar("S", bound=Section)

FILE_VARIABLE = "BROADCASTD_CONFIG"
PREFIX = "BROADCASTD_"
PLACES = (Path("broadcastd.toml"), Path("/etc/broadcastd/broadcastd.toml"))
SECRET_WORDS = ("token", "password", "secret", "url", "aes_key", "forward_to")

# Keys that may be given as `<key>_file`: the secret is then the file's content.
FILE_KEYS = (
    ("server", "token"),
    ("server", "tokens", "*", "token"),
    ("ledger", "url"),
    ("alerts", "urls"),
    ("accounts", "*", "app_secret"),
    ("accounts", "*", "audience", "url"),
    ("accounts", "*", "callback", "token"),
    ("accounts", "*", "callback", "aes_key"),
    ("accounts", "*", "callback", "previous_aes_key"),
    ("accounts", "*", "finished", "url"),
    ("accounts", "*", "finished", "secret"),
    ("accounts", "*", "callback", "forward_to"),
)


TLS_FILES = ("tls_cert", "tls_key", "tls_client_ca")
"""Keys of a port that name files."""

PortT = TypeVar("PortT", ServerSettings, HttpPortSettings)


def find() -> Path | None:
    """The settings file that is used when none is named."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    return next((place for place in PLACES if place.is_file()), None)


def load(path: Path | None) -> Settings:
    """Read, merge and check. Relative paths of SQLite files are the settings file's neighbours."""
    values = _read(path) if path is not None else {}
    base = path.resolve().parent if path is not None else Path.cwd()
    try:
        merged = _merged(values)
        _secrets_from_files(merged, base)
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        where = str(path) if path is not None else "the environment"
        lines = "\n".join(f"  {_in_words(problem)}" for problem in error.errors())
        raise SettingsError(f"{where} cannot be used:\n{lines}") from None
    return _absolute(settings, base)


def load_server(path: Path | None) -> ServerSettings:
    """Only where the daemon listens: what the commands that talk to it need."""
    base = path.resolve().parent if path is not None else Path.cwd()
    return _with_files(_load_section(path, "server", ServerSettings), base)


def load_background(path: Path | None) -> BackgroundSettings:
    """Only where a daemon in the background keeps its files, absolute."""
    base = path.resolve().parent if path is not None else Path.cwd()
    return _absolute_files(_load_section(path, "background", BackgroundSettings), base)


def _load_section(path: Path | None, name: str, kind: type[S]) -> S:
    values = _read(path) if path is not None else {}
    base = path.resolve().parent if path is not None else Path.cwd()
    try:
        merged = _merged(values)
    except ValidationError as error:
        lines = "\n".join(f"  {_in_words(problem)}" for problem in error.errors())
        raise SettingsError(f"{path or 'the environment'} cannot be used:\n{lines}") from None
    _secrets_from_files(merged, base)
    try:
        return kind.model_validate(merged[name])
    except ValidationError as error:
        lines = "\n".join(f"  {name}.{_in_words(problem)}" for problem in error.errors())
        raise SettingsError(f"{path or 'the environment'} cannot be used:\n{lines}") from None


def named_secret_files(values: dict[str, Any], base: Path) -> dict[str, Path]:
    """The files that hold secrets: dotted key, as `accounts.default.app_secret_file`, to path."""
    return {
        f"{where}{key}_file": secret_files.located(str(section[f"{key}_file"]), base)
        for *parents, key in FILE_KEYS
        for where, section in _named_sections(values, parents)
        if f"{key}_file" in section
    }


def secrets_of(path: Path | None) -> dict[str, Path]:
    """As `named_secret_files`, of a settings file. Raises SettingsError when it cannot be read."""
    values = _merged(_read(path) if path is not None else {})
    return named_secret_files(values, path.resolve().parent if path is not None else Path.cwd())


def _named_sections(values: Any, parents: list[str]) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, Any]] = [("", values)]
    for parent in parents:
        found = [
            (f"{where}{name}.", inner)
            for where, section in found
            if isinstance(section, Mapping)
            for name, inner in section.items()
            if parent in ("*", name)
        ]
    return [(where, section) for where, section in found if isinstance(section, dict)]


def exposures(path: Path | None) -> list[str]:
    """Who else may read or change the settings file and those it names; a line each. The file can be read."""
    if path is None:
        return []
    values, base = _read(path), path.resolve().parent
    found = []
    open_to = secret_files.open_to_others(path)
    if "change" in open_to or (open_to and _holds_secrets(values)):
        found.append(f"{path}: others on this machine may {open_to} it; `chmod o-rwx {path}`")
    for place in (path, *named_secret_files(values, base).values()):
        if owner := secret_files.foreign_owner(place):
            found.append(f"{place}: it belongs to {owner}, who can change it; `chown` it to root")
    return found


def _holds_secrets(values: dict[str, Any]) -> bool:
    here = [
        section.get(key) for *parents, key in FILE_KEYS for _, section in _named_sections(values, parents)
    ]
    return any(one and not str(one).startswith("sqlite:") for one in here)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


class _Merge(BaseSettings):
    """Only for pydantic-settings to lay the environment over the file's values."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore", nested_model_default_partial_update=True
    )

    server: dict[str, Any] = {}
    pool: dict[str, Any] = {}
    ledger: dict[str, Any] = {}
    callback: dict[str, Any] = {}
    alerts: dict[str, Any] = {}
    http: dict[str, Any] = {}
    monitor: dict[str, Any] = {}
    background: dict[str, Any] = {}
    accounts: dict[str, Any] = {}
    log: dict[str, Any] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        del dotenv_settings, file_secret_settings
        return EnvSettingsSource(settings_cls), init_settings


def _merged(values: dict[str, Any]) -> dict[str, Any]:
    unknown = {name: value for name, value in values.items() if name not in _Merge.model_fields}
    known = {name: value for name, value in values.items() if name in _Merge.model_fields}
    try:
        merged = _Merge(**known)
    except BadEnvironmentError as error:
        raise SettingsError(f"the environment cannot be used: {error}") from None
    return {**merged.model_dump(), **unknown}


def _secrets_from_files(values: dict[str, Any], base: Path) -> None:
    for *parents, key in FILE_KEYS:
        for _, section in _named_sections(values, parents):
            name = section.pop(f"{key}_file", None)
            if name is None:
                continue
            where = ".".join((*parents, f"{key}_file"))
            if key in section:
                raise SettingsError(f"{where}: {key} is set as well; set one of them")
            section[key] = _secret(where, str(name), base)


def _secret(where: str, name: str, base: Path) -> str:
    try:
        path = secret_files.located(name, base)
        return secret_files.read(path)
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: {base / name} is not UTF-8 text") from None
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    except OSError as error:
        raise SettingsError(f"{where}: {base / name} cannot be read: {error.strerror}") from error


def _absolute(settings: Settings, base: Path) -> Settings:
    """Restarting from another folder must not start an empty ledger."""
    ledger = settings.ledger.model_copy(update={"url": _absolute_url(settings.ledger.url, base)})
    if ledger.identity_dir not in ("", IDENTITY_OFF):
        ledger = ledger.model_copy(update={"identity_dir": str(base / ledger.identity_dir)})
    accounts = {}
    for name, account in settings.accounts.items():
        there = _absolute_url(account.audience.url, base)
        audience = account.audience.model_copy(update={"url": there})
        accounts[name] = account.model_copy(update={"audience": audience})
    monitor = settings.monitor
    if monitor.state_dir:
        monitor = monitor.model_copy(update={"state_dir": str(base / monitor.state_dir)})
    ports = {name: _with_files(getattr(settings, name), base) for name in ("server", "http")}
    background = _absolute_files(settings.background, base)
    changed = {"ledger": ledger, "accounts": accounts, "monitor": monitor, "background": background, **ports}
    return settings.model_copy(update=changed)


def _with_files(port: PortT, base: Path) -> PortT:
    named = {name: getattr(port, name) for name in TLS_FILES}
    return port.model_copy(update={name: str(base / there) for name, there in named.items() if there})


def _absolute_files(background: BackgroundSettings, base: Path) -> BackgroundSettings:
    files = {name: str(base / getattr(background, name)) for name in ("pid_file", "log_file", "working_dir")}
    return background.model_copy(update=files)


def _absolute_url(url: SecretStr, base: Path) -> SecretStr:
    scheme = "sqlite:///"
    there = url.get_secret_value()
    if there.startswith(scheme):
        return SecretStr(f"{scheme}{base / there[len(scheme) :]}")
    return SecretStr(without_files_relative_to(there, base))


def _in_words(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "settings"
    got = problem.get("input")
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    words = str(problem["msg"]).removeprefix("Value error, ")
    key = next((part for part in reversed(problem["loc"]) if isinstance(part, str)), "")
    secret = any(word in key for word in SECRET_WORDS)
    # A value at the wrong place may be an address with a password, whatever its key is called.
    if secret or isinstance(got, (dict, list)) or "@" in str(got):
        return f"{where}: {words}"
    return f"{where}: got {got!r}; {words}"
