"""The HTTP port for machines: health, metrics, and jobs for who opens no socket. Contract: docs/http.md."""
