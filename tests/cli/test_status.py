"""`taskmill status`, `top` and `bench`, over one farm; and what they say of sick ones."""

import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from cli_kit import DEADLINE, Commands, Scripted, reply, wait_until
from rich.console import Console

from cli import farm, options, show, status
from cli.farm import Seen
from client.client import Client
from client.errors import Unreachable
from client.testing import LocalCluster
from common.settings import ROOT

HANDLERS = {
    "hold": """
from pathlib import Path
import time

def execute(payload, context):
    context.progress(3, 4, "three\\x1b[31m of four")
    while not Path(payload["until"]).exists():
        time.sleep(0.01)
""",
}
FARM = {"word": "idle", "why": "nothing to do", "able_workers": 1, "finished_per_second": 0.0, "failed_share": None}
NONE = {"p50": None, "p95": None, "p99": None}
STATS: dict[str, Any] = {
    **{f"{state}_tasks": 0 for state in farm.STATES}, "ready_tasks": 0, "oldest_waiting_seconds": None,
    "farm": FARM, "wait_seconds": NONE, "run_seconds": NONE, "workers": [],
}  # fmt: skip


@pytest.fixture
def held(cluster: LocalCluster, tmp_path: Path) -> Iterator[int]:
    """A task that runs, and has told its progress."""
    task_id = cluster.client.submit("hold", {"until": str(tmp_path / "go")})
    wait_until(lambda: cluster.client.task(task_id)["progress"], "its progress")
    yield task_id
    (tmp_path / "go").touch()
    cluster.client.wait(task_id, DEADLINE)


def shown(seen: Seen) -> str:
    console = show.console()
    with console.capture() as captured:
        console.print(farm.screen(seen))
    return captured.get()


# status


def test_the_word_is_the_dashboards(taskmill: Commands, cluster: LocalCluster, held: int) -> None:
    said = taskmill("status")
    assert said.code == 0
    lines = {line.split("  ")[0]: line for line in said.out.splitlines() if line}
    assert lines["farm"].split() == ["farm", "active:", "tasks", "run"]
    assert "1 in_progress" in lines["tasks"]
    assert lines["worker-1"].split()[:5] == ["worker-1", "alive", "run", "1", "2"]
    assert lines["default"].split() == ["default", "runs", "0", "0", "1"]
    told = json.loads(taskmill("status", "--json").out)
    assert told["farm"]["word"] == "active"
    assert (told["farm"]["able_workers"], told["tasks"]["in_progress"]) == (1, 1)
    assert [one["worker_id"] for one in told["workers"]] == ["worker-1"]
    assert "running" not in told
    with urlopen(cluster.client.url, timeout=DEADLINE) as page:
        assert '<div class="word active">' in page.read().decode()


@pytest.mark.parametrize(("word", "code"), [("idle", 0), ("waiting", 0), ("asleep", 0), ("inoperable", 1)])
@pytest.mark.parametrize("command", ["status", "top"])
def test_the_exit_code_says_whether_it_works(
    run: Commands, monkeypatch: pytest.MonkeyPatch, command: str, word: str, code: int
) -> None:
    seen = Seen({**STATS, "farm": {**FARM, "word": word}}, [], None)
    monkeypatch.setattr(farm, "look", lambda client, running: seen)
    for words in ([command], [command, "--json"]):
        said = run(*words)
        assert said.code == code
        assert word in said.out


def test_an_older_dispatcher(run: Commands, scripted: Callable[..., Scripted]) -> None:
    run.set(DISPATCHER_URL=scripted(reply(b"{}")).url)
    assert "of an older version" in run("status").fault


def test_no_dispatcher(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "PATIENCE_S", 0.0)
    for command in ("status", "top", "bench"):
        assert run(command).code == 3


def test_figures_of_a_farm() -> None:
    numbers = {"pending_tasks": 1200, "failed_tasks": 3, "oldest_waiting_seconds": 7200.0}
    told = {**FARM, "finished_per_second": 37.512, "failed_share": 0.0312}
    times = {"p50": 0.0031, "p95": 1.0, "p99": 2.25}
    text = shown(Seen({**STATS, **numbers, "farm": told, "wait_seconds": times}, [], []))
    for expected in (
        "oldest waiting   2.0 h", "37.51 tasks/s", "3.1% (5 min)", "p50 3.1 ms, p99 2.25 s",
        "1,200 pending, 0 completed, 3 failed, 0 cancelled", "no workers", "no queues", "no running tasks",
    ):  # fmt: skip
        assert expected in text, text


def test_a_large_farm_fits_a_screen() -> None:
    one = {"status": "alive", "state": "run", "leases": 0, "concurrency": 4, "metadata": {}}
    workers = [{**one, "worker_id": f"w-{n:03}"} for n in range(100)]
    dead = {**one, "worker_id": "a-dead-one", "status": "dead"}
    text = shown(Seen({**STATS, "workers": [dead, *workers]}, [], None))
    assert "w-019" in text
    assert "w-020" not in text
    assert "a-dead-one" not in text, "those that live come first"
    assert "… 81 more workers" in text


# top


def test_top_without_a_terminal_shows_once_what_runs(taskmill: Commands, held: int) -> None:
    said = taskmill("top")
    assert said.code == 0
    [line] = [line for line in said.out.splitlines() if " hold " in line]
    assert line.split() == ["worker-1", str(held), "hold", "default", "75%", "three", "[31m", "of", "four"]
    assert "\x1b" not in said.out
    [running] = json.loads(taskmill("top", "--json").out)["running"]
    assert (running["task_id"], running["progress"]) == (held, {"done": 3, "total": 4})


class Terminal:
    """The command line in a terminal of its own."""

    def __init__(self, *words: str, env: dict[str, str]) -> None:
        self._ours, self.theirs = os.openpty()
        self.before = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", *words], cwd=ROOT, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs,
            env={**env, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}, start_new_session=True,
        )  # fmt: skip
        os.set_blocking(self._ours, False)
        self.text = ""

    def shows(self, words: str) -> bool:
        with suppress(BlockingIOError):
            self.text += os.read(self._ours, 65536).decode(errors="replace")
        return words in self.text

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def screen(cluster: LocalCluster) -> Iterator[Terminal]:
    made = Terminal("top", env=cluster.env)
    yield made
    made.close()


def ended_well(screen: Terminal) -> None:
    """It leaves the terminal as it was."""
    assert screen.process.wait(DEADLINE) == 0
    wait_until(lambda: screen.shows("\x1b[?1049l"), "the old screen comes back")
    assert termios.tcgetattr(screen.theirs) == screen.before
    assert "Traceback" not in screen.text


def test_top_is_live_until_q(cluster: LocalCluster, held: int, screen: Terminal) -> None:
    wait_until(lambda: screen.shows("75%"), "the first picture")
    cluster.client.submit("noop", queue="later", delay_seconds=3600)
    wait_until(lambda: screen.shows("later"), "a later picture")
    screen.type(b"q")
    ended_well(screen)


def test_top_is_ended_by_an_interrupt_wherever_it_is(screen: Terminal) -> None:
    wait_until(lambda: screen.shows("\x1b[?1049h"), "its screen, which is still empty")
    screen.process.send_signal(signal.SIGINT)
    ended_well(screen)


def test_a_picture_outlives_its_dispatcher(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look(client: Client, running: bool) -> Seen:
        looks.append(len(looks))
        if len(looks) == 2:
            raise Unreachable("http://lab:5000", "refused")
        return Seen(STATS, [], [])

    monkeypatch.setattr(farm, "look", look)
    with Client("http://127.0.0.1:9") as client:
        out = StringIO()
        console = Console(file=out, force_terminal=True, width=160, height=40)
        status._live(client, look(client, True), console, lambda seconds: len(looks) == 3)
    text = out.getvalue()
    assert text.count("no answer from the dispatcher at http://lab:5000: refused; this is how it was before") == 1
    assert len(looks) == 3


def test_keys() -> None:
    ours, theirs = os.pipe()
    try:
        assert not status._pressed(ours, 0.0)
        os.write(theirs, b"x")
        assert not status._pressed(ours, 0.0)
        os.write(theirs, b"xQ")
        assert status._pressed(ours, 0.0)
    finally:
        os.close(theirs)
        assert status._pressed(ours, 0.0), "the terminal went"
        os.close(ours)


# bench


def test_bench_measures_and_cleans_up(taskmill: Commands, cluster: LocalCluster) -> None:
    said = taskmill("bench", "--tasks", "30")
    assert said.code == 0, said
    assert [line.split("  ")[0] for line in said.out.splitlines()] == [
        "tasks", "submitted", "end to end", "one at a time",
    ]  # fmt: skip
    told = json.loads(taskmill("bench", "--tasks", "5", "--queue", "other", "--json").out)
    assert (told["tasks"], told["queue"], told["slots"], told["failed"]) == (5, "other", 2, 0)
    assert told["submitted_per_second"] >= told["ended_per_second"] > 0
    assert 0 < told["one_p50_seconds"] <= told["one_p99_seconds"]
    for queue in ("bench", "other"):
        assert list(cluster.client.tasks(queue=queue)) == []


def test_bench_refuses_where_nothing_would_be_measured(taskmill: Commands, cluster: LocalCluster) -> None:
    client = cluster.client
    client.pause("still")
    assert "queue still is paused" in taskmill("bench", "--queue", "still").fault
    waiting = client.submit("noop", queue="kept", delay_seconds=3600)
    said = taskmill("bench", "--queue", "kept")
    assert said.code == 4
    assert "holds tasks that have not ended" in said.fault
    client.cancel([waiting])
    client.order_worker("worker-1", "quiet")
    assert "no live worker takes noop tasks of queue bench" in taskmill("bench").fault
    client.order_worker("worker-1", "run")
    assert taskmill("bench", "--tasks", "0").code == 2
    assert "--timeout" in taskmill("bench", "--timeout", "soon").fault


@pytest.mark.parametrize("where", ["submit_batches", "results", "wait"])
def test_an_interrupted_bench_leaves_nothing(
    taskmill: Commands, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before, calls = getattr(Client, where), []

    def interrupted(*given: Any, **named: Any) -> Any:
        done = before(*given, **named)
        if calls:
            return done
        calls.append(list(done))
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, where, interrupted)
    said = taskmill("bench", "--tasks", "20", "--queue", "short")
    assert calls
    assert (said.code, said.err) == (130, "taskmill: interrupted; its tasks were deleted\n")
    assert list(cluster.client.tasks(queue="short")) == []


def test_a_bench_that_takes_too_long_cleans_up(taskmill: Commands, cluster: LocalCluster) -> None:
    cluster.client.limit("slow", rate={"count": 1, "period_seconds": 3600})
    said = taskmill("bench", "--tasks", "3", "--queue", "slow", "--timeout", "10ms")
    assert "not ended after 0.01 s" in said.fault
    assert said.code == 1
    assert list(cluster.client.tasks(queue="slow")) == []
