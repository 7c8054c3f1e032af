"""docs/alerts.md and docs/hooks.md name what there is, and their examples work as they are printed."""

import http.client
import json
import os
import re
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bed.ports import eventually, free_port

from broadcastd.alerts import policy, sending
from broadcastd.delivery import finish_hooks
from broadcastd.finished_settings import PARAMETERS, FinishedSettings
from broadcastd.hooks.webhook import SIGNATURE, signature
from broadcastd.notices import NoticeKind

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = (DOCS / "alerts.md").read_text(encoding="utf-8")
HOOKS = (DOCS / "hooks.md").read_text(encoding="utf-8")
SECRET = b"0123456789abcdef"
BODY = re.search(r"```json\n(.*?)```", HOOKS, re.DOTALL)


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", HOOKS, re.DOTALL)
    assert found is not None
    return found[1]


def test_every_kind_is_in_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", ALERTS, re.MULTILINE)
    assert [kind for kind, _ in rows] == [kind.value for kind in NoticeKind]
    without_end = {kind for kind, over in rows if not over.strip()}
    assert without_end == {"frame_refused", "job_finished", "test"}


def test_apprise_can_use_every_url_of_the_table() -> None:
    urls = re.findall(r"^\|.*\| `(\w+://[^`]+)` \|$", ALERTS, re.MULTILINE)
    assert len(urls) == 8
    assert [(one.service, one.why) for one in sending.check(urls) if not one.ok] == []


def test_its_figures_are_the_codes() -> None:
    assert policy.REMINDERS_S == (900, 3600, 4 * 3600, 24 * 3600)
    assert (policy.GATHER_S, policy.LONGEST_GATHER_S, policy.MOST_EXAMPLES) == (600, 3600, 5)
    assert (policy.MOST_AN_HOUR, policy.MOST_EVENTS_AN_HOUR) == (30, 20)
    assert (sending.LONGEST_S, sending.MOST_TRIES, sending.MOST_WAITING) == (60, 15, 50)
    all_s = sum(min(900, 5 * 2**number) for number in range(sending.MOST_TRIES - 1))
    assert 1.5 * 3600 < all_s < 2.5 * 3600
    assert (finish_hooks.PAUSES.first_s, finish_hooks.PAUSES.longest_s) == (2, 600)
    assert finish_hooks.TOLD_AFTER_TRIES == 5
    assert FinishedSettings.model_fields["timeout_s"].default == 10


def test_every_parameter_is_in_the_table_and_its_statements_are_accepted() -> None:
    table = HOOKS.partition("| parameter | is |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.strip().splitlines()[1:]]
    assert re.findall(r"`:(\w+)`", "".join(cells)) == list(PARAMETERS)
    statements = re.findall(r'^sql = "(.*)"$|^    (UPDATE .*)$', HOOKS, re.MULTILINE)
    assert len(statements) == 2
    for one, other in statements:
        assert FinishedSettings(sql=one or other).sql


def forged(at_s: float) -> list[tuple[str, bytes]]:
    """Signatures that are not to be believed, each with its body."""
    body = json.dumps({"ref": "post-17"}).encode()
    good = signature(SECRET, int(at_s), body)
    return [
        (good, body + b" "),
        (signature(b"another secret..", int(at_s), body), body),
        (signature(SECRET, int(at_s) - 400, body), body),
        (good.replace("t=", "t=1"), body),
        (good + "\n", body),
        ("", body),
        (good.partition(",")[0], body),
    ]


def test_the_python_example() -> None:
    module: Any = ModuleType("example")
    exec(block("python"), module.__dict__)
    now = time.time()
    assert module.is_ours(SECRET, signature(SECRET, int(now), b"{}"), b"{}")
    for wrong, body in forged(now):
        assert not module.is_ours(SECRET, wrong, body), wrong


@pytest.fixture
def php(tmp_path: Path) -> Any:
    """The page's example behind PHP's own server; its port and its log."""
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    (tmp_path / "hook.php").write_text(block("php"), encoding="utf-8")
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            ["php", "-S", f"127.0.0.1:{port}", "hook.php"], cwd=tmp_path, stdout=file, stderr=file,
            env={**os.environ, "HOOK_SECRET_FILE": str(tmp_path / "secret")},
        )  # fmt: skip
    try:
        eventually(lambda: b"started" in log.read_bytes(), 30, "php listens")
        yield port, log
    finally:
        server.terminate()
        server.wait(30)


def test_the_php_example(php: Any) -> None:
    port, log = php

    def post(header: str, body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/", body, {SIGNATURE: header} if header else {})
        status = connection.getresponse().status
        connection.close()
        return status

    assert BODY is not None
    body = BODY[1].encode()
    assert post(signature(SECRET, int(time.time()), body), body) == 204
    assert "post-17: done, 1498 of 1500 sent" in log.read_text()
    for wrong, other in forged(time.time()):
        if "\n" not in wrong:  # cannot be a header
            assert post(wrong, other) == 403, wrong
