"""The doctor, asked within the test's process."""

import asyncio
from pathlib import Path

from broadcastd.doctor.examination import Told, chosen, examine
from broadcastd.doctor.finding import Finding, Verdict
from broadcastd.doctor.subject import Subject

NOWHERE = "http://127.0.0.1:9"
"""An API that nobody asks, or that nobody answers at."""


def ask_doctor(settings: Path, *only: str, offline: bool = False) -> list[Told]:
    """All findings of these checks."""
    settings.chmod(0o600)
    return asyncio.run(_ask(settings, only, offline))


async def _ask(settings: Path, only: tuple[str, ...], offline: bool) -> list[Told]:
    async with Subject(settings, offline=offline).open() as subject:
        return [one async for one in examine(subject, chosen(only))]


def finding_of(settings: Path, check: str) -> Finding:
    """The only finding of a check."""
    (found,) = (one.finding for one in ask_doctor(settings, check) if one.check == check)
    return found


def verdicts_of(told: list[Told]) -> dict[str, Verdict]:
    """The verdict of each check; fails when one has several findings."""
    found = {one.check: one.finding.verdict for one in told}
    assert len(found) == len(told), told
    return found
