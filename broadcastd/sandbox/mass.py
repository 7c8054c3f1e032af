"""The mass message by list: asynchronous, rationed, told apart by `clientmsgid`. Time is handed in."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from broadcastd.sandbox import bodies
from broadcastd.sandbox.asked import Account, Asked
from broadcastd.sandbox.events import MASS_DONE
from broadcastd.sandbox.quotas import month_of
from broadcastd.sandbox.results import MASS_SUCCESS

# Reference, section 4.
PER_MONTH = 4
REMEMBERED_S = 24 * 3600.0
APART_S = 60.0
# As large as those seen (reference, section 4).
_FIRST_MSG_ID = 3_147_483_685
_FIRST_DATA_ID = 2_247_483_803


@dataclass(slots=True)
class Sending:
    """A mass message that was accepted. `asked_at`: the last call that was not refused as too fast."""

    msg_id: int
    msg_data_id: int
    at: float
    done_at: float
    asked_at: float
    status: str

    @property
    def ids(self) -> dict[str, int]:
        """As every answer names it."""
        return {"msg_id": self.msg_id, "msg_data_id": self.msg_data_id}


class Monthly:
    """How many mass messages each follower got in this calendar month: one byte each."""

    def __init__(self) -> None:
        self._month = ""
        self._counts = array("B")

    def spend(self, row: int, month: str) -> bool:
        """Take one of the follower's four; false when they are used up."""
        if month != self._month:
            self._month, self._counts = month, array("B")
        if row >= len(self._counts):
            self._counts.extend(array("B", [0]) * (row - len(self._counts) + 64 + row // 2))
        if self._counts[row] >= PER_MONTH:
            return False
        self._counts[row] += 1
        return True


class Mass:
    """mass/send and mass/get."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._monthly = Monthly()
        self._by_client_id: dict[str, Sending] = {}
        self._by_msg_id: dict[str, Sending] = {}

    def check(self, asked: Asked) -> int:
        """The errcode of the body, and of its `clientmsgid`."""
        options = self._account.options
        if len(asked.entry.client_msg_id.encode("utf-8", "surrogatepass")) > options.max_clientmsgid:
            return 45067
        return bodies.check_mass(asked.message, options.max_text_bytes)

    def send(self, asked: Asked) -> int:
        """Accept the message, unless it was accepted within 24 hours.

        Choice: it reaches its followers at once, and only the result and its event come later; nobody can
        tell, and an accepted message arrives whatever follows.
        """
        entry = asked.entry
        client_id = entry.client_msg_id or _digest(asked.message)
        known = self._by_client_id.get(client_id)
        if known is not None and entry.at - known.at < REMEMBERED_S:
            return _repeat(known, asked)
        delivered, counts = self._reach(asked)
        if counts is None:
            return 40031
        entry.rows, entry.delivered = delivered, bool(delivered)
        sending = self._accept(entry.at)
        self._by_client_id[client_id] = sending
        asked.answer = {"errcode": 0, "errmsg": "send job submission success", **sending.ids}
        if self._account.results.are_told:
            # The event's openid is that of nobody in particular; WeChat names one all the same.
            openid = str(asked.message["touser"][0])
            fields = {"MsgID": sending.msg_id, "Status": sending.status, **counts, **_NO_COPYRIGHT}
            asked.events = (self._account.event(openid, MASS_DONE, fields, sending.done_at),)
        return 0

    def get(self, asked: Asked) -> int:
        """mass/get: how far a message is."""
        number = asked.message.get("msg_id")
        # wechatpy and others write it as a text.
        sending = self._by_msg_id.get(str(number))
        if sending is None:
            return 40059
        status = "SEND_SUCCESS" if sending.status == MASS_SUCCESS else "SEND_FAIL"
        if asked.entry.at < sending.done_at:
            status = "SENDING"
        asked.answer = {"msg_id": sending.msg_id, "msg_status": status}
        return 0

    def _accept(self, now: float) -> Sending:
        number, results = len(self._by_msg_id), self._account.results
        done_at = now + results.mass_delay_s
        sending = Sending(_FIRST_MSG_ID + number, _FIRST_DATA_ID + number, now, done_at, now, results.mass)
        self._by_msg_id[str(sending.msg_id)] = sending
        return sending

    def _reach(self, asked: Asked) -> tuple[Sequence[int], dict[str, int] | None]:
        """Who gets it, and the event's counts; no counts when not one of the list follows the account.

        Filtered is who does not follow or had his four this month; an error is whom the control set an
        errcode for, and everybody when the message as a whole fails.
        """
        followers, now = self._account.followers, asked.entry.at
        rows = dict.fromkeys(followers.row(name, now) for name in asked.message["touser"])
        following = [row for row in rows if followers.follows(row)]
        delivered = array("i")
        if not following:
            return delivered, None
        if self._account.results.mass == MASS_SUCCESS:
            month = month_of(now)
            allowed = [row for row in following if self._monthly.spend(row, month)]
            delivered.extend(row for row in allowed if not followers.forced.get(row))
        else:
            allowed = following
        counts = {
            "TotalCount": len(asked.message["touser"]),
            "FilterCount": len(allowed),
            "SentCount": len(delivered),
            "ErrorCount": len(allowed) - len(delivered),
        }
        return delivered, counts


_NO_COPYRIGHT = {"CopyrightCheckResult": {"Count": 0, "ResultList": "", "CheckState": 0}}


def _repeat(known: Sending, asked: Asked) -> int:
    if asked.entry.at - known.asked_at < APART_S:
        return 45066
    known.asked_at = asked.entry.at
    asked.entry.repeat = True
    asked.answer = dict(known.ids)
    return 45065


def _digest(message: dict[str, Any]) -> str:
    """What stands in for a `clientmsgid` that is not given: audience and content (reference, section 4)."""
    text = "\0".join([bodies.text_of(message), *message["touser"]])
    return blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()
