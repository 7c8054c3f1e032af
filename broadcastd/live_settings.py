"""Which settings may change while the daemon runs, and what each of them changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from broadcastd import log as logging
from broadcastd.building import Parts
from broadcastd.errors import SettingsError
from broadcastd.reload import Path, Reloaded, changes, overlaid
from broadcastd.settings import Settings
from broadcastd.wire.listener import Listener

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Living:
    """What a change reaches."""

    parts: Parts
    listener: Listener


Apply = Callable[[Living, Settings, Path], None]
"""Puts one changed key in force. Raises ValueError when it cannot."""


def _listener(living: Living, settings: Settings, path: Path) -> None:
    """It is changed at each reload, before all else."""
    del living, settings, path


def _intake(living: Living, settings: Settings, path: Path) -> None:
    del path
    living.parts.intake.change(settings)


def _retention(living: Living, settings: Settings, path: Path) -> None:
    del path
    living.parts.retention.change(timedelta(days=settings.ledger.keep_days))


def _log_level(living: Living, settings: Settings, path: Path) -> None:
    del living, path
    logging.change_level(settings.log.level)


def _lane(living: Living, settings: Settings, path: Path) -> None:
    _, name, channel, _ = path
    account = settings.accounts[name]
    lane = living.parts.accounts[name].lanes.get(channel)
    if lane is not None:
        most = living.parts.builder.most_in_flight(account, channel)
        lane.change(account.channel(channel).rate_per_s, most)


def _texts(living: Living, settings: Settings, path: Path) -> None:
    name = path[1]
    living.parts.accounts[name].channels = living.parts.builder.channels(name, settings.accounts[name])


def _policies(living: Living, settings: Settings, path: Path) -> None:
    del path
    for name, account in settings.accounts.items():
        part = living.parts.accounts[name]
        part.on_unknown = account.on_unknown or settings.ledger.on_unknown
        part.max_gone_share = account.audience.max_gone_share


def _when_needed(living: Living, settings: Settings, path: Path) -> None:
    """It is read each time that it is needed."""
    del living, settings, path


CHANNEL_SECTIONS = ("custom", "template", "subscribe", "mass")

LIVE: Mapping[str, Apply] = {
    "server.token": _listener,
    "server.tokens": _listener,
    "server.max_frame_bytes": _listener,
    "server.max_connections": _listener,
    "server.max_frames_in_flight": _listener,
    "server.max_connections_per_address": _listener,
    "server.allow": _listener,
    "server.tls_cert": _listener,
    "server.tls_key": _listener,
    "server.tls_client_ca": _listener,
    "server.idle_timeout_s": _listener,
    "server.frame_timeout_s": _listener,
    "server.reply_timeout_s": _listener,
    "server.quiet_ms": _listener,
    "server.dedupe_window_s": _intake,
    "server.drain_s": _when_needed,
    "ledger.reserve_mb": _intake,
    "ledger.keep_days": _retention,
    "ledger.on_unknown": _policies,
    "log.level": _log_level,
    "accounts.*.on_unknown": _policies,
    "accounts.*.audience.max_gone_share": _policies,
    **{f"accounts.*.{section}.rate_per_s": _lane for section in CHANNEL_SECTIONS},
    **{f"accounts.*.{section}.max_in_flight": _lane for section in CHANNEL_SECTIONS},
    "accounts.*.custom.text": _texts,
    "accounts.*.custom.max_text_bytes": _texts,
    "accounts.*.mass.text": _texts,
    "accounts.*.mass.max_text_bytes": _texts,
    "accounts.*.template.template_id": _texts,
    "accounts.*.template.url": _texts,
    "accounts.*.template.miniprogram": _texts,
    "accounts.*.template.data": _texts,
    "accounts.*.template.approved": _texts,
    "accounts.*.templates": _texts,
    "accounts.*.subscribe.template_id": _texts,
    "accounts.*.subscribe.page": _texts,
    "accounts.*.subscribe.miniprogram": _texts,
    "accounts.*.subscribe.miniprogram_state": _texts,
    "accounts.*.subscribe.lang": _texts,
    "accounts.*.subscribe.data": _texts,
    "accounts.*.subscribe.approved": _texts,
    "accounts.*.subscriptions": _texts,
}
"""Patterns of keys (`*` is any one name). Every other key needs a restart."""


class LiveSettings:
    """The settings in force. `read` finds what the file and the environment say now."""

    def __init__(self, settings: Settings, read: Callable[[], Settings], living: Living) -> None:
        self.now = settings
        self._read = read
        self._living = living

    def reload(self) -> Reloaded:
        """Read them again, and put in force what may change. Raises SettingsError: nothing is changed."""
        new = self._read()
        found = changes(self.now, new, LIVE)
        live = [change for change in found if change.pattern is not None]
        try:
            settings = overlaid(self.now, new, live)
            for host in self._living.listener.hosts:
                settings.server.check_host(host)
        except ValueError as error:
            names = ", ".join(change.key for change in live)
            raise SettingsError(
                f"what may change while it runs ({names}) does not go with what needs a restart"
            ) from error
        # Always: the certificates' files may have changed while their names have not.
        self._living.parts.http.renew()
        self._living.listener.change(settings.server)
        for change in live:
            assert change.pattern is not None
            LIVE[change.pattern](self._living, settings, change.path)
        self.now = settings
        kept = tuple(change.key for change in found if change.pattern is None)
        reloaded = Reloaded(tuple(change.key for change in live), kept)
        log.info("settings_reloaded", changed=reloaded.changed, needs_restart=reloaded.needs_restart)
        return reloaded
