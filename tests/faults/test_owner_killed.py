"""A program that owns a farm is killed -9: nothing of the farm stays, no process and no file."""

import subprocess
import sys
from pathlib import Path

from overlapping import overlapping
from processes import gone, of_folder, wait

from common.settings import ROOT

GONE_WITHIN = 5.0
OWNER = """
import sys
from pathlib import Path
from client.testing import LocalCluster

with LocalCluster(2, 2, parent=Path(sys.argv[1])) as farm:
    farm.workers["worker-1"].kill()
    farm.start_worker("worker-1")
    farm.client.submit_many({"task_type": "sleep", "task_data": {"seconds": 60}} for _ in range(4))
    farm.until(lambda: farm.client.stats()["in_progress_tasks"] == 4, "all tasks run")
    print(farm._guard.pid, flush=True)
    sys.stdin.read()
"""


@overlapping
def test_nothing_of_a_cluster_outlives_its_killed_owner(folder: Path) -> str:
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        guard = int(owner.stdout.readline())
        wait(lambda: len(of_folder(folder)) >= 7, "a dispatcher, two workers and two children of each run", 10.0)
        owner.kill()
    took = wait(lambda: not of_folder(folder) and gone(guard), "all of it ends", GONE_WITHIN)
    wait(lambda: not list(folder.iterdir()), "its folder goes", GONE_WITHIN)
    return f"a cluster is gone {took:.2f} s after its owner was killed"
