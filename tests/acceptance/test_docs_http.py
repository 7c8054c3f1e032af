"""docs/http.md, its examples, rules and dashboard: played, or compared with what there is."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.http_port import HttpClient, client_of, http_settings
from bed.ports import eventually
from bed.pushes import TOKEN, Platform, event
from bed.site import sqlite_site

from broadcastd.ops import health
from broadcastd.ops.answers import STATUSES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "docs" / "examples"
RULES = (EXAMPLES / "prometheus-rules.yml").read_text(encoding="utf-8")
DASHBOARD = (EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8")
SAMPLE = re.compile(r"\b(?:broadcastd|process)_[a-z_]+\b")
NO_METRICS = {"broadcastd_token"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, HttpClient]]:
    folder = tmp_path_factory.mktemp("docs")
    callback = f'[accounts.default.callback]\ntoken = "{TOKEN}"\nunsubscribe_sql = ""\n[callback]\nport = 0'
    with counting_endpoint() as endpoint:
        site = sqlite_site(folder / "site.db", 10)
        with daemon_process(folder, endpoint.url, site, more=callback, **http_settings()) as daemon:
            yield daemon, client_of(daemon)


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def _play(command: list[str]) -> str:
    environment = {**os.environ, "BROADCASTD_TOKEN": "unused"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=EXAMPLES, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["docs/http.md", "README.md", "README.zh-CN.md"])
def test_the_curl_examples(there: tuple[DaemonProcess, HttpClient], page: str) -> None:
    daemon, http = there
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [one for one in _blocks(text, "bash") if "127.0.0.1:9091" in one]
    assert len(blocks) == (4 if page == "docs/http.md" else 1)
    job = ""
    for block in blocks:
        here = re.sub(r"/jobs/j\w{15}", f"/jobs/{job}", block.replace("9091", str(http.port)))
        printed = _play(["bash", "-c", here])
        if "/metrics" in block:
            assert "broadcastd_build_info" in printed
        else:
            reply = json.loads(printed)
            assert reply["ok"] is True
            job = reply["job"]
            daemon.wait_done(job)
    keys = {one["key"] for one in daemon.call({"op": "jobs", "limit": 1000})["jobs"]}
    assert keys >= set(re.findall(r"order-\d+", "".join(blocks)))


def test_the_php_example(there: tuple[DaemonProcess, HttpClient], tmp_path: Path) -> None:
    daemon, http = there
    (block,) = _blocks(PAGE, "php")
    shutil.copy(EXAMPLES / "broadcast_http.php", tmp_path)
    address = f"http://127.0.0.1:{http.port}/jobs"
    assert "'key' => 'order-21']" in block
    script = tmp_path / "paid.php"
    script.write_text(block.replace("'order-21']", f"'order-21'], '{address}'"), encoding="utf-8")
    job = _play(["php", "-d", "error_reporting=-1", "-d", "display_errors=1", str(script)]).strip()
    assert daemon.wait_done(job)["books"]["sent"] == 10
    assert _play(["php", str(script)]).strip() == job


def _php(address: str, frame: str) -> str:
    call = f"broadcast_http({frame}, '{address}', '', 5.0)"
    code = (
        f"require 'broadcast_http.php'; try {{ echo json_encode({call}); }}"
        " catch (RuntimeException $e) { echo $e->getCode(), ': ', $e->getMessage(); }"
    )
    return _play(["php", "-d", "error_reporting=-1", "-d", "display_errors=1", "-r", code])


def test_the_php_example_tells_whether_to_try_again(there: tuple[DaemonProcess, HttpClient]) -> None:
    daemon, http = there
    address = f"http://127.0.0.1:{http.port}/jobs"
    assert _php(address, "['content' => '']").startswith("0: refused, bad_content: content is empty")
    assert _php("http://127.0.0.1:1/jobs", "['content' => 'x']").startswith("1: broadcastd at http")
    daemon.call({"op": "drain"})
    assert _php(address, "['content' => 'x']").startswith("1: refused, draining: ")
    daemon.call({"op": "drain", "off": True})


def test_the_statuses_of_the_page() -> None:
    table = PAGE.partition("\n## Statuses\n")[2].partition("\n## ")[0]
    told = {
        word: int(status)
        for status, words in re.findall(r"^\| (\d{3}) \| ([^|]*)\|", table, re.MULTILINE)
        for word in re.findall(r"`(\w+)`", words)
    }
    assert told == {code.word: status for code, status in STATUSES.items()}


def test_the_parts_of_readyz(there: tuple[DaemonProcess, HttpClient]) -> None:
    _, http = there
    table = PAGE.partition("\n## Ready\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert list(http.get("/readyz").json["parts"]) == told
    assert f"held up for {health.LAG_S:g} s" in table


# -- metrics -----------------------------------------------------------------------------------------------


def _shown(http: HttpClient) -> dict[str, set[str]]:
    """Metric to its labels, as Prometheus would see them."""
    found: dict[str, set[str]] = {}
    for line in http.get("/metrics").body.decode().splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            found[name] = set()
        elif not line.startswith("#"):
            labels = re.findall(r'(\w+)="', line.partition("}")[0]) if "{" in line else []
            name = re.sub(r"_(bucket|sum|count)$", "", re.split(r"[{ ]", line)[0])
            found.setdefault(name, set()).update(set(labels) - {"le"})
    return found


async def _push(daemon: DaemonProcess) -> None:
    port = daemon.events("callback_listening")[-1]["port"]
    pushed = Platform().plain(event("o1", "CLICK"))
    async with (
        aiohttp.ClientSession() as client,
        client.post(
            f"http://127.0.0.1:{port}/wechat/default", params=pushed.query, data=pushed.body
        ) as answer,
    ):
        assert answer.status == 200


async def test_every_metric_is_in_the_table_and_there_is_no_other(
    there: tuple[DaemonProcess, HttpClient],
) -> None:
    daemon, http = there
    await _push(daemon)
    job = daemon.call({"content": "for all metrics"})["job"]
    daemon.wait_done(job)
    table = PAGE.partition("\n## Metrics\n")[2]
    rows = re.findall(r"^\| `(broadcastd_\w+)` \|([^|]*)\|", table, re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert len(told) == len(rows) > 30
    # The figures are shared for a second: until those of the push are in them.
    shown = eventually(lambda: found if (found := _shown(http)).get("broadcastd_pushes_total") else None)
    ours = {name: labels for name, labels in shown.items() if name.startswith("broadcastd_")}
    assert set(ours) == set(told)
    # A metric without any sample yet shows no labels.
    assert {name: labels for name, labels in ours.items() if labels and labels != told[name]} == {}
    assert {name for name, labels in ours.items() if not labels and told[name]} <= {
        "broadcastd_last_outcome_age_seconds"
    }
    assert [name for name in shown if name.startswith("process_")]


def test_rules_and_dashboard_name_metrics_that_there_are(there: tuple[DaemonProcess, HttpClient]) -> None:
    _, http = there
    known = set(_shown(http)) | NO_METRICS
    for text in (RULES, DASHBOARD, PAGE):
        named = {re.sub(r"_(bucket|sum|count)$", "", one) for one in SAMPLE.findall(text)}
        assert len(named) > 10
        assert named - known - {"process_"} == set()


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    named = {re.sub(r"_(bucket|sum|count)$", "", one) for one in SAMPLE.findall(DASHBOARD)}
    told = set(re.findall(r"^\| `(broadcastd_\w+)`", PAGE, re.MULTILINE))
    assert told - named == set()
    whole = json.loads(DASHBOARD)
    panels = whole["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")


def test_the_rules_are_rules() -> None:
    if shutil.which("promtool"):
        done = subprocess.run(
            ["promtool", "check", "rules", str(EXAMPLES / "prometheus-rules.yml")],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = re.findall(r"^      - alert: (\w+)$", RULES, re.MULTILINE)
    assert len(alerts) == len(set(alerts)) > 10
    for part in re.split(r"^      - alert: ", RULES, flags=re.MULTILINE)[1:]:
        assert re.search(r"^        expr: \S", part, re.MULTILINE)
        assert re.search(r"^        labels: \{severity: (page|ticket)\}$", part, re.MULTILINE)
        assert re.search(r'^        annotations: \{summary: ".+"\}$', part, re.MULTILINE)
