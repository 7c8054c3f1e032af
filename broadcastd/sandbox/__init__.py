"""A local imitation of the WeChat API, for the demo, tests, rehearsals and load tests.

It imports nothing of the rest of broadcastd. In a test: `async with running_sandbox(Options(inside=10)) as
sandbox:`; as a process: `broadcastd sandbox`. "The reference" in its comments is `docs/wechat-api.md`.
"""

from broadcastd.sandbox.listener import PortTaken, SandboxError
from broadcastd.sandbox.openids import openid
from broadcastd.sandbox.options import Options
from broadcastd.sandbox.server import Sandbox, running_sandbox, serve, start

__all__ = ["Options", "PortTaken", "Sandbox", "SandboxError", "openid", "running_sandbox", "serve", "start"]
