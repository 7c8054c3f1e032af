"""The process that hands one alert to apprise: `python -m broadcastd.alerts.child`.

stdin: one JSON object `{"urls": […], "title": …, "body": …, "look": "warning"}`; with `"check": true` nothing
is sent, and only what apprise cannot use is not `ok`. stdout: a JSON line for each
address, as soon as it is known: `{"n": 0, "ok": true}` or `{"n": 0, "ok": false, "why": …, "hopeless": …}`.
Whoever started it ends it when it takes too long.
"""

import logging
import os
import sys
import threading
from typing import Any

import apprise
import orjson
from apprise.manager_plugins import NotificationManager

from broadcastd.alerts.urls import scrubbed
from broadcastd.log import escaped

LONGEST_WHY = 500


class _Heard(logging.Handler):
    """What apprise says of one address: each has a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self._own.lines = [*self.lines, record.getMessage()]

    @property
    def lines(self) -> list[str]:
        """What was said in this thread."""
        return list(getattr(self._own, "lines", ()))


def main() -> None:
    """Tell each address, all at the same time."""
    asked = orjson.loads(sys.stdin.buffer.read())
    heard = _listen()
    lock = threading.Lock()

    def one(number: int, url: str) -> None:
        result = {"n": number, **_tell(url, asked, heard)}
        with lock:
            os.write(1, orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE))

    threads = [threading.Thread(target=one, args=pair, daemon=True) for pair in enumerate(asked["urls"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _listen() -> _Heard:
    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.handlers = [heard]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    return heard


def _tell(url: str, asked: dict[str, Any], heard: _Heard) -> dict[str, Any]:
    asset = apprise.AppriseAsset(
        app_id="broadcastd", app_desc="broadcastd", app_url="", async_mode=False, interpret_escapes=False
    )
    try:
        service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if service is None:
            return {"ok": False, "hopeless": True, "why": _unusable(url)}
        if asked.get("check"):
            return {"ok": True}
        _prefer_plain_text(service)
        # The service itself, not an `Apprise` of one: what it says is said in this thread.
        if service.notify(
            title=asked["title"],
            body=asked["body"],
            body_format=apprise.NotifyFormat.TEXT,
            notify_type=asked["look"],
        ):
            return {"ok": True}
        why = _why(heard.lines)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    return {"ok": False, "hopeless": False, "why": escaped(scrubbed(why, url))[:LONGEST_WHY]}


def _unusable(url: str) -> str:
    scheme = url.partition("://")[0].lower()
    if scheme in NotificationManager():  # type: ignore[no-untyped-call]
        return f"apprise cannot use it: something behind {scheme}:// is missing or wrong"
    return "apprise knows no such service"


def _prefer_plain_text(service: Any) -> None:
    """Nothing within a text from outside may become a link or a picture."""
    formats = type(service).notify_format
    formats = formats if isinstance(formats, tuple) else (formats,)
    if apprise.NotifyFormat.TEXT in formats:
        service.notify_format = apprise.NotifyFormat.TEXT


def _why(lines: list[str]) -> str:
    """The last of what it said: an exception's text follows the sentence that something failed."""
    telling = [line for line in lines if "xception" in line or "ailed" in line or "rror" in line]
    return "; ".join(dict.fromkeys(telling[-2:])) or "it was not taken"


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
