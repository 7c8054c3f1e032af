"""The settings of the alerts and of what a site is told; addresses are secrets in whatever is said of them."""

import pytest
from pydantic import ValidationError

from broadcastd import settings_file
from broadcastd.alert_settings import AlertSettings
from broadcastd.alerts.urls import scrubbed, shown
from broadcastd.errors import SettingsError
from broadcastd.finished_settings import FinishedSettings, named_in
from broadcastd.settings import Settings

ACCOUNT = '[accounts.default]\nchannels = ["custom"]\n[accounts.default.audience]\nurl = "sqlite:///s.db"\n'
MAIL = "mailtos://user:s3cret@smtp.example.com?to=ops@example.com"


def load(tmp_path, text):
    path = tmp_path / "broadcastd.toml"
    path.write_text(text + "\n" + ACCOUNT, encoding="utf-8")
    return settings_file.load(path)


def refused(tmp_path, text):
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    assert "s3cret" not in str(error.value)
    return str(error.value)


def test_the_addresses_may_be_a_files_lines(tmp_path):
    (tmp_path / "urls").write_text(f"# mail\n{MAIL}\n\n  json://localhost/x  \n", encoding="utf-8")
    urls = load(tmp_path, '[alerts]\nurls_file = "urls"').alerts.urls
    assert [url.get_secret_value() for url in urls] == [MAIL, "json://localhost/x"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('urls = ["s3cret"]', "number 1 is no address; accepted: SERVICE://"),
        (f'urls = ["{MAIL}", "mailto: //s3cret"]', "number 2 is no address"),
        ('urls = [["s3cret"]]', "alerts.urls.0"),
        ('language = "fr"', "alerts.language"),
        ('off = ["job_helt"]', "alerts.off"),
        ('url = "mailto://s3cret"', "alerts.url: unknown key"),
    ],
)
def test_what_cannot_be_used_is_named_and_no_address_is_shown(tmp_path, line, says):
    assert says in refused(tmp_path, f"[alerts]\n{line}")


def test_an_address_is_not_shown(tmp_path):
    settings = load(tmp_path, f'[alerts]\nurls = ["{MAIL}"]')
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("url", "service"),
    [
        (MAIL, "mailtos://smtp.example.com"),
        ("mailto://127.0.0.1:2525?to=ops@example.com", "mailto://127.0.0.1:2525"),
        ("json://user:p/w@hooks.example.com:8080/path/key", "json://…"),
        ("json://localhost:8080/key", "json://localhost:8080"),
        ("wecombot://0aefbd5b-f0a4-4a3a", "wecombot://…"),
        ("tgram://123456789:abcdefg_hijklmnop/12345", "tgram://…"),
        ("dingtalk://token@13800138000", "dingtalk://…"),
    ],
)
def test_of_an_address_only_the_service_and_a_host_are_shown(url, service):
    assert shown(url) == service


def test_what_a_service_says_is_scrubbed_of_its_address():
    url = "mailtos://user:s3c%2Fret@smtp.example.com/key123?to=ops@example.com"
    said = f"cannot send {url}: user s3c/ret s3c%2Fret at smtp.example.com refused, key123, ops@example.com"
    words = scrubbed(said, url)
    assert "smtp.example.com refused" in words
    for secret in ("s3c", "key123", "ops@example", "user:"):
        assert secret not in words


# -- what a site is told of its jobs -----------------------------------------------------------------------

HOOK = {"url": "https://site.example/hook", "secret": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "url or sql is missing"),
        ({"url": "https://site/x"}, "secret (or secret_file) is missing"),
        ({**HOOK, "url": "ftp://site/x"}, "accepted: https://HOST/PATH"),
        ({**HOOK, "url": "https://site:x/"}, "port"),
        ({**HOOK, "secret": "short"}, "16 or more characters"),
        ({"sql": "UPDATE task SET status = 2"}, "names :ref, :key or :job"),
        ({"sql": "UPDATE task SET status = ':ref'"}, "names :ref, :key or :job"),
        ({"sql": "UPDATE task SET status = 2 WHERE id = :reff"}, "unknown :reff; accepted: :ref, :key"),
        ({**HOOK, "timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_hook_is_checked_at_start(values, says):
    with pytest.raises(ValidationError, match=".*") as error:
        FinishedSettings.model_validate(values)
    assert says in str(error.value)


def test_a_statement_may_have_literals_with_colons():
    sql = "UPDATE t SET at = '08:30:00', s = \"a:b\", `x:y` = 1, n = :sent WHERE id = :ref AND a::text = 'it''s :key'"
    assert named_in(sql) == {"sent", "ref"}
    assert FinishedSettings(sql=f" {sql} ; ").sql == sql


def test_a_hooks_secrets_are_not_shown():
    account = {"audience": {"url": "sqlite:///s.db"}, "channels": ["custom"], "finished": HOOK}
    settings = Settings.model_validate({"accounts": {"default": account}})
    for text in (repr(settings), settings.model_dump_json()):
        assert "0123456789abcdef" not in text
        assert "site.example" not in text


def test_nobody_is_told_by_default():
    assert AlertSettings().urls == ()
