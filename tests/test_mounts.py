"""Whether a folder lies on a network file system, read off tables of mounts, and how a store is written there."""

import sqlite3
from pathlib import Path

import pytest
from kitchens import small_kitchen

from soupviz.errors import KitchenError
from soupviz.kitchen import Kitchen
from soupviz.store import connections
from soupviz.store.database import Store
from soupviz.store.mounts import is_on_network

LINUX = r"""
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /run tmpfs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/me/local xfs rw 0 0
//nas/share /mnt/with\040space cifs rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
bucket /mnt/s3 fuse.s3fs rw 0 0
/dev/sdc1 /mnt/usb fuseblk rw 0 0
overlay /mnt/over fuse.fuse-overlayfs rw 0 0
C: /mnt/c 9p rw 0 0
10.0.0.1@tcp:/scratch /scratch lustre rw 0 0
systemd-1 /auto autofs rw 0 0
server:/auto /auto nfs rw 0 0
"""
MACOS = """
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
//me@nas/share on /Volumes/My share (smbfs, nodev, nosuid, mounted by me)
server:/x on /Volumes/x (nfs, nodev)
me@host: on /Volumes/ssh (macfuse, nodev)
"""


@pytest.mark.parametrize(
    ("table", "path", "is_remote"),
    [
        (LINUX, "/data/k", False),
        (LINUX, "/run/k", False),
        (LINUX, "/home/me/k", True),
        (LINUX, "/home", True),
        (LINUX, "/homes/k", False),
        (LINUX, "/home/me/local/k", False),
        (LINUX, "/mnt/with space/k", True),
        (LINUX, "/mnt/ssh/k", True),
        (LINUX, "/mnt/s3/k", True),
        (LINUX, "/mnt/usb/k", False),
        (LINUX, "/mnt/over/k", False),
        (LINUX, "/mnt/c/k", True),
        (LINUX, "/scratch/k", True),
        (LINUX, "/auto/k", True),
        (MACOS, "/Users/me/k", False),
        (MACOS, "/Volumes/My share/k", True),
        (MACOS, "/Volumes/x/k", True),
        (MACOS, "/Volumes/ssh/k", True),
        ("", "/data/k", False),
        ("not a table", "/data/k", False),
    ],
)
def test_the_deepest_mount_says_whether_a_path_is_on_a_network(table: str, path: str, is_remote: bool) -> None:
    assert is_on_network(Path(path), table) == is_remote


def test_this_machines_own_table_is_read() -> None:
    assert not is_on_network(Path("/dev/null"))


def journal(store: Store) -> str:
    with sqlite3.connect(store.path) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    connection.close()
    return str(mode)


def test_a_store_on_a_network_file_system_is_written_without_shared_memory(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path / "k", num_ingredients=2, num_examples=20)
    kitchen = Kitchen.load(file)
    score = kitchen.scores.score((("m_0", 1.0),))
    key = kitchen.scores.key((("m_0", 1.0),), "held_out", "average")
    path = kitchen.store.path
    assert journal(Store(path, "/dev/sda1 / ext4 rw 0 0")) == "wal"
    kitchen.store.close()
    remote = Store(path, f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs rw 0 0")
    assert journal(remote) == "delete"  # a store that was there before is taken over
    assert remote.summaries([key])[key] == score.as_plain()
    remote.keep_finding("a", 1)
    assert not path.with_name("store.sqlite-wal").exists()
    remote.clear()
    assert remote.size()["scores"] == 0


def test_what_was_shared_over_a_network_once_stays_safe_for_that(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    Store(path, f"server:/x {tmp_path} nfs rw 0 0").close()
    here = Store(path, "/dev/sda1 / ext4 rw 0 0")
    here.keep_finding("a", 1)
    assert journal(here) == "delete"


def test_a_store_that_another_process_holds_as_a_file_of_its_disk_is_not_opened_over_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.1)
    path = tmp_path / "store.sqlite"
    here = Store(path, "/dev/sda1 / ext4 rw 0 0")
    here.keep_finding("a", 1)
    with pytest.raises(KitchenError, match=r"store\.sqlite lies on a network file system.*End that process first"):
        Store(path, f"server:/x {tmp_path} nfs rw 0 0")
    here.close()
    assert Store(path, f"server:/x {tmp_path} nfs rw 0 0").finding("a") == 1


def test_over_a_network_every_transaction_opens_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Store(tmp_path / "store.sqlite", f"server:/x {tmp_path} nfs rw 0 0")
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: opened.append(1) or connect(*given, **options))
    for number in range(3):
        remote.keep_finding(str(number), number)
    assert len(opened) == 3
