import pytest
from pydantic import ValidationError

from broadcastd.server_settings import ServerSettings
from broadcastd.settings import AccountSettings, AudienceSettings, LedgerSettings, Settings

URL = "mysql://site:s3cret@db/site"
ACCOUNT = {"audience": {"url": URL}, "template": {"template_id": "T1"}}


def account(**changes):
    return AccountSettings.model_validate({**ACCOUNT, **changes})


def test_the_defaults_of_the_design():
    settings = Settings.model_validate({"accounts": {"default": ACCOUNT}})
    assert (settings.server.host, settings.server.port, settings.server.dedupe_window_s) == (
        "127.0.0.1",
        9090,
        600,
    )
    assert (settings.pool.tasks, settings.pool.slice_size, settings.pool.sends_per_task) == (60, 500, 16)
    assert settings.ledger.on_unknown.value == "resend"
    assert settings.accounts["default"].channels == ("custom", "template")
    assert settings.accounts["default"].custom.max_text_bytes == 2048


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "db.example.com", ""])
def test_beyond_loopback_only_with_a_token(host):
    with pytest.raises(ValidationError, match=r"needs server\.token or server\.token_file"):
        ServerSettings(host=host)
    with pytest.raises(ValidationError, match="beyond loopback"):
        ServerSettings(host=host, token="")
    assert ServerSettings(host=host, token="t").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_no_token_is_needed(host):
    assert ServerSettings(host=host).token is None


def test_an_empty_token_is_no_token_and_refused():
    with pytest.raises(ValidationError, match="token"):
        ServerSettings(token="")


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        ServerSettings().port = 1


def test_a_misspelt_key_is_refused():
    with pytest.raises(ValidationError, match="prot"):
        ServerSettings.model_validate({"prot": 9090})


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///", "sqlite:///:memory:", "ledger.db"),
        *("mysql://u:p@h", "mysql://u:p@h/", "mysql://u:p@/b", "mysql+asyncmy://u:p@h/b", "postgres://h/b"),
    ],
)
def test_a_ledger_is_a_file_or_a_database(url):
    with pytest.raises(ValidationError, match="accepted: sqlite:///FILE"):
        LedgerSettings(url=url)


@pytest.mark.parametrize(
    "url", ["mysql://u:p@h/b", "mysql://u:p%2F%40@h:3307/b", "mysql://h/b", "mysql://u:p@h/b?ssl_ca=/c.pem"]
)
def test_a_ledger_in_mysql(url):
    assert LedgerSettings(url=url).url.get_secret_value() == url


def test_a_ledgers_port_is_a_number():
    with pytest.raises(ValidationError, match="the port is no number"):
        LedgerSettings(url="mysql://u:p@h:http/b")


def test_a_ledgers_password_is_not_shown():
    settings = LedgerSettings(url="mysql://broadcastd:s3cret@h:3306/b")
    assert settings.model_dump(mode="json")["url"] == "mysql://***@h:3306/b"
    assert "s3cret" not in repr(settings)
    assert LedgerSettings().model_dump(mode="json")["url"] == "sqlite:///broadcastd.db"


def test_an_audience_is_mysql_or_sqlite():
    with pytest.raises(ValidationError, match="accepted: mysql://"):
        AudienceSettings(url="postgres://u:s3cret@h/b")


@pytest.mark.parametrize("query", ["DELETE FROM t", "", "UPDATE t SET a = 1", "id, openid"])
def test_the_audience_query_is_one_select(query):
    with pytest.raises(ValidationError, match="one SELECT"):
        AudienceSettings(url=URL, query=query)


def test_a_querys_last_semicolon_is_dropped():
    assert (
        AudienceSettings(url=URL, query=" select id, openid from t ; \n").query == "select id, openid from t"
    )
    assert AudienceSettings(url=URL, query="WITH a AS (SELECT 1) SELECT * FROM a").query.startswith("WITH")


@pytest.mark.parametrize("channels", [[], ["custom", "custom"], ["sms"], ["email"], ["mass", "mass"]])
def test_channels_are_known_and_each_once(channels):
    with pytest.raises(
        ValidationError, match="accepted: one or more of custom, template, subscribe, mass, e"
    ):
        account(channels=channels)


def test_the_template_channel_needs_its_id():
    with pytest.raises(ValidationError, match=r"template\.template_id is missing"):
        account(template={})
    assert account(template={}, channels=["custom"]).channels == ("custom",)


def test_the_subscribe_channel_needs_its_id():
    with pytest.raises(ValidationError, match=r"subscribe\.template_id is missing"):
        account(channels=["subscribe"])
    assert account(channels=["subscribe"], subscribe={"template_id": "S1"}).channels == ("subscribe",)


@pytest.mark.parametrize("section", ["templates", "subscriptions"])
def test_a_named_template_needs_its_id_and_takes_no_pace_of_its_own(section):
    with pytest.raises(ValidationError, match=rf"{section}\.repair\.template_id is missing"):
        account(**{section: {"repair": {"data": {"thing1": "{content}"}}}})
    with pytest.raises(ValidationError, match="rate_per_s"):
        account(**{section: {"repair": {"template_id": "T2", "rate_per_s": 5}}})


@pytest.mark.parametrize("section", ["custom", "template", "subscribe"])
def test_every_channel_has_a_pace(section):
    there = {"template": {"template_id": "T1"}, section: {"rate_per_s": 2.5, "max_in_flight": 3}}
    there["template"] = {"template_id": "T1", **there["template"]}
    found = getattr(account(**there), section)
    assert (found.rate_per_s, found.max_in_flight) == (2.5, 3)
    for wrong in ({"rate_per_s": 0}, {"max_in_flight": 0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            account(**{section: wrong})
    plain = getattr(account(), section)
    assert (plain.rate_per_s, plain.max_in_flight) == (None, None)


def test_a_page_of_no_mini_program_leads_nowhere():
    with pytest.raises(ValidationError, match="appid is missing"):
        account(template={"template_id": "T1", "miniprogram": {"pagepath": "index"}})


def test_a_fixed_value_that_wechat_never_takes_is_found_at_start():
    with pytest.raises(ValidationError, match="number1 has 33 characters; accepted: 32 digits"):
        account(template={"template_id": "T1", "data": {"number1": "1" * 33}})
    with pytest.raises(ValidationError, match="character_string1 does not fit its type"):
        account(subscribe={"data": {"character_string1": "單號"}})
    # What a frame fills in is not known yet.
    assert account(template={"template_id": "T1", "data": {"number1": "{phone}"}})


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd"])
def test_a_timezone_has_a_name(name):
    with pytest.raises(ValidationError, match="a name like Asia/Shanghai"):
        account(timezone=name)


def test_an_api_base_is_an_address_without_a_last_slash():
    assert account(api_base="http://127.0.0.1:9999/").api_base == "http://127.0.0.1:9999"
    with pytest.raises(ValidationError, match="https://HOST"):
        account(api_base="api.weixin.qq.com")


def test_texts_are_checked_at_start():
    with pytest.raises(ValidationError, match=r"unknown placeholder \{contnet\}"):
        account(custom={"text": "{contnet}"})
    with pytest.raises(ValidationError, match=r"unknown placeholder \{fone\}"):
        account(template={"template_id": "T1", "data": {"keyword1": "{fone}"}})


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("server", {"port": 65536}), ("server", {"max_frame_bytes": 0}), ("server", {"idle_timeout_s": 0}),
        ("pool", {"tasks": 0}), ("pool", {"slice_size": 501}), ("pool", {"sends_per_task": 0}),
        ("ledger", {"on_unknown": "maybe"}), ("log", {"level": "loud"}),
    ],
)  # fmt: skip
def test_numbers_have_bounds(section, values):
    with pytest.raises(ValidationError, match=rf"{section}\.{next(iter(values))}"):
        Settings.model_validate({"accounts": {"default": ACCOUNT}, section: values})


def test_at_least_one_account():
    with pytest.raises(ValidationError, match="accounts"):
        Settings.model_validate({"accounts": {}})


def test_secrets_do_not_show_in_a_representation():
    settings = Settings.model_validate({"accounts": {"default": ACCOUNT}, "server": {"token": "t0ken"}})
    assert "s3cret" not in repr(settings)
    assert "t0ken" not in repr(settings)


AES_KEY = "A1" * 21 + "9"


def callback(**values):
    return account(app_id="wx1", callback={"token": "abc123", **values}).callback


def test_a_callback_is_safe_once_it_has_a_key():
    assert callback().secure_mode == "plain"
    assert callback(aes_key=AES_KEY).secure_mode == "safe"
    assert callback(aes_key=AES_KEY, mode="compatible").secure_mode == "compatible"
    assert callback(aes_key=AES_KEY, mode="plain").secure_mode == "plain"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"token": "ab"}, "3 to 32 letters and digits"),
        ({"token": "abc 123"}, "3 to 32 letters and digits"),
        ({"aes_key": "x"}, "43 letters and digits"),
        ({"previous_aes_key": AES_KEY}, "aes_key is missing"),
        ({"mode": "safe"}, "aes_key is missing"),
        ({"mode": "compatible"}, "aes_key is missing"),
        ({"mode": "secret"}, "callback.mode"),
        ({"opt_out_words": ["0", " １ "]}, "cannot both opt out and opt in"),
        ({"opt_in_words": [" "]}, "an empty word"),
        ({"opt_out_sql": "UPDATE t SET a = 0"}, "names :openid"),
        ({"forward_to": "site.example.com/wx"}, "https://HOST/PATH"),
        ({"forward_to": "https://site.example.com:http/"}, "the port is no number"),
        ({"forward_timeout_s": 5}, "less than or equal to 4"),
    ],
)
def test_a_callbacks_settings_are_checked_at_start(values, says):
    with pytest.raises(ValidationError, match=says):
        callback(**values)


def test_encrypted_pushes_need_the_accounts_id():
    with pytest.raises(ValidationError, match="app_id is missing"):
        account(callback={"token": "abc123", "aes_key": AES_KEY})


def test_a_callbacks_secrets_are_not_shown():
    settings = callback(aes_key=AES_KEY, forward_to="https://site.example.com/wx?key=s3cret")
    for shown in (repr(settings), settings.model_dump_json()):
        assert not any(secret in shown for secret in ("abc123", AES_KEY, "s3cret"))
