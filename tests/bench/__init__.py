"""Figures, measured end to end: `scripts/bench`. What is compared runs in turns on the same machine."""
