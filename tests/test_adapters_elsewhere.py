"""Adapters and their base may lie in a bucket, as any checkpoints."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pytest
from adapters import adapters_kitchen
from elsewhere import moved

import soupviz as sv
from soupviz.errors import ExportError, RemoteError
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
    assert memory.cat_file("memory://bucket/one/README.md").startswith(b"---\n# one\n")
    here = sv.export(soup, tmp_path / "one", form="adapter", rank=rank)
    config = memory.cat_file("memory://bucket/one/adapter_config.json")
    assert config == (tmp_path / "one" / "adapter_config.json").read_bytes()
    expected = read_record(here[0]).fingerprint
    for source in ("memory://bucket/one", "memory://bucket/one/recipe.yaml"):
        baked, *_ = sv.bake(source, tmp_path / "again")
        assert read_record(baked).fingerprint == expected
    moved_on, *_ = sv.bake("memory://bucket/one", "memory://bucket/two")
    assert read_record(moved_on).fingerprint == expected


def failing(monkeypatch: pytest.MonkeyPatch, system: Any, name: str) -> None:
    """Have files of this name not be put."""
    put = type(system).put_file

    def refuse(self: Any, here: str, there: str, **options: Any) -> None:
        if there.endswith(name):
            raise PermissionError
        put(self, here, there, **options)

    monkeypatch.setattr(type(system), "put_file", refuse)


def test_of_an_adapter_elsewhere_the_weights_come_first_and_the_description_last(
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
    assert order == FOLDER


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("name", FOLDER)
def test_an_adapter_that_was_put_in_part_is_no_mix_and_may_be_put_again(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, earlier: bool
) -> None:
    soup = sv.uniform(Kitchen.load(adapters_kitchen(tmp_path / "k")))
    if earlier:
        sv.export(soup, "memory://bucket/one", form="adapter", rank=1)
    before = {path: memory.cat_file(path) for path in memory.find("/bucket/one")}
    with monkeypatch.context() as patched:
        failing(patched, memory, name)
        with pytest.raises(RemoteError):
            sv.export(soup, "memory://bucket/one", form="adapter", rank=2)
    there = {path: memory.cat_file(path) for path in memory.find("/bucket/one")}
    assert f"/bucket/one/{FOLDER[-1]}" not in there
    if name == FOLDER[0]:  # what tells of the earlier weights still tells of them
        assert there == {path: held for path, held in before.items() if not path.endswith(FOLDER[-1])}
    written = sv.export(soup, "memory://bucket/one", form="adapter", rank=2)
    here = sv.export(soup, tmp_path / "one", form="adapter", rank=2)
    assert memory.cat_file(str(written[-1])) == Path(here[-1]).read_bytes()
    form = read_record(written[0]).adapter
    assert form is not None and form.rank == 2


def test_an_adapter_elsewhere_stays_readable_where_its_description_is_the_new_one_s(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Kitchen.load(adapters_kitchen(tmp_path / "k"))
    sv.export(sv.uniform(opened), "memory://bucket/one", form="adapter", rank=1)
    before = {path: memory.cat_file(path) for path in memory.find("/bucket/one")}
    failing(monkeypatch, memory, FOLDER[0])
    with pytest.raises(RemoteError):
        sv.export(sv.uniform(opened, opened.names[:2]), "memory://bucket/one", form="adapter", rank=1)
    assert {path: memory.cat_file(path) for path in memory.find("/bucket/one")} == before


def test_of_an_adapter_that_was_put_in_part_it_is_told_what_is_there(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soup = sv.uniform(Kitchen.load(adapters_kitchen(tmp_path / "k")))
    sv.export(soup, "memory://bucket/one", form="adapter", rank=1)
    failing(monkeypatch, memory, "README.md")
    with pytest.raises(RemoteError) as told:
        sv.export(soup, "memory://bucket/one", form="adapter", rank=2)
    assert "removed there: the earlier adapter_config.json" in str(told.value)
    assert "put there: adapter_model.safetensors; put there: recipe.yaml. What" in str(told.value)


@pytest.mark.parametrize(("title", "is_ours"), [("# The recipe of one\n", True), ("# The recipe of two\n", False)])
def test_a_description_without_weights_elsewhere_is_ours_where_our_recipe_lies_beside_it(
    memory: Any, tmp_path: Path, title: str, is_ours: bool
) -> None:
    soup = sv.uniform(Kitchen.load(adapters_kitchen(tmp_path / "k")))
    memory.pipe_file("memory://bucket/one/recipe.yaml", title.encode())
    memory.pipe_file("memory://bucket/one/adapter_config.json", b"{}")
    with nullcontext() if is_ours else pytest.raises(ExportError, match="holds an adapter that is no soup"):
        sv.export(soup, "memory://bucket/one", form="adapter")
    assert (memory.cat_file("memory://bucket/one/adapter_config.json") == b"{}") is not is_ours


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
