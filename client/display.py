"""What add_task.py shows: `Human` for people, `JsonLines` for programs; both have the same methods."""

import shutil
import sys
from typing import Any, TextIO

from client.waiting import Task
from common import json_profile
from common.places import WORKER
from common.printing import one_line

_LISTED = 100  # submits are named one by one up to here
_SHOWN = 300  # characters of a result
_BAR = 24


class JsonLines:
    """One JSON object per line on standard output; see the --help text."""

    def __init__(self, task_type: str, *, wait: bool) -> None:
        self._task_type, self._wait = task_type, wait

    def added(self, task_ids: list[int]) -> None:
        """Tasks were submitted."""
        if self._wait:
            _say(f"added {len(task_ids)} task(s), {task_ids[0]} to {task_ids[-1]}", sys.stderr)
            return
        for task_id in task_ids:
            _say(json_profile.dump({"task_id": task_id, "task_type": self._task_type}))

    def twin(self, task_id: int) -> None:
        """A task with this unique key was there already."""
        if self._wait:
            _say(f"task {task_id} exists already", sys.stderr)
        else:
            _say(json_profile.dump({"task_id": task_id, "task_type": self._task_type, "created": False}))

    def next_step(self, url: str, task_ids: list[int], *, workers: int | None) -> None:
        """Nothing: programs know."""

    def progress(self, total: int, ended: int, running: list[Task], why: str = "") -> None:
        """Nothing."""

    def ended(self, url: str, task: Task) -> None:
        """A task has ended."""
        _say(json_profile.dump(task))


class Human:
    """Lines for people on standard output; progress on standard error, as a bar when that is a terminal."""

    def __init__(self, summary: str, count: int, err: TextIO | None = None) -> None:
        self._summary, self._single = summary, count <= _LISTED
        self._err = err or sys.stderr
        self._last = ""

    def added(self, task_ids: list[int]) -> None:
        """Tasks were submitted."""
        if not self._single:
            _say(f"Added {len(task_ids)} tasks, {task_ids[0]} to {task_ids[-1]}: {self._summary}")
            return
        for task_id in task_ids:
            _say(f"Added task {task_id}: {self._summary}")

    def twin(self, task_id: int) -> None:
        """A task with this unique key was there already."""
        _say(f"Task {task_id} exists already with this --unique-key; nothing was added")

    def next_step(self, url: str, task_ids: list[int], *, workers: int | None) -> None:
        """What the user may do now; `workers` is None when that is not known."""
        if workers == 0:
            _say(f"No worker is active yet. Start one with: {WORKER} worker-1")
        _say(f"See how it goes: curl {url}/task/{task_ids[0]}")

    def progress(self, total: int, ended: int, running: list[Task], why: str = "") -> None:
        """`ended` of `total` tasks have ended; `running` are some of the others, `why` says why none is."""
        share = (ended + sum(_share(task) for task in running)) / total
        text = f"{share:4.0%}  {ended} of {total} ended{_detail(running)}{why and f'; {one_line(why)}'}"
        if text == self._last:
            return
        self._last = text
        if self._err.isatty():
            bar = "#" * int(share * _BAR)
            line = f"[{bar:.<{_BAR}}] {text}"
            _say(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", self._err, end="")
        else:
            _say(text.strip(), self._err)

    def ended(self, url: str, task: Task) -> None:
        """A task has ended."""
        if self._err.isatty() and self._last:
            _say("\r\033[K", self._err, end="")
            self._last = ""
        _say(f"Task {task['task_id']} {task['status']}{_outcome(url, task)}")


def _say(text: str, stream: TextIO | None = None, end: str = "\n") -> None:
    stream = stream or sys.stdout
    stream.write(text + end)
    stream.flush()


def _outcome(url: str, task: Task) -> str:
    if task["status"] != "completed":
        reason = str(task.get("error") or "").strip().splitlines()
        return f": {one_line(reason[0])}" if reason else ""
    ref = task.get("result_ref")
    if ref:
        return f": {ref['bytes']} bytes of {ref['media_type']} at {url}/task/{task['task_id']}/result"
    text = json_profile.dump(task.get("result"))
    return f": {one_line(text)}" if len(text) <= _SHOWN else f": {one_line(text[:_SHOWN])}… (whole with --json)"


def _share(task: Task) -> float:
    """How much of a running task is done, 0 to 1, as far as its handler tells."""
    done, total = _counts(task)
    return min(1.0, max(0.0, done / total)) if total else 0.0


def _detail(running: list[Task]) -> str:
    """The first running task that tells something of itself."""
    for task in running:
        done, total = _counts(task)
        told = [f"{done:g} of {total:g}"] if total else []
        if task.get("note"):
            told.append(one_line(str(task["note"])))
        if told:
            return f"; task {task['task_id']}: {', '.join(told)}"
    return f"; {len(running)} running" if running else ""


def _counts(task: Task) -> tuple[float, float]:
    progress: Any = task.get("progress")
    if not isinstance(progress, dict):
        return 0.0, 0.0
    return progress.get("done") or 0.0, progress.get("total") or 0.0
