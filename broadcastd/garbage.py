"""How often Python looks for garbage that refers to itself; all else it frees at once."""

import gc

EVERY = 20_000
"""Objects made and not yet freed. Python's own 700 has the loop look many times a second while it sends.

200 µs of CPU a message before, 174 after; with 5,000 idle connections, which are looked at too, 271 and 197
(`scripts/bench attackers`, docs/performance.md).
"""


def look_rarely() -> None:
    """To be called once, when what stays for good has been imported: it is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(EVERY, 10, 20)
