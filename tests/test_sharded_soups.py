"""Soups that are written in shards: divided by size, loaded by others, baked and loaded back as any other."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from kitchens import json_of, small_kitchen
from safetensors.torch import load_file
from torch import Tensor

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.soups.content import Identity
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.weights.checkpoints import read
from soupviz.weights.ingredients import fingerprint
from soupviz.weights.sharding import divided, num_bytes


def like(**sizes: int) -> dict[str, Tensor]:
    return {key: torch.empty(size, dtype=torch.uint8, device="meta") for key, size in sizes.items()}


def gathered(index: Path) -> dict[str, Tensor]:
    """As any loader of sharded safetensors does it."""
    names = set(json.loads(index.read_text())["weight_map"].values())
    return {key: tensor for name in sorted(names) for key, tensor in load_file(index.parent / name).items()}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5GB", 5 * 10**9),
        ("500 MB", 5 * 10**8),
        ("2GiB", 2**31),
        ("1.5kb", 1500),
        ("10", 10),
        (7, 7),
        ("3g", 3 * 10**9),
    ],
)
def test_a_size_is_read_as_transformers_reads_it(text, number):
    assert num_bytes(text) == number


@pytest.mark.parametrize("text", ["", "GB", "0MB", "-1GB", "5 apples", 0])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ExportError, match="expected a number of bytes, such as 5GB"):
        num_bytes(text)


def test_files_hold_at_most_their_size_but_for_a_tensor_that_is_larger():
    files = divided(like(a=4, b=6, c=3, d=20, e=1), 10)
    assert [list(part) for part in files] == [["a", "b"], ["c"], ["d"], ["e"]]


@pytest.fixture
def kitchen(tmp_path: Path) -> sv.Kitchen:
    return sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", num_ingredients=3, num_examples=40))


def exported(kitchen: sv.Kitchen, folder: Path, size: str | None) -> tuple[Path, Mapping[str, Tensor]]:
    folder.mkdir()
    soup = sv.uniform(kitchen)
    return sv.export(soup, folder / "soup.safetensors", shard_size=size)[0], soup.state_dict()


def test_a_sharded_soup_holds_the_same_tensors_as_a_whole_one(kitchen, tmp_path):
    index, expected = exported(kitchen, tmp_path / "sharded", "300B")
    assert index.name == "soup.safetensors.index.json"
    shards = sorted(path.name for path in index.parent.glob("soup-*"))
    assert shards == [f"soup-{at:05d}-of-{len(shards):05d}.safetensors" for at in range(1, len(shards) + 1)]
    assert len(shards) > 1
    found = gathered(index)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
    assert json.loads(index.read_text())["metadata"]["total_size"] == sum(t.nbytes for t in expected.values())


def test_a_soup_that_fits_into_one_shard_is_one_file(kitchen, tmp_path):
    whole, _ = exported(kitchen, tmp_path / "a", None)
    small, _ = exported(kitchen, tmp_path / "b", "1GB")
    assert small.name == "soup.safetensors" and small.read_bytes() == whole.read_bytes()
    assert {path.name for path in small.parent.iterdir()} == {"soup.safetensors", "recipe.yaml", "README.md"}


def test_a_sharded_soup_is_baked_and_loaded_back(kitchen, tmp_path, capsys):
    index, weights = exported(kitchen, tmp_path / "out", "300B")
    record = read_record(index)
    assert record == read_record(index.parent) == read_record(index.parent / "recipe.yaml")
    assert record.fingerprint == fingerprint(weights)
    [baked, *_] = sv.bake(index, tmp_path / "baked.safetensors")
    assert read_record(baked).fingerprint == record.fingerprint
    told = json_of(capsys, "bake", index.parent, "--out", tmp_path / "again.safetensors", "--shard-size", "300B")
    assert told["is_checked"] and told["fingerprint"] == record.fingerprint
    assert fingerprint(gathered(tmp_path / "again.safetensors.index.json")) == record.fingerprint
    assert restore(kitchen, record, index).notes == {}


def test_a_shard_that_was_changed_is_noticed_when_the_soup_is_loaded_back(kitchen, tmp_path):
    index, _ = exported(kitchen, tmp_path / "out", "300B")
    shard = sorted(index.parent.glob("soup-*"))[0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ExportError, match="its weights are not those that its recipe was written for"):
        restore(kitchen, read_record(index), index)


def test_a_glob_over_a_folder_with_a_sharded_soup_leaves_it_out(kitchen):
    sv.export(sv.uniform(kitchen), kitchen.folder / "m_soup.safetensors", shard_size="300B")
    assert sv.Kitchen.load(kitchen.file).names == kitchen.names


def test_a_soup_divided_otherwise_takes_the_place_of_its_earlier_shards(kitchen, tmp_path):
    index, expected = exported(kitchen, tmp_path / "out", "100B")
    before = set(index.parent.glob("soup-*"))
    sv.export(sv.uniform(kitchen), index.parent / "soup.safetensors", shard_size="300B")
    after = set(index.parent.glob("soup-*"))
    assert len(after) < len(before) and not after & before
    assert gathered(index).keys() == expected.keys()


@pytest.mark.parametrize(("first", "then"), [(None, "300B"), ("300B", None)])
def test_a_soup_takes_the_place_of_one_of_its_name_in_the_other_form(kitchen, tmp_path, first, then):
    """Beside each other, one would be loaded for the other."""
    before, _ = exported(kitchen, tmp_path / "out", first)
    told = sv.export(sv.uniform(kitchen, ["m_0"]), tmp_path / "out" / "soup.safetensors", shard_size=then)
    there = set((tmp_path / "out").glob("soup*"))
    assert before not in there
    assert there == {path for path in told if path.name.startswith("soup")}
    tensors = gathered(told[0]) if then else load_file(told[0])
    assert fingerprint(tensors) == read_record(told[0]).fingerprint


def test_what_others_have_under_the_name_in_the_other_form_stays(kitchen, tmp_path):
    index, _ = exported(kitchen, tmp_path / "out", "300B")
    text = json.loads(index.read_text())
    del text["metadata"]
    index.write_text(json.dumps(text))
    before = {path: path.read_bytes() for path in index.parent.glob("soup-*")} | {index: index.read_bytes()}
    sv.export(sv.uniform(kitchen, ["m_0"]), index.parent / "soup.safetensors")
    assert {path: path.read_bytes() for path in before} == before


def test_an_index_has_nothing_removed_but_what_is_called_as_its_shards(kitchen, tmp_path):
    index, _ = exported(kitchen, tmp_path / "out", "300B")
    (index.parent / "diary.txt").write_text("mine")
    text = json.loads(index.read_text())
    text["weight_map"] |= {"more": "diary.txt"}
    index.write_text(json.dumps(text))
    sv.export(sv.uniform(kitchen, ["m_0"]), index.parent / "soup.safetensors")
    assert (index.parent / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize(("first", "then"), [(None, "300B"), ("300B", None), ("200B", "300B")])
def test_an_ingredient_is_not_removed_as_the_other_form(kitchen, tmp_path, first, then):
    told, _ = exported(kitchen, tmp_path / "out", first)
    files = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    soup = sv.cook(kitchen, {"method": "interpolation", "a": "one", "b": "two", "alpha": 0.5,
                             "mix_a": [[str(told), 1.0]], "mix_b": [["m_0", 1.0]]})  # fmt: skip
    with pytest.raises(ExportError, match="is the checkpoint of ingredient"):
        sv.export(soup, tmp_path / "out" / "soup.safetensors", shard_size=then)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_memory_that_runs_out_while_a_soup_is_mixed_is_not_told_as_a_full_disk(kitchen, tmp_path, monkeypatch):
    soup = sv.uniform(kitchen)

    def fails(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("soupviz.soups.content.cast", fails)
    monkeypatch.setattr("soupviz.soups.content.Content.identity", lambda _: Identity("0", ""))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        sv.export(soup, tmp_path / "other.safetensors")
    assert not list(tmp_path.glob("*other*"))


def test_shards_that_would_replace_an_ingredients_are_refused(kitchen, tmp_path):
    folder = tmp_path / "ingredient"
    folder.mkdir()
    [index, *_] = sv.export(sv.uniform(kitchen), folder / "model.safetensors", shard_size="300B")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    soup = sv.cook(kitchen, {"method": "interpolation", "a": "one", "b": "two", "alpha": 0.5,
                             "mix_a": [[str(index), 1.0]], "mix_b": [["m_0", 1.0]]})  # fmt: skip
    with pytest.raises(ExportError, match=r"is the checkpoint of ingredient .*choose another name"):
        sv.export(soup, folder / "model.safetensors", shard_size="300B")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_neither_a_shard_nor_the_index_is_written_over_what_is_no_soup(kitchen, tmp_path):
    (tmp_path / "probe").mkdir()
    [index, *_, shard] = sv.export(sv.uniform(kitchen), tmp_path / "probe" / "soup.safetensors", shard_size="300B")
    for name in (index.name, shard.name):
        place = tmp_path / name
        place.write_text("mine")
        with pytest.raises(ExportError, match=f"{name}: is there already"):
            sv.export(sv.uniform(kitchen), tmp_path / "soup.safetensors", shard_size="300B")
        assert place.read_text() == "mine"
        place.unlink()


def test_shards_are_safetensors_only_which_is_said_before_anything_is_cooked(kitchen, tmp_path):
    with pytest.raises(ExportError, match=r"shards are written as safetensors; name it soup\.safetensors"):
        sv.export(sv.uniform(kitchen), tmp_path / "soup.pt", shard_size="1GB")


def test_what_lies_beside_a_sharded_soup_is_called_as_beside_a_whole_one(kitchen, tmp_path):
    whole, _ = exported(kitchen, tmp_path / "whole", None)
    index, _ = exported(kitchen, tmp_path / "out", "300B")
    for name in ("README.md", "recipe.yaml"):
        titles = [(folder / name).read_text().partition("\n")[0] for folder in (whole.parent, index.parent)]
        assert titles[0] == titles[1]
        (index.parent / name).write_text("somebody's own\n")
    told = sv.export(sv.uniform(kitchen), index.parent / "soup.safetensors", shard_size="300B")
    assert {path.name for path in told[1:3]} == {"soup.README.md", "soup.recipe.yaml"}
    record = read_record(index.parent / "soup.recipe.yaml")
    assert record == read_record(index)
    baked, *_ = sv.bake(index.parent / "soup.recipe.yaml", tmp_path / "again.safetensors")
    assert read_record(baked).fingerprint == record.fingerprint
    assert (index.parent / "README.md").read_text() == "somebody's own\n"


@pytest.mark.parametrize(("first", "then"), [(None, "300B"), ("300B", None), ("300B", "100B")])
def test_a_card_stays_one_when_a_soup_is_divided_otherwise(kitchen, tmp_path, first, then):
    exported(kitchen, tmp_path / "out", first)
    sv.export(sv.uniform(kitchen), tmp_path / "out" / "soup.safetensors", shard_size=then)
    assert len(list((tmp_path / "out").glob("*README.md"))) == len(list((tmp_path / "out").glob("*recipe.yaml"))) == 1


def test_a_card_of_an_earlier_version_is_written_over(kitchen, tmp_path):
    index, _ = exported(kitchen, tmp_path / "out", "300B")
    (index.parent / "README.md").write_text(f"# {index.name}\n")
    (index.parent / "recipe.yaml").write_text(f"# The recipe of {index.name}\n")
    sv.export(sv.uniform(kitchen), index.parent / "soup.safetensors", shard_size="300B")
    assert read_record(index.parent / "recipe.yaml") == read_record(index)
    assert not list(index.parent.glob("soup.*.md"))


def test_the_card_of_a_sharded_soup_loads_it(kitchen, tmp_path, monkeypatch):
    index, expected = exported(kitchen, tmp_path / "out", "300B")
    text = (index.parent / "README.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]

    class Model:
        def load_state_dict(self, state: dict[str, Tensor], *, strict: bool) -> None:
            assert strict
            self.state = state

    monkeypatch.chdir(index.parent)
    names = {"model": Model()}
    exec(code, names)
    assert fingerprint(names["model"].state) == fingerprint(expected)


def test_an_index_without_a_record_is_a_checkpoint_and_no_soup(kitchen, tmp_path):
    index, _ = exported(kitchen, tmp_path / "out", "300B")
    assert read(index).soup is not None
    values = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": values["weight_map"]}))
    assert read(index).soup is None
