"""Python imports this at its start where this folder is on PYTHONPATH: the dispatcher then kills itself (-9) in the
middle of a move, where TASKMILL_TEST_KILL says."""

import os
import signal
import sys
from itertools import count

sys.path.insert(0, os.getcwd())
from dispatcher.move.source import Source
from dispatcher.move.target import Target

_put, _leave, _finish, _batches = Target.put, Source.leave, Target.finish, count(1)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _put_some(self, *arguments):
    if next(_batches) == 4:
        _die()
    _put(self, *arguments)


def _finish_and_die(self, *arguments):
    _finish(self, *arguments)
    _die()


POINTS = {
    "copying": (Target, "put", _put_some),
    "frozen": (Target, "counts", lambda self: _die()),
    "before the commit point": (Source, "leave", lambda self, name: _die()),
    "between the two marks": (Target, "finish", lambda self, *arguments: _die()),
    "before the switch": (Target, "finish", _finish_and_die),
}
if point := os.environ.get("TASKMILL_TEST_KILL"):
    owner, name, instead = POINTS[point]
    setattr(owner, name, instead)
