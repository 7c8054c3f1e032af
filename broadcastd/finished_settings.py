"""The settings of what a site is told of its jobs that have ended."""

import re
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from broadcastd.outcomes import Outcome
from broadcastd.section import Seconds, Section, check_port

PARAMETERS = (
    "ref",
    "key",
    "job",
    "account",
    "state",
    "total",
    *(outcome.value for outcome in Outcome),
    "in_doubt",
    "finished_at",
)
"""What a statement may name."""
OF_A_JOB = ("ref", "key", "job")
"""Which job: without one of these the statement would change every row."""
SHORTEST_SECRET = 16

_LITERAL = re.compile(r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\"|`[^`]*`", re.DOTALL)
_NAMED = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")


def with_plain_literals(sql: str) -> str:
    """A statement for SQLAlchemy, in whose literals no colon begins a parameter."""
    return _LITERAL.sub(lambda literal: re.sub(r"(?<![:\w\\]):(?=\w)", r"\:", literal[0]), sql)


def named_in(sql: str) -> frozenset[str]:
    """The parameters that a statement names, outside of its literals."""
    return frozenset(_NAMED.findall(_LITERAL.sub("''", sql)))


class FinishedSettings(Section):
    """Whom of an account's site to tell that a job has ended: an address, a statement, or both."""

    url: SecretStr | None = None
    secret: SecretStr | None = None
    timeout_s: Seconds = Field(10, le=60)
    sql: str = ""

    @field_validator("url")
    @classmethod
    def _address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
                raise ValueError("accepted: https://HOST/PATH or http://HOST:PORT/PATH")
            check_port(url.get_secret_value())
        return url

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(
                f"accepted: {SHORTEST_SECRET} or more characters, such as `openssl rand -hex 32` makes"
            )
        return secret

    @field_validator("sql")
    @classmethod
    def _statement(cls, sql: str) -> str:
        sql = sql.strip().rstrip(";").strip()
        named = named_in(sql)
        unknown = sorted(named - set(PARAMETERS))
        if unknown:
            accepted = ", ".join(f":{name}" for name in PARAMETERS)
            raise ValueError(f"unknown :{unknown[0]}; accepted: {accepted}")
        if sql and not named & set(OF_A_JOB):
            raise ValueError("must be one statement that names :ref, :key or :job (or empty: nothing is run)")
        return sql

    @model_validator(mode="after")
    def _complete(self) -> "FinishedSettings":
        if self.url is None and not self.sql:
            raise ValueError("url or sql is missing: what is to be told, and where?")
        if self.url is not None and self.secret is None:
            raise ValueError("secret (or secret_file) is missing: by it the site knows that the call is ours")
        return self
