"""`taskmill workers`, `quiet`, `resume`, `stop`."""

import json
from collections.abc import Callable

from cli_kit import Commands

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

    assert run("quiet", "worker-1").out == "worker-1: quiet (1 running)\n"
    waiting = client.submit("noop")
    assert run("workers").out.splitlines()[1].split()[2] == "quiet"
    assert client.task(waiting)["status"] == "pending"
    assert run("resume", "worker-1").out == "worker-1: run (1 running)\n"
    client.result(waiting, timeout=30)

    assert run("stop", "worker-1", "--now").out == "worker-1: stop now (1 running)\n"
    assert cluster.workers["worker-1"].popen.wait(20) == 0
    assert run("stop", "nobody").fault == (
        "taskmill: no worker of the name nobody was ever seen (./taskmill workers)\n"
    )


def test_a_dispatcher_that_is_not_there_is_said(run: Commands) -> None:
    for words in (("workers",), ("quiet", "lab-1"), ("resume", "lab-1"), ("stop", "lab-1")):
        said = run(*words)
        assert said.code == 1
        assert "start it with ./start_dispatcher.sh" in said.fault
