"""The TCP port: bytes to frames, frames to use cases, values to replies. Contract: docs/protocol.md."""
