"""`broadcastd sandbox` as a process of its own."""

import asyncio
import json
import signal
import socket
import sys

import aiohttp
import pytest
from click.testing import CliRunner

from broadcastd.cli.sandbox import sandbox

COMMAND = (sys.executable, "-c", "from broadcastd.cli.sandbox import sandbox; sandbox()")


async def started(*options):
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    return process, (await process.stdout.readline()).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_and_stops_cleanly(number):
    process, line = await started(
        "--port", "0", "--json", "--inside", "2", "--error", "-1=1", "--latency-ms", "1-2"
    )
    address = json.loads(line)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{address['control']}/sandbox/behaviour") as response:
            shown = await response.json()
        assert shown["latency_ms"] == [1, 2]
        assert shown["errors"][0]["name"] == "-1"
        url = f"{address['url']}/cgi-bin/message/custom/send?access_token={address['token']}"
        async with session.post(url, data=b"") as response:
            assert (await response.json())["errcode"] == 44002
        # A connection is open and one hangs: neither may hold it up.
        async with session.post(f"{address['control']}/sandbox/outages", json={"kind": "hang"}):
            pass
        asking = asyncio.create_task(session.get(address["url"] + "/"))
        async with session.get(f"{address['control']}/sandbox/wait?calls=2") as response:
            assert (await response.json())["reached"]
        process.send_signal(number)
        _, stderr = await process.communicate()
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking
    assert (process.returncode, stderr.decode()) == (0, "")


async def test_a_reset_under_uvloop_and_refuse():
    process, line = await started("--port", "0", "--json", "--outage", "reset")
    address = json.loads(line)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(address["url"] + "/cgi-bin/token")
        body = {"outages": [{"kind": "half", "count": 1}]}
        async with session.post(f"{address['control']}/sandbox/behaviour", json=body):
            pass
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.post(address["url"] + "/cgi-bin/token") as response:
                await response.read()
        async with session.post(f"{address['control']}/sandbox/outages", json={"kind": "refuse"}) as response:
            assert not (await response.json())["listening"]
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(address["url"] + "/cgi-bin/token")
        async with session.post(f"{address['control']}/sandbox/reset"):
            pass
        with pytest.raises(aiohttp.ClientConnectionError, match=r"."):
            await session.post(address["url"] + "/cgi-bin/token")
    process.send_signal(signal.SIGTERM)
    _, stderr = await process.communicate()
    assert (process.returncode, stderr.decode()) == (0, "")


async def test_quotas_and_the_callback_from_the_command_line():
    process, line = await started(
        "--port", "0", "--json", "--quota", "all=0", "--quota", "custom=7", "--per-minute", "custom=3",
        "--callback", "http://127.0.0.1:9/wechat/default", "--callback-token", "t",
        "--callback-mode", "safe", "--callback-aes-key", "a" * 43,
        "--template-status", "failed:user block=0.5", "--event-first", "--zero-msgid", "--consents", "2",
    )  # fmt: skip
    control = json.loads(line)["control"] + "/sandbox/"
    async with aiohttp.ClientSession() as session:

        async def got(path):
            async with session.get(control + path) as response:
                return await response.json()

        quotas = (await got("quotas"))["endpoints"]
        assert (quotas["custom"]["daily"], quotas["custom"]["per_minute"]) == (7, 3)
        assert quotas["template"]["daily"] == 0
        callback, results = await got("callback"), await got("results")
        assert (callback["url"], callback["mode"]) == ("http://127.0.0.1:9/wechat/default", "safe")
        assert results["template"] == {"failed:user block": 0.5}
        assert results["event_first"]
        assert results["zero_msgid"]
    process.send_signal(signal.SIGTERM)
    _, stderr = await process.communicate()
    assert (process.returncode, stderr.decode()) == (0, "")


async def test_the_readable_start_line():
    process, line = await started("--port", "0", "--inside", "12", "--outside", "3")
    assert line.startswith("sandbox at http://127.0.0.1:")
    assert "12 followers inside the window, 3 outside" in line
    process.send_signal(signal.SIGTERM)
    stdout, _ = await process.communicate()
    assert b"control" in stdout
    assert process.returncode == 0


async def test_a_busy_port_is_one_readable_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process, _ = await started("--port", port)
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert stderr.decode() == f"Error: cannot listen on 127.0.0.1:{port}: the port is in use\n"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--inside", "-1"], "inside"),
        (["--latency-ms", "slow"], "--latency-ms"),
        (["--error", "x=1"], "x is not an errcode"),
        (["--error", "-1=much"], "share"),
        (["--outage", "flood"], "flood"),
        (["--port", "70000"], "port"),
        (["--quota", "sms=1"], "sms"),
        (["--quota", "custom=many"], "custom=many"),
        (["--per-minute", "custom=-1"], "per_minute"),
        (["--callback", "nowhere"], "url"),
        (["--callback-mode", "safe"], "aes_key"),
        (["--template-status", "failed:user block=2"], "template"),
        (["--max-clientmsgid", "0"], "max_clientmsgid"),
    ],
)
def test_wrong_options_are_named(options, named):
    result = CliRunner().invoke(sandbox, ["--port", "0", *options])
    assert result.exit_code == 2
    assert named in result.stderr
