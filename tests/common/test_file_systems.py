"""What a place lies on, read from a table of mounts like the kernel's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common import file_systems

Mount = Callable[[str], None]


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mount:
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "mounts")
    return lambda table: (tmp_path / "mounts").write_text(table)  # type: ignore[return-value]


def test_the_nearest_mount_counts_and_of_two_at_one_place_the_later(mount: Mount) -> None:
    mount(
        "/dev/vda / ext4 rw 0 0\nsrv:/a /mnt/a nfs4 rw 0 0\ntmpfs /mnt/a/b tmpfs rw 0 0\n"
        "x /mnt/a\\040c cifs rw 0 0\nx /mnt/über ceph rw 0 0\nx /mnt/twice nfs4 rw 0 0\nx /mnt/twice ext4 rw 0 0\n"
    )
    kinds = {"/mnt/a/x": "nfs4", "/mnt/a": "nfs4", "/mnt/a/b/c": "tmpfs", "/mnt/ab": "ext4", "/mnt/a c/x": "cifs",
             "/mnt/über/x": "ceph", "/mnt/twice/x": "ext4"}  # fmt: skip
    assert {path: file_systems.kind_of(Path(path)) for path in kinds} == kinds


@pytest.mark.parametrize(
    ("kind", "is_network"),
    [(kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "lustre", "glusterfs", "beegfs",
                               "gpfs", "ocfs2", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs",
                               "fuse.juicefs", "fuse.davfs2")]
    + [(kind, False) for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.fuse-overlayfs", "fuseblk")],
)  # fmt: skip
def test_which_are_those_of_a_network(mount: Mount, kind: str, is_network: bool) -> None:
    mount(f"a / {kind} rw 0 0\n")
    assert file_systems.network_kind_of(Path("/x")) == (kind if is_network else None)


def test_where_nothing_tells_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "none")
    assert file_systems.kind_of(tmp_path) == ""
    assert file_systems.network_kind_of(tmp_path) is None
