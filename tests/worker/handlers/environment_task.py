"""Shows the child's surroundings."""

import os
import resource
import sys
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "stdin": os.readlink("/proc/self/fd/0"),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
        "group_leader": os.getpgrp() == os.getpid() == os.getsid(0),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "oom": int(open("/proc/self/oom_score_adj").read()),
        "heavy": sorted(
            {"numpy", "pydantic", "requests", "flask", "diskcache", "socket", "inspect", "threading"} & set(sys.modules)
        ),
        "path": sys.path[:2],
    }
