"""From a kitchen whose checkpoints lie in parts, or in a bucket, to a soup that is baked again: on the pages."""

from pathlib import Path
from typing import Any

import pytest
from elsewhere import moved
from kitchens import small_kitchen
from safetensors.torch import load_file
from streamlit.testing.v1 import AppTest
from test_checkpoints import sharded
from test_distributed import chunked
from test_pages import errors, fresh_server, page, press_all, trusted  # noqa: F401 - a fixture
from test_remote_bucket import s3, server  # noqa: F401 - fixtures

import soupviz as sv
from soupviz.kitchen import Kitchen
from soupviz.soups.provenance import read_record

pytestmark = pytest.mark.slow
PAGES = ("ingredients", "preflight", "diversity", "layers", "alpha", "compare")


def in_parts(kitchen: Path, form: str) -> Path:
    """The kitchen with each ingredient in a folder of its own, in that form."""
    for file in sorted(kitchen.parent.glob("m_*.safetensors")):
        tensors, folder = load_file(file), file.with_suffix("")
        file.unlink()
        if form == "distributed":
            chunked(tensors, folder)
        else:
            folder.mkdir()
            sharded(tensors, folder, ".bin" if form == "pickled shards" else ".safetensors")
    return kitchen


def shown(name: str, file: Path) -> AppTest:
    at = page(f"{name}.py", file)
    assert errors(at) == [] and not at.exception
    return at


def journey(file: Path, whole: Path, folder: str, tmp_path: Path) -> None:
    """Every step on its page, and the soup that comes of it: bit for bit that of the same checkpoints as files here."""
    for name in PAGES:
        shown(name, file)
    at = shown("soup", file)
    next(one for one in at.selectbox if one.label == "Recipe").set_value("greedy, mean").run()
    press_all(at, "Cook")
    at = shown("export", file)
    next(one for one in at.text_input if one.label == "Folder").set_value(folder).run()
    next(one for one in at.text_input if one.label == "File name").set_value("one").run()
    press_all(at, "Write")
    assert errors(at) == [] and not at.exception and at.success
    baked, *_ = sv.bake(f"{folder}/one.safetensors", tmp_path / "again.safetensors")
    record = read_record(baked)
    expected, *_ = sv.export(sv.cook(Kitchen.load(whole), record.recipe), tmp_path / "expected.safetensors")
    assert record.fingerprint == read_record(expected).fingerprint
    assert "greedy" in str(shown("history", file).dataframe[0].value)


@pytest.mark.parametrize("form", ["shards", "pickled shards", "distributed"])
def test_a_kitchen_of_checkpoints_in_parts_goes_the_whole_journey(tmp_path: Path, form: str) -> None:
    whole = small_kitchen(tmp_path / "whole", num_ingredients=3, num_examples=40)
    file = small_kitchen(tmp_path / "parts", num_ingredients=3, num_examples=40, ingredients=["m_*"])
    (tmp_path / "out").mkdir()
    journey(trusted(in_parts(file, form)), whole, str(tmp_path / "out"), tmp_path)


@pytest.mark.extras
def test_a_kitchen_in_a_bucket_goes_the_whole_journey(s3: Any, tmp_path: Path) -> None:  # noqa: F811
    whole = small_kitchen(tmp_path / "whole", num_ingredients=3, num_examples=40, ingredients=["m_*.safetensors"])
    file = moved(whole, "s3://bucket/small", tmp_path / "here")
    journey(trusted(file), whole, "s3://bucket/soups", tmp_path)
    assert s3.exists("bucket/soups/one.safetensors")
