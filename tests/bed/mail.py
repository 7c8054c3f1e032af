"""A mail server that operators read: real SMTP on a port of its own, which may be away, hang, or refuse."""

import email
import email.policy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from bed.ports import eventually, free_port


@dataclass
class Mail:
    """One that arrived."""

    title: str
    body: str
    to: list[str]
    kind: str
    """The content's type."""


class MailServer:
    """Takes mail while it is started. `refuses`: a reply that it gives instead of taking any."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[Mail] = []
        self.refuses = ""
        self._controller: Controller | None = None

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?to=ops@example.com&from=broadcastd@example.com"

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        del server, session
        if self.refuses:
            return self.refuses
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        part = message.get_body(("plain", "html"))
        assert part is not None
        self.mails.append(
            Mail(message["Subject"], part.get_content(), envelope.rcpt_tos, part.get_content_type())
        )
        return "250 taken"

    def wait_for(self, *words: str, within_s: float = 60) -> Mail:
        """The first mail with all these words in it, once it is there."""

        def there() -> Mail | None:
            whole = ((one, one.title + "\n" + one.body) for one in list(self.mails))
            return next((one for one, text in whole if all(word in text for word in words)), None)

        return eventually(there, within_s, f"a mail with {words} among {[one.title for one in self.mails]}")


@contextmanager
def mail_server(*, started: bool = True) -> Iterator[MailServer]:
    server = MailServer()
    if started:
        server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def hanging(port: int) -> Iterator[None]:
    """The kernel takes every connection on this port, and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", port), backlog=100):
        yield
