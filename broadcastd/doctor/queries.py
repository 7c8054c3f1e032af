"""How the database carries out what it is asked, and what this user may do there beyond that."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from broadcastd.audiences.inspection import OF_INDEX, WHOLE, Step
from broadcastd.doctor.finding import Finding, Findings, fail, ok, skipped, warn
from broadcastd.doctor.subject import AccountSubject
from broadcastd.errors import AudienceUnavailableError
from broadcastd.settings import AccountSettings

FEW_ROWS = 2000
"""Whatever is read of so few, a slice does not wait for it."""
HARMLESS = frozenset(
    {"SELECT", "USAGE", "SHOW VIEW", "PROCESS", "REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR",
     "REPLICA MONITOR"}
)  # fmt: skip
EXPLAINED = ("update", "delete", "insert", "replace")
NOBODY = "nobody-of-broadcastd-doctor"

_TABLE = re.compile(
    r"\b(?:from|join|update|into)\s+((?:`?\w+`?\s*\.\s*)?`?\w+`?)(?:\s+(?:as\s+)?(?!where\b|on\b|left\b|inner\b"
    r"|join\b|order\b|group\b|limit\b|set\b|union\b|right\b|cross\b|using\b|natural\b|having\b)`?(\w+)`?)?",
    re.IGNORECASE,
)
_ID = re.compile(r"([\w.`]+)\s+as\s+`?id`?\b", re.IGNORECASE)


def tables_of(sql: str) -> dict[str, str]:
    """Alias, or name, to the name of each table that a statement names."""
    found = {}
    for name, alias in _TABLE.findall(sql):
        plain = name.replace("`", "")
        found[alias or plain.rpartition(".")[2]] = plain
    return found


async def audience_plan(account: AccountSubject) -> Findings:
    """Whether a slice's query reads a slice, or the table."""
    try:
        ids = await account.ids()
    except AudienceUnavailableError:
        return [skipped("the query cannot be run: see audience-ids")]
    if ids.first is None or ids.last_of_slice is None:
        return [skipped("nobody is eligible: no slice to ask for")]
    pull = await account.inspection.plan_of_pull(account.now, ids.first, ids.last_of_slice)
    planning = await account.inspection.plan_of_planning(account.now)
    return judge_plan(pull, planning, ids.count, account.settings.audience.query)


def judge_plan(pull: Sequence[Step], planning: Sequence[Step], eligible: int, query: str) -> Findings:
    """`pull`: the plan of one slice; `planning`: that of the pass that each job makes over all ids."""
    found = []
    tables = tables_of(query)
    for step in pull:
        rows = eligible if step.rows is None else step.rows
        if step.access not in (WHOLE, OF_INDEX) or rows < FEW_ROWS or step.table.startswith("<"):
            continue
        name = tables.get(step.table, step.table)
        seen = f"each slice of up to 500 reads the whole of {name} (some {rows:,} rows)"
        found.append(warn(f"{seen}: {_why(step)}", _index(step, name, query, tables)))
    if found:
        return found
    first = next((one for one in pull if not one.table.startswith("<")), None)
    by = f" by {first.key}" if first is not None and first.key else ""
    sorts = "sorted" if any("filesort" in one.extra for one in planning) else "in the order of an index"
    return [ok(f"a slice is read{by}, without the rest of the table; all ids in one pass, {sorts}")]


def _why(step: Step) -> str:
    if step.derived:
        return (
            "the query (GROUP BY, DISTINCT, UNION, LIMIT …) is worked out whole before the ids are compared"
        )
    return "there is no index that its ids are found by"


def _index(step: Step, name: str, query: str, tables: Mapping[str, str]) -> str:
    if step.derived:
        return (
            "write the query without that, or keep its result in a table of its own, with id as primary key"
            " (broadcastd audience sync fills one)"
        )
    if len(tables) > 1 and step.table != next(iter(tables)):
        return f"CREATE INDEX broadcastd ON {name} (the columns that the query joins it by)"
    renamed = _ID.search(query)
    column = renamed[1].replace("`", "").rpartition(".")[2] if renamed else "id"
    return f"ALTER TABLE {name} ADD UNIQUE INDEX broadcastd_{column} ({column})"


async def audience_rights(account: AccountSubject) -> Findings:
    """What somebody could do with the password in the settings."""
    if not account.inspection.is_mysql:
        return [skipped("it is a file: its mode is its guard")]
    return judge_rights(await account.inspection.grants(), account.settings)


def judge_rights(grants: Sequence[tuple[str, str]], settings: AccountSettings) -> Findings:
    """`grants`: privileges, and on what, of SHOW GRANTS."""
    needed = {"SELECT", *(sql.split()[0].upper() for sql in statements_of(settings).values())}
    too_many = []
    for privileges, on in grants:
        names = {re.sub(r"\s*\(.*?\)", "", one).strip().upper() for one in _split(privileges)}
        if beyond := sorted(names - HARMLESS - needed):
            too_many.append(f"{', '.join(beyond)} on {on.replace('`', '')}")
    if not too_many:
        return [ok(f"this user may do what it must: {', '.join(sorted(needed))}")]
    url = sa.make_url(settings.audience.url.get_secret_value())
    read = tables_of(settings.audience.query)
    if settings.token.source == "table":
        read |= tables_of(settings.token.query)
    rights = ", ".join(sorted(needed))
    return [
        warn(
            f"this user may do more than broadcastd needs: {'; '.join(too_many)[:300]}",
            "CREATE USER 'broadcastd'@'HOST' IDENTIFIED BY '…'; and for each of "
            + ", ".join(dict.fromkeys(read.values()))
            + f": GRANT {rights} ON {url.database}.TABLE TO 'broadcastd'@'HOST';"
            " (broadcastd audience sync needs INSERT and UPDATE on its own tables, too)",
        )
    ]


def _split(privileges: str) -> list[str]:
    """`SELECT (id, openid), INSERT`: at the commas outside of parentheses."""
    return re.split(r",\s*(?![^()]*\))", privileges)


def statements_of(settings: AccountSettings) -> dict[str, str]:
    """The callback's statements, by their key."""
    callback = settings.callback
    if callback is None:
        return {}
    keys = ("opt_out_sql", "opt_in_sql", "subscribe_sql", "unsubscribe_sql")
    return {key: sql for key in keys if (sql := getattr(callback, key))}


async def callback(account: AccountSubject) -> Findings:
    """How followers' replies come in."""
    settings = account.settings.callback
    if settings is None:
        return [skipped("no callback: who replies 0 is still sent to, unless the site sees to it")]
    findings = []
    if settings.aes_key is None:
        findings.append(
            warn(
                "pushes come in plain: their signature does not cover what they say",
                "WeChat's console: 安全模式 (safe mode); then callback.aes_key_file, and app_id",
            )
        )
    if settings.previous_aes_key is not None:
        findings.append(
            warn(
                "callback.previous_aes_key is still taken",
                "take it out of the settings once WeChat uses the new key for a day",
            )
        )
    if not settings.opt_out_sql:
        findings.append(
            warn("callback.opt_out_sql is empty: who replies 0 is forgotten with the ledger", "set it")
        )
    return findings or [ok(f"mode {settings.secure_mode.value}, app_id {account.settings.app_id}")]


async def callback_sql(account: AccountSubject) -> Findings:
    """Whether the statements of replies can be run, asked by EXPLAIN."""
    statements = statements_of(account.settings)
    if not statements:
        return [skipped("no callback, or none of its statements is set")]
    found: dict[Finding, list[str]] = {}
    for key, sql in statements.items():
        trouble = await _statement(account, sql)
        if trouble is not None:
            found.setdefault(trouble, []).append(key)
    # Said once of all that it is true of: they are much alike.
    troubles = [replace(one, seen=f"{', '.join(keys)}: {one.seen}") for one, keys in found.items()]
    return troubles or [ok(f"{', '.join(statements)} can be run")]


async def _statement(account: AccountSubject, sql: str) -> Finding | None:
    if not sql.lower().startswith(EXPLAINED):
        return skipped("it cannot be tried without being run")
    url = sa.make_url(account.settings.audience.url.get_secret_value())
    try:
        steps = await account.inspection.plan_of(sql, NOBODY)
    except AudienceUnavailableError as error:
        if "command denied" not in str(error):
            return fail(str(error), "correct it in the settings")
        verb = sql.split(maxsplit=1)[0].upper()
        named = next(iter(tables_of(sql).values()), "TABLE")
        return fail(str(error), f"GRANT {verb} ON {url.database}.{named} TO this user (see audience-rights)")
    return judge_statement(sql, steps)


def judge_statement(sql: str, steps: Sequence[Step]) -> Finding | None:
    """A reply must not read the whole table; None: it does not."""
    for step in steps:
        if step.access in (WHOLE, OF_INDEX) and (step.rows or 0) >= FEW_ROWS:
            name = tables_of(sql).get(step.table, step.table)
            return warn(
                f"each reply reads the whole of {name} ({step.rows:,} rows)",
                f"CREATE INDEX broadcastd_openid ON {name} (openid)",
            )
    return None
