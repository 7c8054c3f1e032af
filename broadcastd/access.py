"""Who may do what: the rights of a token, and how a token is found."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Right(StrEnum):
    """What a token may be good for."""

    SEND = "send"
    """Broadcast, and look at a job whose id one has."""
    READ = "read"
    """Look at everything, openids too."""
    CONTROL = "control"
    """Pause, cancel, retry, drain, …"""


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller may do."""

    name: str
    """Of its token; empty for the one that may do everything."""
    rights: frozenset[Right]
    accounts: frozenset[str] | None = None
    """The accounts that it may know of; None: all."""

    def covers(self, account: str) -> bool:
        """Whether it may know of an account."""
        return self.accounts is None or account in self.accounts


EVERYTHING = Access("", frozenset(Right))


class Keyring:
    """Finds what a token is good for, in a time that tells nothing of the tokens."""

    def __init__(self, accesses: Mapping[str, Access]) -> None:
        """`accesses`: by token. Without any, everybody may do everything."""
        self._accesses = [(token.encode(), access) for token, access in accesses.items()]

    def access(self, token: object) -> Access | None:
        """What whoever shows this may do; None: nothing."""
        if not self._accesses:
            return EVERYTHING
        shown = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else b""
        found = None
        for known, access in self._accesses:  # all of them, always
            if hmac.compare_digest(known, shown):
                found = access
        return found
