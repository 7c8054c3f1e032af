"""The settings of the frames' port, and of who may use it."""

from pydantic import Field, SecretStr, field_validator, model_validator

from broadcastd.access import Right
from broadcastd.networks import check_networks
from broadcastd.section import Seconds, Section
from broadcastd.tls import check_files

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class CallerSettings(Section):
    """One named token, and what it is good for."""

    token: SecretStr
    rights: tuple[Right, ...] = (Right.SEND,)
    accounts: tuple[str, ...] = ()

    @field_validator("token")
    @classmethod
    def _not_empty(cls, token: SecretStr) -> SecretStr:
        if not token.get_secret_value():
            raise ValueError("the token (or the file that token_file names) is empty")
        return token

    @field_validator("rights")
    @classmethod
    def _some(cls, rights: tuple[Right, ...]) -> tuple[Right, ...]:
        if not rights:
            raise ValueError(f"accepted: one or more of {', '.join(Right)}")
        return rights


class ServerSettings(Section):
    """The listener."""

    host: str = "127.0.0.1"
    port: int = Field(9090, ge=0, le=65535)
    token: SecretStr | None = None
    tokens: dict[str, CallerSettings] = Field(default_factory=dict)
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    allow: tuple[str, ...] = ()
    max_frame_bytes: int = Field(65536, ge=256, le=16 * 1024 * 1024)
    max_connections: int = Field(1000, ge=1)
    max_connections_per_address: int = Field(0, ge=0)
    max_frames_in_flight: int = Field(500, ge=1)
    idle_timeout_s: Seconds = 300
    frame_timeout_s: Seconds = 10
    reply_timeout_s: Seconds = 30
    quiet_ms: int = Field(200, ge=1)
    dedupe_window_s: float = Field(600, ge=0)
    drain_s: Seconds = 30

    @field_validator("allow")
    @classmethod
    def _networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        check_networks(allow)
        return allow

    @property
    def is_beyond_loopback(self) -> bool:
        """Whether others than this machine may reach the port."""
        return self.host not in LOOPBACK

    @property
    def is_guarded(self) -> bool:
        """Whether frames must carry a token."""
        return bool(self.tokens or (self.token and self.token.get_secret_value()))

    @property
    def own_token(self) -> str | None:
        """What the commands on this machine show: the token that may do most."""
        if self.token is not None:
            return self.token.get_secret_value()
        by_might = sorted(self.tokens.values(), key=lambda one: (len(set(one.rights)), not one.accounts))
        return by_might[-1].token.get_secret_value() if by_might else None

    def check_host(self, host: str) -> None:
        """Raise ValueError, in plain words, when everybody could talk to an address of these settings."""
        if host not in LOOPBACK and not self.is_guarded:
            raise ValueError(
                f"listening on {host} (beyond loopback) needs server.token or server.token_file"
                " (or server.tokens): without one, anybody on the network could send to all your followers"
            )

    @model_validator(mode="after")
    def _guarded(self) -> "ServerSettings":
        check_files(self)
        self.check_host(self.host)
        if self.token is not None and not self.token.get_secret_value():
            raise ValueError("server.token (or the file that server.token_file names) is empty")
        secrets = [one.token.get_secret_value() for one in self.tokens.values()]
        secrets += [self.token.get_secret_value()] if self.token else []
        if len(set(secrets)) < len(secrets):
            raise ValueError("two of the tokens are the same: whose frame is it?")
        return self
