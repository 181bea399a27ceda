"""Ends what a cluster started when the process that owns it is gone, by SIGKILL too:  python guard.py FOLDER

A process of its own (Linux), which reads a pipe whose other end the owner alone has: a line for each process started,
`over` when the owner has stopped them all itself. The end of the pipe without that word is the end of the owner; then
every process group is killed that still has its leader, and the folder goes. (PR_SET_PDEATHSIG would fire when the
*thread* ends that started a process.) It imports nothing of Taskmill, so that it starts at once.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress

OVER = "over\n"


def main(folder: str, lines: Iterable[str]) -> None:
    """Until the owner ends."""
    held: dict[int, int] = {}
    for line in lines:
        if line == OVER:
            return
        held = {pid: watch for pid, watch in held.items() if _lives(watch)}
        with suppress(ProcessLookupError):
            held[int(line)] = os.pidfd_open(int(line))
    for pid, watch in held.items():
        if _lives(watch):  # so the number is still its own
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _lives(watch: int) -> bool:
    """Whether a process is there still, a zombie included; if not, its descriptor is closed."""
    try:
        signal.pidfd_send_signal(watch, 0)  # only looks
    except ProcessLookupError:
        os.close(watch)
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin)
