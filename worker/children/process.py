"""One child as the supervisor sees it: its process, its pipes, the tasks in its line.

Every method is called from the supervisor's thread and none blocks, except for the moment between a process's end
and its being reaped.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from common.places import IMPORTS, boot
from worker.children import leftovers
from worker.children.framing import Frame, FrameReader
from worker.children.ledger import Held
from worker.children.line import Line
from worker.children.stopping import STOP_SIGNAL

BOOT = boot("worker.children.child")
CHUNK = 64 * 1024
ONE_THREAD = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")


@dataclass(frozen=True)
class SupervisorSettings:
    """Sizes are bytes, times seconds; `inherit_fds` are descriptors that children hold open as long as they live."""

    concurrency: int
    task_paths: tuple[Path, ...]
    spool: Path
    recycle_after: int = 100_000  # tasks of a child before it is replaced; 0: never. 10,000 take 5 % of no-ops' time
    kill_grace: float = 3.0
    result_max_bytes: int = 64 * 1024 * 1024
    inline_result_bytes: int = 256 * 1024
    stderr_tail: int = 64 * 1024
    inherit_fds: tuple[int, ...] = ()
    mark: str = ""  # what the marks of all children begin with
    least: int | None = None  # children that are kept without work, the others come when tasks wait; None: all
    idle_seconds: float = 60.0  # after which one of the others goes
    memory_mb: int | None = None  # MiB for a task that names no limit itself


class ChildProcess:
    """A running child. `line` holds the tasks sent and not yet begun, `current` the one that runs."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self.line: deque[Held] = deque()
        self.current: Held | None = None
        self.ran = 0
        self.allowance = settings.recycle_after or sys.maxsize  # tasks that it may still be given
        self.deadline = math.inf
        self.kill_at = math.inf
        self.fault = ""
        self.idle_since = time.monotonic()
        self.left_over = 0  # bytes that earlier tasks left in it, when the present one began
        self.doomed = False  # told to end, by us: it gets no more tasks, and what it still runs is not charged
        self._tail = bytearray()
        self._tail_bytes = settings.stderr_tail
        self._reader = FrameReader()
        self._marker = settings.mark + uuid4().hex
        self._start(settings)

    def _start(self, settings: SupervisorSettings) -> None:
        """Raises OSError when the system gives no process or no descriptors."""
        with ExitStack() as ours, ExitStack() as childs:
            self._line = ours.enter_context(closing(Line()))
            self.frames, frames = _pipe(ours, childs)
            self.output, output = _pipe(ours, childs)
            os.set_blocking(self.frames, False)
            os.set_blocking(self.output, False)
            life, _ = _pipe(childs, ours)
            self._process = self._popen(settings, frames, life, output)
            self.exit = self._watched(ours)
            self._descriptors = ours.pop_all()

    def _watched(self, ours: ExitStack) -> int:
        try:
            exit_watch = os.pidfd_open(self.pid)
        except OSError:
            self.kill()
            self._process.wait()
            raise
        ours.callback(os.close, exit_watch)
        return exit_watch

    def _popen(self, settings: SupervisorSettings, frames: int, life: int, output: int) -> subprocess.Popen[bytes]:
        (texts, tickets), inherited = self._line.childs, settings.inherit_fds
        orders = {
            "folders": [str(path) for path in settings.task_paths],
            "spool": str(settings.spool),
            "inline_bytes": settings.inline_result_bytes,
            "limit_bytes": settings.result_max_bytes,
            "texts": texts,
            "tickets": tickets,
            "frames": frames,
            "life": life,
            "inherited": inherited,
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-c", BOOT, str(IMPORTS), json.dumps(orders)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(texts, tickets, frames, life, *inherited),
            start_new_session=True,
            env=environment() | {leftovers.MARKER: self._marker},
        )

    @property
    def pid(self) -> int:
        """The id of the process, and of its process group."""
        return self._process.pid

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.current is None and not self.line

    def send(self, group: Sequence[Held]) -> int:
        """Put tasks at the end of the child's line; how many there was room for."""
        if not group:
            return 0
        count = self._line.put([held.text for held in group], [held.number for held in group])
        for held in group[:count]:
            held.child = self
        self.line.extend(group[:count])
        self.allowance -= count
        return count

    def take_back(self) -> list[Held]:
        """The tasks of the line that the child has not taken; they are the caller's again.

        The tickets say which: the child may take one between two of ours.
        """
        numbers = self._line.take_back() if self.line else ()
        back = [held for held in self.line if held.number in numbers]
        if back:
            self.line = deque(held for held in self.line if held.number not in numbers)
        self.allowance += len(back)
        return back

    def read_frames(self) -> Iterator[Frame] | None:
        """The frames that have come; None when the pipe has ended. Iterating raises FrameError for what is none."""
        data = os.read(self.frames, CHUNK)
        return self._reader.feed(data) if data else None

    def read_output(self) -> bool:
        """Keep the last of what the child printed; False when it can print no more."""
        data = os.read(self.output, CHUNK)
        self._tail += data
        del self._tail[: max(0, len(self._tail) - self._tail_bytes)]
        return bool(data)

    def forget_output(self) -> None:
        """What was printed belongs to a task before."""
        if self._tail:
            self._tail.clear()

    def said(self) -> str:
        """The last of its output, as a paragraph to put under an error, or nothing."""
        text = self._tail.decode("utf-8", "replace").strip()
        return f"\nlast output:\n{text}" if text else ""

    def halt(self, kill_at: float) -> None:
        """Tell the handler to stop, and what it started; `kill_at` is when patience ends (monotonic)."""
        self.doomed, self.deadline, self.kill_at = True, math.inf, kill_at
        self._signal_group(signal.SIGTERM)
        os.kill(self.pid, STOP_SIGNAL)

    def kill(self) -> None:
        """End the child and its process group now."""
        self.doomed, self.deadline, self.kill_at = True, math.inf, math.inf
        self._signal_group(signal.SIGKILL)

    def dismiss(self, kill_at: float) -> None:
        """End the line: an idle child exits."""
        self.doomed, self.kill_at = True, kill_at
        self._line.close()

    def bury(self) -> str:
        """After its end: end what it started, reap it, close everything. How it ended, in words."""
        self._signal_group(signal.SIGKILL)  # the process is not reaped yet, so its group's number is still its own
        code = self._process.wait()
        leftovers.kill(self._marker)
        self._descriptors.close()
        return self.fault or described(code)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _pipe(readers: ExitStack, writers: ExitStack) -> tuple[int, int]:
    """The two ends of a pipe, each closed with those of its side."""
    reader, writer = os.pipe()
    readers.callback(os.close, reader)
    writers.callback(os.close, writer)
    return reader, writer


def environment() -> dict[str, str]:
    """What a child inherits: no secret of the worker's; numeric libraries use one thread unless told otherwise."""
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ONE_THREAD} | {"VECLIB_MAXIMUM_THREADS": "1"}
    return {name: value for name, value in (one_thread | dict(os.environ)).items() if name != "DISPATCHER_TOKEN"}


def described(code: int) -> str:
    """A return code in words."""
    if code >= 0:
        return f"child exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps out of memory" if -code == signal.SIGKILL else ""
    return f"child killed by {name} (signal {-code}{hint})"
