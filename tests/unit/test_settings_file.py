import os
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

import broadcastd.cli
from broadcastd import settings_file
from broadcastd.errors import SettingsError
from broadcastd.settings import Settings

MINIMAL = """
[accounts.default.audience]
url = "mysql://site:s3cret@db/site"
[accounts.default.template]
template_id = "T1"
"""
SHIPPED = Path(broadcastd.cli.__file__).with_name("broadcastd.toml")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("BROADCASTD_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    def write(text=MINIMAL):
        path = tmp_path / "broadcastd.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path, load=settings_file.load):
    with pytest.raises(SettingsError) as error:
        load(path)
    assert "s3cret" not in str(error.value)
    return str(error.value)


def test_a_minimal_file_is_enough(file):
    settings = settings_file.load(file())
    assert settings.server.port == 9090
    assert settings.accounts["default"].audience.url.get_secret_value() == "mysql://site:s3cret@db/site"


# -- the environment ---------------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file_and_leaves_the_rest(file, monkeypatch):
    path = file("[server]\nport = 1111\nquiet_ms = 50\n" + MINIMAL)
    monkeypatch.setenv("BROADCASTD_SERVER__PORT", "2222")
    settings = settings_file.load(path)
    assert (settings.server.port, settings.server.quiet_ms) == (2222, 50)
    assert settings_file.load_server(path).port == 2222


def test_a_key_deep_inside_comes_from_the_environment(file, monkeypatch):
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__CUSTOM__MAX_TEXT_BYTES", "1000")
    account = settings_file.load(file()).accounts["default"]
    assert account.custom.max_text_bytes == 1000
    assert account.template.template_id == "T1"


def test_a_list_comes_from_the_environment(file, monkeypatch):
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__CHANNELS", '["custom"]')
    assert settings_file.load(file()).accounts["default"].channels == ("custom",)


@pytest.mark.parametrize("secret", ["s3cret", "12345678", "true", "null", '"quoted"', "1e5", "[x]", "007"])
def test_a_secret_from_the_environment_is_taken_as_it_is(file, monkeypatch, secret):
    monkeypatch.setenv("BROADCASTD_SERVER__TOKEN", secret)
    assert settings_file.load(file()).server.token == SecretStr(secret)
    assert settings_file.load_server(None).token == SecretStr(secret)


def test_without_a_file_the_environment_is_all(monkeypatch):
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__SHOP__AUDIENCE__URL", "mysql://u:p@h/b")
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__SHOP__TEMPLATE__TEMPLATE_ID", "T1")
    assert list(settings_file.load(None).accounts) == ["shop"]


def test_without_anything_the_error_names_the_key():
    assert "the environment cannot be used" in refused(None)
    assert "accounts" in refused(None)


@pytest.mark.parametrize("load", [settings_file.load, settings_file.load_server])
@pytest.mark.parametrize("variable", ["BROADCASTD_SERVER", "BROADCASTD_SERVER__PORT"])
def test_nonsense_in_the_environment_is_an_error_in_words(file, monkeypatch, load, variable):
    monkeypatch.setenv(variable, "nonsense")
    assert "server" in refused(file(), load)


# -- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[server]\nport = 70000\n", ["server.port: got 70000", "65535"]),
        ('[log]\nlevel = "loud"\n', ["log.level: got 'loud'", "'debug'"]),
        ("[server]\nprot = 1\n", ["server.prot: unknown key"]),
        ("[sever]\nport = 1\n", ["sever: unknown key"]),
        ('[pool]\ntasks = "many"\n', ["pool.tasks: got 'many'", "integer"]),
    ],
)
def test_errors_name_the_key_what_it_got_and_what_it_takes(file, text, parts):
    path = file(text + MINIMAL)
    message = refused(path)
    assert str(path) in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("load", [settings_file.load, settings_file.load_server])
def test_a_value_where_a_table_belongs_is_an_error_in_words(file, load):
    assert "server" in refused(file("server = 3\n" + MINIMAL), load)


def test_a_missing_key_is_named(file):
    message = refused(file('[accounts.default]\nchannels = ["custom"]\n'))
    assert "accounts.default.audience is missing" in message


@pytest.mark.parametrize(
    "text",
    [
        '[server]\ntoken = ["s3cret"]\n' + MINIMAL,
        "[server]\ntoken = {s3cret = 1}\n" + MINIMAL,
        MINIMAL.replace("mysql:", "postgres:"),
        '[accounts.default]\naudience = "mysql://site:s3cret@db/site"\n',
        'accounts = "mysql://site:s3cret@db/site"\n',
        '[ledger]\nurl = "mysql://site:s3cret@db"\n' + MINIMAL,
        '[accounts.default]\napi_base = "ftp://site:s3cret@db/site"\n' + MINIMAL,
    ],
)
def test_no_secret_is_in_an_error(file, text):
    assert "cannot be used" in refused(file(text))


@pytest.mark.parametrize("load", [settings_file.load, settings_file.load_server])
def test_a_file_that_cannot_be_read(file, tmp_path, load):
    assert "cannot be read: No such file" in refused(tmp_path / "missing.toml", load)
    assert "cannot be read: Is a directory" in refused(tmp_path, load)
    assert "is not valid TOML" in refused(file("[server\n"), load)
    path = file()
    path.write_bytes(b'a = "\xff"')
    assert "is not valid TOML" in refused(path, load)


# -- secrets from files, relative paths --------------------------------------------------------------------


def test_a_token_file_lies_beside_the_settings_and_its_last_line_end_is_no_part(file, tmp_path):
    (tmp_path / "token").write_text("t0ken\n")
    path = file('[server]\nhost = "0.0.0.0"\ntoken_file = "token"\n' + MINIMAL)
    assert settings_file.load(path).server.token == SecretStr("t0ken")
    assert settings_file.load_server(path).token == SecretStr("t0ken")


def test_a_url_file(file, tmp_path):
    (tmp_path / "url").write_text("mysql://u:p@h/b\n")
    path = file(MINIMAL.replace('url = "mysql://site:s3cret@db/site"', 'url_file = "url"'))
    assert settings_file.load(path).accounts["default"].audience.url == SecretStr("mysql://u:p@h/b")


def test_the_ledgers_url_may_be_in_a_file_too(file, tmp_path):
    (tmp_path / "url").write_text("mysql://u:p@h/ledger\n")
    path = file('[ledger]\nurl_file = "url"\n' + MINIMAL)
    assert settings_file.load(path).ledger.url == SecretStr("mysql://u:p@h/ledger")


def test_a_secret_and_its_file_are_one_too_many(file, tmp_path):
    (tmp_path / "token").write_text("t0ken")
    message = refused(file('[server]\ntoken = "s3cret"\ntoken_file = "token"\n' + MINIMAL))
    assert message == "server.token_file: token is set as well; set one of them"


@pytest.mark.parametrize("load", [settings_file.load, settings_file.load_server])
def test_a_token_file_that_cannot_be_used(file, tmp_path, load):
    path = file('[server]\ntoken_file = "token"\n' + MINIMAL)
    assert re.search(r"server\.token_file: .*token cannot be read: No such file", refused(path, load))
    (tmp_path / "token").write_bytes(b"\xff\xfes3cret")
    assert "server.token_file" in refused(path, load)


def test_an_empty_token_file_is_refused(file, tmp_path):
    (tmp_path / "token").write_text("\n")
    assert "server.token" in refused(file('[server]\ntoken_file = "token"\n' + MINIMAL))


def test_relative_sqlite_paths_are_the_files_neighbours(file, tmp_path, monkeypatch):
    text = MINIMAL.replace("mysql://site:s3cret@db/site", "sqlite:///site.db")
    path = file('[ledger]\nurl = "sqlite:///sub/l.db"\n' + text)
    monkeypatch.chdir("/")
    settings = settings_file.load(Path(os.path.relpath(path, "/")))
    assert settings.ledger.url == SecretStr(f"sqlite:///{tmp_path}/sub/l.db")
    assert settings.accounts["default"].audience.url.get_secret_value() == f"sqlite:///{tmp_path}/site.db"


def test_absolute_paths_stay(file):
    path = file('[ledger]\nurl = "sqlite:////var/lib/broadcastd/l.db"\n' + MINIMAL)
    assert settings_file.load(path).ledger.url == SecretStr("sqlite:////var/lib/broadcastd/l.db")


def test_find_prefers_what_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings_file, "PLACES", (Path("broadcastd.toml"), tmp_path / "etc.toml"))
    assert settings_file.find() is None
    (tmp_path / "etc.toml").touch()
    assert settings_file.find() == tmp_path / "etc.toml"
    (tmp_path / "broadcastd.toml").touch()
    assert settings_file.find() == Path("broadcastd.toml")
    monkeypatch.setenv("BROADCASTD_CONFIG", "/elsewhere.toml")
    assert settings_file.find() == Path("/elsewhere.toml")


# -- the shipped file --------------------------------------------------------------------------------------

# What nobody can have a default for: a first run must put its own in.
WITHOUT_DEFAULT = {
    "accounts.default.audience.url",
    "accounts.default.template.template_id",
    "accounts.default.callback.token",
}
# What is off when it is not there: None by default.
OPTIONAL = {
    f"accounts.default.callback.{key}" for key in ("aes_key", "previous_aes_key", "mode", "forward_to")
}
# A table of the site's own words; the shipped ones are an example.
EXAMPLES = {"accounts.default.template.data"}
# Sections of which there may be many; the shipped file shows one, commented out.
NAMED = ("templates", "subscriptions", "tokens")


def keys(model, where=()):
    """Every key of the settings as (dotted name, default)."""
    for name, about in model.model_fields.items():
        here = (*where, name)
        if name in NAMED:
            continue
        kinds = [
            one
            for one in [about.annotation, *getattr(about.annotation, "__args__", ())]
            if isinstance(one, type)
        ]
        inner = next((one for one in kinds if issubclass(one, BaseModel)), None)
        if inner is not None:
            yield from keys(inner, (*here, "default") if name == "accounts" else here)
        else:
            yield ".".join(here), about.get_default(call_default_factory=True, validated_data={})


def value_of(values, name):
    for part in name.split("."):
        values = values.get(part, PydanticUndefined) if isinstance(values, dict) else PydanticUndefined
    return values


def commented(text, name):
    section, _, key = name.rpartition(".")
    body = re.search(rf"^\[{re.escape(section)}\]$(.*?)(?=^\[|\Z)", text, re.M | re.S)
    return body is not None and re.search(rf"^# {key} = ", body[1], re.M) is not None


def shipped():
    """The shipped file, and its sections that are commented out as a whole as if they were not."""
    text = SHIPPED.read_text(encoding="utf-8")
    optional = re.search(r"^# \[accounts\.default\.callback\].*\Z", text, re.M | re.S)
    assert optional is not None
    uncommented = re.sub(r"^# ", "", optional[0], flags=re.M)
    return text[: optional.start()] + uncommented


def test_the_shipped_files_optional_section_is_a_callback(file):
    text = shipped().replace('token = "…"', 'token = "abc123"').replace('app_id = ""', 'app_id = "wx1"')
    text = re.sub(r'^((?:previous_)?aes_key) = "…"', lambda key: f'{key[1]} = "{"A" * 43}"', text, flags=re.M)
    callback = settings_file.load(file(text)).accounts["default"].callback
    assert callback is not None
    assert callback.token.get_secret_value() == "abc123"


def test_the_shipped_file_loads(file):
    settings = settings_file.load(file(SHIPPED.read_text(encoding="utf-8")))
    assert list(settings.accounts) == ["default"]


@pytest.mark.parametrize(
    ("name", "default"), list(keys(Settings)), ids=lambda one: one if isinstance(one, str) else ""
)
def test_the_shipped_file_lists_every_key_with_its_default(name, default):
    text = shipped()
    shown = value_of(tomllib.loads(text), name)
    if shown is PydanticUndefined:
        assert default is None, f"{name} has a default and is missing"
        assert commented(text, name), f"{name} is missing"
    elif name not in WITHOUT_DEFAULT | EXAMPLES | OPTIONAL:
        default = default.get_secret_value() if isinstance(default, SecretStr) else default
        assert shown == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("name", ["templates", "subscriptions"])
def test_the_shipped_file_shows_how_to_add_a_template(file, name):
    text = SHIPPED.read_text(encoding="utf-8")
    shown = text[text.index(f"# [accounts.default.{name}.repair]") :].partition("\n\n")[0]
    account = settings_file.load(file(text + re.sub(r"(?m)^# ", "", shown))).accounts["default"]
    assert getattr(account, name)["repair"].data["thing1"] == "{content}"


def test_the_shipped_file_shows_how_to_add_a_token(file):
    text = SHIPPED.read_text(encoding="utf-8")
    shown = text[text.index("# [server.tokens.shop]") :].partition("\n\n")[0]
    shown = shown.replace('token_file = "shop.token"', 'token = "t"')
    server = settings_file.load(file(text + re.sub(r"(?m)^# ", "", shown))).server
    assert [(name, one.rights) for name, one in server.tokens.items()] == [("shop", ("send",))]


# -- the account's id and secret ---------------------------------------------------------------------------

FROM_API = '[accounts.default.token]\nsource = "api"\n' + MINIMAL


@pytest.mark.parametrize(
    ("account", "missing"),
    [
        ("", "app_id and app_secret (or app_secret_file)"),
        ('app_id = " "\napp_secret = ""', "app_id and app_secret (or app_secret_file)"),
        ('app_id = "wx1"', "app_secret (or app_secret_file)"),
        ('app_id = "wx1"\napp_secret = "  "', "app_secret (or app_secret_file)"),
        ('app_secret = "s3cret"', "app_id"),
    ],
)
def test_the_source_api_needs_the_accounts_id_and_secret(file, account, missing):
    message = refused(file(f"[accounts.default]\n{account}\n" + FROM_API))
    assert f'accounts.default: token.source = "api" needs {missing}: WeChat gives the access token' in message


def test_a_table_needs_neither(file):
    assert settings_file.load(file()).accounts["default"].app_secret is None


def test_the_secret_may_come_from_a_file(file, tmp_path):
    (tmp_path / "secret").write_text("s3cret\n", encoding="utf-8")
    account = '[accounts.default]\napp_id = "wx1"\napp_secret_file = "secret"\n'
    settings = settings_file.load(file(account + FROM_API))
    assert settings.accounts["default"].app_secret == SecretStr("s3cret")
    assert "s3cret" not in str(settings.model_dump(mode="json"))
    message = refused(file(account + 'app_secret = "s3cret"\n' + FROM_API))
    assert "accounts.*.app_secret_file: app_secret is set as well" in message


@pytest.mark.parametrize("secret", ['["s3cret"]', "{s3cret = 1}", "12345"])
def test_a_secret_of_the_wrong_type_is_not_shown(file, secret):
    account = f'[accounts.default]\napp_id = "wx1"\napp_secret = {secret}\n'
    message = refused(file(account + FROM_API))
    assert "accounts.default.app_secret: " in message
    assert "12345" not in message


def test_an_unknown_source_is_refused(file):
    message = refused(file(FROM_API.replace('"api"', '"magic"')))
    assert "token.source" in message
    assert "'table' or 'api'" in message
