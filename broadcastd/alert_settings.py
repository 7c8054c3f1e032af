"""The settings of the alerts."""

import re
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from broadcastd.notices import NoticeKind
from broadcastd.section import Section

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


class AlertSettings(Section):
    """Whom to tell, and of what."""

    urls: tuple[SecretStr, ...] = ()
    """As apprise takes them. Secrets, each of them. `urls_file`: one a line, `#` begins a comment."""
    language: Literal["en", "zh"] = "en"
    name: str = Field("", max_length=60)
    """What this installation is called in titles; empty: its host's name."""
    job_finished: bool = False
    off: tuple[NoticeKind, ...] = ()

    @field_validator("urls", mode="before")
    @classmethod
    def _lines(cls, urls: Any) -> Any:
        if not isinstance(urls, str):
            return urls
        lines = (line.strip() for line in urls.splitlines())
        return tuple(line for line in lines if line and not line.startswith("#"))

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, url in enumerate(urls, 1):
            if not _URL.fullmatch(url.get_secret_value()):
                raise ValueError(
                    f"number {number} is no address; accepted: SERVICE://… without spaces (docs/alerts.md)"
                )
        return urls
