"""`broadcastd alert`: whether alerts arrive, and what they look like."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from broadcastd.alert_settings import AlertSettings
from broadcastd.alerts.policy import Alert
from broadcastd.cli.target import complain, config_option, print_json
from broadcastd.errcodes import in_words
from broadcastd.errors import SettingsError
from broadcastd.notices import NoticeKind

_EXAMPLES: dict[NoticeKind, tuple[str, dict[str, str | int | float]]] = {
    NoticeKind.DAEMON_DOWN: ("", {"reason": "no daemon answers on 127.0.0.1:9090: Connection refused"}),
    NoticeKind.CANARY_FAILS: (
        "plan of account default",
        {"reason": "account default: the site's database does not answer within 10 s"},
    ),
    NoticeKind.JOB_STUCK: (
        "j0123456789abcd",
        {"account": "default", "reason": "no task works on it, and nothing is known to keep it"},
    ),
    NoticeKind.JOB_HELD: (
        "j0123456789abcd",
        {"account": "default", "reason": "the audience query yields nobody", "key": "order-17"},
    ),
    NoticeKind.ACCOUNT_HELD: (
        "default",
        {"account": "default", "reason": in_words(40164), "tried_again_in_s": 600},
    ),
    NoticeKind.QUOTA_SHORT: (
        "default, template",
        {"account": "default", "channel": "template", "errcode": 45009},
    ),
    NoticeKind.LEDGER_UNWRITABLE: ("", {"reason": "the ledger cannot be written: No space left on device"}),
    NoticeKind.LEDGER_COPIED: ("", {"reason": "it was last used on another machine"}),
    NoticeKind.DISK_SHORT: (
        "",
        {"reason": "200 MB are free where the ledger is, less than monitor.min_free_mb = 256"},
    ),
    NoticeKind.EXPIRES_SOON: ("server.tls_cert", {"reason": "server.tls_cert ends on 2030-01-07 10:00 UTC"}),
    NoticeKind.FRAME_REFUSED: (
        "",
        {"error": "bad_frame", "message": "content is missing", "key": "order-17", "peer": "127.0.0.1:40000"},
    ),
    NoticeKind.HOOK_FAILING: (
        "default",
        {"account": "default", "job": "j0123456789abcd", "reason": "url: HTTP 500"},
    ),
    NoticeKind.JOB_FINISHED: (
        "j0123456789abcd",
        {
            "account": "default",
            "key": "order-17",
            "state": "done",
            "recipients": 1500,
            "sent": 1498,
            "unknown": 2,
        },
    ),
    NoticeKind.TEST: ("", {}),
}


@click.group()
def alert() -> None:
    """The alerts."""


@alert.command()
@config_option
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in NoticeKind]),
    default=NoticeKind.TEST.value,
    help="An example of this kind.",
)
@click.option("--over", is_flag=True, help="As it is told when the trouble is over.")
@click.option("--language", type=click.Choice(["en", "zh"]), help="Default: alerts.language.")
@click.option("--print", "only_print", is_flag=True, help="Show the text, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def test(
    config: Path | None, kind: str, over: bool, language: str | None, only_print: bool, as_json: bool
) -> None:
    """Send a test alert to every address of alerts.urls, and say which of them took it.

    Ends with 1 when one did not.
    """
    from broadcastd import settings_file
    from broadcastd.alerts.alerter import called, tell_now
    from broadcastd.alerts.texts import text_of
    from broadcastd.cli.main import Exit

    path = config or settings_file.find()
    # The texts can be looked at before there are settings.
    settings = AlertSettings() if path is None and only_print else settings_file.load(path).alerts
    if language is not None:
        settings = settings.model_copy(update={"language": language})
    example = _example(NoticeKind(kind), over=over)
    if only_print:
        text = text_of(example, settings.language, called(settings))
        if as_json:
            print_json({"title": text.title, "body": text.body})
        else:
            click.echo(f"{text.title}\n\n{text.body}", nl=False)
        return
    if not settings.urls:
        raise SettingsError(f"{path or 'the environment'}: alerts.urls is empty, so nobody is told")
    check_alerts(settings)
    deliveries = tell_now(settings, [example])
    if as_json:
        print_json(
            {"deliveries": [{"service": one.service, "ok": one.ok, "why": one.why} for one in deliveries]}
        )
    for number, one in enumerate(deliveries, 1):
        if not one.ok:
            complain(f"alert not sent: number {number}, {one.service}: {one.why}")
        elif not as_json:
            click.echo(f"sent: number {number}, {one.service}")
    if not all(one.ok for one in deliveries):
        sys.exit(Exit.FAILED)


def check_alerts(settings: AlertSettings) -> None:
    """Raise SettingsError when apprise cannot use an address, without showing it. Nothing is sent."""
    from broadcastd.alerts.sending import check

    if not settings.urls:
        return
    found = check([url.get_secret_value() for url in settings.urls])
    wrong = [
        f"number {number}, {one.service}: {one.why}" for number, one in enumerate(found, 1) if not one.ok
    ]
    if wrong:
        lines = "\n".join(f"  alerts.urls: {words}" for words in wrong)
        raise SettingsError(f"alerts cannot be sent (docs/alerts.md has examples):\n{lines}")


def _example(kind: NoticeKind, *, over: bool) -> Alert:
    about, facts = _EXAMPLES[kind]
    now = datetime.now(UTC)
    lasting = kind not in (NoticeKind.FRAME_REFUSED, NoticeKind.JOB_FINISHED, NoticeKind.TEST)
    examples = (facts,) if kind is NoticeKind.FRAME_REFUSED else ()
    return Alert(
        kind, now, about, facts, over=over and lasting, since=now if lasting else None,
        again=len(examples), examples=examples,
    )  # fmt: skip
