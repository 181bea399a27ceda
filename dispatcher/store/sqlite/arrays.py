"""Lists as one value of a statement (SQLite's carray): a thousand rows are one step, walked without Python or its lock.

An array must not be empty.
"""

from array import array
from collections.abc import Iterable
from typing import Any

import apsw


def numbers(values: Iterable[int]) -> Any:
    """Whole numbers; the table `carray(?)` has them as `value`."""
    return apsw.carray(array("q", values))


def texts(values: Iterable[str]) -> Any:
    """Texts without NUL, in the order of `rowid`, which begins at 1."""
    return apsw.carray(tuple(values))
