"""Whether a folder lies on another machine's disk, which decides how a database in it may be written."""

import re
import subprocess
import sys
from pathlib import Path

NETWORK = frozenset(
    "9p acfs afpfs afs beegfs ceph cifs coda cvmfs davfs fhgfs gfs gfs2 glusterfs gpfs lustre macfuse ncpfs nfs nfs4 "
    "ocfs2 osxfuse panfs prl_fs pvfs2 smb smb2 smb3 smbfs vboxsf virtiofs vmhgfs webdav wekafs".split()
)
"""File systems that several machines, or a machine and its guests, may write at once."""

LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuseblk"})
"""What runs through FUSE and yet lies on this machine; of the others nobody can know."""


def is_on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether a path lies on a network file system; where that cannot be found out, no.

    Args:
        mounts: the table of mounted file systems, as /proc/mounts or `mount` tells it; default: this machine's.
    """
    place = path.resolve()
    if sys.platform == "win32" and mounts is None:
        return _is_remote_drive(place)
    found = [one for one in _parsed(_table() if mounts is None else mounts) if place.is_relative_to(one[0])]
    kind = max(found, key=lambda one: len(one[0].parts), default=(Path(), ""))[1]
    return kind in NETWORK or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)


def _parsed(table: str) -> list[tuple[Path, str]]:
    """Where file systems are mounted, and their kinds: later ones may lie over earlier ones."""
    found = []
    for line in table.splitlines():
        if told := re.match(r".+? on (/.*) \((\w+)[,)]", line):  # macOS: server:/x on /Volumes/x (nfs, nodev)
            found.append((Path(told[1]), told[2]))
        elif len(words := line.split()) >= 3:  # Linux: device, folder with spaces as \040, kind, ...
            folder = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[1])
            found.append((Path(folder), words[2]))
    return list(dict(found).items())


def _table() -> str:
    linux = Path("/proc/self/mounts")
    try:
        if linux.is_file():
            return linux.read_text(encoding="utf-8", errors="replace")
        return subprocess.run(["mount"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _is_remote_drive(path: Path) -> bool:
    """By Windows' own word: a mapped drive, or a path that names a server."""
    if sys.platform != "win32":
        return False
    import ctypes

    remote = 4
    return path.drive.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(f"{path.drive}\\") == remote
