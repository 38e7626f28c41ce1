"""Soups of adapters: cooked, exported whole and as one adapter, loaded back and baked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from adapters import adapters_kitchen
from kitchens import MLP, build_model, change_yaml, json_of, run_command, save
from safetensors.torch import load_file

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.kitchen import Kitchen
from soupviz.recipes import parse
from soupviz.soups.cooking import cook
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import checked, restore


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen.load(adapters_kitchen(tmp_path / "kitchen", scale=0.3))


@pytest.mark.parametrize("with_kitchen", [False, True])
def test_a_dense_soup_of_adapters_is_baked_bit_for_bit_from_their_files(
    kitchen: Kitchen, tmp_path: Path, with_kitchen: bool
) -> None:
    exported, *_ = sv.export(sv.greedy(kitchen), tmp_path / "soup.safetensors")
    baked, *_ = sv.bake(exported, tmp_path / "again.safetensors", kitchen=kitchen if with_kitchen else None)
    one, other = load_file(exported), load_file(baked)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert read_record(baked).fingerprint == read_record(exported).fingerprint


def test_a_soup_is_not_baked_over_another_base_or_scale(kitchen: Kitchen, tmp_path: Path) -> None:
    exported, *_ = sv.export(sv.uniform(kitchen), tmp_path / "soup.safetensors")
    config = kitchen.folder / "adapters" / "a2" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6', '"lora_alpha": 7'))
    with pytest.raises(ExportError, match=r"'a2'.*is not the one in the recipe"):
        sv.bake(exported, tmp_path / "again.safetensors")
    config.unlink()
    with pytest.raises(ExportError, match="adapter_config"):
        sv.bake(exported, tmp_path / "again.safetensors")


def test_the_exact_adapter_makes_the_soups_own_weights_at_the_summed_rank(kitchen: Kitchen, tmp_path: Path) -> None:
    soup = sv.uniform(kitchen)
    file, *others = sv.export(soup, tmp_path / "one", form="adapter")
    assert {path.name for path in [file, *others]} == {
        "adapter_model.safetensors", "adapter_config.json", "recipe.yaml", "README.md",
    }  # fmt: skip
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert config["r"] == 2 + 3 + 4
    again = kitchen.weights.read(file)
    for key, tensor in soup.state_dict().items():
        torch.testing.assert_close(again.tensors[key], tensor, rtol=1e-6, atol=1e-7)


def test_an_adapter_of_a_given_rank_is_the_nearest_and_tells_what_it_loses(kitchen: Kitchen, tmp_path: Path) -> None:
    soup = sv.uniform(kitchen)
    assert kitchen.base is not None
    for rank in (1, 2, 3):
        file, *_ = sv.export(soup, tmp_path / f"r{rank}", form="adapter", rank=rank)
        told = read_record(file).adapter
        assert told is not None and read_record(file).form == "adapter"
        again, lost, size = kitchen.weights.read(file), 0.0, 0.0
        for key in ("0.weight", "2.weight"):
            whole = soup.state_dict()[key].double() - kitchen.base.tensors[key].double()
            left = whole - (again.tensors[key].double() - kitchen.base.tensors[key].double())
            values = torch.linalg.svdvals(whole)
            best = float(values[rank:].norm())
            assert float(left.norm()) == pytest.approx(best, rel=1e-3, abs=1e-5)
            assert told.lost_by_module[key.removesuffix(".weight")] == pytest.approx(
                best / float(values.norm()), abs=1e-5
            )
            lost, size = lost + best**2, size + float(values.norm()) ** 2
        assert told.lost == pytest.approx((lost / size) ** 0.5, abs=1e-5)
    assert "loses" in (tmp_path / "r1" / "README.md").read_text()


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("source", ["one", "one/adapter_model.safetensors", "one/recipe.yaml"])
def test_an_adapter_of_a_soup_is_baked_bit_for_bit(
    kitchen: Kitchen, tmp_path: Path, rank: int | None, source: str
) -> None:
    file, *_ = sv.export(sv.greedy(kitchen), tmp_path / "one", form="adapter", rank=rank)
    for number, where in enumerate((None, kitchen)):
        baked, *_ = sv.bake(tmp_path / source, tmp_path / f"again{number}", kitchen=where)
        assert load_file(baked).keys() == load_file(file).keys()
        assert all(torch.equal(load_file(baked)[key], tensor) for key, tensor in load_file(file).items())
        assert read_record(baked).fingerprint == read_record(file).fingerprint
        config = tmp_path / f"again{number}" / "adapter_config.json"
        assert config.read_text() == (tmp_path / "one" / "adapter_config.json").read_text()


@pytest.mark.parametrize("rank", [None, 2])
def test_an_adapter_of_a_soup_is_loaded_back_as_that_soup(kitchen: Kitchen, tmp_path: Path, rank: int | None) -> None:
    soup = sv.greedy(kitchen)
    file, *_ = sv.export(soup, tmp_path / "one", form="adapter", rank=rank)
    for source in (file, tmp_path / "one", tmp_path / "one" / "recipe.yaml"):
        loaded = restore(kitchen, read_record(source), source)
        assert loaded.key == soup.key and loaded.mix == soup.mix
        assert "Its weights are those that were exported" in checked(read_record(source), loaded)


def test_a_changed_recipe_of_an_adapter_is_refused(kitchen: Kitchen, tmp_path: Path) -> None:
    for rank in (None, 2):
        sv.export(sv.uniform(kitchen), tmp_path / "one", form="adapter", rank=rank)
        recipe = tmp_path / "one" / "recipe.yaml"
        values = yaml.safe_load(recipe.read_text())
        values["mix"] = [["a1", 0.5], ["a2", 0.5]]
        recipe.write_text(yaml.safe_dump(values))
        with pytest.raises(ExportError, match="makes other weights than were exported"):
            sv.bake(recipe, tmp_path / "again")


def test_exported_soups_are_left_out_of_globs_in_a_folder_of_their_own_too(kitchen: Kitchen) -> None:
    sv.export(sv.uniform(kitchen), kitchen.folder / "adapters" / "soup", form="adapter")
    again = Kitchen.load(kitchen.file)
    assert again.names == ["a1", "a2", "a3"]
    assert any("an exported soup" in note for note in again.notes)


def test_one_line_of_the_command_writes_an_adapter(kitchen: Kitchen, tmp_path: Path, capsys: Any) -> None:
    asked = ("soup", kitchen.file, "--recipe", "uniform", "--as", "adapter", "--rank", 2, "--out", tmp_path / "one")
    told = json_of(capsys, *asked)
    assert str(tmp_path / "one" / "adapter_model.safetensors") in told["files"]
    assert told["adapter"]["rank"] == 2 and 0 < told["adapter"]["lost"] < 1
    told = json_of(capsys, "bake", tmp_path / "one", "--out", tmp_path / "again")
    assert told["is_checked"]


def test_the_rank_of_an_exact_sum_is_told(kitchen: Kitchen, tmp_path: Path, capsys: Any) -> None:
    asked = ("soup", kitchen.file, "--recipe", "uniform", "--as", "adapter", "--out", tmp_path / "one")
    status, _, err = run_command(capsys, *asked)
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text(encoding="utf-8"))
    rank = max([config["r"], *config["rank_pattern"].values()])
    told = f"an adapter with the exact sum, at rank {rank}, the sum of its members'"
    assert status == 0 and told in " ".join(err.split())
    assert told.removeprefix("an adapter ") in (tmp_path / "one" / "README.md").read_text(encoding="utf-8")
    assert json_of(capsys, "bake", tmp_path / "one", "--out", tmp_path / "again")["is_checked"]
    record = read_record(tmp_path / "again")
    assert record.adapter is not None and (record.adapter.rank, record.adapter.summed) == (None, rank)


def test_an_adapter_of_an_earlier_version_tells_no_rank_and_is_baked(kitchen: Kitchen, tmp_path: Path) -> None:
    sv.export(sv.uniform(kitchen), tmp_path / "one", form="adapter")
    file = tmp_path / "one" / "recipe.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    del values["adapter"]["summed"]
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    record = read_record(file)
    assert record.adapter is not None and "at the summed rank" in record.adapter.in_words()
    sv.bake(file, tmp_path / "again")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"form": "adapter", "rank": 0}, "rank is 0"),
        ({"form": "dense", "rank": 2}, "adapter"),
        ({"form": "sparse"}, "dense or adapter"),
        ({"form": "adapter", "bake_temperature": True}, "temperature"),
    ],
)
def test_what_is_no_form_is_refused(kitchen: Kitchen, tmp_path: Path, options: Any, match: str) -> None:
    target = tmp_path / ("s.safetensors" if options["form"] == "dense" else "one")
    with pytest.raises(ExportError, match=match):
        sv.export(sv.uniform(kitchen), target, **options)


def test_an_adapter_is_not_written_over_one_that_is_no_soup_or_into_a_file(kitchen: Kitchen, tmp_path: Path) -> None:
    soup = sv.uniform(kitchen)
    with pytest.raises(ExportError, match="a2: holds an adapter that is no soup"):
        sv.export(soup, kitchen.folder / "adapters" / "a2", form="adapter")
    with pytest.raises(ExportError, match="an adapter is a folder"):
        sv.export(soup, tmp_path / "soup.safetensors", form="adapter")


@pytest.mark.parametrize("held", [["adapter_config.json"], ["adapter_config.json", "adapter_model.bin"],
                                  ["adapter_model-00001-of-00002.bin"]])  # fmt: skip
def test_an_adapter_is_written_into_no_folder_that_holds_a_part_of_anothers(
    kitchen: Kitchen, tmp_path: Path, held: list[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in held:
        (folder / name).write_text("{}")
    with pytest.raises(ExportError, match="mine: holds an adapter that is no soup"):
        sv.export(sv.uniform(kitchen), folder, form="adapter")
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(held, "{}")


def test_an_ingredients_description_is_no_place_for_a_soups(kitchen: Kitchen) -> None:
    """A soup that is an ingredient itself, and lost its weights to a .bin: none of its files is written over."""
    folder = kitchen.folder / "adapters" / "a4"
    sv.export(sv.uniform(kitchen), folder, form="adapter")
    change_yaml(kitchen.file, lambda document: document["ingredients"].append("adapters/a4/adapter_model.bin"))
    save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    soup = sv.uniform(Kitchen.load(kitchen.file))
    (folder / "adapter_model.bin").rename(folder / "kept.bin")
    before = (folder / "adapter_config.json").read_text()
    with pytest.raises(ExportError, match=r"adapter_config\.json: is the checkpoint of ingredient"):
        sv.export(soup, folder, form="adapter")
    assert (folder / "adapter_config.json").read_text() == before


def test_a_soup_that_was_exported_as_an_adapter_is_replaced(kitchen: Kitchen, tmp_path: Path) -> None:
    sv.export(sv.uniform(kitchen, ["a1"]), tmp_path / "one", form="adapter")
    file, *_ = sv.export(sv.uniform(kitchen), tmp_path / "one", form="adapter")
    assert len(read_record(Path(file)).mix) == 3


def test_a_folder_that_was_made_for_an_adapter_goes_where_it_cannot_be_written(
    kitchen: Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no more room")

    monkeypatch.setattr("soupviz.soups.exports.write", fails)
    with pytest.raises(ExportError, match="no more room"):
        sv.export(sv.uniform(kitchen), tmp_path / "one", form="adapter")
    assert not (tmp_path / "one").exists()


def test_a_soup_that_is_no_weighted_sum_of_adapters_has_to_be_dense(kitchen: Kitchen, tmp_path: Path) -> None:
    ties = cook(kitchen, parse({"method": "ties"}))
    with pytest.raises(ExportError, match="no weighted sum"):
        sv.export(ties, tmp_path / "one", form="adapter")
    sv.export(ties, tmp_path / "soup.safetensors")
    sv.bake(tmp_path / "soup.safetensors", tmp_path / "again.safetensors")
    change_yaml(kitchen.file, lambda document: document["ingredients"].append("whole.safetensors"))
    save(build_model(MLP).state_dict(), kitchen.folder / "whole.safetensors")
    save({k: 1.01 * v for k, v in build_model(MLP).state_dict().items()}, kitchen.folder / "whole.safetensors")
    with pytest.raises(ExportError, match="'whole' is no LoRA adapter"):
        sv.export(sv.uniform(Kitchen.load(kitchen.file)), tmp_path / "one", form="adapter")


def test_a_sum_of_task_vectors_is_one_adapter_too(kitchen: Kitchen, tmp_path: Path) -> None:
    soup = cook(kitchen, parse({"method": "task_arithmetic", "scale": 0.7}))
    file, *_ = sv.export(soup, tmp_path / "one", form="adapter")
    for key, tensor in soup.state_dict().items():
        torch.testing.assert_close(kitchen.weights.read(file).tensors[key], tensor, rtol=1e-5, atol=1e-6)
