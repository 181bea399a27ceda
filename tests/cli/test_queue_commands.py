"""`taskmill queues`, `taskmill queue NAME pause|resume|limit`, and the client beneath them."""

import json
import socket
from collections.abc import Callable

import pytest
from cli_kit import Commands

from client.client import Client
from client.errors import Rejected
from client.testing import LocalCluster
from worker.config import WorkerSettings


def test_steering_a_queue(run: Commands, farm: Callable[..., LocalCluster]) -> None:
    run.use(farm())
    with Client() as client:
        task_id = client.submit("noop", queue="mail", requires=["gpu"], key="user:42")
        said = run("queue", "mail", "pause")
        assert (said.code, said.out) == (0, "queue mail is paused; 0 tasks of it still run\n")
        assert "queue mail is paused; no live worker\n" in run("task", str(task_id)).out
        limited = run("queue", "mail", "limit", "--running", "5", "--rate", "100/1m", "--weight", "3", "--waiting", "1")
        assert limited.out == "queue mail: running 5, rate 100/60s, weight 3, waiting 1, per key none, key rate none\n"
        with pytest.raises(Rejected, match="at most 1 may wait"):
            client.submit("noop", queue="mail")
        words = ("--per-key", "2", "--key-rate", "10/1m", "--rate", "none", "--waiting", "none")
        assert run("queue", "mail", "limit", *words).out.endswith("waiting none, per key 2, key rate 10/60s\n")
        (queue,) = json.loads(run("queues", "--json").out)
        assert queue == client.queue("mail")
        assert (queue["key_running"], queue["rate"], queue["max_waiting"], queue["paused"]) == (2, None, None, True)
        assert json.loads(run("queue", "mail", "--json").out) == queue
        assert run("queue", "mail").out == run("queues").out
        heading, row = run("queues").out.splitlines()
        names = "queue state waiting ready running limit rate weight backlog per key key rate"
        assert heading.split() == names.split()
        assert row.split() == ["mail", "paused", "1", "1", "0", "5", "-", "3", "-", "2", "10/60s"]
        assert client.limit("mail", key_rate=None)["key_rate"] is None
        assert run("queue", "mail", "resume").out == "queue mail goes on; 1 tasks wait in it\n"
        assert client.why(task_id) == "no live worker"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["queue", "mail", "limit"], "say what to limit"),
        (["queue", "mail", "limit", "--running", "many"], "--running many: must be a whole number"),
        (["queue", "mail", "limit", "--rate", "100"], "--rate 100: must be like 100/1m"),
        (["queue", "mail", "limit", "--key-rate", "often"], "--key-rate often: must be like 100/1m"),
        (["queue", "mail", "limit", "--key-rate", "10/soon"], "--key-rate 10/soon: must be like 100/1m"),
        (["queue", "mail", "--json", "pause"], "--json: say it after pause"),
        (["queue", "mail", "--url", "http://x:1", "pause"], "--url: say it after pause"),
        (["queue"], "Missing argument"),
        (["queue", "mail", "stop"], "No such command 'stop'"),
    ],
)
def test_errors_are_one_line(run: Commands, words: list[str], reason: str) -> None:
    said = run(*words)
    assert reason in said.fault
    assert said.code == 2


def test_a_queue_that_is_not_there(run: Commands, farm: Callable[..., LocalCluster]) -> None:
    run.use(farm())
    said = run("queue", "nowhere")
    assert (said.code, said.fault) == (4, "taskmill: queue nowhere not found\n")


def test_a_worker_has_its_host_as_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorkerSettings(worker_labels=("gpu",)).labels() == ["gpu", f"host:{socket.gethostname()}"]
    monkeypatch.setattr(socket, "gethostname", lambda: "lab 3.örtchen")
    assert WorkerSettings().labels() == ["host:lab-3.-rtchen"]
