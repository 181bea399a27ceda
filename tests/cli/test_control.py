"""`taskmill tasks|task|cancel|retry|delete|edit|retention` against a running dispatcher."""

import json
from collections.abc import Iterator

import pytest
from cli_kit import Commands
from warm import Cluster

from client.client import Client
from client.control import Action, Changed
from client.testing import LocalCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    unset = {"DISPATCHER_TOKEN": "", "DISPATCHER_HOST": "", "DATABASE_URL": ""}
    with Cluster(0, settings=unset, parent=tmp_path_factory.mktemp("control")) as made:
        yield made


@pytest.fixture
def taskmill(run: Commands, cluster: LocalCluster) -> Iterator[Commands]:
    """The command line beside an empty queue."""
    run.use(cluster)
    yield run
    for action in ("cancel", "delete"):
        cluster.client.bulk(action, newer_than_seconds=86400)  # type: ignore[arg-type]


def test_an_interrupt_tells_how_much_was_done(taskmill: Commands, cluster: LocalCluster) -> None:
    for _ in range(3):
        cluster.client.submit("noop", queue="q")

    def interrupted(self: Client, action: Action, **filters: str) -> Iterator[Changed]:
        yield from steps(self, action, **filters)
        raise KeyboardInterrupt

    steps = Client.bulk_steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "bulk_steps", interrupted)
        said = taskmill("cancel", "--queue", "q", "--yes")
    assert (said.code, said.err) == (130, "taskmill: interrupted; 3 or more were changed\n")


def test_tasks_are_listed(taskmill: Commands, cluster: LocalCluster) -> None:
    ids = [cluster.client.submit("noop", queue=queue, tags=[queue]) for queue in ("a", "b", "a")]
    said = taskmill("tasks", "--queue", "a")
    assert said.code == 0, said
    assert said.out.split("\n")[0].split()[:4] == ["id", "type", "queue", "status"]
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == [str(ids[2]), str(ids[0])]
    lines = taskmill("tasks", "--tag", "b", "--json").out.splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == [ids[1]]
    assert len(taskmill("tasks", "--limit", "2", "--json").out.splitlines()) == 2
    assert "--status: 'done' is none of blocked, pending" in taskmill("tasks", "--status", "done").fault


def test_one_task_is_shown(taskmill: Commands, cluster: LocalCluster) -> None:
    task_id = cluster.client.submit("noop", {"text": "\x1b[31mred"})
    said = taskmill("task", str(task_id))
    assert said.code == 0, said
    assert "pending" in said.out
    assert "\x1b" not in said.out
    assert json.loads(taskmill("task", str(task_id), "--json").out)["task_id"] == task_id
    missing = taskmill("task", "999999")
    assert (missing.code, missing.fault) == (4, "taskmill: task 999999 not found\n")


def test_by_ids(taskmill: Commands, cluster: LocalCluster) -> None:
    task_id = cluster.client.submit("noop")
    assert taskmill("cancel", str(task_id)).out == "1 cancelled\n"
    assert taskmill("retry", str(task_id)).out == "1 run again\n"
    said = taskmill("delete", str(task_id), "999999")
    assert said.code == 1
    assert f"not changed: {task_id}, 999999" in said.err
    taskmill("cancel", str(task_id))
    assert taskmill("delete", str(task_id), "--dry-run").out == f"1 tasks match ({task_id})\n"
    told = json.loads(taskmill("delete", str(task_id), "--json").out)
    assert told == {"tasks": [{"task_id": task_id, "verdict": "deleted"}]}


@pytest.mark.parametrize(("action", "matched"), [("cancel", 2), ("retry", 0), ("delete", 0)])
def test_a_dry_run_of_ids_changes_nothing(taskmill: Commands, cluster: LocalCluster, action: str, matched: int) -> None:
    ids = [cluster.client.submit("noop") for _ in range(2)]
    said = taskmill(action, *map(str, ids), "999999", "--dry-run", "--json")
    assert said.code == 0, said
    assert json.loads(said.out)["matched"] == matched
    assert [task["status"] for task in cluster.client.tasks(ids=ids)] == ["pending"] * 2


def test_by_filter(taskmill: Commands, cluster: LocalCluster) -> None:
    for _ in range(3):
        cluster.client.submit("noop", queue="q")
    assert taskmill("cancel", "--queue", "q", "--dry-run").out.startswith("3 tasks match (")
    assert "--yes" in taskmill("cancel", "--queue", "q").fault, "nobody is there to be asked"
    assert "--yes" in taskmill("cancel", "--queue", "q", "--json").fault, "programs are not asked either"
    assert json.loads(taskmill("cancel", "--queue", "q", "--dry-run", "--json").out)["matched"] == 3
    assert taskmill("cancel", "--queue", "q", "--yes").out == "3 cancelled\n"
    assert json.loads(taskmill("retry", "--queue", "q", "--yes", "--json").out)["verdicts"] == {"retried": 3}
    taskmill("cancel", "--queue", "q", "--yes")
    assert taskmill("retry", "--queue", "q", "--status", "failed", "--yes").out == "no task matches\n"
    assert taskmill("delete", "--queue", "q", "--older-than", "1h", "--yes").out == "no task matches\n"
    assert taskmill("delete", "--queue", "q", "--newer-than", "1h", "--yes").out == "3 deleted\n"


@pytest.mark.parametrize(("line", "reason"), [
    ("cancel", "either by their ids or by options"), ("cancel 1 --queue q", "either by their ids or by options"),
    ("retry 0", "0 is not in the range"), ("delete --older-than soon", "--older-than: 'soon' is not a duration"),
    ("edit 1", "nothing to change"), ("edit 1 --data {", "--data: not valid JSON"),
    ("edit 1 --at tomorrow", "--at: 'tomorrow' is not a time"),
    ("edit 1 --priority 2147483648", "--priority: priority:"),
    ("edit 1 --memory 500", "--memory: '500' is not an amount"), ("edit 1 --memory 1M", "--memory: memory_mb:"),
    ("retention --failed 7", "--failed: '7' is not a duration"), ("wait 1 --timeout 5", "--timeout: '5' is not"),
])  # fmt: skip
def test_bad_command_lines(taskmill: Commands, line: str, reason: str) -> None:
    said = taskmill(*line.split())
    assert said.code == 2, said
    assert reason in said.fault


def test_edit(taskmill: Commands, cluster: LocalCluster) -> None:
    task_id = cluster.client.submit("noop", timeout_seconds=5)
    words = ["--priority", "5", "--delay", "1h", "--data", '{"n": 2}', "--tag", "a", "--tag", "b", "--timeout", "none"]
    assert taskmill("edit", str(task_id), *words).out == f"task {task_id} was changed (generation 2)\n"
    task = cluster.client.task(task_id)
    assert (task["priority"], task["task_data"], task["tags"]) == (5, {"n": 2}, ["a", "b"])
    assert task["timeout_seconds"] is None
    more = ["--backoff", "first=10s,max=15m", "--wait-limit", "1h", "--total-limit", "1d", "--memory", "512M", "--json"]
    assert json.loads(taskmill("edit", str(task_id), *more).out)["generation"] == 3
    task = cluster.client.task(task_id)
    assert task["backoff"] == {"first_seconds": 10, "factor": 4, "max_seconds": 900, "jitter": 0.2}
    assert (task["wait_seconds"], task["total_seconds"], task["memory_mb"]) == (3600, 86400, 512)
    assert taskmill("edit", str(task_id), "--memory", "none", "--backoff", "none").code == 0
    assert not {"memory_mb", "backoff"} & cluster.client.task(task_id).keys()
    cluster.client.cancel([task_id])
    assert "only a task that waits" in taskmill("edit", str(task_id), "--priority", "1").fault


def test_retention(taskmill: Commands) -> None:
    lines = taskmill("retention").out.splitlines()
    assert [line.split() for line in lines] == [
        ["queue", "completed", "failed", "cancelled"], ["(any", "other)", "7d", "30d", "30d"],
    ]  # fmt: skip
    lines = taskmill("retention", "q", "--completed", "36h", "--failed", "90s").out.splitlines()
    assert lines[2].split() == ["q", "1d12h", "1m30s", "-"]
    told = json.loads(taskmill("retention", "q", "--completed", "unset", "--failed", "unset", "--json").out)
    assert told["queues"] == {}
