"""`broadcastd sandbox`: a local imitation of the WeChat API."""

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from broadcastd.sandbox import Sandbox


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9099, show_default=True, help="Port of the imitated API; 0 is a free one.")
@click.option("--control-port", default=0, help="Port of the control; 0, the default, is a free one.")
@click.option("--inside", default=0, help="Numbered followers inside the customer-service window.")
@click.option("--outside", default=0, help="Numbered followers outside it.")
@click.option("--unfollowed", default=0, help="Numbered openids that unfollowed.")
@click.option(
    "--open/--closed", "open_", default=None, help="Any other openid is a follower inside the window."
)
@click.option("--allowance", default=5, show_default=True, help="Messages a window; 0 is no limit.")
@click.option("--window-s", default=172_800.0, show_default=True, help="Length of a window.")
@click.option("--unfollowed-errcode", default=43004, show_default=True, help="custom/send to who left.")
@click.option("--app-id", default=None, help="The account's id.")
@click.option("--app-secret", default=None, help="The account's secret.")
@click.option("--token", default="", help="The first access token; made up when not given.")
@click.option("--expires-in-s", default=7200, show_default=True, help="Life of an access token.")
@click.option("--max-text-bytes", default=2048, show_default=True, help="Longest text, in bytes of UTF-8.")
@click.option(
    "--template", "templates", multiple=True, help="A known template id; without any, all are known."
)
@click.option("--const", "constants", multiple=True, help="An approved value of const keywords; else any.")
@click.option("--consents", default=0, help="Messages of each subscribe template that everybody consents to.")
@click.option("--max-clientmsgid", default=32, show_default=True, help="Longest clientmsgid, in bytes.")
@click.option("--latency-ms", default="0", show_default=True, help="Time an answer takes: 50, or 20-80.")
@click.option("--error", "errors", multiple=True, metavar="[ENDPOINT:]ERRCODE=SHARE", help="As -1=0.05.")
@click.option("--outage", "outages", multiple=True, metavar="KIND[=SHARE]", help="As hang=0.1, or http_503.")
@click.option(
    "--quota",
    "quotas",
    multiple=True,
    metavar="ENDPOINT=N",
    help="Calls a day, as custom=1000; 0 is no limit.",
)
@click.option(
    "--per-minute", multiple=True, metavar="ENDPOINT=N", help="Calls a minute, as custom=600; 0 is no limit."
)
@click.option("--callback", "url", default="", metavar="URL", help="Push events to it.")
@click.option("--callback-token", "token_of_callback", default="sandbox", show_default=True)
@click.option("--callback-aes-key", "aes_key", default="", help="43 characters; for the other two modes.")
@click.option(
    "--callback-mode",
    "mode",
    type=click.Choice(["plain", "compatible", "safe"]),
    default="plain",
    show_default=True,
    help="How pushes are written.",
)
@click.option(
    "--template-status",
    "statuses",
    multiple=True,
    metavar="STATUS=SHARE",
    help="What becomes of accepted templates, as 'failed:user block=0.1'.",
)
@click.option("--event-first", is_flag=True, help="Push the event before the call is answered.")
@click.option("--zero-msgid", is_flag=True, help="MsgID 0 in the event of a message with client_msg_id.")
@click.option("--seed", default=0, help="Of all chance.")
@click.option("--json", "as_json", is_flag=True, help="The start line as one JSON object.")
def sandbox(as_json: bool, **settings: Any) -> None:
    """Imitate the WeChat API on this machine, until Ctrl-C.

    Followers get made-up openids, the same in every run. Without --inside, --outside or --unfollowed any
    openid is a follower inside the window. The control (GET /sandbox/ on its own port lists it) shows what
    arrived and changes the behaviour while it runs: quotas, what becomes of messages, the callback and what
    followers do to it (text, CLICK, VIEW, SCAN, subscribe, unsubscribe, consent), and how often each push was
    tried and what it was answered.

    ENDPOINT is one of token, stable_token, custom, template, subscribe, mass, mass_get, user_get, quota_get,
    clear_quota, clear_quota_v2, api_domain_ip and callback_ip; a quota can also be that of all.
    """
    from broadcastd.sandbox import Options, SandboxError, serve

    try:
        settings["open"] = settings.pop("open_")
        settings["latency_ms"] = _latency(settings["latency_ms"])
        settings["errors"] = dict(_share(text) for text in settings["errors"])
        settings["quotas"] = _quotas(settings["quotas"], settings.pop("per_minute"))
        settings["callback"] = {
            "url": settings.pop("url"),
            "token": settings.pop("token_of_callback"),
            "aes_key": settings.pop("aes_key"),
            "mode": settings.pop("mode"),
        }
        settings["results"] = {
            "template": dict(_share(text) for text in settings.pop("statuses")),
            "event_first": settings.pop("event_first"),
            "zero_msgid": settings.pop("zero_msgid"),
        }
        settings["outages"] = [
            {"kind": kind, "share": share} for kind, share in map(_share, settings["outages"])
        ]
        given = {name: value for name, value in settings.items() if value is not None}
        serve(Options(**given), lambda started: click.echo(_start_line(started, as_json)))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except SandboxError as error:
        raise click.ClickException(str(error)) from error


def _start_line(started: "Sandbox", as_json: bool) -> str:
    if as_json:
        return json.dumps(started.address())
    options = started.options
    people = (
        f"{options.inside} followers inside the window, {options.outside} outside, {options.unfollowed} gone"
    )
    if options.takes_anyone:
        people = f"{people}, anyone else inside" if options.numbered else "any openid is a follower"
    return (
        f"sandbox at {started.url} ({people})\n"
        f"  control    {started.control_url}/sandbox/\n"
        f"  app_id     {options.app_id}\n"
        f"  app_secret {options.app_secret}\n"
        f"  token      {started.token}"
    )


def _latency(text: str) -> float | tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return (float(low), float(high)) if high else float(low)
    except ValueError:
        raise ValueError(f"--latency-ms takes a number or a range as 20-80, not {text}") from None


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share) if share else 1.0
    except ValueError:
        raise ValueError(f"{text}: the share must be a number from 0 to 1") from None


def _quotas(daily: tuple[str, ...], per_minute: tuple[str, ...]) -> dict[str, dict[str, int]]:
    quotas: dict[str, dict[str, int]] = {}
    for limit, texts in (("daily", daily), ("per_minute", per_minute)):
        for name, number in map(_whole, texts):
            quotas.setdefault(name, {})[limit] = number
    return quotas


def _whole(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    try:
        return name, int(number)
    except ValueError:
        raise ValueError(f"{text}: takes a name and a number, as custom=1000") from None
