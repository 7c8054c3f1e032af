"""The receiving side: nginx, which answers as WeChat does and costs next to nothing."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bed.ports import eventually, free_port

CONF = """
daemon off;
worker_processes 1;
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
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 '{{"errcode":0,"errmsg":"ok"}}'; }}
    location /cgi-bin/openapi/quota/get {{
      return 200 '{{"errcode":0,"quota":{{"daily_limit":99999999,"used":0,"remain":99999999}}}}';
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Run it; its URL."""
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(CONF.format(folder=folder, port=port))
    process = subprocess.Popen(["nginx", "-e", "stderr", "-p", str(folder), "-c", str(conf)])
    try:
        eventually(lambda: _accepts(port), 10, "nginx listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
