"""The settings of the HTTP port."""

import pytest
from pydantic import ValidationError

from broadcastd.http_settings import HttpPortSettings
from broadcastd.settings import Settings

ACCOUNTS = {"default": {"audience": {"url": "sqlite:///s.db"}, "template": {"template_id": "T1"}}}
TLS = {"tls_cert": "c.pem", "tls_key": "k.pem"}
TOKENS = {"tokens": {"pay": {"token": "t"}}}


def settings(http: dict, server: dict | None = None) -> Settings:
    return Settings.model_validate({"accounts": ACCOUNTS, "http": http, "server": server or {}})


def test_it_is_on_and_for_this_machine_only():
    there = settings({}).http
    assert (there.enabled, there.host, there.port) == (True, "127.0.0.1", 9091)


@pytest.mark.parametrize(
    ("http", "server", "missing"),
    [
        ({}, {}, "needs server.token or server.tokens, and http.tls_cert and http.tls_key"),
        (TLS, {}, "needs server.token or server.tokens:"),
        ({}, TOKENS, "needs http.tls_cert and http.tls_key:"),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.9", "pay.example.com"])
def test_beyond_loopback_only_with_a_token_and_tls(host, http, server, missing):
    with pytest.raises(ValidationError) as refused:
        settings({"host": host, **http}, server)
    assert missing in str(refused.value)
    assert settings({"host": host, **TLS}, TOKENS).http.host == host
    assert settings({"host": host, "enabled": False}).http.host == host


@pytest.mark.parametrize("half", [{"tls_key": "k.pem"}, {"tls_client_ca": "a.pem"}])
def test_half_a_certificate_is_refused(half):
    with pytest.raises(ValidationError, match="tls_cert"):
        HttpPortSettings(**half)


def test_networks_are_networks():
    with pytest.raises(ValidationError, match="no network"):
        HttpPortSettings(allow=["10.0.0.1/8"])
