"""The commands: each parses, calls one use case or the daemon, and prints. One file and one row each."""
