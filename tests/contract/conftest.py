"""What several contract suites share."""

import ssl
from collections.abc import AsyncIterator, Callable

import pytest
from bed.certificates import Authority, serving

from broadcastd.settings import HttpSettings
from broadcastd.transport_ports import Transport
from broadcastd.transports import TRANSPORTS, open_transport


@pytest.fixture(params=TRANSPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of each transport."""
    return str(request.param)


@pytest.fixture
async def transport(kind: str) -> AsyncIterator[Callable[..., Transport]]:
    """Opens one, which is closed at the end."""
    opened: list[Transport] = []

    def make(connections: int = 4, **http: float) -> Transport:
        opened.append(open_transport(HttpSettings.model_validate({"transport": kind, **http}), connections))
        return opened[-1]

    yield make
    for one in opened:
        await one.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """It is trusted, as SSL_CERT_FILE has it for a whole process: aiohttp has looked already."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ssl.create_default_context())
    return authority


@pytest.fixture(params=["http", "TLS 1.3", "TLS 1.2"])
def context(request: pytest.FixtureRequest, trusted: Authority) -> ssl.SSLContext | None:
    """What a server speaks."""
    if request.param == "http":
        return None
    version = ssl.TLSVersion.TLSv1_3 if request.param == "TLS 1.3" else ssl.TLSVersion.TLSv1_2
    return serving(trusted.issue("server", "127.0.0.1"), version)
