"""What handlers say of their attempts, through real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from warm import Cluster

from client.testing import LocalCluster

HANDLERS = Path(__file__).parent.parent / "worker" / "handlers"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[LocalCluster]:
    with Cluster(workers=1, concurrency=1, settings={"TASKS_PATH": str(HANDLERS)}, parent=tmp_path) as cluster:
        yield cluster


def test_what_handlers_say_reaches_the_queue(farm: LocalCluster) -> None:
    final = farm.client.submit("says", {"retry": False})
    told = farm.client.wait(final, timeout=20)
    assert (told["status"], told["attempts"], told["max_attempts"], told["timeout_seconds"]) == ("failed", 1, 7, 30)
    assert told["error"].startswith("no such customer\nTraceback")
    later = farm.client.submit("says", {"snooze": "1h"})
    farm.until(lambda: farm.client.task(later)["attempts_log"], "it was snoozed")
    told = farm.client.task(later)
    assert (told["status"], told["attempts"]) == ("pending", 0)
    poison = farm.client.submit("crash", {"how": "segfault"}, max_attempts=9, backoff={"first_seconds": 0})
    told = farm.client.wait(poison, timeout=20)
    assert (told["status"], told["attempts"]) == ("failed", 3)
    assert told["error"].startswith("poison: it killed its child 3 times\nchild killed by SIGSEGV")
    farm.client.cancel([later])
    over = farm.client.submit("hang", {}, total_seconds=0.5)
    told = farm.client.wait(over, timeout=20)
    assert (told["status"], told["error"]) == ("failed", "not done within 0.5 s (total_seconds)")
    nobody = farm.client.submit("unknown", wait_seconds=0.5)
    assert farm.client.wait(nobody, timeout=20)["error"] == "nobody took it within 0.5 s (wait_seconds)"
