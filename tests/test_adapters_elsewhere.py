"""Adapters and their base may lie in a bucket, as any checkpoints."""

from pathlib import Path

import fsspec
import pytest
from adapters import adapters_kitchen
from elsewhere import moved

import soupviz as sv
from soupviz.kitchen import Kitchen


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
