"""Takes what is secret out of the findings: the last line of defence, after every check's own care."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from broadcastd.doctor.finding import Finding
from broadcastd.doctor.subject import Subject

SHORTEST = 6
"""Shorter ones would take ordinary words apart; and they are no secret to anybody who tries."""


class Hiding:
    """Knows the settings' secrets, and the tokens that were fetched meanwhile."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        known = set(secrets_of(subject.settings)) if subject.settings is not None else set()
        self._secrets = sorted((one for one in known if len(one) >= SHORTEST), key=len, reverse=True)

    def without_secrets(self, finding: Finding) -> Finding:
        """The same, with *** in place of each."""
        return Finding(finding.verdict, self._clean(finding.seen), tuple(map(self._clean, finding.mend)))

    def _clean(self, text: str) -> str:
        for account in self._subject.accounts:
            if account.known_token:
                text = text.replace(account.known_token, "***")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def secrets_of(value: Any) -> Iterator[str]:
    """Every secret within settings; of an address, its password in each spelling."""
    match value:
        case SecretStr():
            yield from _spellings(value.get_secret_value())
        case BaseModel():
            for name in type(value).model_fields:
                yield from secrets_of(getattr(value, name))
        case dict():
            yield from secrets_of(list(value.values()))
        case list() | tuple() | set() | frozenset():
            for one in value:
                yield from secrets_of(one)


def _spellings(secret: str) -> Iterator[str]:
    if secret.startswith("sqlite:"):
        return  # a path on this machine is none
    yield secret
    try:
        password = urlsplit(secret).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)
