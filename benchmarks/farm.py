"""A dispatcher and workers as users start them, in a temporary folder, for the benchmarks."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from client import Client  # noqa: E402  the repository must be on the path first


@dataclass
class Farm:
    """Running processes and a client for them."""

    client: Client
    folder: Path
    dispatcher: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def farm(workers: int = 1, concurrency: int = 2, folder: Path = ROOT) -> Iterator[Farm]:
    """Start everything, wait until all workers are there, stop everything."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".bench-") as name, socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        s.close()
        env = {**os.environ, "DISPATCHER_PORT": str(port), "DISPATCHER_URL": f"http://127.0.0.1:{port}"}
        env |= {"DB_PATH": f"{name}/queue.db", "CACHE_DIR": f"{name}/cache", "WORKER_CONCURRENCY": str(concurrency)}
        started = [_start(["dispatcher"], env, Path(name))]
        try:
            with Client(env["DISPATCHER_URL"]) as client:
                client.health()
                started += [_start(["worker", f"bench-{n}"], env, Path(name)) for n in range(workers)]
                _wait_for_workers(client, workers)
                yield Farm(client, Path(name), started[0], started[1:])
        finally:
            for process in reversed(started):
                process.send_signal(signal.SIGTERM)
                process.wait(30)


def _start(words: list[str], env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{words[-1]}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=env, stdout=log, stderr=log)


def _wait_for_workers(client: Client, n: int) -> None:
    deadline = time.monotonic() + 30
    while client.stats()["active_workers"] < n:
        assert time.monotonic() < deadline, "the workers did not come up"
        time.sleep(0.05)


def tell(name: str, figures: dict[str, object]) -> None:
    """One line of text and one of JSON."""
    print(
        f"{name}: "
        + ", ".join(
            f"{key} {value:,.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
        )
    )
    print(json.dumps({"benchmark": name, **figures}))
