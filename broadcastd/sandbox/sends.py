"""The sends to one follower: custom, template and subscribe. No I/O, time is handed in."""

from broadcastd.sandbox import bodies
from broadcastd.sandbox.asked import Account, Asked
from broadcastd.sandbox.calls import FIRST_MSGID
from broadcastd.sandbox.events import SUBSCRIBE_SENT, TEMPLATE_DONE
from broadcastd.sandbox.followers import Standing
from broadcastd.sandbox.results import SUCCESS

# Reference, section 2: one message per (openid, client_msg_id) for 10 minutes.
REMEMBERED_S = 600.0


class SentIds:
    """Which (openid, client_msg_id) led to which call, for 10 minutes.

    Keys are 64-bit hashes and values call numbers: a million cost 100 MB less than the texts would, and a
    false repeat needs billions of messages within 10 minutes. Two generations spare a sweep.
    """

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._turned_at = 0.0

    def add(self, row: int, client_msg_id: str, number: int, now: float) -> None:
        """Remember the call that delivered it."""
        if now - self._turned_at >= REMEMBERED_S:
            self._old, self._young, self._turned_at = self._young, {}, now
        self._young[hash((row, client_msg_id))] = number

    def find(self, row: int, client_msg_id: str) -> int:
        """The latest such call, which may be older than 10 minutes, or -1."""
        key = hash((row, client_msg_id))
        return self._young.get(key, self._old.get(key, -1))


class Sends:
    """Each send in two steps: the check of the body, then of the follower, and the delivery."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sent_ids = SentIds()

    def check_custom(self, asked: Asked) -> int:
        """The errcode of the body."""
        return bodies.check_custom(asked.message, self._account.options.max_text_bytes)

    def check_template(self, asked: Asked) -> int:
        """The errcode of the body of a template or subscribe message."""
        options = self._account.options
        errcode, asked.detail = bodies.check_template(asked.message, options.templates, options.constants)
        return errcode

    def custom(self, asked: Asked) -> int:
        """Deliver within the follower's window."""
        entry = asked.entry
        errcode = self._reach(entry.row, self._account.options.unfollowed_errcode)
        if errcode == 0:
            errcode = self._account.followers.spend(entry.row, entry.at)
            entry.delivered = errcode == 0
        return errcode

    def template(self, asked: Asked) -> int:
        """Deliver, unless the same `client_msg_id` was delivered to the openid within 10 minutes.

        Choice: the repeat answers errcode 0 and the msgid of the first, as nothing documents what WeChat
        answers (reference, section 2), and a caller that repeats after a lost answer must be able to go on.
        """
        entry, number = asked.entry, len(self._account.calls)
        # 43004 is the code seen for templates (reference, section 11).
        errcode = self._reach(entry.row, 43004)
        if errcode:
            return errcode
        if entry.client_msg_id:
            first = self._sent_ids.find(entry.row, entry.client_msg_id)
            if first >= 0 and entry.at - self._account.calls.at(first) < REMEMBERED_S:
                entry.repeat = True
                asked.msgid = FIRST_MSGID + first
                return 0
            self._sent_ids.add(entry.row, entry.client_msg_id, number, entry.at)
        asked.msgid = FIRST_MSGID + number
        results = self._account.results
        status = results.draw("template")
        entry.delivered = status == SUCCESS
        if results.are_told:
            told = 0 if entry.client_msg_id and results.zero_msgid else asked.msgid
            self._tell(asked, TEMPLATE_DONE, {"MsgID": told, "Status": status})
        return 0

    def subscribe(self, asked: Asked) -> int:
        """Deliver for one consent; who does not follow can consent too (reference, section 3)."""
        account, entry = self._account, asked.entry
        if account.followers.standing(entry.row) is Standing.STRANGER:
            return 40003
        template_id = str(asked.message["template_id"])
        errcode = account.followers.forced.get(entry.row, 0) or account.consents.spend(entry.row, template_id)
        if errcode:
            return errcode
        asked.msgid = FIRST_MSGID + len(account.calls)
        status = account.results.draw("subscribe")
        entry.delivered = status == SUCCESS
        if account.results.are_told:
            errcode_text, _, text = ("0", "", status) if entry.delivered else status.partition(":")
            told = {"TemplateId": template_id, "MsgID": asked.msgid, "ErrorCode": int(errcode_text)}
            self._tell(
                asked, SUBSCRIBE_SENT, {"SubscribeMsgSentEvent": {"List": told | {"ErrorStatus": text}}}
            )
        return 0

    def _reach(self, row: int, unfollowed_errcode: int) -> int:
        """0, or why nothing reaches the follower at all."""
        followers = self._account.followers
        if not followers.follows(row):
            return 40003 if followers.standing(row) is Standing.STRANGER else unfollowed_errcode
        return followers.forced.get(row, 0) if followers.forced else 0

    def _tell(self, asked: Asked, kind: str, fields: dict[str, object]) -> None:
        account, entry = self._account, asked.entry
        openid = account.followers.name(entry.row)
        asked.events = (account.event(openid, kind, fields, entry.at + account.results.delay_s),)
