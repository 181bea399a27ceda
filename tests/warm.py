"""Dispatchers and workers that start warm: forked from a process that has loaded their modules already.

To load them is most of a start, and many tests start a farm of their own to see what it does later. They are processes
all the same, with a session, an environment and files of their own; /proc tells of them (environ, cmdline) what it
would if they had been started cold. Tests that look at the start itself start them cold. So does this module where
Python itself is to be set up otherwise.
"""

import atexit
import ctypes
import faulthandler
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from client import testing
from client.testing import LocalCluster

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 2**20  # bytes of a wish
ROOM = "TASKMILL_TEST_ROOM"  # in the environment of the process that forks, for longer ones of those that it forks
STARTED = (
    f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; import warm; warm.serve(int(sys.argv[1]))"
)


class Process:
    """What `subprocess.Popen` is, of a process that was forked there; the log gets all that it writes."""

    def __init__(self, words: list[str], env: Mapping[str, str], log: BinaryIO) -> None:
        self.args, self.returncode = words, None  # type: list[str], int | None
        self._news, theirs = os.pipe()
        wish = json.dumps({"words": words, "env": dict(env)}).encode()
        socket.send_fds(_forge(), [wish], [log.fileno(), theirs])
        os.close(theirs)
        self.pid = int(self._line())

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self._news, 1)
            assert more, "the process that forks is gone"
            line += more
        return line

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._news], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._line())
            os.close(self._news)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Cluster(LocalCluster):
    """A farm whose dispatchers and workers start warm."""

    def _start(self, words: list[str], env: Mapping[str, str], log: Path) -> testing.Process:
        process = testing.Process.__new__(testing.Process)
        process.words, process.env, process.log = words, dict(env), log
        with log.open("ab") as file:
            process.popen = start(words, env, file)  # type: ignore[assignment]
        self._guard.watch(process)
        return process


def start(words: list[str], env: Mapping[str, str], log: BinaryIO) -> "Process | subprocess.Popen[bytes]":
    """A process for `python -m` and these words, its output in `log`."""
    if _of_python(env) == _of_python(os.environ):
        return Process(words, env, log)
    command = [sys.executable, "-m", *words]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    late = "PYTHONFAULTHANDLER"  # can be had after the start
    return {name: value for name, value in env.items() if value and name.startswith("PYTHON") and name != late}


def _forge() -> socket.socket:
    with _one_at_a_time:
        return _started_forge()


_one_at_a_time = threading.Lock()


@cache
def _started_forge() -> socket.socket:
    """The way to the process that forks, which ends with this one or when `close` is called."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
    with theirs:
        words = [sys.executable, "-c", STARTED, str(theirs.fileno()), str(ROOT / "tests")]
        env, fds = {**os.environ, ROOM: "x" * 2**14}, [theirs.fileno()]
        forge = subprocess.Popen(
            words, cwd=ROOT, env=env, pass_fds=fds, stdin=subprocess.DEVNULL, start_new_session=True
        )
    _forge_process.append(forge)
    return ours


_forge_process: list["subprocess.Popen[bytes]"] = []


def close() -> None:
    """End the process that forks, if there is one."""
    if _forge_process:
        _forge().close()
        _started_forge.cache_clear()
        _forge_process.pop().wait(20)


# -- in the process that forks --


def serve(number: int) -> None:
    """Fork for each wish, and tell of each end, until nobody can wish any more."""
    for name in ("dispatcher.running", "dispatcher.store.postgres", "dispatcher.store.sqlite", "worker.__main__"):
        import_module(name)
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    told: dict[int, int] = {}  # where to tell of the end of each
    with closing(socket.socket(fileno=number)) as wishes:
        while True:
            ready = select.select([wishes, woken], [], [])[0]
            if woken in ready:
                os.read(woken, 1024)
                _reap(told)
            if wishes in ready and not _wish(wishes, told, (number, woken, wake)):
                return


def _wish(wishes: socket.socket, told: dict[int, int], ours: Iterable[int]) -> bool:
    wish, fds, _, _ = socket.recv_fds(wishes, LONGEST, 2)
    if not wish:
        return False
    log, news = fds
    pid = os.fork()
    if not pid:
        _leave_with(lambda: _become(json.loads(wish), log, news, [*ours, *told.values()]))
    os.close(log)
    os.write(news, b"%d\n" % pid)
    told[pid] = news
    return True


def _reap(told: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            news = told.pop(ended[0])
            with suppress(BrokenPipeError):
                os.write(news, b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
            os.close(news)


def _become(wish: dict[str, dict[str, str]], log: int, news: int, strangers: Iterable[int]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for fd in (1, 2):
        os.dup2(log, fd)
    for fd in (log, news, *strangers):
        os.close(fd)
    os.environ.clear()
    os.environ.update(wish["env"])
    name, *words = wish["words"]
    sys.argv = [name, *words]
    _show([sys.executable, "-m", name, *words], wish["env"])
    if wish["env"].get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _show(command: list[str], env: Mapping[str, str]) -> None:
    """Have /proc tell these: they take the place of those that the kernel laid into memory at the start."""
    places = [int(word) for word in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:49]]
    told = ["".join(f"{one}\0" for one in ones) for ones in (command, [f"{key}={env[key]}" for key in env])]
    for text, begin, end in zip(told, places[::2], places[1::2], strict=True):
        content = os.fsencode(text)
        assert len(content) <= end - begin, f"{len(content)} bytes do not fit into {end - begin}"
        ctypes.memmove(begin, content.ljust(end - begin, b"\0"), end - begin)


def _leave_with(call: Callable[[], None]) -> None:
    """Ends as Python does, but for what would go on in the process that forks."""
    code = 0
    try:
        call()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
