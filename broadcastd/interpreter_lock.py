"""How long a thread waits for Python's interpreter lock while another computes."""

import sys

TURN_S = 0.001
"""Python's own is 5 ms. The ledger's thread lets go of the lock at each statement of SQLite, and while the
event loop is busy it waits for so long to have it again: a commit of ten statements may take 100 ms.

While a job sends at full speed, this takes a quarter off the time to a reply; a job alone is as fast as
before. 0.2 ms would take off another quarter, and cost 5 % more CPU a message.
"""


def short_turns() -> None:
    """To be called once."""
    sys.setswitchinterval(TURN_S)
