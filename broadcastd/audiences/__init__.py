"""Implementations of the `Audience` and `TokenSource` ports."""
