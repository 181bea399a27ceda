"""Files that survive a power cut. Nothing is imported here but `os`: children start with it."""

import os


def write(path: str, data: bytes) -> None:
    """A new file under its name, on disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync(os.path.dirname(path))


def sync(path: "str | os.PathLike[str]") -> None:
    """Make a file's contents, or a folder's names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
