"""Ctrl-C while a program still loads what it needs: it ends, and shows no traceback."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 20.0
IN_THE_MIDDLE = {"dispatcher": "_pydantic_core", "worker": "_json", "cli": "_json"}  # a library that it loads


@pytest.mark.parametrize("program", IN_THE_MIDDLE)
def test_no_traceback(program: str, tmp_path: Path) -> None:
    env = {
        "DB_PATH": str(tmp_path / "queue.db"),
        "CACHE_DIR": str(tmp_path),
        "DISPATCHER_PORT": "0",
        "LC_ALL": "C.UTF-8",
    }
    words = [sys.executable, "-m", program]
    with subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + DEADLINE
            while IN_THE_MIDDLE[program] not in Path(f"/proc/{process.pid}/maps").read_text():
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert (said, process.returncode in (-signal.SIGINT, 130)) == (b"", True)
