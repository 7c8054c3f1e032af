"""The settings of the HTTP port for machines."""

from pydantic import Field, model_validator

from broadcastd.section import Seconds, Section


class HttpPortSettings(Section):
    """Where it listens, and to whom."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(9091, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    max_body_bytes: int = Field(65536, ge=1024, le=16 * 1024 * 1024)
    max_connections: int = Field(200, ge=1)
    idle_timeout_s: Seconds = 20

    @model_validator(mode="after")
    def _whole(self) -> "HttpPortSettings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: one of them is missing")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        return self
