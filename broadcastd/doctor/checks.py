"""The table of checks: one row each, in the order in which they are told."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from broadcastd.doctor import audience, files, ledger, machine, ports, queries, service, wechat
from broadcastd.doctor.finding import Findings
from broadcastd.doctor.subject import AccountSubject, Subject


class Where(Enum):
    """What a check asks; `--offline` leaves out what is not on this machine."""

    HERE = auto()
    LEDGER = auto()
    SITE = auto()
    WECHAT = auto()


@dataclass(frozen=True, slots=True)
class OfMachine:
    """A check of the whole."""

    name: str
    run: Callable[[Subject], Awaitable[Findings]]
    where: Where = Where.HERE
    needs_settings: bool = True


@dataclass(frozen=True, slots=True)
class OfAccount:
    """A check of each account."""

    name: str
    run: Callable[[AccountSubject], Awaitable[Findings]]
    where: Where
    needs_database: bool = False
    """It is not run when the database cannot be used at all: that is said once."""


Check = OfMachine | OfAccount

CHECKS: tuple[Check, ...] = (
    OfMachine("settings", files.settings, needs_settings=False),
    OfMachine("permissions", files.permissions, needs_settings=False),
    OfMachine("folders", files.folders),
    OfMachine("versions", machine.versions, needs_settings=False),
    OfMachine("time-zones", machine.time_zones, needs_settings=False),
    OfMachine("open-files", machine.open_files),
    OfMachine("port", ports.port),
    OfMachine("other-ports", ports.other_ports),
    OfMachine("daemon", ports.daemon),
    OfMachine("ledger", ledger.ledger, Where.LEDGER),
    OfMachine("ledger-copy", ledger.ledger_copy, Where.LEDGER),
    OfMachine("ledger-disk", ledger.ledger_disk),
    OfMachine("ledger-pages", ledger.ledger_pages),
    OfMachine("ledger-server", ledger.ledger_server, Where.LEDGER),
    OfAccount("audience", audience.audience, Where.SITE),
    OfAccount("audience-server", audience.audience_server, Where.SITE, needs_database=True),
    OfAccount("audience-ids", audience.audience_ids, Where.SITE, needs_database=True),
    OfAccount("audience-openids", audience.audience_openids, Where.SITE, needs_database=True),
    OfAccount("audience-plan", queries.audience_plan, Where.SITE, needs_database=True),
    OfAccount("audience-now", audience.audience_now, Where.SITE, needs_database=True),
    OfAccount("audience-rights", queries.audience_rights, Where.SITE, needs_database=True),
    OfAccount("callback", queries.callback, Where.HERE),
    OfAccount("callback-sql", queries.callback_sql, Where.SITE, needs_database=True),
    OfAccount("api", wechat.api, Where.WECHAT),
    OfAccount("clock", wechat.clock, Where.WECHAT),
    OfAccount("token", wechat.token, Where.WECHAT),
    OfAccount("quota", wechat.quota, Where.WECHAT),
    OfMachine("alerts", service.alerts),
    OfMachine("unit", service.unit, needs_settings=False),
    OfMachine("monitor", service.monitor, needs_settings=False),
)
