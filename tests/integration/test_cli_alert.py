"""`broadcastd alert` and what `config check` says of addresses, against real mail and web servers."""

import json
from pathlib import Path

import pytest
from bed.mail import mail_server
from bed.ports import free_port
from bed.receiver import receiver
from bed.scripted import Run

from broadcastd.notices import NoticeKind

ACCOUNT = """
[accounts.default]
channels = ["custom"]
[accounts.default.audience]
url = "sqlite:///site.db"
"""


def settings(*urls: str, more: str = "") -> None:
    text = f'[alerts]\nurls = {json.dumps(urls)}\nname = "shop"\n{more}\n{ACCOUNT}'
    Path("broadcastd.toml").write_text(text, encoding="utf-8")


def test_every_address_is_told_and_named_without_its_secrets(run: Run) -> None:
    with mail_server() as server, receiver() as site:
        settings(server.url, f"json://127.0.0.1:{site.port}/s3cret", more='language = "zh"')
        ran = run("alert", "test")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines() == [
            f"sent: number 1, mailto://127.0.0.1:{server.port}",
            f"sent: number 2, json://127.0.0.1:{site.port}",
        ]
        assert server.mails[0].title == "[broadcastd shop] 这是一条测试"
        assert len(site.calls) == 1


def test_one_that_does_not_take_it_is_a_failure(run: Run) -> None:
    with mail_server() as server:
        settings(f"json://user:s3cret@127.0.0.1:{free_port()}/key", server.url)
        ran = run("alert", "test", "--json")
        assert ran.code == 1
        first, second = json.loads(ran.out)["deliveries"]
        assert (first["ok"], second["ok"]) == (False, True)
        assert "refused" in first["why"]
        assert "s3cret" not in ran.out + ran.err
        assert ran.err.startswith("broadcastd: alert not sent: number 1, json://127.0.0.1")


@pytest.mark.parametrize("kind", [kind.value for kind in NoticeKind])
def test_a_text_can_be_looked_at_without_settings(run: Run, kind: str) -> None:
    ran = run("alert", "test", "--kind", kind, "--language", "zh", "--print")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("[broadcastd ")
    as_json = run("alert", "test", "--kind", kind, "--print", "--over", "--json")
    assert set(json.loads(as_json.out)) == {"title", "body"}


def test_without_addresses_it_says_that_nobody_is_told(run: Run) -> None:
    settings()
    ran = run("alert", "test")
    assert (ran.code, ran.out) == (4, "")
    assert "alerts.urls is empty, so nobody is told" in ran.err


@pytest.mark.parametrize("command", [("config", "check"), ("alert", "test")])
def test_an_address_that_apprise_cannot_use_is_found_before_it_is_needed(
    run: Run, command: tuple[str, ...]
) -> None:
    settings("json://localhost/x", "mailx://user:s3cret@h", "mailto://?to=ops@example.com")
    ran = run(*command)
    assert ran.code == 4
    assert "alerts.urls: number 2, mailx://…: apprise knows no such service" in ran.err
    assert "alerts.urls: number 3, mailto://…: apprise cannot use it" in ran.err
    assert "number 1" not in ran.err
    assert "s3cret" not in ran.err


def test_settings_whose_addresses_are_fine(run: Run) -> None:
    settings("mailtos://user:s3cret@smtp.example.com?to=ops@example.com")
    ran = run("config", "check")
    assert (ran.code, ran.err) == (0, "")
    assert "s3cret" not in run("config", "show").out
