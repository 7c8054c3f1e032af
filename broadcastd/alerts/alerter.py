"""Takes the daemon's notices and has an operator told of them. Whatever becomes of an alert, nobody waits."""

import asyncio
import socket
from collections.abc import Sequence

import structlog

from broadcastd.alert_settings import AlertSettings
from broadcastd.alerts.policy import Alert, Policy
from broadcastd.alerts.sending import Delivery, Sending, send_now
from broadcastd.alerts.texts import text_of
from broadcastd.clock import Clock
from broadcastd.notices import Notice, NoticeKind

log = structlog.get_logger()

MOST_UNREAD = 1000
"""Notices that wait for the loop: it takes them within one turn."""
LONGEST_LOOK_S = 60.0
"""The wall clock may be set: reminders go by it."""
LAST_ALERTS_S = 10.0
"""How long a daemon that stops lets its last alerts be tried."""


class Alerter:
    """Implements `Notices`. `run` must be running."""

    def __init__(self, settings: AlertSettings, clock: Clock, sending: Sending | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._policy = Policy(settings.off, job_finished=settings.job_finished)
        self._sending = sending or Sending([url.get_secret_value() for url in settings.urls])
        self._unread: asyncio.Queue[Notice] = asyncio.Queue(MOST_UNREAD)

    def tell(self, notice: Notice) -> None:
        """See `Notices`."""
        try:
            self._unread.put_nowait(notice)
        except asyncio.QueueFull:
            # No traceback: nothing is wrong but their number.
            log.error("notice_dropped", kind=notice.kind.value, about=notice.about)  # noqa: TRY400

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sending.run(), name="alert sending")
            await self._read()

    async def flush(self) -> None:
        """Let what was told so far be tried once, if it does not take long."""
        try:
            async with asyncio.timeout(LAST_ALERTS_S):
                await self._unread.join()
                await self._sending.all_tried()
        except TimeoutError:
            log.warning("last_alerts_cut_short")

    async def _read(self) -> None:
        while True:
            notice = await self._next()
            try:
                if notice is not None:
                    self._put(self._policy.take(notice, self._clock.now()))
                self._put(self._policy.due(self._clock.now()))
            except Exception:
                # Telling must not end the sending of posts, whatever is wrong with it.
                log.exception("alert_failed", kind=notice.kind.value if notice else "due")
            finally:
                if notice is not None:
                    self._unread.task_done()

    async def _next(self) -> Notice | None:
        """The next notice; None when it is time to look at reminders."""
        at = self._policy.next_at()
        wait_s = None if at is None else max(0.0, (at - self._clock.now()).total_seconds())
        wait_s = wait_s and min(wait_s, LONGEST_LOOK_S)
        try:
            async with asyncio.timeout(wait_s):
                return await self._unread.get()
        except TimeoutError:
            return None

    def _put(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            text = text_of(alert, self._settings.language, called(self._settings))
            self._sending.put(text, alert.kind.value if alert.kind else "more", look_of(alert))


def called(settings: AlertSettings) -> str:
    """What this installation is called in titles."""
    return settings.name or socket.gethostname()


def look_of(alert: Alert) -> str:
    """How a service that has colours shows it."""
    if alert.over:
        return "success"
    return "info" if alert.kind in (NoticeKind.JOB_FINISHED, NoticeKind.TEST) else "warning"


def tell_now(settings: AlertSettings, alerts: Sequence[Alert]) -> list[Delivery]:
    """Send alerts at once, and wait: for `broadcastd monitor` and `broadcastd alert test`. Never raises for
    what a service does."""
    urls = [url.get_secret_value() for url in settings.urls]
    deliveries: list[Delivery] = []
    if urls:
        for alert in alerts:
            text = text_of(alert, settings.language, called(settings))
            deliveries += send_now(urls, text, look_of(alert))
    return deliveries
