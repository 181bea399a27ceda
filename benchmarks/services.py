"""The servers that some benchmarks need, for as long as a `with` block lasts: PostgreSQL (durable) and Redis."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from report import ROOT

sys.path.insert(0, str(ROOT / "tests"))

import psycopg
from postgres_server import PostgresServer, Schemas, running

__all__ = ["Schemas", "database", "postgres", "program", "redis"]

DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "512MB"}
PATIENCE_S = 20.0


def postgres() -> AbstractContextManager[PostgresServer]:
    """That of the tests, but with fsync on and its data on a disk."""
    return running(DURABLE, Path("/tmp"))


def program(name: str, package: str) -> str:
    """The path of a program of the system; ends this one with a word on where to get it."""
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: apt-get install {package}")
    return found


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Its URL. Append-only file, fsync each second: the most durable of the settings that people use."""
    port = free_port()
    options = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder), "appendonly": "yes",
               "appendfsync": "everysec", "save": ""}  # fmt: skip
    argv = [program("redis-server", "redis-server"), *(w for k, v in options.items() for w in (f"--{k}", v))]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.02)


@contextlib.contextmanager
def database(server: str) -> Iterator[str]:
    """The URL of a database of one's own on a server, named by the URL of another one there."""
    name = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{server.rsplit('/', 1)[0]}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as db:
            db.execute(f"DROP DATABASE {name} WITH (FORCE)")
