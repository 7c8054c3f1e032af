"""The doctor at the API: the sandbox as it is, and in every way that it can be wrong."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess
from bed.doctor import NOWHERE, ask_doctor, finding_of, verdicts_of
from bed.sandboxes import SandboxProcess, sandbox_process
from bed.site import TOKEN, sqlite_site
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broadcastd.doctor.finding import Finding, Verdict
from broadcastd.sandbox.options import APP_ID, APP_SECRET

OK, WARN, FAIL, SKIPPED = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIPPED
API = '[accounts.default.token]\nsource = "api"'


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with sandbox_process("--token", TOKEN) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _as_at_the_start(sandbox: SandboxProcess) -> None:
    sandbox.control("reset", {})


def settings(folder: Path, api: str, **more: Any) -> Path:
    return DaemonProcess(folder, api, sqlite_site(folder / "site.db", 30), **more).settings


def from_api(folder: Path, sandbox: SandboxProcess, secret: str = APP_SECRET) -> Path:
    account = f'app_id = "{APP_ID}"\napp_secret = "{secret}"\n{API}'
    return settings(folder, sandbox.url, account=account)


def test_all_is_well(tmp_path: Path, sandbox: SandboxProcess) -> None:
    told = ask_doctor(settings(tmp_path, sandbox.url), "api", "clock", "token", "quota")
    assert verdicts_of(told) == {"api": WARN, "clock": OK, "token": OK, "quota": OK}
    seen = {one.check: one.finding.seen for one in told}
    assert "it is this machine, not WeChat" in seen["api"]
    assert seen["clock"] == "agrees with the API"
    assert "custom: 30 are needed, 500,000 of 500,000" in seen["quota"]
    assert not sandbox.control("deliveries")


def test_nothing_is_sent_and_little_is_asked(tmp_path: Path, sandbox: SandboxProcess) -> None:
    ask_doctor(from_api(tmp_path, sandbox))
    asked = sandbox.control("summary")["by_endpoint"]
    assert {name: sum(answers.values()) for name, answers in asked.items()} == {
        "api_domain_ip": 2, "stable_token": 1, "quota_get": 2,
    }  # fmt: skip


def test_an_address_that_wechat_does_not_know(tmp_path: Path, sandbox: SandboxProcess) -> None:
    errors = {"api_domain_ip:40164": 1, "stable_token:40164": 1}
    sandbox.control("behaviour", {"errors": errors})
    of_table = finding_of(settings(tmp_path, sandbox.url), "token")
    assert of_table.verdict is FAIL
    assert "put 127.0.0.1 on the whitelist" in of_table.mend[0]
    of_api = finding_of(from_api(tmp_path, sandbox), "token")
    assert of_api.verdict is FAIL
    assert "put 127.0.0.1 on the IP whitelist" in of_api.seen
    assert "IP白名单" in of_api.mend[0]


def test_a_token_that_has_ended(tmp_path: Path, sandbox: SandboxProcess) -> None:
    sandbox.control("token", {"expire": True})
    path = settings(tmp_path, sandbox.url)
    found = finding_of(path, "token")
    assert found.verdict is FAIL
    assert "42001 access token expired" in found.seen
    assert "the site's own program that refreshes it" in found.mend[0]
    assert TOKEN not in str(found)
    assert {one.finding.verdict for one in ask_doctor(path, "quota")} == {WARN}


def test_a_token_of_wechats_own(tmp_path: Path, sandbox: SandboxProcess) -> None:
    found = finding_of(from_api(tmp_path, sandbox), "token")
    assert found.verdict is OK
    assert "from WeChat; for another 7,200 s" in found.seen
    wrong = finding_of(from_api(tmp_path, sandbox, "0123456789abcdef"), "token")
    assert wrong.verdict is FAIL
    assert "40125" in wrong.seen
    assert "compare app_id and app_secret" in wrong.mend[0]


def test_no_token_in_the_table(tmp_path: Path, sandbox: SandboxProcess) -> None:
    path = settings(tmp_path, sandbox.url, account='[accounts.default.token]\nquery = "SELECT NULL"')
    told = ask_doctor(path, "token", "quota")
    assert verdicts_of(told) == {"token": FAIL, "quota": SKIPPED}
    assert "holds no access token" in told[0].finding.seen


def test_a_quota_that_will_not_do(tmp_path: Path, sandbox: SandboxProcess) -> None:
    sandbox.control("quotas", {"custom": {"daily": 20, "used": 5}})
    told = ask_doctor(settings(tmp_path, sandbox.url), "quota")
    assert [one.finding.verdict for one in told] == [WARN]
    assert "30 are needed, 15 of 20 calls are left today: 15 too few" in told[0].finding.seen
    assert "broadcastd quota clear" in told[0].finding.mend[0]


def test_nobody_answers(tmp_path: Path) -> None:
    told = ask_doctor(settings(tmp_path, NOWHERE), "api", "clock", "token", "quota")
    found = {one.check: one.finding for one in told}
    assert (found["api"].verdict, found["token"].verdict) == (FAIL, FAIL)
    assert "Connect" in found["api"].seen
    assert found["clock"].verdict is SKIPPED


def test_an_api_that_hangs_keeps_nobody(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        path = settings(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        told = ask_doctor(path, "api", "token", "audience-ids")
    verdicts = verdicts_of(told)
    assert verdicts == {"api": FAIL, "token": FAIL, "audience-ids": OK}
    assert "does not answer within 4 s" in next(one for one in told if one.check == "api").finding.seen


def test_a_name_that_is_not_found(tmp_path: Path) -> None:
    found = finding_of(settings(tmp_path, "https://no-such-host.invalid"), "api")
    assert found.verdict is FAIL
    assert "no-such-host.invalid" in found.seen
    assert "DNS: cat /etc/resolv.conf" in found.mend


def certificate(folder: Path, until: datetime) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(until - timedelta(days=90)).not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, private


class _Answers(BaseHTTPRequestHandler):
    """41001, an hour late."""

    def do_GET(self) -> None:
        body = b'{"errcode":41001,"errmsg":"access_token missing"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(datetime.now(UTC).timestamp() - 3600)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def https(folder: Path, until: datetime) -> Iterator[str]:
    cert, key = certificate(folder, until)
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, name="https")
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def over_tls(folder: Path, until: datetime, check: str) -> Finding:
    with https(folder, until) as url:
        return finding_of(settings(folder, url), check)


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    found = over_tls(tmp_path, datetime.now(UTC) + timedelta(days=30), "api")
    assert found.verdict is FAIL
    assert "the API's certificate is not trusted" in found.seen


def test_a_certificate_that_ends_soon_and_a_clock_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    until = datetime.now(UTC) + timedelta(days=3)
    found = over_tls(tmp_path, until, "api")
    assert found.verdict is WARN
    assert f"its certificate ends {until:%Y-%m-%d}" in found.seen
    clock = over_tls(tmp_path, until, "clock")
    assert clock.verdict is FAIL
    assert "3,600 s ahead of that of the API" in clock.seen or "3,601 s" in clock.seen
