import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from kitchens import BATCHNORM, MLP, TIED, build_model, change_yaml, json_of, run_command, save, small_kitchen
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.mixing.averaging import mix_tensors
from soupviz.soups.provenance import read_record
from soupviz.tasks.wording import in_percent
from soupviz.version import __version__
from soupviz.weights.ingredients import fingerprint

SUFFIXES = [".safetensors", ".pt"]


def load(path: Path) -> dict[str, Tensor]:
    """A soup's weights by the means of plain PyTorch and safetensors."""
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype
        and one[key].shape == other[key].shape
        and one[key].contiguous().view(-1).view(torch.uint8).equal(other[key].contiguous().view(-1).view(torch.uint8))
        for key in one
    )


def halves(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: t.bfloat16() if t.is_floating_point() else t for key, t in tensors.items()}


@pytest.fixture
def kitchen(tmp_path: Path) -> sv.Kitchen:
    return sv.Kitchen.load(small_kitchen(tmp_path / "kitchen"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# The file


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("source", "shape"), [(MLP, (6,)), (TIED, (6,)), (BATCHNORM, (3, 8, 8))], ids=["mlp", "tied", "batchnorm"]
)
def test_a_soup_loads_in_plain_pytorch_with_strict_and_answers_as_it_was_scored(source, shape, suffix, tmp_path, out):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", source=source, shape=shape))
    soup = sv.uniform(kitchen, ["m_0", "m_2"])
    [path, *_] = sv.export(soup, out / f"soup{suffix}")
    model = build_model(source)
    model.load_state_dict(load(path), strict=True)
    split = kitchen.splits.load("held_out")
    with torch.no_grad():
        correct = int((model(split.inputs[""]).argmax(1) == split.labels).sum())
    assert correct == soup.scores["held_out"].correct


def test_a_pt_file_goes_straight_into_load_state_dict(kitchen, out):
    soup = sv.uniform(kitchen)
    [path, *_] = sv.export(soup, out / "soup.pt")
    result = build_model(MLP).load_state_dict(torch.load(path, weights_only=True))
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert list(torch.load(path, weights_only=True)) == list(soup.state_dict())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_the_soup_bit_for_bit(kitchen, out, suffix):
    soup = sv.greedy(kitchen, alpha=0.3)
    [path, *_] = sv.export(soup, out / f"soup{suffix}")
    assert same_bits(load(path), soup.state_dict())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bfloat16_is_kept_or_widened_without_changing_a_value(tmp_path, out, suffix):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", source=BATCHNORM, shape=(3, 8, 8), change=halves))
    soup = sv.uniform(kitchen)
    kept = load(sv.export(soup, out / f"kept{suffix}")[0])
    wide = load(sv.export(soup, out / f"wide{suffix}", dtype="float32")[0])
    assert same_bits(kept, soup.state_dict())
    floats = [key for key in kept if not key.endswith("num_batches_tracked")]
    assert {kept[key].dtype for key in floats} == {torch.bfloat16}
    assert {wide[key].dtype for key in floats} == {torch.float32}
    assert all(torch.equal(wide[key], kept[key].float()) for key in floats)
    assert wide["1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tied_weights_are_written_under_both_names_with_one_value(tmp_path, out, suffix):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", source=TIED))
    written = load(sv.export(sv.uniform(kitchen), out / f"soup{suffix}")[0])
    assert torch.equal(written["first.weight"], written["second.weight"])


def test_an_export_changes_neither_the_ingredients_nor_the_kitchen(kitchen, tmp_path, out):
    before = {path.name: path.read_bytes() for path in (tmp_path / "kitchen").iterdir() if path.is_file()}
    sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    assert {path.name: path.read_bytes() for path in (tmp_path / "kitchen").iterdir() if path.is_file()} == before


def contents(folder: Path) -> dict[str, object]:
    """What the files of a folder say; safetensors writes its two entries of metadata in any order."""
    texts = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".md", ".yaml")}
    soups = [path for path in folder.iterdir() if path.suffix in SUFFIXES]
    weights = {path.name: {key: tensor.tolist() for key, tensor in load(path).items()} for path in soups}
    return texts | weights | {f"record of {path.name}": read_record(path) for path in soups}


def test_exporting_twice_says_the_same(kitchen, out):
    soup = sv.uniform(kitchen)
    sv.export(soup, out / "soup.safetensors")
    first = contents(out)
    sv.export(soup, out / "soup.safetensors")
    assert contents(out) == first
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "recipe.yaml", "soup.safetensors"]


# The record


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_record_travels_inside_the_file_and_says_everything(kitchen, out, suffix):
    soup = sv.greedy(kitchen, alpha=0.3, members=["m_0", "m_1", "m_2"])
    [path, recipe, _] = sv.export(soup, out / f"soup{suffix}")
    record = read_record(path)
    assert record == read_record(recipe)
    assert record.soupviz == __version__
    assert record.recipe == soup.recipe.model_dump(mode="json")
    assert record.model == {"factory": "model.py:build", "args": {}}
    assert record.mix == soup.mix
    assert record.coefficients == dict(soup.coefficients)
    assert record.dtype == "ingredients"
    assert {name: origin.fingerprint for name, origin in record.ingredients.items()} == {
        item.name: item.fingerprint for item in kitchen.ingredients if item.name != "m_3"
    }
    for name, origin in record.ingredients.items():
        assert (out / origin.file).resolve() == (kitchen.folder / f"{name}.safetensors").resolve()
    assert list(record.scores) == ["held_out", "test"]
    assert record.scores["test"]["correct"] == soup.scores["test"].correct
    assert [step["ingredient"] for step in record.trajectory] == [step.ingredient for step in soup.trajectory]


def test_safetensors_carry_the_record_as_their_metadata(kitchen, out):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["soupviz"])["title"] == "average"


def test_recipe_yaml_is_plain_yaml_with_exact_coefficients(kitchen, out):
    soup = sv.greedy(kitchen, alpha=0.3)
    sv.export(soup, out / "soup.safetensors")
    values = yaml.safe_load((out / "recipe.yaml").read_text())
    assert values["recipe"]["alpha"] == 0.3
    assert values["mix"] == [list(item) for item in soup.mix]
    assert values["coefficients"] == dict(soup.coefficients)


# The card


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_card_tells_each_score_with_its_split(kitchen, out, suffix):
    soup = sv.uniform(kitchen)
    [path, _, card] = sv.export(soup, out / f"soup{suffix}")
    assert card == out / "README.md"
    text = card.read_text(encoding="utf-8")
    assert text.startswith(f"---\n# {path.name}\n") and f"\n# {path.name}\n\nA model soup" in text
    for split, role in (("held_out", "selected on"), ("test", "reports")):
        score = soup.scores[split]
        [row] = [line for line in text.splitlines() if line.startswith(f"| {split} ")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:3] == [split, role, f"{in_percent(score.accuracy, 1)}%"]
        assert cells[4:] == [str(score.correct), "200", f"{score.loss:.4f}"]
        low, high = (float(part.strip("% ")) for part in cells[3].split("to"))
        assert low < 100 * score.accuracy < high
    for item in kitchen.ingredients:
        assert f"| {item.name} | 0.25 | `{item.fingerprint[:16]}` |" in text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_lines_on_the_card_load_the_soup(kitchen, out, suffix, monkeypatch):
    """Three lines, run as they stand in the soup's folder, and checked against the soup."""
    soup = sv.uniform(kitchen)
    sv.export(soup, out / f"soup{suffix}")
    code = (out / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 3
    assert "strict=True" in code
    model = build_model(MLP)
    monkeypatch.chdir(out)
    exec(code, {"model": model})
    assert same_bits(model.state_dict(), soup.state_dict())


def test_the_command_on_the_card_rebuilds_the_soup(kitchen, out, capsys, monkeypatch):
    sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    lines = (out / "README.md").read_text(encoding="utf-8").splitlines()
    [command] = [line for line in lines if line.startswith("python -m soupviz ")]
    monkeypatch.chdir(out)
    assert run_command(capsys, *command.split()[3:])[0] == 0
    assert same_bits(load(out / "rebuilt.safetensors"), load(out / "soup.safetensors"))


FOREIGN = ["# My project\n", "", "# my_soup.safetensors\nanother soup's card\n", "soup.safetensors is not yet made\n"]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_foreign_readme_is_not_overwritten(kitchen, out, text):
    (out / "README.md").write_text(text)
    written = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    assert (out / "README.md").read_text() == text
    assert [path.name for path in written] == ["soup.safetensors", "recipe.yaml", "soup.README.md"]
    assert (out / "soup.README.md").read_text(encoding="utf-8").startswith("---\n# soup.safetensors\n")


def test_a_foreign_recipe_is_not_overwritten(kitchen, out):
    (out / "recipe.yaml").write_text("# Minestrone\n")
    written = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    assert (out / "recipe.yaml").read_text() == "# Minestrone\n"
    assert [path.name for path in written] == ["soup.safetensors", "soup.recipe.yaml", "README.md"]


def test_two_soups_in_one_folder_keep_their_own_cards_and_recipes(kitchen, out):
    """Also where one name ends with the other."""
    sv.export(sv.uniform(kitchen, ["m_0", "m_1"]), out / "my_soup.safetensors")
    first = {name: (out / name).read_bytes() for name in ("README.md", "recipe.yaml")}
    written = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    assert {name: (out / name).read_bytes() for name in first} == first
    assert [path.name for path in written[1:]] == ["soup.recipe.yaml", "soup.README.md"]
    assert dict(read_record(written[1]).mix) == dict.fromkeys(kitchen.names, 0.25)


def test_a_soup_that_is_replaced_gets_its_new_card(kitchen, out):
    sv.export(sv.uniform(kitchen, ["m_0", "m_1"]), out / "soup.safetensors")
    written = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    assert [path.name for path in written] == ["soup.safetensors", "recipe.yaml", "README.md"]
    assert "4 of 4 fine-tuned checkpoints" in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_no_soup_is_not_overwritten(kitchen, out, suffix, capsys):
    (out / f"precious{suffix}").write_text("mine")
    with pytest.raises(ExportError, match=f"precious{suffix}: is there already.*Choose another name, or remove"):
        sv.export(sv.uniform(kitchen), out / f"precious{suffix}")
    status, _, err = run_command(
        capsys, "soup", kitchen.file, "--recipe", "uniform", "--out", out / f"precious{suffix}"
    )
    assert (status, err.count("is there already")) == (2, 1)
    assert {path.name: path.read_text() for path in out.iterdir()} == {f"precious{suffix}": "mine"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("m_3.safetensors", "the checkpoint of ingredient 'm_3'"),
        ("base.safetensors", "the kitchen's base"),
        ("test.safetensors", "the data of 'test'"),
    ],
)
def test_what_the_kitchen_is_made_of_is_not_overwritten_by_a_soup_of_other_ingredients(kitchen, name, told, tmp_path):
    before = (kitchen.folder / name).read_bytes()
    with pytest.raises(ExportError, match=f"{name}: is {told}; choose another name"):
        sv.export(sv.uniform(kitchen, ["m_0", "m_1"]), kitchen.folder / name)
    assert (kitchen.folder / name).read_bytes() == before


def test_a_soup_that_is_an_ingredient_is_not_overwritten_by_one_that_leaves_it_out(kitchen):
    [path, *_] = sv.export(sv.uniform(kitchen), kitchen.folder / "soup.safetensors")
    file = change_yaml(kitchen.file, lambda document: document["ingredients"].append(path.name))
    before = path.read_bytes()
    with pytest.raises(ExportError, match="is the checkpoint of ingredient 'soup'"):
        sv.export(sv.uniform(sv.Kitchen.load(file), ["m_0", "m_1"]), path)
    assert path.read_bytes() == before


def test_bake_overwrites_nothing_that_is_no_soup(kitchen, out, tmp_path):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    (tmp_path / "mine.safetensors").write_text("mine")
    with pytest.raises(ExportError, match=r"mine\.safetensors: is there already"):
        sv.bake(path, tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.safetensors").read_text() == "mine"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_soup_is_written_anew_over_a_soup(kitchen, out, suffix):
    sv.export(sv.uniform(kitchen, ["m_0", "m_1"]), out / f"soup{suffix}")
    [path, *_] = sv.export(sv.uniform(kitchen), out / f"soup{suffix}")
    assert len(read_record(path).mix) == len(kitchen.names)


# bake


SOUPS = {
    "uniform": lambda kitchen: sv.uniform(kitchen),
    "greedy mean": lambda kitchen: sv.greedy(kitchen),
    "greedy 0.3": lambda kitchen: sv.greedy(kitchen, alpha=0.3),
    "first statistics": lambda kitchen: sv.uniform(kitchen, batchnorm="first"),
    "with the base": lambda kitchen: sv.cook(kitchen, {"method": "wise_ft", "alpha": 0.4}),
    "ties": lambda kitchen: sv.cook(kitchen, {"method": "ties", "batchnorm": "first"}),
    "dare": lambda kitchen: sv.cook(kitchen, {"method": "dare"}),
    "layered": lambda kitchen: sv.cook(kitchen, {"method": "learned", "per": "layer", "epochs": 1}),
}
KINDS = {
    "mlp": {},
    "batchnorm": {"source": BATCHNORM, "shape": (3, 8, 8)},
    "tied": {"source": TIED},
    "bfloat16": {"change": halves},
    "mixed formats": {"suffix": [".safetensors", ".pt", ".bin"]},
}


@pytest.mark.parametrize("recipe", SOUPS)
@pytest.mark.parametrize("kind", KINDS)
def test_bake_rebuilds_bit_for_bit_from_the_recipe(tmp_path, out, kind, recipe):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", **KINDS[kind]))
    [path, recipe_file, _] = sv.export(SOUPS[recipe](kitchen), out / "soup.safetensors")
    [baked, *_] = sv.bake(recipe_file, out / "again.safetensors")
    assert same_bits(load(baked), load(path))
    assert read_record(baked) == read_record(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["ingredients", "float32"])
def test_bake_rebuilds_bit_for_bit_from_the_metadata_alone(tmp_path, out, suffix, dtype):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", change=halves))
    [path, recipe, card] = sv.export(sv.greedy(kitchen, alpha=0.3), out / f"soup{suffix}", dtype=dtype)
    recipe.unlink()
    card.unlink()
    [baked, *_] = sv.bake(path, out / f"again{suffix}")
    assert same_bits(load(baked), load(path))
    assert {t.dtype for t in load(baked).values()} == {torch.float32 if dtype == "float32" else torch.bfloat16}


def test_bake_may_change_the_format(kitchen, out):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    [baked, *_] = sv.bake(path, out / "again.pt")
    assert same_bits(dict(load(baked)), load(path))


@pytest.mark.parametrize("kept", ["first.weight", "second.weight"])
def test_ingredients_that_name_a_tied_tensor_once_are_baked(tmp_path, out, kept):
    """Either name: the other is filled in as it was when the soup was cooked."""
    dropped = ({"first.weight", "second.weight"} - {kept}).pop()
    file = small_kitchen(
        tmp_path / "kitchen", source=TIED, change=lambda t: {key: t[key] for key in t if key != dropped}
    )
    [path, *_] = sv.export(sv.uniform(sv.Kitchen.load(file)), out / "soup.safetensors")
    [baked, *_] = sv.bake(path, out / "again.safetensors")
    assert same_bits(load(baked), load(path))


def test_ingredients_in_wrappers_and_with_prefixes_are_baked(tmp_path, out):
    file = small_kitchen(tmp_path / "kitchen", suffix=".pt")
    for name in ("m_0", "m_2"):
        path = tmp_path / "kitchen" / f"{name}.pt"
        tensors = {f"module.{key}": tensor for key, tensor in torch.load(path, weights_only=True).items()}
        torch.save({"epoch": 3, "ema": {"x": torch.zeros(1)}, "state_dict": tensors}, path)
    [path, *_] = sv.export(sv.uniform(sv.Kitchen.load(file)), out / "soup.pt")
    assert same_bits(dict(load(sv.bake(path, out / "again.pt")[0])), dict(load(path)))


def test_bake_works_from_any_folder_into_any_other(kitchen, out, tmp_path, monkeypatch):
    """The ingredients' paths are relative to the recipe, wherever the command is run."""
    [path, recipe, _] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    [baked, *_] = sv.bake(recipe, Path("deep") / "again.safetensors")
    assert same_bits(load(baked), load(path))
    # What was baked there can be baked again from there.
    [again, *_] = sv.bake(baked, out / "third.safetensors")
    assert same_bits(load(again), load(path))


def test_kitchen_and_soup_may_move_together(kitchen, out, tmp_path):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    before = load(path)
    (tmp_path / "moved").mkdir()
    for folder in (tmp_path / "kitchen", out):
        shutil.move(folder, tmp_path / "moved")
    [baked, *_] = sv.bake(tmp_path / "moved" / "out" / "recipe.yaml", tmp_path / "again.safetensors")
    assert same_bits(load(baked), before)


def test_ingredients_that_were_moved_are_missed_by_name_and_found_with_kitchen(kitchen, out, tmp_path, capsys):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    (tmp_path / "kitchen").rename(tmp_path / "renamed")
    target = out / "again.safetensors"
    with pytest.raises(ExportError, match=r"kitchen/m_0\.safetensors: no such file.* ingredient 'm_0' of .*--kitchen"):
        sv.bake(path, target)
    status, _, err = run_command(capsys, "bake", path, "--out", target)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("soupviz: ")
    assert "m_0.safetensors: no such file" in err
    assert not target.exists()
    found = json_of(capsys, "bake", path, "--out", target, "--kitchen", tmp_path / "renamed" / "kitchen.yaml")
    assert found["files"][0] == str(target)
    assert same_bits(load(target), load(path))
    # The baked soup knows where the ingredients are now.
    assert same_bits(load(sv.bake(target, out / "third.safetensors")[0]), load(path))


def test_rejected_ingredients_are_not_needed_to_bake(kitchen, out, tmp_path):
    soup = sv.greedy(kitchen)
    rejected = [name for name, weight in soup.coefficients.items() if weight == 0]
    assert rejected
    [path, *_] = sv.export(soup, out / "soup.safetensors")
    for name in rejected:
        (tmp_path / "kitchen" / f"{name}.safetensors").unlink()
    assert same_bits(load(sv.bake(path, out / "again.safetensors")[0]), load(path))


def by_one_bit(path: Path) -> None:
    tensors = load_file(path)
    bits = tensors["0.weight"].view(torch.int32)
    bits[0, 0] ^= 1
    save(tensors, path)


@pytest.mark.parametrize("with_kitchen", [False, True])
def test_an_ingredient_that_changed_by_one_bit_fails_with_both_fingerprints(
    kitchen, out, tmp_path, capsys, with_kitchen
):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    by_one_bit(tmp_path / "kitchen" / "m_2.safetensors")
    changed = sv.Kitchen.load(kitchen.file)
    old, new = (each.weights.resolve("m_2").fingerprint[:12] for each in (kitchen, changed))
    words = rf"Ingredient 'm_2' \(.*m_2\.safetensors\) is not the one .* expected fingerprint {old}…, got {new}…"
    with pytest.raises(ExportError, match=words):
        sv.bake(path, out / "again.safetensors", kitchen=changed if with_kitchen else None)
    options = ["--kitchen", kitchen.file] if with_kitchen else []
    status, _, err = run_command(capsys, "bake", path, "--out", out / "again.safetensors", *options)
    assert (status, err.count("\n")) == (2, 1)
    assert f"expected fingerprint {old}…" in err
    assert not (out / "again.safetensors").exists()


def test_a_kitchen_that_lacks_an_ingredient_of_the_recipe_is_told(kitchen, out, tmp_path):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    change_yaml(kitchen.file, lambda document: document["ingredients"].remove("m_1.safetensors"))
    with pytest.raises(sv.SoupError, match="no ingredient 'm_1' in this kitchen"):
        sv.bake(path, out / "again.safetensors", kitchen=sv.Kitchen.load(kitchen.file))


def test_the_same_weights_in_another_format_are_the_same_ingredient(kitchen, out, tmp_path):
    """Fingerprints are of tensors, not of files: a kitchen converted to .pt bakes the same soup."""
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    folder = tmp_path / "converted"
    shutil.copytree(tmp_path / "kitchen", folder)
    names = [*kitchen.names, "base"]
    for name in names:
        torch.save(load_file(folder / f"{name}.safetensors"), folder / f"{name}.pt")
        (folder / f"{name}.safetensors").unlink()
    change_yaml(folder / "kitchen.yaml", lambda d: d.update(ingredients=["m_*.pt"], base="base.pt"))
    [baked, *_] = sv.bake(path, out / "again.safetensors", kitchen=sv.Kitchen.load(folder))
    assert same_bits(load(baked), load(path))


def test_a_baked_soup_keeps_the_scores_that_were_measured(kitchen, out):
    soup = sv.uniform(kitchen)
    [path, *_] = sv.export(soup, out / "soup.safetensors")
    sv.bake(path, out / "again.pt")
    record = read_record(out / "again.pt")
    assert record.scores == read_record(path).scores
    assert record.scores["test"]["correct"] == soup.scores["test"].correct


def test_the_soup_that_is_baked_over_itself_is_the_same(kitchen, out):
    [path, *_] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    before = contents(out)
    sv.bake(path, path)
    assert contents(out) == before


# Soups that are no weighted sum


@pytest.fixture
def ties(kitchen) -> sv.Soup:
    return sv.cook(kitchen, {"method": "ties", "members": ["m_0", "m_2"], "density": 0.3})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_record_of_a_formula_names_it_with_all_that_it_is_made_of(kitchen, ties, out, suffix):
    [path, recipe, _] = sv.export(ties, out / f"soup{suffix}")
    record = read_record(path)
    assert record == read_record(recipe)
    [(name, weight)] = record.mix
    assert (weight, record.coefficients, record.pool) == (1.0, None, ("m_0", "m_2"))
    assert record.formulas == {name: kitchen.weights.formula(name)}
    assert list(record.ingredients) == ["m_0", "m_2", "base"]
    assert record.ingredients["base"].fingerprint == kitchen.base.fingerprint
    assert (out / record.ingredients["base"].file).resolve() == (kitchen.folder / "base.safetensors").resolve()
    assert record.needed == {name, "m_0", "m_2", "base"}
    assert record.kept is None


def test_the_card_of_a_formula_has_no_coefficients(kitchen, ties, out):
    sv.export(ties, out / "soup.safetensors")
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "made from 3 checkpoints" in text
    assert "| ingredient | fingerprint |\n|---|---|\n" in text
    for name in ("m_0", "m_2", "base"):
        assert f"| {name} | `{kitchen.weights.resolve(name).fingerprint[:16]}` |" in text
    assert "This rebuilds the weights bit for bit" in text


def test_a_base_that_has_changed_or_is_gone_fails_by_name(kitchen, ties, out, tmp_path):
    [path, *_] = sv.export(ties, out / "soup.safetensors")
    base = tmp_path / "kitchen" / "base.safetensors"
    by_one_bit(base)
    with pytest.raises(ExportError, match=r"Ingredient 'base' \(.*base\.safetensors\) is not the one in the recipe"):
        sv.bake(path, out / "again.safetensors")
    with pytest.raises(ExportError, match="is not the one in the recipe"):
        sv.bake(path, out / "again.safetensors", kitchen=sv.Kitchen.load(kitchen.file))
    base.unlink()
    with pytest.raises(ExportError, match=r"base\.safetensors: no such file.* ingredient 'base' of .*--kitchen"):
        sv.bake(path, out / "again.safetensors")
    assert not (out / "again.safetensors").exists()


def test_an_ingredient_that_is_no_part_of_a_formula_is_not_needed_to_bake(kitchen, ties, out, tmp_path):
    weights = ties.state_dict()
    [path, *_] = sv.export(ties, out / "soup.safetensors")
    for name in ("m_1", "m_3"):
        (tmp_path / "kitchen" / f"{name}.safetensors").unlink()
    assert same_bits(load(sv.bake(path, out / "again.safetensors")[0]), weights)


def test_the_command_on_a_formulas_card_rebuilds_it(kitchen, ties, out, capsys, monkeypatch):
    sv.export(ties, out / "soup.safetensors")
    lines = (out / "README.md").read_text(encoding="utf-8").splitlines()
    [command] = [line for line in lines if line.startswith("python -m soupviz ")]
    monkeypatch.chdir(out)
    assert run_command(capsys, *command.split()[3:])[0] == 0
    assert same_bits(load(out / "rebuilt.safetensors"), load(out / "soup.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values["formulas"].clear(), r"the mix names 'ties-\w+', which is not among the ingredients"),
        (lambda values: values["ingredients"].pop("base"), "the mix names 'base', which is not among the ingredients"),
        (lambda values: values.update(batchnorm="probabilities"), "batchnorm: .*; expected average, first, recal"),
    ],
)
def test_a_record_that_does_not_hang_together_is_refused(ties, out, change, message):
    [_, recipe, _] = sv.export(ties, out / "soup.safetensors")
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    change(values)
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ExportError, match=rf"recipe\.yaml: not a whole soupviz recipe: .*{message}"):
        sv.bake(recipe, out / "again.safetensors")


# Soups and kitchens


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_exported_soup_is_not_an_ingredient_when_a_glob_matches_it(tmp_path, suffix):
    file = small_kitchen(tmp_path, suffix=suffix, ingredients=[f"m_*{suffix}"])
    kitchen = sv.Kitchen.load(file)
    sv.export(sv.uniform(kitchen), tmp_path / f"m_soup{suffix}")
    again = sv.Kitchen.load(file)
    assert again.names == kitchen.names == ["m_0", "m_1", "m_2", "m_3"]
    assert again.refused == ()
    # A plain copy of the same weights, without the record, is one: it is the record that tells them apart.
    save(dict(load(tmp_path / f"m_soup{suffix}")), tmp_path / f"m_copy{suffix}")
    assert "m_copy" in sv.Kitchen.load(file).names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_exported_soup_is_scored_as_the_soup_it_is(kitchen, out, suffix):
    soup = sv.greedy(kitchen, alpha=0.3)
    [path, *_] = sv.export(soup, out / f"soup{suffix}")
    for split in ("held_out", "test"):
        score = kitchen.scores.score(((str(path), 1.0),), split)
        assert (score.correct, score.loss) == (soup.scores[split].correct, soup.scores[split].loss)


def test_an_exported_soup_that_is_named_outright_is_an_ingredient(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    sv.export(sv.uniform(kitchen), tmp_path / "soup.safetensors")
    file = change_yaml(kitchen.file, lambda keys: keys["ingredients"].append("soup.safetensors"))
    assert sv.Kitchen.load(file).names == [*kitchen.names, "soup"]


def test_an_unknown_dtype_is_refused(kitchen, out):
    with pytest.raises(ExportError, match=r"dtype is 'float64'; expected ingredients or float32\."):
        sv.export(sv.uniform(kitchen), out / "soup.pt", dtype="float64")


# The soup's own fingerprint


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["ingredients", "float32"])
def test_a_soup_keeps_the_fingerprint_of_what_its_file_holds(tmp_path, out, suffix, dtype):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", change=halves))
    [path, recipe, _] = sv.export(sv.uniform(kitchen), out / f"soup{suffix}", dtype=dtype)
    assert read_record(path).fingerprint == fingerprint(dict(load(path)))
    assert read_record(recipe).fingerprint == read_record(path).fingerprint
    assert len(read_record(path).tensors.split()) == len(load(path))


def changed_recipe(recipe: Path, change) -> Path:
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    change(values)
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    return recipe


def test_bake_refuses_a_recipe_that_makes_other_weights_and_says_where(kitchen, out, capsys):
    """The coefficients are others, by a hair, than those that were exported."""
    [path, recipe, _] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    changed_recipe(recipe, lambda values: values["mix"][0].__setitem__(1, 0.2501))
    old = read_record(path).fingerprint[:12]
    words = (
        rf"recipe\.yaml: .* other weights than were exported, expected fingerprint {old}…, got .*: 4 of 4 .* 0\.bias"
    )
    with pytest.raises(ExportError, match=words):
        sv.bake(recipe, out / "again.safetensors")
    status, _, err = run_command(capsys, "bake", recipe, "--out", out / "again.safetensors")
    assert (status, err.count("\n")) == (2, 1)
    assert not (out / "again.safetensors").exists()


def test_bake_says_which_tensor_differs(tmp_path, out, monkeypatch):
    [path, *_] = sv.export(sv.uniform(sv.Kitchen.load(small_kitchen(tmp_path / "kitchen"))), out / "soup.safetensors")
    one_bit = lambda key, t: torch.nextafter(t, t + 1) if key == "2.weight" else t  # noqa: E731
    honest = mix_tensors
    other = lambda *given: ((key, one_bit(key, t)) for key, t in honest(*given))  # noqa: E731
    monkeypatch.setattr(sys.modules["soupviz.soups.baking"], "mix_tensors", other)
    with pytest.raises(ExportError, match=r"1 of 4 tensors differ, the first of them 2\.weight"):
        sv.bake(path, out / "again.safetensors")


def test_a_file_of_an_earlier_version_is_baked_and_what_cannot_be_checked_is_said(kitchen, out, capsys):
    [path, recipe, _] = sv.export(sv.uniform(kitchen), out / "soup.safetensors")
    changed_recipe(recipe, lambda values: [values.pop(name) for name in ("fingerprint", "tensors")])
    with pytest.warns(UserWarning, match=r"recipe\.yaml: keeps no fingerprint .*: it cannot be checked that these are"):
        [again, *_] = sv.bake(recipe, out / "again.safetensors")
    assert same_bits(load(again), load(path))
    assert read_record(again).fingerprint == read_record(path).fingerprint
    status, stdout, err = run_command(capsys, "bake", recipe, "--out", out / "third.safetensors", "--json")
    assert (status, json.loads(stdout)["is_checked"]) == (0, False)
    assert "cannot be checked" in err
    assert json_of(capsys, "bake", path, "--out", out / "third.safetensors")["is_checked"] is True


def test_statistics_that_were_re_estimated_may_differ_and_that_is_said(tmp_path, out):
    file = small_kitchen(tmp_path / "kitchen", source=BATCHNORM, shape=(3, 8, 8), train=60)
    kitchen = sv.Kitchen.load(file)
    [path, recipe, _] = sv.export(sv.uniform(kitchen, batchnorm="recalibrate"), out / "soup.safetensors")
    told: list[str] = []
    sv.bake(path, out / "again.safetensors", kitchen=kitchen, tell=told.append)
    assert told == []
    # As if train had been read in other batches: the statistics that were exported were others in a last bit.
    keys = sorted(load(path))
    digests = read_record(path).tensors.split()
    digests[keys.index("1.running_var")] = "0" * 8
    changed_recipe(recipe, lambda values: values.update(fingerprint="0" * 64, tensors=" ".join(digests)))
    sv.bake(recipe, out / "again.safetensors", kitchen=kitchen, tell=told.append)
    assert len(told) == 1
    assert "1 of 9 tensors differ, the first of them 1.running_var. They are statistics" in told[0]
