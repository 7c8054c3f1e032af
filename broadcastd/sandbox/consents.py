"""Who consented to how many messages of which subscription template. Time plays no part in it.

One consent is one message, without an end (reference, section 3).
"""

from array import array

MAX_CONSENTS = 65_535


class Consents:
    """Two bytes a follower and template, so that a million cost 2 MB.

    `first` is what each has at the start.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._left: dict[str, array[int]] = {}

    def left(self, row: int, template_id: str) -> int:
        """How many messages the follower in `row` still consents to."""
        counts = self._left.get(template_id)
        return counts[row] if counts is not None and row < len(counts) else self._first

    def spend(self, row: int, template_id: str) -> int:
        """Take one consent: 0, or 43101 when there is none."""
        left = self.left(row, template_id)
        if not left:
            return 43101
        self.give(row, template_id, left - 1)
        return 0

    def give(self, row: int, template_id: str, count: int) -> None:
        """The follower consents to so many from now on, 0 to none."""
        counts = self._left.setdefault(template_id, array("H"))
        if row >= len(counts):
            # Half as much again, so that a million new followers are not a million enlargements.
            counts.extend(array("H", [self._first]) * (row - len(counts) + 64 + row // 2))
        counts[row] = min(count, MAX_CONSENTS)

    def describe(self, row: int) -> dict[str, int]:
        """For the control: by template, as far as anything was asked or given."""
        return {template_id: self.left(row, template_id) for template_id in self._left}
