"""What is kept of files elsewhere: whole, unmixed, within the budget, as long as a kitchen holds it."""

import gc
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from elsewhere import moved
from kitchens import small_kitchen
from safetensors.torch import save

from soupviz.addresses import mirror, place_of
from soupviz.errors import Cancelled, CheckpointError, RemoteError
from soupviz.kitchen import Kitchen
from soupviz.remote import keeping, leases, listing, room, trees, watching
from soupviz.remote.calling import Calls
from soupviz.remote.fetching import fetch, head_of
from soupviz.remote.listing import Found
from soupviz.remote.putting import put
from soupviz.remote.viewing import view
from soupviz.types import quiet
from soupviz.weights.checkpoints import read
from soupviz.weights.elsewhere import fetched

LARGE = 5 * 2**20
DAYS = 86_400


def at(address: str) -> Found:
    with Calls() as calls:
        found = listing.at(address, calls)
    assert found is not None
    return found


def sized(address: str, size: int) -> Found:
    return Found(address, size, f"size:{size}")


def test_threads_that_want_the_same_file_do_not_come_into_each_other_s_way(
    memory: fsspec.AbstractFileSystem,
) -> None:
    wrong: list[object] = []
    for index in range(10):
        content = os.urandom(300_000)
        memory.pipe_file(f"/b/{index}.bin", content)
        found = at(f"memory://b/{index}.bin")

        def go(found: Found = found, content: bytes = content) -> None:
            try:
                head_of(found, 100)
                if fetch([found])[0].read_bytes() != content:
                    wrong.append(found)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=go) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_file_of_another_length_than_is_told_is_not_kept(memory: fsspec.AbstractFileSystem) -> None:
    found = Found("memory://b/a", 5, "etag:1")
    with keeping.writing() as temporary:
        temporary.write_bytes(b"four")
        with pytest.raises(RemoteError, match="4 bytes came of 5"):
            keeping.keep(found, temporary)
    assert keeping.kept(found) is None


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_checksum_that_is_told_is_checked(
    memory: fsspec.AbstractFileSystem, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soupviz.remote.calling.FIRST_PAUSE", 0.001)
    memory.pipe_file("/b/a", b"q" * size)
    sha256 = hashlib.sha256(b"other").hexdigest()
    found = replace(at("memory://b/a"), sha256=sha256)
    with pytest.raises(RemoteError):
        fetch([found])
    assert keeping.kept(found) is None and keeping.alike(found) is None


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_file_of_which_only_the_size_is_told_is_fetched_at_each_opening(
    memory: fsspec.AbstractFileSystem, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    found = sized("memory://b/a.bin", size)
    monkeypatch.setattr(listing, "at", lambda *_: found)
    memory.pipe_file("/b/a.bin", b"A" * size)
    [place] = fetch([found])
    before = place.stat()
    fetch([found])
    assert place.stat().st_ino == before.st_ino  # whoever has it mapped goes on
    memory.pipe_file("/b/a.bin", b"B" * size)
    part = keeping.part_of(found)
    part.write_bytes(b"A" * 100)  # as a kill leaves it
    assert fetch([found], lambda *args: told.append(args[2]))[0].read_bytes() == b"B" * size
    assert any("only its size is told" in one for one in told)
    with view(quiet) as seen:
        path = Path(seen.add(found.address))
        seen.fetch([path])
        monkeypatch.setattr("soupviz.remote.fetching._append", lambda *_: pytest.fail("fetched twice"))
        monkeypatch.setattr("soupviz.remote.fetching._whole", lambda *_: pytest.fail("fetched twice"))
        seen.fetch([path])


@pytest.mark.parametrize("key", ["sha", "modify", "modificationTime", "modifiedTime", "md5Checksum"])
def test_what_a_file_system_tells_of_a_content_counts(key: str) -> None:
    assert listing._found("github://o:r@main/a", {"size": 3, key: "abc"}).is_told
    assert not listing._found("https://host/a", {"size": 3}).is_told


def test_a_budget_that_is_no_number_is_told(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUPVIZ_REMOTE_GB", "abc")
    with pytest.raises(RemoteError, match="SOUPVIZ_REMOTE_GB is 'abc'"):
        room.budget()


def test_one_content_under_two_names_takes_room_once(memory: fsspec.AbstractFileSystem) -> None:
    content = b"q" * 1000
    sha256 = hashlib.sha256(content).hexdigest()
    for name in "ab":
        memory.pipe_file(f"/t/{name}", content)
        fetch([Found(f"memory://t/{name}", 1000, f"sha256:{sha256}", sha256)])
    assert room.held() == 1000


def test_a_cancelled_upload_leaves_nothing(memory: fsspec.AbstractFileSystem, empty_cache: Path) -> None:
    written: list[Path] = []

    def write(place: Path) -> list[Path]:
        place.write_bytes(b"weights")
        written.append(place)
        return [place]

    def stop(*_: object) -> None:
        if written:
            raise Cancelled

    with pytest.raises(Cancelled):
        put("memory://out/x.pt", [], write, stop)
    assert list((empty_cache / "remote" / "outgoing").iterdir()) == []


def test_what_lies_about_counts_and_goes_in_the_end(memory: fsspec.AbstractFileSystem, empty_cache: Path) -> None:
    parts, outgoing, locks = (empty_cache / "remote" / name for name in ("parts", "outgoing", "locks"))
    (outgoing / "tmp").mkdir(parents=True)
    parts.mkdir()
    locks.mkdir()
    left = [parts / "a.writing", outgoing / "tmp" / "soup.pt", locks / "1.lock", parts / "a.lock"]
    for path in left:
        path.write_bytes(b"x" * 10)
    assert room.held() == 30  # a lock in parts is an old one
    room.drop_leftovers()
    assert all(path.exists() for path in left)
    for path in [*left, outgoing / "tmp"]:
        os.utime(path, (0, 0))
    room.drop_leftovers()
    assert not any(path.exists() for path in left)


def test_a_file_that_is_a_folder_too_is_told(memory: fsspec.AbstractFileSystem) -> None:
    found = [Found("memory://b/k/x", 1, "etag:1"), Found("memory://b/k/x/y.json", 2, "etag:2")]
    with pytest.raises(RemoteError, match="is a file and, with"):
        fetch(found)


def test_an_empty_file_that_marks_a_folder_is_none(memory: fsspec.AbstractFileSystem) -> None:
    told = [{"name": "/b/k/x", "size": 0}, {"name": "/b/k/x/y", "size": 2}, {"name": "/b/k/z", "size": 0}]
    with Calls() as calls:
        files, _ = listing._sorted_out("memory://b/k", told, calls)
    assert [one.name for one in files] == ["y", "z"]


def test_a_name_that_no_disk_takes_is_told(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/b/n/" + "z" * 300 + ".json", b"{}")
    with pytest.raises(RemoteError, match="255 bytes"):
        trees.fetched("memory://b/n")
    with pytest.raises(RemoteError, match="255 bytes"), view(quiet) as seen:
        seen.add("memory://b/n")
    with pytest.raises(RemoteError, match="255 bytes"):
        at("memory://b/" + "z" * 300)


def test_a_name_that_becomes_a_folder_is_one(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/b/x", b"file")
    fetch([at("memory://b/x")])
    memory.rm("/b/x")
    memory.pipe_file("/b/x/y", b"inside")
    assert fetch([at("memory://b/x/y")])[0].read_bytes() == b"inside"
    memory.rm("/b/x", recursive=True)
    memory.pipe_file("/b/x", b"file again")
    assert fetch([at("memory://b/x")])[0].read_bytes() == b"file again"


def test_a_disk_that_takes_nothing_is_told_by_the_address(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/b/x", b"file")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeping, "_clear_way", full)
    with pytest.raises(RemoteError, match=r"memory://b/x: cannot be kept in .*No space left"):
        fetch([at("memory://b/x")])


def test_a_shard_in_a_folder_below_comes_as_well(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/k/sub/x.safetensors", save({"w": torch.ones(3)}))
    memory.pipe_file("/k/model.safetensors.index.json", json.dumps({"weight_map": {"w": "sub/x.safetensors"}}).encode())
    tensors = read(fetched("memory://k/model.safetensors.index.json")).candidates[0].tensors
    assert torch.equal(tensors["w"], torch.ones(3))


@pytest.fixture
def opened(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> Kitchen:
    whole = small_kitchen(tmp_path / "whole", ingredients=["m_*.safetensors"])
    return Kitchen.load(moved(whole, "memory://bucket/small", tmp_path / "here"))


def test_what_an_open_kitchen_holds_does_not_go_for_others(
    opened: Kitchen, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = opened.ingredients[0].path
    for note in keeping.notes():
        os.utime(note.file, (time.time() - DAYS,) * 2)
    memory.pipe_file("/b/new", b"x" * 10_000)
    monkeypatch.setenv("SOUPVIZ_REMOTE_GB", str((room.held() + 1) / 1e9))
    with pytest.raises(RemoteError, match="GB are to be fetched"):
        fetch([at("memory://b/new")])
    assert place.exists()
    opened.ingredients[0].check_unchanged()


def test_what_a_closed_kitchen_held_may_go(memory: fsspec.AbstractFileSystem) -> None:
    class Holder:
        pass

    memory.pipe_file("/b/a", b"1")
    [place] = fetch([at("memory://b/a")])
    holder = Holder()
    leases.lease(holder, [place])
    assert len(leases.held_open()) == 1
    del holder
    gc.collect()
    assert leases.held_open() == frozenset()


LEASING = """
import sys
from pathlib import Path
from soupviz.remote import leases
class Holder: pass
holder = Holder()
leases.lease(holder, [Path(sys.argv[1])])
import os
os._exit(0)
"""


def test_what_a_killed_process_held_may_go(memory: fsspec.AbstractFileSystem, empty_cache: Path) -> None:
    memory.pipe_file("/b/a", b"1")
    [place] = fetch([at("memory://b/a")])
    subprocess.run([sys.executable, "-c", LEASING, str(place)], check=True)
    assert len(list((empty_cache / "remote" / "leases").iterdir())) == 1
    assert leases.held_open() == frozenset()


def test_of_many_checkpoints_in_a_folder_one_listing_tells(opened: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for memory in ("_silent", "_asked", "_listed"):
        monkeypatch.setattr(watching, memory, {})
    for name in ("at", "children"):
        ask = getattr(listing, name)
        monkeypatch.setattr(
            listing, name, lambda *args, ask=ask, name=name, **o: (asked.append(name), ask(*args, **o))[1]
        )
    for note in keeping.notes():
        os.utime(note.file, (time.time() - DAYS,) * 2)
    for item in opened.ingredients:
        item.check_unchanged()
    assert len(opened.ingredients) == 4 and asked == ["at", "children"]


def test_a_file_that_went_from_the_cache_is_not_said_to_have_changed(opened: Kitchen) -> None:
    keeping.forget(opened.ingredients[0].path)
    with pytest.raises(CheckpointError, match="no longer among the files that were fetched") as raised:
        opened.ingredients[0].check_unchanged()
    assert "memory://bucket/small/m_0.safetensors" in str(raised.value) and "has changed" not in str(raised.value)
    assert not place_of("memory://bucket/small/m_0.safetensors", mirror()).exists()
