"""A farm of several dispatchers on one PostgreSQL; all workers and clients know all of them."""

import signal
import subprocess
import time
from pathlib import Path

import stored_database
from fault_farm import Farm, free_port
from postgres_server import PostgresServer
from processes import is_free

from client import Client
from client.testing import Process

DRAINS_WITHIN = 20.0


class SeveralFarm(Farm):
    """`own` has the settings of each dispatcher alone, by its name; they may be changed before it starts."""

    def __init__(
        self,
        folder: Path,
        server: PostgresServer,
        dispatchers: int = 3,
        workers: int = 2,
        concurrency: int = 2,
        **settings: str,
    ) -> None:
        super().__init__(folder, workers, concurrency, **settings)
        self.server = server
        self.own = {
            f"dispatcher-{n + 1}": {"DATABASE_URL": server.url, "DISPATCHER_PORT": str(free_port())}
            for n in range(dispatchers)
        }
        self.dispatchers: dict[str, Process] = {}
        self.env["DISPATCHER_URL"] = self.urls(*self.own)

    def urls(self, *names: str) -> str:
        """What DISPATCHER_URL is for those who know these dispatchers."""
        return ",".join(f"http://127.0.0.1:{self.own[name]['DISPATCHER_PORT']}" for name in names)

    def at(self, name: str, retry_seconds: float = 0) -> Client:
        """A client that knows one dispatcher alone."""
        return Client(self.urls(name), retry_seconds=retry_seconds)

    def start_dispatcher(self) -> Process:
        """Start all that do not run, and wait until they serve; the first of them."""
        missing = [name for name in self.own if not self._runs(name)]
        for name in missing:
            self._launch(name)
        for name in missing:
            self._await(name)
        self.client = self.new_client()
        return self.dispatchers[min(self.own)]

    def start_one(self, name: str) -> float:
        """Start a dispatcher; the seconds until it serves."""
        began = time.monotonic()
        self._launch(name)
        self._await(name)
        return time.monotonic() - began

    def drain(self, name: str) -> None:
        """SIGTERM to a dispatcher, which ends well and soon. Raises AssertionError with all that its threads do when it
        does not."""
        process = self.dispatchers[name]
        process.signal(signal.SIGTERM)
        try:
            code = process.popen.wait(DRAINS_WITHIN)
        except subprocess.TimeoutExpired:
            process.signal(signal.SIGABRT)
            code = process.popen.wait(DRAINS_WITHIN)
        assert code == 0, f"{name} ended with {code}\n{process.output()[-20_000:]}"

    def stop_dispatchers(self) -> dict[str, int]:
        """SIGTERM to each; their exit codes."""
        return {name: process.stop() for name, process in self.dispatchers.items()}

    def stored_problems(self) -> list[str]:
        """What does not hold in the database."""
        return stored_database.problems(self.server.url)

    def pid_of(self, victim: str) -> int:
        """The process of a worker, a dispatcher, or the database."""
        process = self.workers.get(victim) or self.dispatchers.get(victim)
        return process.pid if process else self.server.pid

    def nothing_left(self) -> None:
        """To be called when all was stopped: no process, no listener, no folder of an instance."""
        super().nothing_left()
        assert all(is_free(int(own["DISPATCHER_PORT"])) for own in self.own.values())

    def close(self) -> None:
        """Stop everything, the dispatchers last."""
        self.workers |= self.dispatchers
        super().close()

    def _runs(self, name: str) -> bool:
        return name in self.dispatchers and self.dispatchers[name].popen.poll() is None

    def _launch(self, name: str) -> None:
        env = {**self.env, "PYTHONFAULTHANDLER": "1", **self.own[name]}
        self.dispatchers[name] = self._start(["dispatcher"], env, self.folder / f"{name}.log")

    def _await(self, name: str) -> None:
        with self.at(name) as client:
            self.until(lambda: self._serves(name, client), f"{name} serves")

    def _serves(self, name: str, client: Client) -> bool:
        if not self._runs(name):  # the database was away when it started: whoever keeps services up tries again
            self._launch(name)
        return bool(client.health()["status"] == "healthy")
