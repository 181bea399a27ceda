"""Which file system a place lies on, as Linux tells: over a network, locks and a sync promise nothing."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ncpfs|lustre|ceph|gluster\w*|beegfs|gpfs|ocfs2|gfs2|davfs\w*"
    r"|fuse\.(sshfs|gluster\w*|s3fs|rclone|ceph\S*|davfs\S*|curlftpfs|smb\S*|nfs\S*|juicefs|gcsfuse)"
)


def kind_of(path: Path) -> str:
    """The type of the file system that holds a path, there or not; empty where the system does not tell."""
    try:
        rows = [line.split(b" ") for line in MOUNTS.read_bytes().splitlines()]
    except OSError:
        return ""
    place, best = path.resolve(), ("", "")
    for row in rows:
        point = re.sub(rb"\\(\d{3})", lambda code: bytes([int(code[1], 8)]), row[1])  # a space is written \040
        name = point.decode(errors="surrogateescape")
        if len(name) >= len(best[0]) and place.is_relative_to(name):  # of two at one place the later one is seen
            best = (name, row[2].decode())
    return best[1]


def network_kind_of(path: Path) -> str | None:
    """The same, if it is one of a network; None otherwise."""
    kind = kind_of(path)
    return kind if _NETWORK.fullmatch(kind) else None
