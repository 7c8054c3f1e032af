"""The receiving side: nginx, which answers as WeChat does, after a latency, and costs next to nothing."""

import os
import re
import subprocess
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bed.certificates import Authority, Pair
from bed.ports import eventually, free_port

ECHO = "/usr/lib/nginx/modules/ngx_http_echo_module.so"
"""Debian's libnginx-mod-http-echo: a timer a call, 20 µs of nginx's CPU each with 960 in flight."""

HOLDING_MS = 60_000
"""A latency that holds every call back for longer than anything is measured."""

CONF = """
load_module {echo};
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  default_type "application/json; encoding=utf-8";
  ssl_certificate {cert};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.2 TLSv1.3;
  {servers}
}}
"""

SERVER = """
  server {{
    listen 127.0.0.1:{plain} backlog=4096;
    listen 127.0.0.1:{tls} ssl backlog=4096;
    location / {{ {answer} }}
    location @ok {{ return 200 '{ok}'; }}
    location /cgi-bin/openapi/quota/get {{
      return 200 '{{"errcode":0,"quota":{{"daily_limit":99999999,"used":0,"remain":99999999}}}}';
    }}
    location /served {{ stub_status; }}
  }}
"""
OK = '{"errcode":0,"errmsg":"ok"}'


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running nginx: for each latency (ms) a port without and one with TLS."""

    ports: dict[int, tuple[int, int]]

    def url(self, latency_ms: int = 0, *, tls: bool = False) -> str:
        """What the settings call `api_base`."""
        port = self.ports[latency_ms][tls]
        return f"https://127.0.0.1:{port}" if tls else f"http://127.0.0.1:{port}"

    def served(self) -> int:
        """Requests answered so far, those of this question included."""
        with urllib.request.urlopen(f"{self.url()}/served", timeout=10) as answer:
            found = re.search(rb"\n (\d+) (\d+) (\d+) \n", answer.read())
        assert found is not None
        return int(found[3])


@contextmanager
def endpoint(folder: Path, latencies_ms: Collection[int]) -> Iterator[Endpoint]:
    """Run it. Its certificate is trusted by this process and those that it starts."""
    authority = Authority(folder)
    pair = authority.issue("endpoint", "127.0.0.1")
    os.environ["SSL_CERT_FILE"] = str(authority.ca)
    there = Endpoint({one: (free_port(), free_port()) for one in {0, HOLDING_MS, *latencies_ms}})
    conf = folder / "nginx.conf"
    conf.write_text(_conf(folder, pair, there))
    process = subprocess.Popen(["nginx", "-e", "stderr", "-p", str(folder), "-c", str(conf)])
    try:
        eventually(lambda: _answers(process, there), 10, "nginx answers")
        yield there
    finally:
        process.terminate()
        process.wait(10)


def _conf(folder: Path, pair: Pair, there: Endpoint) -> str:
    servers = "".join(
        SERVER.format(plain=plain, tls=tls, ok=OK, answer=_answer(latency_ms))
        for latency_ms, (plain, tls) in there.ports.items()
    )
    return CONF.format(folder=folder, echo=ECHO, cert=pair.cert, key=pair.key, servers=servers)


def _answer(latency_ms: int) -> str:
    return f"echo_sleep {latency_ms / 1000}; echo_exec @ok;" if latency_ms else f"return 200 '{OK}';"


def _answers(process: "subprocess.Popen[bytes]", there: Endpoint) -> bool:
    assert process.poll() is None, "nginx has ended"
    try:
        return there.served() > 0
    except OSError:
        return False
