"""Lends a new PYTHONPYCACHEPREFIX what the modules of Python and of the libraries were compiled to when they were
installed, so that not each of the tests' processes compiles them again:  python tests/compiled.py

Links: what is out of date is compiled as ever, and takes the place of the link.
"""

import sys
import sysconfig
from pathlib import Path


def main() -> None:
    assert sys.pycache_prefix, "PYTHONPYCACHEPREFIX is not set"
    for name in {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for compiled in Path(name).rglob(f"__pycache__/*.{sys.implementation.cache_tag}.pyc"):
            place = Path(f"{sys.pycache_prefix}{compiled.parent.parent}", compiled.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(compiled)


if __name__ == "__main__":
    main()
