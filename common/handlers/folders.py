"""Where handlers are looked for."""

import os
from pathlib import Path

from common.places import CODE, ROOT


def task_paths(tasks_path: str) -> tuple[Path, ...]:
    """Our own `tasks/`, where Taskmill is installed the `tasks/` in which it is started, then those of TASKS_PATH."""
    own = (CODE / "tasks",)
    here = (ROOT / "tasks",) if ROOT != CODE and (ROOT / "tasks").is_dir() else ()
    named = (part.strip() for part in tasks_path.split(os.pathsep))
    return (*own, *here, *(ROOT / Path(part).expanduser() for part in named if part))
