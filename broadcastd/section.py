"""What every section of the settings is made of."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]


def check_port(url: str) -> None:
    """Raise ValueError, in plain words, when an address's port is none."""
    try:
        urlsplit(url).port  # noqa: B018 - reading it checks it
    except ValueError:
        raise ValueError("the port is no number from 0 to 65535") from None


class Section(BaseModel):
    """A part of the settings. Unknown keys are refused: a misspelt one must not be silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
