"""Who pays for posts: sends orders to the daemon."""

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from broadcastd.errors import NoDaemonError
from broadcastd.wire import dial

HOST = "127.0.0.1"
ANSWERS_WITHIN_S = 10.0


@dataclass(slots=True)
class Order:
    """One paid post."""

    key: str
    content: str
    """Different for each order, and in nobody else's: the receiving side tells them apart by it."""
    job: str | None = None
    """Once it was accepted."""


class Payer:
    """Its orders in the order they were made."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._seed = seed
        self.orders: list[Order] = []

    def new(self) -> Order:
        """One more order; nothing is sent yet."""
        number = len(self.orders) + 1
        order = Order(f"order-{number}", f"selftest {self._seed}, order {number}.")
        self.orders.append(order)
        return order

    def offer(self, order: Order) -> dict[str, Any]:
        """Send it once; the daemon's answer, whatever it is. Raises NoDaemonError."""
        reply = self.ask(_frame(order))
        if reply["ok"]:
            order.job = reply["job"]
        return reply

    @contextlib.contextmanager
    def offering(self, order: Order) -> Iterator[None]:
        """Send it, and do not wait for the answer."""
        try:
            connection = socket.create_connection((HOST, self._port), ANSWERS_WITHIN_S)
        except OSError as error:
            raise NoDaemonError(f"no daemon answers on port {self._port}: {error}") from error
        with connection:
            connection.sendall(json.dumps(_frame(order)).encode() + b"\n")
            yield

    def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Any other frame. Raises NoDaemonError."""
        return dial.call(HOST, self._port, frame, ANSWERS_WITHIN_S)


def _frame(order: Order) -> dict[str, Any]:
    return {"content": order.content, "phone": "110", "key": order.key}
