"""Hands a paid post to broadcastd, from a payment handler: `broadcast("…", phone="…", key="order-17")`."""

import os
from typing import Any

from broadcastd_client.alarm import MailAlarm
from broadcastd_client.client import AsyncClient, Client
from broadcastd_client.wire import BadReply, BroadcastError, Frame, NoAnswer, Refused, Text, Unreachable

__all__ = [
    "AsyncClient", "BadReply", "BroadcastError", "Client", "MailAlarm", "NoAnswer", "Refused", "Unreachable",
    "broadcast", "from_environment",
]  # fmt: skip


def from_environment(**settings: Any) -> Client:
    """A Client with `settings`, else BROADCASTD_HOST, _PORT, _TOKEN, _SPOOL, _TLS (any text:
    yes), _TLS_CA, _TLS_CERT and _TLS_KEY, else the defaults."""
    for name in ("host", "port", "token", "spool", "tls", "tls_ca", "tls_cert", "tls_key"):
        settings[name] = settings.get(name) or os.environ.get(f"BROADCASTD_{name.upper()}")
    chosen = {name: value for name, value in settings.items() if value is not None}
    return Client(**{**chosen, "port": int(chosen.get("port", 9090)), "tls": bool(chosen.get("tls"))})


def broadcast(content: str, phone: Text = None, key: Text = None, **options: Any) -> Frame:
    """`Client.broadcast` from_environment; `options` are fields of the one and settings of the other."""
    settings = {name: options.pop(name) for name in Client.__dataclass_fields__.keys() & options.keys()}
    return from_environment(**settings).broadcast(content, phone, key, **options)
