"""docs/security.md: its rows name tests that there are, its commands make certificates that work."""

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from broadcastd import secret_files, tls
from broadcastd.server_settings import ServerSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ROWS = PAGE.partition("## Who attacks")[2].partition("\n## ")[0].splitlines()[4:]


def test_every_defence_names_its_tests() -> None:
    rows = [[cell.strip() for cell in row[1:-1].split("|")] for row in ROWS if row.startswith("|")]
    assert len(rows) > 15
    for attack, _, tests in rows:
        names = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert names, attack
        for path, function in names:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {function}\(", text, re.MULTILINE), f"{path}::{function}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's commands were run."""
    folder = tmp_path_factory.mktemp("made")
    for block in BLOCKS:
        done = subprocess.run(["bash", "-ec", block], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_token_is_one(made: Path) -> None:
    assert len(secret_files.read(made / "shop.token")) == 32
    assert (made / "shop.token").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("host", ["frames.example.com", "127.0.0.1"])
def test_the_certificates_agree(made: Path, host: str) -> None:
    files = {"tls_cert": "server.pem", "tls_key": "server.key", "tls_client_ca": "ca.pem"}
    settings = ServerSettings(**{name: str(made / file) for name, file in files.items()})
    context = tls.server_context(settings)
    assert context is not None
    ours = tls.client_context(
        *(str(made / file) for file in ("ca.pem", "shop.pem", "shop.key")), check_name=True
    )
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        context.wrap_bio(there, here, server_side=True),
        ours.wrap_bio(here, there, server_hostname=host),
    ]
    for _ in range(5):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert sides[0].getpeercert() is not None
    assert (made / "server.key").stat().st_mode & 0o077 == 0
