"""Runs a command; fails when it leaves processes behind, and ends them:  python tests/leftovers.py COMMAND...

The kernel hands every orphan below us to us (PR_SET_CHILD_SUBREAPER), whatever session, folder or environment it
moved to. So what is still our child when the command has ended is what it left. Linux only; elsewhere it just runs.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 3.0  # for those that are ending anyway


def main(command: list[str]) -> int:
    linux = sys.platform == "linux"
    if linux:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command; we stay to count
    child = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    code = reap_until(child.pid)
    left = children() if linux else []
    for pid in left:
        sys.stderr.write(f"left behind: {pid} {command_line(pid)}\n")
        os.kill(pid, signal.SIGKILL)
    return code or int(bool(left))


def reap_until(pid: int) -> int:
    """The command's exit code; orphans that end meanwhile are reaped, so that tests see them gone."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def children() -> list[int]:
    """Living children, after a grace."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
        except ChildProcessError:
            return []
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
