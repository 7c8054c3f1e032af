"""Refusals of recipients that are so many that they are not the recipients' fault."""

from broadcastd.errcodes import Action, meaning_of

MANY_SHARE = 0.5
"""Of the answers since an unlisted code was first seen: fewer go their own way."""


class Streaks:
    """One account's. What counts is how many different people get the same refusal."""

    def __init__(self) -> None:
        self._errcode = 0
        self._in_a_row: set[str] = set()
        self._unlisted: dict[int, set[str]] = {}
        self._answers = 0
        self._accused = 0
        """The code that was one too many: what comes of calls under way then is nobody's fault either."""

    @property
    def is_watching(self) -> bool:
        """Whether an answer that is well says something, too."""
        return bool(self._in_a_row or self._unlisted)

    def begin_anew(self) -> None:
        """Somebody says that it is mended, or it is tried again."""
        self._errcode = self._answers = self._accused = 0
        self._in_a_row.clear()
        self._unlisted.clear()

    def is_too_long(self, errcode: int, openid: str) -> bool:
        """Note an answer; whether it is one too many. Then counting begins anew."""
        meaning = meaning_of(errcode)
        if self._unlisted:
            self._answers += 1
        if meaning.hold_after is None:
            if self._in_a_row and meaning.action is not Action.REFRESH:
                self._in_a_row.clear()
            return False
        if errcode == self._accused:
            return True
        if meaning.action is Action.RETRY:
            people = self._unlisted.setdefault(errcode, set())
            least = max(meaning.hold_after, MANY_SHARE * self._answers)
        else:
            if errcode != self._errcode:
                self._in_a_row.clear()
            self._errcode, people, least = errcode, self._in_a_row, meaning.hold_after
        people.add(openid)
        if len(people) < least:
            return False
        self._in_a_row.clear()
        self._unlisted.clear()
        self._answers = 0
        self._accused = errcode
        return True
