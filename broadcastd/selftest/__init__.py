"""`broadcastd selftest`: a daemon under faults on this machine, counted from the receiving side.

It knows the daemon by its command, its port, its log and its ledger's tables only, as an operator does: what
it finds does not depend on what the daemon's own code believes.
"""
