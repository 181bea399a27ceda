"""`taskmill queues`, `pause`, `unpause`, `limit`, `why`, and the client beneath them."""

import json
import socket
from collections.abc import Callable

import pytest
from cli_kit import Commands

from client.client import Client
from client.errors import Rejected
from client.testing import LocalCluster
from common.settings import ROOT
from worker.config import WorkerSettings

COMMANDS = ("queues", "pause", "unpause", "limit", "why")


def test_steering_a_queue(run: Commands, farm: Callable[..., LocalCluster]) -> None:
    run.use(farm())
    with Client() as client:
        task_id = client.submit("noop", queue="mail", requires=["gpu"], key="user:42")
        said = run("pause", "mail")
        assert (said.code, said.out) == (0, "queue mail is paused; 0 tasks of it still run\n")
        assert run("why", str(task_id)).out == f"task {task_id} is pending: queue mail is paused; no live worker\n"
        limited = run("limit", "mail", "--running", "5", "--rate", "100/1m", "--weight", "3", "--waiting", "1")
        assert limited.out == "queue mail: running 5, rate 100/60s, weight 3, waiting 1, per key none\n"
        with pytest.raises(Rejected, match="at most 1 may wait"):
            client.submit("noop", queue="mail")
        assert run("limit", "mail", "--per-key", "2", "--rate", "none", "--waiting", "none").code == 0
        (queue,) = json.loads(run("queues", "--json").out)
        assert queue == client.queue("mail")
        assert (queue["key_running"], queue["rate"], queue["max_waiting"], queue["paused"]) == (2, None, None, True)
        heading, row = run("queues").out.splitlines()
        assert heading.split() == [
            "queue",
            "state",
            "waiting",
            "ready",
            "running",
            "limit",
            "rate",
            "weight",
            "backlog",
            "per",
            "key",
        ]
        assert row.split() == ["mail", "paused", "1", "1", "0", "5", "-", "3", "-", "2"]
        assert run("unpause", "mail").out == "queue mail goes on; 1 tasks wait in it\n"
        assert client.why(task_id) == "no live worker"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["limit", "mail"], "say what to limit"),
        (["limit", "mail", "--running", "many"], "--running many: must be a whole number"),
        (["limit", "mail", "--rate", "100"], "--rate 100: must be like 100/1m"),
        (["pause"], "Missing argument"),
    ],
)
def test_errors_are_one_line(run: Commands, words: list[str], reason: str) -> None:
    said = run(*words)
    assert reason in said.fault
    assert said.code == 2


def test_a_task_that_is_not_there(run: Commands, farm: Callable[..., LocalCluster]) -> None:
    run.use(farm())
    assert "task 9 not found" in run("why", "9").fault


def test_the_page_names_every_command(run: Commands) -> None:
    page, told = (ROOT / "docs" / "queues.md").read_text(), run("--help").out
    for command in COMMANDS:
        assert f"./taskmill {command}" in page or f"`{command} " in page
        assert command in told


def test_a_worker_has_its_host_as_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorkerSettings(worker_labels=("gpu",)).labels() == ["gpu", f"host:{socket.gethostname()}"]
    monkeypatch.setattr(socket, "gethostname", lambda: "lab 3.örtchen")
    assert WorkerSettings().labels() == ["host:lab-3.-rtchen"]
