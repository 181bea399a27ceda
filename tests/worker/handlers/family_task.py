"""Starts two long-lived programs, one of them in a session of its own, notes the pids in the file `pids`, then acts."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> str:
    command = ["sleep", "1000"]
    family = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]
    note = Path(payload["pids"])
    note.with_suffix(".part").write_text(" ".join(str(pid) for pid in (os.getpid(), *(one.pid for one in family))))
    note.with_suffix(".part").rename(note)
    if payload.get("how") == "exit":
        os._exit(1)
    if payload.get("how") == "hang":
        threading.Event().wait()
    for one in family:
        one.returncode = 0  # they are left alone on purpose
    return "left"
