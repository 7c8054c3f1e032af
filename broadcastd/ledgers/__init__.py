"""Implementations of the `Ledger` port."""
