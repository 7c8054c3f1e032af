"""What becomes of messages that were accepted: delivered or not, told by which event and when."""

from collections.abc import Mapping
from random import Random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SUCCESS = "success"
MASS_SUCCESS = "send success"
Share = Annotated[float, Field(ge=0, le=1)]


class ResultsChange(BaseModel):
    """A change at run time: what is named is replaced.

    `template` and `subscribe`: a status other than success to its share of the messages, as
    `{"failed:user block": 0.1, "failed: system failed": 0.01}`; such a message is not delivered. Of a
    subscribe message the status is `errcode:text`, as `43101:user refuse`. `mass`: the status of a mass
    message; any but `send success` delivers nothing. `delay_s` and `mass_delay_s`: from the call to the
    event. `event_first`: the event is pushed before the call is answered. `zero_msgid`: the event of a
    message with `client_msg_id` says MsgID 0 (reference, section 2: one report).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    template: dict[str, Share] | None = None
    subscribe: dict[Annotated[str, Field(pattern=r"^\d+:")], Share] | None = None
    mass: str | None = None
    delay_s: float | None = Field(None, ge=0)
    mass_delay_s: float | None = Field(None, ge=0)
    event_first: bool | None = None
    zero_msgid: bool | None = None


class Results:
    """The present state. All chance comes from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311  # repeatable on purpose
        self._statuses: dict[str, dict[str, float]] = {"template": {}, "subscribe": {}}
        self.mass = MASS_SUCCESS
        self.delay_s = 0.0
        self.mass_delay_s = 1.0
        self.event_first = False
        self.zero_msgid = False
        # Whether there is a callback to push events to.
        self.are_told = False

    def change(self, change: Mapping[str, Any]) -> None:
        """Apply a `ResultsChange`; `ValueError` says in one line what is wrong with it."""
        try:
            asked = ResultsChange.model_validate(dict(change))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"results: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        given = asked.model_dump(exclude_none=True)
        for channel in self._statuses:
            if channel in given:
                self._statuses[channel] = given.pop(channel)
        for name, value in given.items():
            setattr(self, name, value)

    def draw(self, channel: str) -> str:
        """The status of one message."""
        statuses = self._statuses[channel]
        if not statuses:
            return SUCCESS
        drawn = self._random.random()
        for status, share in statuses.items():
            if drawn < share:
                return status
            drawn -= share
        return SUCCESS

    def describe(self) -> dict[str, object]:
        """For the control."""
        return {
            **self._statuses,
            "mass": self.mass,
            "delay_s": self.delay_s,
            "mass_delay_s": self.mass_delay_s,
            "event_first": self.event_first,
            "zero_msgid": self.zero_msgid,
        }
