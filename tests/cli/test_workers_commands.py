"""`taskmill workers` and `taskmill worker NAME run|quiet|sleep|stop`."""

import json
from collections.abc import Callable

import pytest
from cli_kit import Commands

from cli import options
from client.testing import LocalCluster


def test_workers_are_listed_ordered_and_stopped(run: Commands, farm: Callable[..., LocalCluster]) -> None:
    cluster = farm(1, WORKER_LABELS="gpu")
    run.use(cluster)
    client = cluster.client
    client.result(client.submit("noop"), timeout=30)
    listed = run("workers")
    assert listed.code == 0
    heading, line = listed.out.splitlines()
    assert heading.split()[:2] == ["worker", "status"]
    assert line.split()[:3] == ["worker-1", "alive", "run"]
    assert "gpu" in line
    assert "noop" in line
    (told,) = json.loads(run("workers", "--json").out)
    assert (told["worker_id"], told["concurrency"], told["labels"][0]) == ("worker-1", 2, "gpu")

    assert json.loads(run("worker", "worker-1", "--json").out) == [told]
    assert run("worker", "worker-1").out.splitlines()[1].split()[0] == "worker-1"
    assert run("worker", "nobody").code == 4

    assert run("worker", "worker-1", "quiet").out == "worker-1: quiet (1 alive)\n"
    waiting = client.submit("noop")
    assert run("workers").out.splitlines()[1].split()[2] == "quiet"
    assert client.task(waiting)["status"] == "pending"
    assert run("worker", "worker-1", "sleep").out == "worker-1: sleep (1 alive)\n"
    assert run("worker", "worker-1", "sleep", "--now").out == "worker-1: sleep now (1 alive)\n"
    assert run("workers").out.splitlines()[1].split()[2] == "sleep"
    assert run("worker", "worker-1", "run").out == "worker-1: run (1 alive)\n"
    client.result(waiting, timeout=30)

    assert run("worker", "worker-1", "stop", "--now").out == "worker-1: stop now (1 alive)\n"
    assert cluster.workers["worker-1"].popen.wait(20) == 0
    assert run("worker", "nobody", "stop").fault == (
        "taskmill: no worker of the name nobody was ever seen (./taskmill workers)\n"
    )


def test_a_dispatcher_that_is_not_there_is_said(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "PATIENCE_S", 0.0)
    for line in ("workers", "worker lab-1", "worker lab-1 quiet", "worker lab-1 run", "worker lab-1 stop"):
        said = run(*line.split())
        assert said.code == 3
        assert "start it with ./start_dispatcher.sh" in said.fault
