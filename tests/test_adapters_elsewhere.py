"""Adapters and their base may lie in a bucket, as any checkpoints."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
from adapters import adapters_kitchen
from elsewhere import moved

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.kitchen import Kitchen
from soupviz.soups.provenance import read_record


@pytest.mark.parametrize("pattern", ["adapters/*", "adapters/*/adapter_model.safetensors"])
def test_adapters_in_a_bucket_are_read_souped_and_baked(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, pattern: str
) -> None:
    here = Kitchen.load(adapters_kitchen(tmp_path / "whole", ingredients=[pattern]))
    for path in (here.folder / "adapters").rglob("*.*"):
        memory.pipe_file(f"memory://bucket/k/{path.relative_to(here.folder).as_posix()}", path.read_bytes())
    there = Kitchen.load(moved(here.file, "memory://bucket/k", tmp_path / "here"))
    assert {item.name: item.fingerprint for item in there.ingredients} == {
        item.name: item.fingerprint for item in here.ingredients
    }
    exported, *_ = sv.export(sv.uniform(there), tmp_path / "soup.safetensors")
    sv.bake(exported, tmp_path / "again.safetensors")
    sv.export(sv.uniform(there), tmp_path / "one", form="adapter")
    sv.bake(tmp_path / "one", tmp_path / "two")


FOLDER = ["adapter_model.safetensors", "recipe.yaml", "README.md", "adapter_config.json"]


@pytest.mark.parametrize("rank", [None, 2])
def test_a_soup_is_written_as_an_adapter_into_a_bucket_and_baked_from_there(
    memory: Any, tmp_path: Path, rank: int | None
) -> None:
    soup = sv.uniform(Kitchen.load(adapters_kitchen(tmp_path / "k")))
    written = sv.export(soup, "memory://bucket/one", form="adapter", rank=rank)
    assert written == [f"memory://bucket/one/{name}" for name in FOLDER]
    assert memory.cat_file("memory://bucket/one/README.md").startswith(b"# one\n")
    here = sv.export(soup, tmp_path / "one", form="adapter", rank=rank)
    config = memory.cat_file("memory://bucket/one/adapter_config.json")
    assert config == (tmp_path / "one" / "adapter_config.json").read_bytes()
    expected = read_record(here[0]).fingerprint
    for source in ("memory://bucket/one", "memory://bucket/one/recipe.yaml"):
        baked, *_ = sv.bake(source, tmp_path / "again")
        assert read_record(baked).fingerprint == expected
    moved_on, *_ = sv.bake("memory://bucket/one", "memory://bucket/two")
    assert read_record(moved_on).fingerprint == expected


def test_of_an_adapter_elsewhere_the_weights_come_last(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    put = type(memory).put_file

    def seen(self: Any, here: str, there: str, **options: Any) -> None:
        order.append(there.rpartition("/")[2])
        put(self, here, there, **options)

    monkeypatch.setattr(type(memory), "put_file", seen)
    soup = sv.uniform(Kitchen.load(adapters_kitchen(tmp_path / "k")))
    sv.export(soup, "memory://bucket/one", form="adapter")
    assert sorted(order) == sorted(FOLDER) and order[-1] == FOLDER[0]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"])
def test_an_adapter_elsewhere_that_is_no_soup_is_not_written_over(memory: Any, tmp_path: Path, name: str) -> None:
    soup = sv.uniform(Kitchen.load(adapters_kitchen(tmp_path / "k")))
    memory.pipe_file(f"memory://bucket/one/{name}", b"somebody's own")
    with pytest.raises(ExportError, match=r"memory://bucket/one: holds an adapter that is no soup"):
        sv.export(soup, "memory://bucket/one", form="adapter")
    assert memory.find("/bucket/one") == [f"/bucket/one/{name}"]
    assert memory.cat_file(f"memory://bucket/one/{name}") == b"somebody's own"


def test_an_adapter_elsewhere_that_is_a_soup_is_written_over(memory: Any, tmp_path: Path) -> None:
    soup = sv.uniform(Kitchen.load(adapters_kitchen(tmp_path / "k")))
    sv.export(soup, "memory://bucket/one", form="adapter", rank=1)
    first, *_ = sv.export(soup, "memory://bucket/one", form="adapter", rank=2)
    form = read_record(first).adapter
    assert form is not None and form.rank == 2
    assert sorted(memory.find("/bucket/one")) == sorted(f"/bucket/one/{name}" for name in FOLDER)
