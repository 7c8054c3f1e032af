"""The calls that ask or reset something: user/get, quotas, addresses. No I/O, time is handed in."""

from broadcastd.sandbox.asked import Account, Asked
from broadcastd.sandbox.followers import Standing

# Reference, section 7.
OPENIDS_PER_PAGE = 10_000
# The sandbox is reached and pushes from this machine.
_IPS = ["127.0.0.1"]


class Questions:
    """One method a call."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def user_get(self, asked: Asked) -> int:
        """A page of the followers after `next_openid`, in the order of their rows.

        The last page names its last openid as the next, too, and the page after that is empty, unless
        `last_next_openid` is off: both occur in life (reference, section 7).
        """
        followers, first = self._account.followers, 0
        after = asked.message.get("next_openid")
        if after:
            row = followers.row(after, asked.entry.at)
            if followers.standing(row) is Standing.STRANGER:
                return 40003
            first = row + 1
        rows = followers.following(first, OPENIDS_PER_PAGE + 1)
        page = [followers.name(row) for row in rows[:OPENIDS_PER_PAGE]]
        names_next = bool(page) and (len(rows) > len(page) or self._account.options.last_next_openid)
        asked.answer = {"total": followers.total, "count": len(page)}
        if page:
            asked.answer["data"] = {"openid": page}
        asked.answer["next_openid"] = page[-1] if names_next else ""
        return 0

    def quota_get(self, asked: Asked) -> int:
        """What is left of one path's calls."""
        asked.answer = self._account.quotas.answer(asked.message.get("cgi_path"), asked.entry.at)
        return 0 if asked.answer else 76021

    def clear_quota(self, asked: Asked) -> int:
        """All of today's calls are forgotten."""
        if asked.message.get("appid") != self._account.options.app_id:
            return 40013
        return self._account.quotas.clear(asked.entry.at)

    def clear_quota_v2(self, asked: Asked) -> int:
        """The same, with the secret instead of a token."""
        if asked.message.get("appid") == self._account.options.app_id:
            if not asked.message.get("appsecret"):
                return 41004
            if asked.message["appsecret"] != self._account.options.app_secret:
                return 40125
        return self.clear_quota(asked)

    def ips(self, asked: Asked) -> int:
        """get_api_domain_ip and getcallbackip."""
        asked.answer = {"ip_list": _IPS}
        return 0
