"""Builds what each account needs: its channels and lanes, audience, token."""

import contextlib
from collections.abc import Callable, Mapping
from zoneinfo import ZoneInfo

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.sql import SqlAudience
from broadcastd.callback.building import opt_outs_of
from broadcastd.channels import CHANNELS
from broadcastd.channels.quota import WechatQuotas
from broadcastd.channels.wechat import WechatApi
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.gate import Gate
from broadcastd.delivery.lane import Lane
from broadcastd.delivery.memory import Memory
from broadcastd.delivery.pace import Pace
from broadcastd.delivery.window import DEAF, HEARING
from broadcastd.ports import Channel, Ledger
from broadcastd.quota_ports import QuotaSource
from broadcastd.settings import AccountSettings, Settings
from broadcastd.token_sources import TOKEN_SOURCES, AccountParts
from broadcastd.transports import open_transport


class AccountBuilder:
    """`stack` closes what is opened."""

    def __init__(
        self, settings: Settings, ledger: Ledger, clock: Clock, stack: contextlib.AsyncExitStack
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._stack = stack
        self.quota_sources: dict[str, QuotaSource] = {}
        """Of the accounts built so far, by name."""
        self.pools: list[tuple[str, str, Callable[[], tuple[int, int]]]] = []
        """(account, `audience` or `api`, how many connections are in use and may be)."""
        self._apis: dict[str, WechatApi] = {}

    def account(self, name: str) -> Account:
        """One of the settings' accounts."""
        settings = self._settings.accounts[name]
        database = open_database(settings.audience)
        self._stack.push_async_callback(database.close)
        pool = self._settings.pool
        most = pool.tasks * pool.sends_per_task
        transport = open_transport(settings.http, most)
        api = WechatApi(settings.api_base, transport)
        self._stack.push_async_callback(api.close)
        self._apis[name] = api
        self.quota_sources[name] = WechatQuotas(api, settings)
        self.pools += [
            (name, "audience", lambda: database.connections),
            (name, "api", lambda: transport.connections),
        ]
        return Account(
            name=name,
            channels=self.channels(name, settings),
            audience=SqlAudience(database, settings),
            tokens=TOKEN_SOURCES[settings.token.source](
                AccountParts(name, settings, database, api, self._clock)
            ),
            gate=Gate(self._clock, name),
            lanes={channel: self._lane(name, settings, channel) for channel in settings.channels},
            pace=Pace(pool.tasks, pool.sends_per_task, transport.full_rate_per_s, transport.chunk),
            timezone=ZoneInfo(settings.timezone),
            max_gone_share=settings.audience.max_gone_share,
            on_unknown=settings.on_unknown or self._settings.ledger.on_unknown,
            opt_outs=opt_outs_of(settings, self._clock),
            memory=self._memory(name, settings),
        )

    def channels(self, name: str, settings: AccountSettings) -> Mapping[str, Channel]:
        """Of an account that was built, with the texts of these settings."""
        api = self._apis[name]
        return {channel: CHANNELS[channel](api, settings) for channel in settings.channels}

    def most_in_flight(self, settings: AccountSettings, channel: str) -> int:
        """How many calls may ever be under way."""
        most = self._settings.pool.tasks * self._settings.pool.sends_per_task
        return min(most, settings.channel(channel).max_in_flight or most)

    def _memory(self, name: str, settings: AccountSettings) -> Memory | None:
        if settings.window == "off":
            return None
        return Memory(name, self._ledger, self._clock, DEAF if settings.callback is None else HEARING)

    def _lane(self, account: str, settings: AccountSettings, channel: str) -> Lane:
        rate_per_s = settings.channel(channel).rate_per_s
        return Lane(account, channel, self._clock, self.most_in_flight(settings, channel), rate_per_s)
