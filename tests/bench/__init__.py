"""Figures, measured end to end: `scripts/bench`. Each is a ratio of what ran in turns on the same machine."""
