"""The channels of a frame, its templates and keywords, from the wire to WeChat and back to who asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.ports import free_port
from bed.site import openid, sqlite_site
from test_cli import broadcastd

MORE = """
[accounts.default.subscribe]
template_id = "S1"
page = "pages/post"
data = { thing1 = "{content}" }
[accounts.default.templates.repair]
template_id = "R1"
data = { thing1 = "{content}", phone_number2 = "{phone}" }
"""
NO_CONSENT = b'{"errcode":43101,"errmsg":"user refuse to accept the msg rid: 1-2-3"}'
OUTSIDE_WINDOW = b'{"errcode":45015,"errmsg":"response out of time limit rid: 1-2-3"}'
LONG = "急售\n" + "信" * 40


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        endpoint.keep_bodies = True
        yield endpoint


@pytest.fixture
def daemon(endpoint: CountingEndpoint, tmp_path: Path) -> Iterator[DaemonProcess]:
    channels = ["custom", "subscribe", "template"]
    site = sqlite_site(tmp_path / "site.db", 30)
    with daemon_process(tmp_path, endpoint.url, site, channels=channels, more=MORE) as daemon:
        yield daemon


def test_a_subscription_message_reaches_who_gave_consent_and_a_template_message_the_others(
    endpoint: CountingEndpoint, daemon: DaemonProcess
) -> None:
    paths = {"/cgi-bin/message/custom/send": OUTSIDE_WINDOW, "/cgi-bin/message/template/send": OK}

    def answer(path: str, body: dict[str, object]) -> bytes:
        consent = OK if str(body["touser"])[-1] in "05" else NO_CONSENT
        return paths.get(path.partition("?")[0], consent)

    endpoint.answer = answer
    accepted = daemon.call({"content": LONG, "key": "k"})
    warnings = [
        "subscribe data thing1: line breaks became spaces",
        "subscribe data thing1: cut to 20 characters",
        "template data keyword1: WeChat shows no line breaks",
    ]
    assert accepted["warnings"] == warnings
    (logged,) = daemon.events("job_warned")
    assert (logged["job"], logged["warnings"]) == (accepted["job"], warnings)
    assert "信信" not in str(logged)
    books = daemon.wait_done(accepted["job"])["books"]
    assert books["by_channel"] == {"subscribe": 6, "template": 24}
    subscribe = [one for one in endpoint.bodies if one.get("template_id") == "S1"]
    assert {str(one["touser"]) for one in subscribe} == {openid(number) for number in range(1, 31)}
    for one in subscribe:
        assert (one["page"], one["data"]) == ("pages/post", {"thing1": {"value": "急售 " + "信" * 16 + "…"}})
    assert daemon.call({"content": LONG, "key": "k"})["warnings"] == warnings
    assert len(daemon.events("job_warned")) == 1


def test_a_frame_names_its_template_and_fills_its_keywords(
    endpoint: CountingEndpoint, daemon: DaemonProcess
) -> None:
    frame = {"content": "x", "phone": "13800000000", "to": ["oA"], "channels": ["template"]}
    job = daemon.call({**frame, "template": "repair", "data": {"const3": "{now}", "thing1": "y"}})
    assert job["warnings"] == []
    daemon.wait_done(job["job"])
    (body,) = endpoint.bodies
    assert body["template_id"] == "R1"
    assert body["data"] == {
        "thing1": {"value": "y"}, "phone_number2": {"value": "13800000000"}, "const3": {"value": "{now}"},
    }  # fmt: skip
    unknown = daemon.call({**frame, "template": "repiar"})
    assert (unknown["error"], unknown["retry"]) == ("bad_content", False)
    assert unknown["message"] == "template: unknown 'repiar'; accepted: T1, repair, R1"


def test_what_wechat_would_not_take_is_refused_before_anything_is_kept(
    endpoint: CountingEndpoint, daemon: DaemonProcess
) -> None:
    refused = daemon.call({"content": "x", "key": "k", "template": "repair"})
    assert (refused["error"], refused["message"]) == (
        "bad_content",
        "template data phone_number2 is empty; accepted: 17 digits and symbols",
    )
    assert daemon.call({"op": "jobs"})["jobs"] == []
    assert endpoint.calls == 0
    dry = daemon.call({"content": LONG, "template": "repair", "phone": "110", "dry_run": True})
    assert "template data thing1: cut to 20 characters" in dry["warnings"]


def test_the_shell_has_templates_keywords_and_warnings(
    endpoint: CountingEndpoint, daemon: DaemonProcess
) -> None:
    asked = ("send", "x", "--to", "oA", "--template", "repair", "--phone", "110", "-c", daemon.settings)
    done = broadcastd(*asked, "--data", "thing1=a=b" + "c" * 20, "--data", "thing4=y")
    assert done.stderr == "broadcastd: warning: template data thing1: cut to 20 characters\n"
    daemon.wait_done(done.stdout.split()[1])
    assert endpoint.calls == 1  # within the window: the custom message
    dry = broadcastd(*asked, "--dry-run", "--data", "thing1=" + "c" * 21)
    assert '"thing1":{"value":"ccccccccccccccccccc…"}' in dry.stdout.replace("\n", "")
    assert "warning: template data thing1: cut to 20 characters" in dry.stderr
    for wrong in ("thing1", "=x"):
        assert "accepted: KEYWORD=VALUE" in broadcastd(*asked, "--data", wrong, code=2).stderr


def test_config_check_tells_what_wechat_will_not_show(tmp_path: Path) -> None:
    settings = tmp_path / "broadcastd.toml"
    settings.write_text(
        f"""
[server]
port = {free_port()}
[accounts.default]
channels = ["template"]
[accounts.default.audience]
url = "sqlite:///site.db"
[accounts.default.template]
template_id = "T1"
data = {{ first = "hello", keyword1 = "{{content}}", remark = "{{phone}}" }}
[accounts.default.templates.repair]
template_id = "R1"
data = {{ thing1 = "0123456789 0123456789" }}
""",
        encoding="utf-8",
    )
    done = broadcastd("config", "check", "-c", settings)
    told = [line.removeprefix("broadcastd: warning: accounts.default.") for line in done.stderr.splitlines()]
    assert told == [
        "template.data.first: WeChat does not show it since 2023-05-04",
        "template.data.remark: WeChat does not show it since 2023-05-04",
        "templates.repair.data.thing1: cut to 20 characters",
    ]
    assert "fine; accounts: default" in done.stdout
