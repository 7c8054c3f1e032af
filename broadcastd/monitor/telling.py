"""Has troubles told: what is new, what lasts, what is over. What nobody took is tried by the next run."""

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from broadcastd.alert_settings import AlertSettings
from broadcastd.alerts.alerter import called, look_of
from broadcastd.alerts.policy import Alert, Policy
from broadcastd.alerts.sending import Delivery, send_now
from broadcastd.alerts.texts import Text, text_of
from broadcastd.monitor.state import State
from broadcastd.monitor.verdict import Finding
from broadcastd.notices import Notice, NoticeKind

MOST_UNSENT = 10
MOST_TRIES = 60
"""By runs that are a minute apart: for an hour."""
LONGEST_SEND_S = 20.0


class Post(Protocol):
    """Sends alerts."""

    def put(self, text: Text, look: str, urls: Sequence[int] | None = None, tries: int = 0) -> None:
        """Have one sent, in the order they come; to all addresses, or to those with these numbers."""
        ...

    def finish(self, within_s: float) -> list[dict[str, Any]]:
        """Wait until all are sent, but not longer; those that not every address took, as `put` takes them."""
        ...


@dataclass(slots=True)
class _Letter:
    """One alert on its way."""

    text: Text
    look: str
    urls: list[int]
    tries: int
    left: list[int]

    @property
    def kept(self) -> dict[str, Any]:
        """As JSON takes it; no address is in it."""
        return {
            "title": self.text.title,
            "body": self.text.body,
            "look": self.look,
            "urls": self.left,
            "tries": self.tries + 1,
        }


class MailPost:
    """Implements `Post`, in a thread: a slow mail server delays no restart."""

    def __init__(self, settings: AlertSettings) -> None:
        self._urls = [url.get_secret_value() for url in settings.urls]
        self._letters: list[_Letter] = []
        self._queue: queue.SimpleQueue[_Letter | None] = queue.SimpleQueue()
        self.words: list[str] = []
        """What became of each, without addresses."""
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._thread.start()

    def put(self, text: Text, look: str, urls: Sequence[int] | None = None, tries: int = 0) -> None:
        """See `Post`."""
        if not self._urls:
            return
        to = [no for no in (range(len(self._urls)) if urls is None else urls) if no < len(self._urls)]
        letter = _Letter(text, look, to, tries, list(to))
        self._letters.append(letter)
        self._queue.put(letter)

    def finish(self, within_s: float) -> list[dict[str, Any]]:
        """See `Post`."""
        self._queue.put(None)
        self._thread.join(max(0.0, within_s))
        return [one.kept for one in self._letters if one.left]

    def _work(self) -> None:
        while (letter := self._queue.get()) is not None:
            urls = [self._urls[no] for no in letter.urls]
            deliveries = send_now(urls, letter.text, letter.look, LONGEST_SEND_S)
            letter.left = [
                no for no, done in zip(letter.urls, deliveries, strict=True) if not (done.ok or done.hopeless)
            ]
            self.words += [_in_words(letter, done) for done in deliveries]


def _in_words(letter: _Letter, done: Delivery) -> str:
    return f"{letter.text.title}: " + (f"told {done.service}" if done.ok else f"{done.service}: {done.why}")


class Telling:
    """Keeps its memory in `state`."""

    def __init__(self, settings: AlertSettings, state: State, post: Post) -> None:
        self._settings = settings
        self._state = state
        self._post = post
        self._policy = Policy(settings.off, state=state.policy)

    def again(self) -> None:
        """What the last run could not send."""
        unsent, self._state.unsent = self._state.unsent, []
        for one in unsent:
            self._post.put(Text(one["title"], one["body"]), one["look"], one["urls"], one["tries"])

    def take(self, findings: Sequence[Finding], now: datetime) -> None:
        """One look. Of checks that could not be made nothing is over."""
        present = {_key(notice): (one, notice) for one in findings if (notice := one.notice) is not None}
        # What is about to change by itself is neither told nor over.
        looked = {one.check for one in findings} - {one.check for one in findings if one.waits_s}
        for key, kept in list(self._state.on.items()):
            if key not in present and kept["check"] in looked:
                self._over(key, kept, now)
        for key, (finding, notice) in present.items():
            if key not in self._state.on:
                self._state.on[key] = {
                    "check": finding.check,
                    "kind": notice.kind.value,
                    "about": notice.about,
                    "since_s": now.timestamp(),
                }
                self._put(self._policy.take(notice, now))
        self._put(self._policy.due(now))
        self._state.policy = self._policy.state

    def finish(self, within_s: float) -> None:
        """Wait for what is being sent."""
        left = [one for one in self._post.finish(within_s) if one["tries"] < MOST_TRIES]
        self._state.unsent = left[-MOST_UNSENT:]

    def _over(self, key: str, kept: Mapping[str, Any], now: datetime) -> None:
        del self._state.on[key]
        lasted_s = round(max(0.0, now.timestamp() - kept["since_s"]))
        notice = Notice(NoticeKind(kept["kind"]), kept["about"], {"lasted_s": lasted_s}, over=True)
        self._put(self._policy.take(notice, now))

    def _put(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            text = text_of(alert, self._settings.language, called(self._settings))
            self._post.put(text, look_of(alert))


def _key(notice: Notice) -> str:
    return f"{notice.kind} {notice.about}"
