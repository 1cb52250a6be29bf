"""What lies under a database file: its folder for locks and wake-ups, and whether its file system can be trusted."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from toril.errors import ConfigError, StoreCorrupt, StoreReadOnly, UnsupportedFileSystem

# json_each, ->> and STRICT tables.
OLDEST_SQLITE = (3, 38, 0)
# Locks of these are advisory at best, and shared memory (which WAL needs) does not work across their clients.
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs"}
    | {"fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"}
    | {"pvfs2", "smb2", "smb3", "smbfs", "webdav"}
)
_ESCAPED = re.compile(r"\\([0-7]{3})")
_MAC_MOUNT = re.compile(r"^.+ on (?P<point>/.*) \((?P<kind>[^,)]+)")


def file_system_of(path: Path, mounts: list[tuple[str, str]]) -> str:
    """The type of the file system that holds `path`, from a table of (mount point, type); empty when unknown."""
    best, found = -1, ""
    for point, kind in mounts:
        inside = path == Path(point) or Path(point) in path.parents
        # The last of equal mount points lies on top.
        if inside and len(point) >= best:
            best, found = len(point), kind
    return found


def mount_table() -> list[tuple[str, str]]:
    """The machine's mounts as (mount point, type); empty where they cannot be read."""
    try:
        if sys.platform == "darwin":
            text = subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=5, check=True).stdout
            return [(m["point"], m["kind"]) for m in map(_MAC_MOUNT.match, text.splitlines()) if m]
        return parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    except (OSError, subprocess.SubprocessError):
        return []


def parse_mountinfo(text: str) -> list[tuple[str, str]]:
    """(mount point, type) per line of Linux's mountinfo (proc(5))."""
    table = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) > 4 and right:
            point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
            table.append((point, right.split(" ", 1)[0]))
    return table


def refuse_network(path: Path, mounts: list[tuple[str, str]]) -> None:
    """Raise UnsupportedFileSystem when `path` lies on a network file system."""
    kind = file_system_of(path, mounts)
    if kind.lower() in NETWORK_FILE_SYSTEMS:
        raise UnsupportedFileSystem(
            f"{path}: expected a local disk, found a network file system ({kind}), where SQLite's locks do not hold "
            "and jobs could be lost. Put the file on a local disk: TORIL_URL=sqlite:////local/path/toril.db."
        )


def check_place(path: Path, variable: str) -> None:
    """Raise ConfigError, StoreReadOnly, StoreCorrupt or UnsupportedFileSystem where no database can be; `variable`
    names the place.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(str(part) for part in OLDEST_SQLITE)
        raise ConfigError(
            f"SQLite: expected version {wanted} or newer in this Python, found {sqlite3.sqlite_version}. "
            "Use a newer Python build."
        )
    folder = path.parent
    if not folder.is_dir():
        raise StoreReadOnly(f"{path}: expected its folder to exist, found none. Make it: mkdir -p {folder}")
    if path.is_dir():
        raise StoreCorrupt(f"{path}: expected a database file, found a folder. Name a file in {variable}.")
    refuse_network(path.resolve(), mount_table())
    # SQLite needs the folder too, for its log beside the file.
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise StoreReadOnly(
            f"{path}: expected a file and folder that can be written, found they cannot. "
            f"Check who owns them, or choose another path in {variable}."
        )


def private_folder(path: Path) -> Path:
    """A folder of this user's own for what belongs to the database file: wake-up sockets and writers' tickets.

    It is named after the file's device and inode, so that every process that opens the file, by whatever path, finds
    the same. Raises StoreReadOnly when it cannot be made, or is somebody else's.
    """
    stat = path.stat()
    root = Path(tempfile.gettempdir()) / f"toril-{os.getuid()}"
    folder = root / f"{stat.st_dev:x}-{stat.st_ino:x}"
    try:
        for each in (root, folder):
            each.mkdir(mode=0o700, exist_ok=True)
            owner = each.lstat()
            if owner.st_uid != os.getuid() or each.is_symlink():
                raise StoreReadOnly(
                    f"{each}: expected a folder of this user, found somebody else's. Set TMPDIR to another folder."
                )
    except OSError as error:
        raise StoreReadOnly(
            f"{folder}: expected to be able to make this folder ({error}). Set TMPDIR to another folder."
        ) from error
    return folder
