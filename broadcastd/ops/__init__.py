"""The HTTP port for machines: health, metrics, and jobs for who cannot open a socket. Contract: docs/http.md."""
