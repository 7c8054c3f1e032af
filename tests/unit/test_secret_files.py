"""Files that hold secrets: others must not read or change them, and settings files are looked at likewise."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.certificates import Authority
from pydantic import BaseModel, SecretStr

from broadcastd import secret_files, settings_file
from broadcastd.errors import SettingsError
from broadcastd.precautions import precautions
from broadcastd.server_settings import ServerSettings
from broadcastd.settings import AccountSettings, AudienceSettings, Settings

MINIMAL = """
[accounts.default.audience]
url = "{url}"
[accounts.default.template]
template_id = "T1"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may enter; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        os.chmod(made, 0o755)
        yield Path(made)


def secret(folder: Path, mode: int) -> Path:
    path = folder / "token"
    path.write_text("s3cret\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_the_owner_and_a_group_may_read_it(folder: Path, mode: int) -> None:
    assert secret_files.read(secret(folder, mode)) == "s3cret"


@pytest.mark.parametrize(("mode", "verb"), [(0o644, "read"), (0o602, "change"), (0o666, "read and change")])
def test_others_may_not(folder: Path, mode: int, verb: str) -> None:
    path = secret(folder, mode)
    with pytest.raises(PermissionError) as refused:
        secret_files.read(path)
    assert f"others on this machine may {verb} it; `chmod o-rwx {path}`" in str(refused.value.strerror)


def test_in_a_closed_folder_its_mode_does_not_matter(folder: Path) -> None:
    path = secret(folder, 0o644)
    folder.chmod(0o700)
    assert secret_files.read(path) == "s3cret"


def test_settings_with_an_open_secret_file_are_refused(folder: Path) -> None:
    secret(folder, 0o644)
    settings = folder / "broadcastd.toml"
    settings.write_text('[server]\ntoken_file = "token"\n' + MINIMAL.format(url="mysql://db/site"))
    for load in (settings_file.load, settings_file.load_server):
        with pytest.raises(
            SettingsError, match=r"server\.token_file: .*/token cannot be read: others on this"
        ):
            load(settings)


@pytest.mark.parametrize(
    ("url", "mode", "found"),
    [
        ("mysql://u:p@db/site", 0o644, "may read it"),
        ("mysql://u:p@db/site", 0o600, ""),
        ("sqlite:///site.db", 0o644, ""),
        ("sqlite:///site.db", 0o646, "may read and change it"),
    ],
)
def test_a_settings_file_that_holds_secrets_is_looked_at(
    folder: Path, url: str, mode: int, found: str
) -> None:
    settings = folder / "broadcastd.toml"
    settings.write_text(MINIMAL.format(url=url))
    settings.chmod(mode)
    lines = settings_file.exposures(settings)
    assert len(lines) == bool(found)
    assert found in "".join(lines)


def test_an_open_key_of_tls_is_mentioned(folder: Path) -> None:
    pair = Authority(folder).issue("server", "127.0.0.1")
    account = AccountSettings(audience=AudienceSettings(url="sqlite:///s.db"), channels=("custom",))
    server = ServerSettings(tls_cert=str(pair.cert), tls_key=str(pair.key))
    settings = Settings(server=server, accounts={"default": account})
    assert precautions(settings) == []
    pair.key.chmod(0o644)
    (line,) = precautions(settings)
    assert f"server.tls_key: others on this machine may read {pair.key}" in line


def test_a_certificate_that_ends_soon_is_mentioned(folder: Path) -> None:
    pair = Authority(folder).issue("server", "127.0.0.1", days=5)
    account = AccountSettings(audience=AudienceSettings(url="sqlite:///s.db"), channels=("custom",))
    server = ServerSettings(tls_cert=str(pair.cert), tls_key=str(pair.key))
    (line,) = precautions(Settings(server=server, accounts={"default": account}))
    assert re.search(r"server\.tls_cert: .*server\.pem expires in [45] days", line)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_mentioned(folder: Path) -> None:
    os.chown(secret(folder, 0o600), 12345, -1)
    settings = folder / "broadcastd.toml"
    settings.write_text('[server]\ntoken_file = "token"\n' + MINIMAL.format(url="sqlite:///site.db"))
    (line,) = settings_file.exposures(settings)
    assert "belongs to uid 12345" in line


def test_a_credential_of_systemd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="is not set: systemd sets it"):
        secret_files.located("$CREDENTIALS_DIRECTORY/token", Path("/etc"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    secret(folder, 0o400)
    settings = folder / "broadcastd.toml"
    settings.write_text(
        '[server]\ntoken_file = "$CREDENTIALS_DIRECTORY/token"\n' + MINIMAL.format(url="sqlite:///s.db")
    )
    assert settings_file.load(settings).server.token == SecretStr("s3cret")


def secrets_of(model: type[BaseModel], where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the settings that is a secret; `*` is any name."""
    for name, about in model.model_fields.items():
        for kind in _kinds(about.annotation):
            if issubclass(kind, SecretStr):
                yield (*where, name)
            elif issubclass(kind, BaseModel):
                named = getattr(about.annotation, "__origin__", None) is dict
                yield from secrets_of(kind, (*where, name, *(["*"] if named else [])))


def _kinds(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _kinds(part)


def test_every_secret_may_be_in_a_file() -> None:
    secrets = set(secrets_of(Settings))
    assert ("accounts", "*", "audience", "url") in secrets
    assert secrets - set(settings_file.FILE_KEYS) == set()
