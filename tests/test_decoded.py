"""The decoded splits on disk: resumed after a kill, shared by processes, bounded in size."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image
from torch import nn

from soupviz.data import decoded, splits
from soupviz.data.images import imagefolder
from soupviz.errors import Cancelled, DataError
from soupviz.files import cache_folder, folder_bytes
from soupviz.spec import SplitSpec

NUM_IMAGES = 20


def image_folder(root: Path, value: int = 0) -> Path:
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for number in range(NUM_IMAGES // 2):
            Image.new("RGB", (8, 8), (value + number, 0, 0)).save(root / name / f"{number}.png")
    return root


def load(root: Path, progress=lambda *_told: None, **options) -> splits.Split:
    spec = SplitSpec(format="imagefolder", path=root.name)
    return splits.load("held_out", spec, root.parent, nn.Identity(), progress=progress, **options)


@pytest.fixture
def opened_images(monkeypatch) -> list[str]:
    """The names of the images that are opened from now on; four are decoded at a time."""
    names: list[str] = []
    whole = Image.open

    def spied(path, *arguments):
        names.append(str(path))
        return whole(path, *arguments)

    monkeypatch.setattr(Image, "open", spied)
    monkeypatch.setattr(imagefolder, "CHUNK", 4)
    return names


def stop_at(number: int):
    def progress(done: int, _total: int, _what: str) -> None:
        if done >= number:
            raise Cancelled

    return progress


def folders() -> list[Path]:
    return [path for path in cache_folder("decoded").iterdir() if path.is_dir()]


def test_a_cancelled_decoding_goes_on_where_it_stopped(tmp_path, empty_cache, opened_images):
    root = image_folder(tmp_path / "val")
    with pytest.raises(Cancelled):
        load(root, stop_at(8))
    assert len(opened_images) == 8
    split = load(root)
    assert len(opened_images) == NUM_IMAGES
    assert split.inputs[""][:, 0, 0, 0].tolist() == [*range(10), *range(10)]
    assert not list(folders()[0].glob("*.jsonl"))


def test_corrupt_images_found_before_the_stop_are_still_named_after_it(tmp_path, empty_cache, opened_images):
    root = image_folder(tmp_path / "val")
    (root / "ant" / "2.png").write_bytes(b"damaged")
    with pytest.raises(Cancelled):
        load(root, stop_at(8))
    with pytest.raises(DataError, match=r"1 of 20 images cannot be decoded: .*ant/2\.png"):
        load(root)
    split = load(root, skip_corrupt=True)
    assert len(opened_images) == NUM_IMAGES
    assert split.inputs[""][:, 0, 0, 0].tolist() == [0, 1, *range(3, 10), *range(10)]
    assert split.labels.tolist() == [0] * 9 + [1] * 10


KILLED = """
import os, signal, sys
from pathlib import Path
from torch import nn
from soupviz.data import splits
from soupviz.data.images import imagefolder
from soupviz.spec import SplitSpec

imagefolder.CHUNK = 4

def progress(done, total, what):
    if done >= 8:
        os.kill(os.getpid(), signal.SIGKILL)

root = Path(sys.argv[1])
spec = SplitSpec(format="imagefolder", path=root.name)
splits.load("held_out", spec, root.parent, nn.Identity(), progress=progress)
"""


def test_a_killed_decoding_is_taken_up_by_the_next_process(tmp_path, empty_cache, opened_images):
    root = image_folder(tmp_path / "val")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(root)]
    died = subprocess.run(command, env=os.environ | {"SOUPVIZ_CACHE": str(empty_cache)}, check=False)
    assert died.returncode == -signal.SIGKILL
    with (folders()[0] / imagefolder.LOG).open("a") as log:
        log.write('{"done": 12, "corr')  # a line that the kill cut off counts for nothing
    split = load(root)
    assert len(opened_images) == NUM_IMAGES - 8
    assert split.inputs[""][:, 0, 0, 0].tolist() == [*range(10), *range(10)]


PATIENT = """
import sys, time
from pathlib import Path
from torch import nn
from soupviz.data import splits
from soupviz.data.images import imagefolder
from soupviz.spec import SplitSpec

imagefolder.CHUNK = 2
root = Path(sys.argv[1])
spec = SplitSpec(format="imagefolder", path=root.name)
told = []

def progress(done, total, what):
    told.append(what)
    time.sleep(0.2)

splits.load("held_out", spec, root.parent, nn.Identity(), progress=progress)
print(sorted(set(told)))
"""


def test_of_two_processes_one_decodes_and_the_other_waits_for_it(tmp_path, empty_cache):
    root = image_folder(tmp_path / "val")
    command = [sys.executable, "-c", textwrap.dedent(PATIENT), str(root)]
    environment = os.environ | {"SOUPVIZ_CACHE": str(empty_cache)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate(timeout=120)[0].strip() for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said[1] == "['decoding held_out']"
    assert said[0] in ("['another process is decoding held_out']", "[]")  # the second came while, or after
    assert len(folders()) == 1


def test_the_least_used_splits_go_first_and_the_newest_stays(tmp_path, empty_cache, monkeypatch):
    roots = [image_folder(tmp_path / name, value) for value, name in enumerate(["a", "b", "c"])]
    for age, root in enumerate(reversed(roots)):
        known = set(folders())
        load(root)
        [new] = set(folders()) - known
        os.utime(new, (time.time() - 1000 + age,) * 2)
    size = folder_bytes(folders()[0])
    load(roots[1])  # used again, so that c and a are older
    monkeypatch.setenv("SOUPVIZ_DECODED_GB", str(2.5 * size / 1e9))
    before = set(folders())
    load(roots[0])
    gone = before - set(folders())
    assert len(gone) == 1
    monkeypatch.setattr(Image, "open", None)
    load(roots[0])
    load(roots[1])  # both are still there: nothing is decoded
    monkeypatch.setenv("SOUPVIZ_DECODED_GB", "0")
    assert len(load(roots[0])) == NUM_IMAGES
    assert len(folders()) == 1


def test_a_split_that_is_removed_while_it_is_used_stays_readable(tmp_path, empty_cache, monkeypatch):
    split = load(image_folder(tmp_path / "a"))
    monkeypatch.setenv("SOUPVIZ_DECODED_GB", "0")
    load(image_folder(tmp_path / "b", 50))
    assert len(folders()) == 1
    assert split.inputs[""][:, 0, 0, 0].tolist() == [*range(10), *range(10)]


def test_what_may_differ_each_time_is_not_kept(tmp_path, empty_cache):
    (tmp_path / "sets.py").write_text(
        "import torch\ndef build():\n    return [(torch.ones(2) * index, index % 2) for index in range(6)]\n"
    )
    spec = SplitSpec(format="python", path="sets.py:build")
    split = splits.load("held_out", spec, tmp_path, nn.Identity())
    assert folders() == []
    assert torch.equal(split.inputs[""][:, 0], torch.arange(6.0))


def test_a_full_disk_is_told_before_anything_is_decoded_into_it(tmp_path, empty_cache, monkeypatch):
    root = image_folder(tmp_path / "val")
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=100))
    with pytest.raises(DataError, match=r"the disk is full: the decoded split needs 0\.0 MB .* SOUPVIZ_CACHE"):
        load(root)
    monkeypatch.undo()
    assert len(load(root)) == NUM_IMAGES


def test_the_budget_is_in_gigabytes(monkeypatch):
    monkeypatch.setenv("SOUPVIZ_DECODED_GB", "1.5")
    assert decoded.budget() == 1_500_000_000
    monkeypatch.delenv("SOUPVIZ_DECODED_GB")
    assert decoded.budget() == 50 * 10**9


def read_function(folder: Path, source: str) -> splits.Split:
    """A split of a function's data set, which is of use to this process alone."""
    (folder / "data.py").write_text(source, encoding="utf-8")
    return splits.load("held_out", SplitSpec(format="python", path="data.py:examples"), folder, nn.Identity())


EXAMPLES = "import torch\ndef examples():\n    return [(torch.ones(2), 0), (torch.zeros(2), 1)]\n"
BROKEN = "def examples():\n    raise OSError('no disk')\n"


def test_what_is_of_use_to_one_process_leaves_nothing_behind(tmp_path, empty_cache):
    split = read_function(tmp_path, EXAMPLES)
    assert list(cache_folder("decoded").iterdir()) == []
    assert split.inputs[""].tolist() == [[1.0, 1.0], [0.0, 0.0]]  # still mapped
    with pytest.raises(DataError, match="no disk"):
        read_function(tmp_path, BROKEN)
    assert [path for path in cache_folder("decoded").iterdir() if path.is_dir()] == []


def test_leftovers_of_killed_processes_go_and_what_is_in_use_stays(tmp_path, empty_cache):
    cache = cache_folder("decoded")
    for name in (f"{decoded.UNKEPT}dead", f"{decoded.UNKEPT}alive"):
        (cache / name).mkdir()
        (cache / name / "inputs.npy").write_bytes(b"x")
    for name in (f"{decoded.UNKEPT}dead", "dropped", f"{decoded.UNKEPT}gone"):
        (cache / f".{name}.lock").touch()
    with FileLock(cache / f".{decoded.UNKEPT}alive.lock"):
        kept = load(image_folder(tmp_path / "images"))
        names = {path.name for path in cache.iterdir()}
    [folder] = [path.name for path in cache.iterdir() if path.is_dir() and not path.name.startswith(decoded.UNKEPT)]
    assert names == {folder, f".{folder}.lock", f"{decoded.UNKEPT}alive", f".{decoded.UNKEPT}alive.lock"}
    assert len(kept) == NUM_IMAGES


def test_a_lock_that_is_removed_while_others_wait_for_it_lets_one_in_at_a_time(tmp_path):
    path = tmp_path / "lock"
    first, second, third = (FileLock(path, thread_local=False) for _ in range(3))
    first.acquire()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(second.acquire, timeout=20)
        time.sleep(0.2)  # it has the old file open by now
        path.unlink()
        first.release()
        waiting.result()
    with pytest.raises(Timeout):
        third.acquire(timeout=0)
    second.release()
