"""The daemon in the background: its pid file, its rights, how it gets there, and how it ends."""
