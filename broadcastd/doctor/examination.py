"""Runs the checks: side by side, each bounded, told in the table's order; what is secret is taken out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from broadcastd.doctor.checks import CHECKS, Check, OfAccount, OfMachine, Where
from broadcastd.doctor.finding import Finding, Findings, Verdict, fail, skipped
from broadcastd.doctor.hiding import Hiding
from broadcastd.doctor.subject import BOUND_S, AccountSubject, Subject
from broadcastd.errors import AudienceUnavailableError, BroadcastdError

_NO_SETTINGS = skipped("the settings cannot be used")
_OFFLINE = skipped("--offline: it asks another machine")
_NO_DATABASE = skipped("the database cannot be used: see audience")


@dataclass(frozen=True, slots=True)
class Told:
    """One finding, and whose."""

    check: str
    account: str | None
    finding: Finding


def chosen(only: Sequence[str]) -> list[Check]:
    """The checks of these names; a first word stands for all that begin with it. All of them for none."""
    if not only:
        return list(CHECKS)
    return [
        one for one in CHECKS if any(one.name == name or one.name.startswith(f"{name}-") for name in only)
    ]


def passed(told: Sequence[Told]) -> bool:
    """Whether nothing fails; warnings are allowed."""
    return not any(one.finding.verdict is Verdict.FAIL for one in told)


async def examine(subject: Subject, checks: Sequence[Check]) -> AsyncIterator[Told]:
    """Every finding, as soon as those before it in the table's order are there."""
    hiding = Hiding(subject)
    runs = [
        (check.name, account, asyncio.create_task(run))
        for check in checks
        for account, run in _runs(check, subject)
    ]
    try:
        for name, account, task in runs:
            for finding in await task:
                yield Told(name, account, hiding.without_secrets(finding))
    finally:
        for _, _, task in runs:
            task.cancel()
        await asyncio.gather(*(task for _, _, task in runs), return_exceptions=True)


def _runs(check: Check, subject: Subject) -> list[tuple[str | None, Coroutine[Any, Any, Findings]]]:
    """Of each account it is about, or of the machine: what is to be run."""
    if isinstance(check, OfMachine):
        return [(None, _of_machine(check, subject))]
    if subject.settings is None:
        return [(None, _said(_NO_SETTINGS))]
    return [
        (
            account.name,
            _said(_OFFLINE)
            if subject.offline and _is_far(check.where, account)
            else _bounded(partial(_of_account, check, account)),
        )
        for account in subject.accounts
    ]


async def _of_machine(check: OfMachine, subject: Subject) -> Findings:
    if check.needs_settings and subject.settings is None:
        return [_NO_SETTINGS]
    if subject.offline and check.where is Where.LEDGER and subject.ledger_file is None:
        return [_OFFLINE]
    return await _bounded(partial(check.run, subject))


async def _of_account(check: OfAccount, account: AccountSubject) -> Findings:
    if check.needs_database:
        try:
            await account.server()
        except AudienceUnavailableError:
            return [_NO_DATABASE]
    return await check.run(account)


def _is_far(where: Where, account: AccountSubject) -> bool:
    return where is Where.WECHAT or (where is Where.SITE and account.inspection.is_mysql)


async def _said(finding: Finding) -> Findings:
    return [finding]


async def _bounded(run: Callable[[], Awaitable[Findings]]) -> Findings:
    """Whatever becomes of one check, the others go on."""
    try:
        async with asyncio.timeout(BOUND_S):
            return await run()
    except TimeoutError:
        words = f"no end to it within {BOUND_S:g} s: what it asks does not answer"
        return [fail(words, "see what else fails here, and try again")]
    except AudienceUnavailableError as error:
        return [fail(str(error), "see audience and audience-ids")]
    except BroadcastdError as error:
        return [fail(str(error), "see what else fails here")]
    except Exception as error:
        return [fail(f"the check itself broke ({type(error).__name__}: {error})", "please report it")]
