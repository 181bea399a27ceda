"""Amounts of memory as people write them on a command line: 512M, 1.5G."""

import re

_MIB = {"M": 1, "G": 1024}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([MG])(?:i?B)?")


def parse_mib(text: str) -> int:
    """MiB of an amount with its unit, rounded up; raises ValueError for a bare number or anything else."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not an amount of memory: write a number with a unit, like 512M or 2G")
    return -int(-float(found[1]) * _MIB[found[2]] // 1)
