"""WeChat's `user/get` and nothing else: a list that a test changes while it is being read."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

Reply = Callable[[str, str], dict[str, Any] | bytes | int | None]


class UserListEndpoint:
    """Pages of `followers`. `answer` (next_openid, token) may say something else; None: the page."""

    def __init__(self, followers: Sequence[str], page_size: int = 10_000) -> None:
        self.followers = list(followers)
        self.page_size = page_size
        self.points_on_at_the_end = False
        """WeChat's quirk: the last page may have a next_openid."""
        self.calls: list[str] = []
        """next_openid of each call."""
        self.tokens: list[str] = []
        self.answer: Reply = lambda after, token: None
        endpoint = self

        class Connection(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = endpoint._reply(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status // 100 == 3:
                    self.send_header("Location", self.path)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, path: str) -> tuple[int, bytes]:
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        after, token = query.get("next_openid", ""), query["access_token"]
        assert urlsplit(path).path == "/cgi-bin/user/get"
        self.calls.append(after)
        self.tokens.append(token)
        said = self.answer(after, token)
        if isinstance(said, int):
            return said, b""
        if isinstance(said, bytes):
            return 200, said
        return 200, json.dumps(self.page(after) if said is None else said).encode()

    def page(self, after: str) -> dict[str, Any]:
        """As WeChat answers."""
        first = self.followers.index(after) + 1 if after else 0
        openids = self.followers[first : first + self.page_size]
        more = first + len(openids) < len(self.followers)
        page: dict[str, Any] = {"total": len(self.followers), "count": len(openids)}
        if openids:
            page["data"] = {"openid": openids}
        points_on = more or (self.points_on_at_the_end and openids)
        return {**page, "next_openid": openids[-1] if points_on else ""}


@contextmanager
def user_list(followers: Sequence[str], page_size: int = 10_000) -> Iterator[UserListEndpoint]:
    endpoint = UserListEndpoint(followers, page_size)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.close()
