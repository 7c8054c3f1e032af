"""The settings of the HTTP port for machines."""

from pydantic import Field, field_validator, model_validator

from broadcastd.networks import check_networks
from broadcastd.section import Seconds, Section
from broadcastd.tls import check_files


class HttpPortSettings(Section):
    """Where it listens, and to whom."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(9091, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    allow: tuple[str, ...] = ()
    max_body_bytes: int = Field(65536, ge=1024, le=16 * 1024 * 1024)
    max_connections: int = Field(200, ge=1)
    idle_timeout_s: Seconds = 20

    @field_validator("allow")
    @classmethod
    def _networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        check_networks(allow)
        return allow

    @model_validator(mode="after")
    def _whole(self) -> "HttpPortSettings":
        check_files(self)
        return self
