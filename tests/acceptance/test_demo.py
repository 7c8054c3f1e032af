"""The demo ends well, and leaves nothing behind."""

import subprocess
import sys


def test_the_demo_shows_books_that_agree() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "broadcastd", "demo", "--recipients", "300", "--latency-ms", "0"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "300 = 240 custom + 60 template + 0 rejected + 0 failed" in demo.stdout
    assert "300 different followers got 300 messages, none of them twice" in demo.stdout
    assert "same job (repeat)" in demo.stdout
    assert "everything is stopped" in demo.stdout


def test_the_demo_refuses_nonsense() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "broadcastd", "demo", "--recipients", "0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert demo.returncode == 2
    assert "--recipients" in demo.stderr
