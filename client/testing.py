"""For tests and benchmarks: a whole farm in a temporary folder, of real processes, started as users start them.

Beside it what needs no processes: `run_task` for one handler, `InlineClient` for a program that submits.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from client import guard
from client.client import Client
from client.errors import TransportError
from client.inline import InlineClient as InlineClient
from client.running import Run as Run
from client.running import run_task as run_task
from common.places import ROOT, module

READY_SECONDS = 30.0
STOP_SECONDS = 30.0


class Process:
    """A dispatcher or worker in a process group of its own, its log in a file."""

    def __init__(self, words: list[str], env: Mapping[str, str], log: Path) -> None:
        self.words, self.env, self.log = words, dict(env), log
        with log.open("ab") as file:
            command = [sys.executable, "-m", module(words[0]), *words[1:]]
            self.popen: subprocess.Popen[bytes] = subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to this process alone, and wait for its end."""
        self.popen.kill()
        self.popen.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
        return self.popen.wait(STOP_SECONDS)

    def output(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")


class Guard:
    """What ends the processes of a cluster if its owner is killed (`guard.py`, a process of its own; Linux)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id, 0 while there is none."""
        return self._process.pid if self._process else 0

    def watch(self, process: Process) -> None:
        """One more process that must not outlive the owner."""
        if self._process is None and sys.platform == "linux":
            self._process = self._started()
        self._tell(f"{process.pid}\n")

    def dismiss(self) -> None:
        """Nothing is left to guard."""
        if self._process:
            self._tell(guard.OVER)
            self._process.communicate(timeout=STOP_SECONDS)
            self._process = None

    def _started(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(self._folder)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env={}, start_new_session=True)

    def _tell(self, line: str) -> None:
        if self._process and self._process.stdin:
            with suppress(BrokenPipeError):  # somebody killed it: then nothing is guarded, and that is all
                self._process.stdin.write(line)
                self._process.stdin.flush()


class LocalCluster:
    """A dispatcher and workers that live as long as the `with` block; `client` speaks to them.

    They do not outlive the process that started them either, however that ends.

    `settings` are the settings of all processes by their names (`.env.example`). Everything lies in `folder`, a
    temporary one below `parent` (the system's place for such folders, unless it is given).
    """

    def __init__(
        self,
        workers: int = 1,
        concurrency: int = 2,
        settings: Mapping[str, str] | None = None,
        parent: Path | None = None,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix=".taskmill-", dir=parent)
        self.folder = Path(self._temporary.name)
        own = {"DB_PATH": f"{self.folder}/queue.db", "CACHE_DIR": f"{self.folder}/cache", "DISPATCHER_PORT": "0"}
        own["DATABASE_URL"] = ""  # a queue of one's own, whatever this machine's dispatcher uses
        self.env = {**os.environ, **own, "WORKER_CONCURRENCY": str(concurrency), **(settings or {})}
        self._names = [f"worker-{n + 1}" for n in range(workers)]
        self.workers: dict[str, Process] = {}
        self._guard = Guard(self.folder)

    def __enter__(self) -> "LocalCluster":
        try:
            self.start_dispatcher()
            for name in self._names:
                self.start_worker(name)
            self.until(lambda: self.client.stats()["active_workers"] >= len(self._names), "the workers come up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start_dispatcher(self) -> Process:
        """Start the dispatcher, the first time on a free port, later on the same; waits until it listens."""
        log = self.folder / "dispatcher.log"
        known = log.stat().st_size if log.exists() else 0
        self.dispatcher = self._start(["dispatcher"], self.env, log)
        self.until(lambda: "listening on " in self.dispatcher.output()[known:], "the dispatcher listens")
        url = self.dispatcher.output()[known:].split("listening on ")[1].split()[0].rstrip('"}')
        self.env |= {"DISPATCHER_URL": url, "DISPATCHER_PORT": url.rsplit(":", 1)[1]}
        self.client = Client(url, self.env.get("DISPATCHER_TOKEN"))
        return self.dispatcher

    def start_worker(self, name: str, **settings: str) -> Process:
        """Start one more worker."""
        self.workers[name] = self._start(["worker", name], {**self.env, **settings}, self.folder / f"{name}.log")
        return self.workers[name]

    def _start(self, words: list[str], env: Mapping[str, str], log: Path) -> Process:
        process = Process(words, env, log)
        self._guard.watch(process)
        return process

    def until(self, condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
        """Wait for a condition; raises AssertionError with the logs after the deadline."""
        deadline = time.monotonic() + seconds
        while not self._holds(condition):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.logs()}")
            time.sleep(0.02)

    def _holds(self, condition: Callable[[], bool]) -> bool:
        with suppress(TransportError):
            return condition()
        return False

    def logs(self) -> str:
        """The last lines of every process."""
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*.log")
        )

    def close(self) -> None:
        """Stop everything, workers first."""
        for process in [*self.workers.values(), getattr(self, "dispatcher", None)]:
            if process is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.stop()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if hasattr(self, "client"):
            self.client.close()
        self._guard.dismiss()
        self._temporary.cleanup()
