"""The threat model's lines on files: what lies in a folder that somebody was sent, and what reading it costs."""

import io
import json
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from kitchens import small_kitchen

from soupviz import plain_data
from soupviz.data import readers
from soupviz.data.detection import yolo
from soupviz.errors import SoupError
from soupviz.files import STORE
from soupviz.kitchen import Kitchen
from soupviz.soups.provenance import read_record
from soupviz.store.database import open_store
from soupviz.ui import workspace
from soupviz.ui.export import exporting
from soupviz.weights import checkpoints, inert
from soupviz.yaml_file import read_kitchen_file

LAUGHS = "x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n" + "\n".join(
    f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)
)
"""A billion values in half a kilobyte."""

DEEP = "a: " + "[" * 100_000
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a kitchen": ("kitchen.yaml", read_kitchen_file),
    "a recipe": ("recipe.yaml", read_record),
    "the arguments of a run": ("args.yaml", inert.read_yaml),
    "the classes of boxes": ("data.yaml", lambda file: yolo._read("held_out", file)),
}


def quickly(read: Callable[[], Any], told: str) -> None:
    """Refused by a sentence, before it costs anything."""
    begun = time.monotonic()
    with pytest.raises(SoupError, match=told):
        read()
    assert time.monotonic() - begun < 10


# YAML and JSON


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LAUGHS, "more than 2,000,000 values"),
        (f"model: {{args: {{y: 1}}}}\n{LAUGHS}\nnames: *x8", "more than 2,000,000 values"),
        (DEEP, "more than 100 deep"),
        (DEEP + "]" * 100_000, "more than 100 deep"),
        ("{" * 100_000, "more than 100 deep"),
        ("a: &a {b: *a}", "'a' holds itself"),
        ("name: one\nmodel: {factory: x, factory: y}", "'factory' stands there twice .line 2"),
        ("name: one\nname: two", "'name' stands there twice"),
        ("name: 2026-99-99", "a value that is none"),
        (f"name: {'1' * 5000}", "a value that is none"),
    ],
)
def test_yaml_that_is_more_than_it_seems_is_refused_before_it_is_read(
    what: str, text: str, told: str, tmp_path: Path
) -> None:
    name, read = READERS[what]
    (tmp_path / name).write_text(text, encoding="utf-8")
    quickly(lambda: read(tmp_path / name), told)


@pytest.mark.parametrize("what", READERS)
def test_a_yaml_file_of_any_size_is_not_read_whole(what: str, tmp_path: Path) -> None:
    name, read = READERS[what]
    with (tmp_path / name).open("wb") as file:
        file.truncate(10**12)  # which takes no room
    quickly(lambda: read(tmp_path / name), "expected at most 16,000,000")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os"])
def test_yaml_names_no_code(tag: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "kitchen.yaml").write_text(f"name: {tag} ['touch {ran}']", encoding="utf-8")
    quickly(lambda: read_kitchen_file(tmp_path / "kitchen.yaml"), "not YAML")
    assert not ran.exists()


def test_aliases_and_merged_keys_mean_what_they_say(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n? [1, 2]\n: d\n"
    (tmp_path / "a.yaml").write_text(text.partition("?")[0], encoding="utf-8")
    assert plain_data.yaml_in(tmp_path / "a.yaml") == yaml.safe_load(text.partition("?")[0])
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(yaml.YAMLError):
        plain_data.yaml_in(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ['{"weight_map":' + "[" * 200_000, '{"a":' * 200_000 + "1" + "}" * 200_000])
def test_an_index_that_lies_deep_in_itself_is_refused(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text, encoding="utf-8")
    quickly(lambda: checkpoints.read(index), "not a sharded checkpoint's index")


def test_an_index_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    with index.open("wb") as file:
        file.truncate(10**12)
    quickly(lambda: checkpoints.read(index), "not a sharded checkpoint's index")
    quickly(lambda: inert.read_json(index), "expected at most 100,000,000")


# Archives


def packed(path: Path, parts: dict[str, tuple[bytes, int]]) -> Path:
    """A compressed archive whose parts begin so, and go on with that many megabytes of nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (head, megabytes) in parts.items():
            with archive.open(name, "w", force_zip64=True) as part:
                part.write(head)
                for _ in range(megabytes):
                    part.write(bytes(2**20))
    return path


@pytest.mark.parametrize("grows", ["data.pkl", "data/0"])
def test_a_checkpoint_that_is_compressed_is_not_unpacked(grows: str, tmp_path: Path) -> None:
    """PyTorch would read the numbers of a compressed part from the wrong place, and unpack a pickle of any size."""
    torch.save({"w": torch.ones(4)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole:
        parts = {name: (whole.read(name), 50 if name.endswith(grows) else 0) for name in whole.namelist()}
    bomb = packed(tmp_path / "bomb.pt", parts)
    assert bomb.stat().st_size < 10**6
    quickly(lambda: checkpoints.read(bomb), "is compressed")
    with pytest.raises(SoupError):
        inert.read_pickle(packed(tmp_path / "training_args.bin", {"a/data.pkl": (b"\x80\x02", 50)}))


def test_arrays_that_come_to_more_than_the_memory_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (50 * 2**20,)})
    bomb = packed(tmp_path / "a.npz", {f"{name}.npy": (head.getvalue(), 50) for name in ("inputs", "labels")})
    monkeypatch.setattr(readers, "machine_memory", lambda: 10**8)
    quickly(lambda: readers._open_arrays("held_out", bomb), r"comes to 0\.1 GB once it is unpacked")


def test_arrays_that_say_they_are_more_than_they_are_or_hold_objects_are_refused(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (2**44,)})
    lie = packed(tmp_path / "lie.npz", {f"{name}.npy": (head.getvalue(), 0) for name in ("inputs", "labels")})
    quickly(lambda: readers._open_arrays("held_out", lie), "cannot be read")
    np.savez(tmp_path / "code.npz", inputs=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    quickly(lambda: readers._open_arrays("held_out", tmp_path / "code.npz"), "cannot be read")


# safetensors


def one(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"{}", 2**62),
        (b"{}", 99),
        (json.dumps(one([10], 0, 40)).encode(), None),  # past the end
        (json.dumps(one([2], 2**60, 2**60 + 8)).encode(), None),
        (json.dumps(one([2], 8, 0)).encode(), None),
        (json.dumps(one([1000], 0, 8)).encode(), None),
        (json.dumps(one([-2], 0, 8)).encode(), None),
        (json.dumps(one([2**40, 2**40], 0, 8)).encode(), None),
        (json.dumps(one([2], 0, 8, "EVIL")).encode(), None),
        (json.dumps(one([2], 0, 8) | {"b": one([2], 0, 8)["a"]}).encode(), None),  # two tensors in one place
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b"\xff{", None),
    ],
)
def test_a_header_that_lies_is_refused(header: bytes, size: int | None, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + bytes(8))
    quickly(lambda: checkpoints.read(file), str(file.name))


# Links that lead out, and what is written


@pytest.fixture
def root(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that a dashboard was started with."""
    monkeypatch.setattr("sys.argv", ["app.py", str(tmp_path / "root")])
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    return tmp_path / "root"


@pytest.mark.parametrize("link", [STORE, f"{STORE}/store.sqlite", f"{STORE}/store.sqlite-wal", f"{STORE}/logits"])
def test_a_store_that_is_a_link_to_elsewhere_is_not_opened(link: str, root: Path) -> None:
    file = small_kitchen(root / "small", num_ingredients=1, num_examples=20)
    workspace.check_paths(workspace.request(file, read_kitchen_file(file)))
    (file.parent / link).parent.mkdir(exist_ok=True)
    (file.parent / link).symlink_to(root.parent / "outside" / "x")
    with pytest.raises(SoupError, match="lies outside the folders"):
        workspace.check_paths(workspace.request(file, read_kitchen_file(file)))


def test_no_export_goes_through_a_link_or_a_name_to_elsewhere(root: Path) -> None:
    outside = root.parent / "outside"
    (root / "away").symlink_to(outside)
    (root / "soup.pt").symlink_to(outside / "soup.pt")
    for folder, name in [
        (root / "away", "soup.pt"), (root, "soup.pt"), (root, "../outside/soup.pt"), (root, "away/soup.pt"),
        (outside, "soup.pt"), (root, str(outside / "soup.pt")), (root, "..\\soup.pt"),
    ]:  # fmt: skip
        with pytest.raises(SoupError, match=r"lies outside the folders|is not a plain file name"):
            exporting.target(str(folder), name)
    assert list(outside.iterdir()) == []


def test_the_scheme_of_a_store_that_came_with_a_kitchen_calls_no_functions(tmp_path: Path) -> None:
    store = open_store(small_kitchen(tmp_path, num_ingredients=1, num_examples=20))
    with store._connection() as connection:
        assert connection.execute("PRAGMA trusted_schema").fetchone()[0] == 0


def test_a_pickle_beside_the_data_is_not_read(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path, num_ingredients=1, num_examples=20)
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    for name in ("training_args.bin", "held_out.pkl", "optimizer.pt", "cache.npy"):
        torch.save(Hostile(), tmp_path / name)
    Kitchen.load(file).score()
    inert.read_pickle(tmp_path / "training_args.bin")
    assert not ran.exists()
