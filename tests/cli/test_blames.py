"""`taskmill blames` and `taskmill worker NAME forgive`."""

import json
from collections.abc import Callable

from cli_kit import Commands

from client.testing import LocalCluster
from client.transport import Transport


def blame(farm: LocalCluster) -> None:
    """Three tasks fail on `bad` while `good` succeeds, both in the classic form."""
    line = Transport(farm.client.url)
    for worker, status in (("bad", "failed"), ("good", "completed")) * 3:
        task_id = farm.client.submit("noop", max_attempts=1)
        line.call("POST", "/get-task", json.dumps({"worker_id": worker}).encode())
        body = {"task_id": task_id, "worker_id": worker, "status": status}
        line.call("POST", "/submit-result", json.dumps(body).encode())
    line.close()


def test_blames_are_listed_and_forgiven(run: Commands, farm: Callable[..., LocalCluster]) -> None:
    cluster = farm()
    url = cluster.client.url
    assert run("blames", "--url", url).out == "no worker is to blame for anything\n"
    assert json.loads(run("blames", "--json", "--url", url).out) == []
    for words in (("noop",), ()):
        blame(cluster)
        (found,) = json.loads(run("blames", "--json", "--url", url).out)
        assert (found["worker_id"], found["task_type"]) == ("bad", "noop")
        assert run("blames", "--url", url).out.splitlines()[1].split()[:2] == ["bad", "noop"]
        assert run("worker", "bad", "forgive", *words, "--url", url).out.startswith("bad gets ")
    assert cluster.client.blames() == []
    assert "not found" in run("worker", "bad", "forgive", "--url", url).fault
