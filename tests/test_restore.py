"""An exported soup back among the soups of a kitchen."""

import json
from pathlib import Path

import pytest
import torch
from kitchens import BATCHNORM, change_yaml, json_of, run_command, save, small_kitchen
from pydantic import ValidationError
from safetensors.torch import load_file

import soupviz as sv
from soupviz.analysis.verdicts import verdict_of
from soupviz.data.splitting import split_held_out
from soupviz.errors import ExportError
from soupviz.mixing.formulas import Formula
from soupviz.recipes import Greedy
from soupviz.soups.provenance import Record, read_record, record_of
from soupviz.soups.restore import checked, restore
from soupviz.soups.selecting import Examples, examples_in
from soupviz.soups.soup import ELSEWHERE, Soup
from soupviz.soups.standing import is_current
from soupviz.spec import PartSpec


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Soup, Path]:
    """A greedy soup of a small kitchen, and its file."""
    soup = sv.greedy(sv.Kitchen.load(small_kitchen(tmp_path / "small")), alpha=0.3)
    return soup, sv.export(soup, tmp_path / "soup.safetensors")[0]


def renamed(soup: Soup) -> sv.Kitchen:
    """The same kitchen with an empty store, its ingredients in another order and under other names."""
    kitchen = soup.kitchen
    names = {f"n_{item.name}": item.path.name for item in reversed(kitchen.ingredients)}
    change_yaml(kitchen.file, lambda document: document.update(ingredients=names))
    kitchen.store.clear()
    return sv.Kitchen.load(kitchen.file)


@pytest.mark.parametrize("companion", ["soup.safetensors", "recipe.yaml"])
def test_a_restored_soup_has_the_weights_and_scores_that_were_exported(
    exported: tuple[Soup, Path], companion: str
) -> None:
    soup, file = exported
    soup.kitchen.store.clear()
    again = restore(soup.kitchen, read_record(file.with_name(companion)))
    cost = {"evaluations": None, "seconds": None}  # of the search, which was not repeated
    assert again.as_dict() | cost == soup.as_dict() | cost
    for key, tensor in soup.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_ingredients_are_found_by_fingerprint_under_other_names(exported: tuple[Soup, Path]) -> None:
    soup, file = exported
    again = restore(renamed(soup), read_record(file))
    assert again.mix == tuple((f"n_{name}", weight) for name, weight in soup.mix)
    assert again.scores["test"].correct == soup.scores["test"].correct
    for key, tensor in soup.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_a_soup_whose_decisions_are_about_subsets_is_restored(exported: tuple[Soup, Path], tmp_path: Path) -> None:
    soup, _ = exported
    beam = sv.cook(soup.kitchen, {"method": "beam"})
    again = restore(renamed(soup), read_record(sv.export(beam, tmp_path / "beam.safetensors")[0]))
    assert [step.correct for step in again.trajectory] == [step.correct for step in beam.trajectory]
    assert again.mix == tuple((f"n_{name}", weight) for name, weight in beam.mix)


def test_what_a_recipe_told_beside_its_soup_is_there_again(exported: tuple[Soup, Path], tmp_path: Path) -> None:
    soup, _ = exported
    names = [item.path.name for item in soup.kitchen.ingredients]
    for index, name in enumerate(names):
        (soup.kitchen.folder / name).with_suffix(".json").write_text(json.dumps({"epoch": index + 1}))
    best = sv.cook(sv.Kitchen.load(soup.kitchen.file), {"method": "windows"})
    again = restore(renamed(best), read_record(sv.export(best, tmp_path / "best.safetensors")[0]))
    assert again.notes == best.notes and len(again.notes["windows"]) == len(again.trajectory)


def test_members_of_the_recipe_are_renamed(exported: tuple[Soup, Path], tmp_path: Path) -> None:
    soup, _ = exported
    few = sv.greedy(soup.kitchen, members=["m_1", "m_0"])
    again = restore(renamed(soup), read_record(sv.export(few, tmp_path / "few.pt")[0]))
    assert isinstance(again.recipe, Greedy)
    assert again.recipe.members == ("n_m_1", "n_m_0")
    assert [step.ingredient for step in again.trajectory] == [f"n_{step.ingredient}" for step in few.trajectory]


def test_a_restored_soup_is_among_the_soups_and_restoring_it_again_changes_nothing(
    exported: tuple[Soup, Path],
) -> None:
    soup, file = exported
    kitchen = renamed(soup)
    restore(kitchen, read_record(file))
    runs = kitchen.store.runs()
    assert [run.status for run in runs] == ["finished"]
    assert is_current(kitchen, runs[0])
    restore(kitchen, read_record(file))
    assert kitchen.store.runs() == runs


def test_a_soup_of_a_smaller_pool_does_not_pass_for_one_of_the_whole_kitchen(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path / "small")
    change_yaml(file, lambda document: document.update(ingredients=["m_0.safetensors", "m_1.safetensors"]))
    small = sv.uniform(sv.Kitchen.load(file))
    record = read_record(sv.export(small, tmp_path / "soup.safetensors")[0])
    change_yaml(file, lambda document: document.update(ingredients=["m_*.safetensors"]))
    kitchen = sv.Kitchen.load(file)
    again = restore(kitchen, record)
    assert again.mix == small.mix
    assert len(sv.uniform(kitchen).mix) == 4
    runs = kitchen.store.runs()
    assert len(runs) == 2
    assert all(is_current(kitchen, run) for run in runs)


def test_a_missing_ingredient_is_named_with_its_fingerprint(exported: tuple[Soup, Path]) -> None:
    soup, file = exported
    values = json.loads(read_record(file).model_dump_json())
    values["ingredients"]["m_1"]["fingerprint"] = "0" * 64
    with pytest.raises(ExportError, match=r"Ingredient 'm_1' of .* expected fingerprint 000000000000…"):
        restore(soup.kitchen, Record.model_validate(values))


def test_a_run_whose_ingredient_is_gone_is_not_current(exported: tuple[Soup, Path]) -> None:
    soup, _ = exported
    run = soup.kitchen.store.runs()[0]
    change_yaml(soup.kitchen.file, lambda document: document.update(ingredients=["m_3.safetensors"]))
    assert not is_current(sv.Kitchen.load(soup.kitchen.file), run)


FORMULAS = [
    {"method": "ties", "members": ["m_0", "m_2"]},
    {"method": "slerp", "alpha": 0.3},
    {"method": "learned", "per": "layer", "epochs": 1},
    {"method": "wise_ft", "alpha": 0.4},
]


@pytest.mark.parametrize("values", FORMULAS, ids=lambda values: values["method"])
def test_a_formula_is_found_again_under_other_names(
    exported: tuple[Soup, Path], values: dict[str, object], tmp_path: Path
) -> None:
    """Its own name is of its content: that stays."""
    soup = sv.cook(exported[0].kitchen, values)
    weights = soup.state_dict()
    [file, *_] = sv.export(soup, tmp_path / "other.safetensors")
    again = restore(renamed(exported[0]), read_record(file), file)
    if soup.coefficients is None:
        assert again.mix == soup.mix
    else:
        assert again.mix == tuple((name if name == "base" else f"n_{name}", weight) for name, weight in soup.mix)
    assert again.pool == tuple(f"n_{name}" for name in soup.pool)
    assert {split: score.correct for split, score in again.scores.items()} == {
        split: score.correct for split, score in soup.scores.items()
    }
    for key, tensor in weights.items():
        assert torch.equal(again.state_dict()[key], tensor)
    [run] = again.kitchen.store.runs()
    assert is_current(again.kitchen, run)


def test_a_base_that_the_kitchen_lacks_is_named(exported: tuple[Soup, Path], tmp_path: Path) -> None:
    kitchen = exported[0].kitchen
    [file, *_] = sv.export(sv.cook(kitchen, {"method": "ties"}), tmp_path / "ties.safetensors")
    change_yaml(kitchen.file, lambda document: document.pop("base"))
    with pytest.raises(ExportError, match=r"Ingredient 'base' of 'TIES .*' is not in this kitchen"):
        restore(sv.Kitchen.load(kitchen.file), read_record(file))


def test_a_file_of_before_there_were_formulas_is_restored(exported: tuple[Soup, Path]) -> None:
    soup, file = exported
    values = json.loads(read_record(file).model_dump_json())
    for later in ("pool", "formulas", "temperature", "scaled_layer", "selected_on"):
        del values[later]
    soup.kitchen.store.clear()
    again = restore(soup.kitchen, Record.model_validate(values))
    assert (again.key, again.mix, again.coefficients) == (soup.key, soup.mix, soup.coefficients)


def test_a_formula_over_a_formula_is_found_again(exported: tuple[Soup, Path], tmp_path: Path) -> None:
    """What the outer one is made of has to be known before it, in whatever order they are named."""
    kitchen = exported[0].kitchen
    ties = sv.cook(kitchen, {"method": "ties"}).mix
    outer = kitchen.weights.adopt(Formula(kind="karcher", parts=((ties[0][0], 0.5), ("m_1", 0.5))))
    values = {"method": "interpolation", "a": "inner", "b": "outer", "mix_a": ties, "mix_b": outer, "alpha": 0.5}
    soup = sv.cook(kitchen, values)
    weights = soup.state_dict()
    [file, *_] = sv.export(soup, tmp_path / "nested.safetensors")
    assert torch.equal(load_file(sv.bake(file, tmp_path / "again.safetensors")[0])["0.weight"], weights["0.weight"])
    kitchen.store.clear()
    again = restore(sv.Kitchen.load(kitchen.file), read_record(file), file)
    assert (again.mix, again.key) == (soup.mix, soup.key)
    assert torch.equal(again.state_dict()["0.weight"], weights["0.weight"])


def test_a_file_cannot_name_weights_into_another_folder(exported, tmp_path):
    soup, _ = exported
    values = record_of(soup, tmp_path).model_dump(mode="json")
    values["formulas"] = {"../../evil/x-0123456789ab": {"kind": "kept", "parts": [[soup.pool[0], 1.0]]}}
    with pytest.raises(ValidationError, match="is not the name of a formula"):
        Record.model_validate(values)


def test_two_files_of_one_name_are_two_soups(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "kitchen", num_ingredients=3))
    file = tmp_path / "soup.safetensors"
    found = []
    for examples in (20, 60):
        soup = sv.cook(kitchen, {"method": "fisher", "examples": examples})
        file.unlink(missing_ok=True)
        sv.export(soup, file)
        kitchen.store.clear()
        kitchen = sv.Kitchen.load(kitchen.file)
        found.append((soup.scores, restore(kitchen, read_record(file), file).scores))
    assert all(before == after for before, after in found)


# The data that selected it


def part(index: int, of: int = 2, seed: int = 0) -> Examples:
    return Examples(fingerprint=f"{index} {of} {seed}", whole="all", part=PartSpec(index=index, of=of, seed=seed))


def test_parts_meet_what_they_are_dealt_from_and_parts_that_are_dealt_otherwise():
    whole, other = Examples(fingerprint="all", whole="all"), Examples(fingerprint="other", whole="other")
    assert part(0).meets(whole) and whole.meets(part(1)) and whole.meets(whole) and part(0).meets(part(0))
    assert not part(0).meets(part(1)) and not part(0).meets(other) and not whole.meets(other)
    assert part(0).meets(part(1, seed=1)) and part(0).meets(part(2, of=3))


def without_test(folder: Path) -> sv.Kitchen:
    file = small_kitchen(folder)
    change_yaml(file, lambda document: document["data"].pop("test"))
    return sv.Kitchen.load(file)


def test_after_held_out_was_split_in_two_a_soup_that_it_selected_does_not_report_on_either_half(tmp_path: Path) -> None:
    kitchen = without_test(tmp_path / "small")
    exported = sv.export(sv.greedy(kitchen), tmp_path / "soup.safetensors")[0]
    split_held_out(kitchen.file)
    halved = sv.Kitchen.load(kitchen.file)
    soup = restore(halved, read_record(exported), exported)
    assert soup.selected_on == ("held_out", "test")
    assert "held_out and test here have examples of it, and cannot report on it" in soup.notes[ELSEWHERE]
    run = halved.store.run(soup.key)
    assert run is not None and is_current(halved, run)
    for found in (verdict_of(halved, run), verdict_of(halved, soup)):
        assert found.selected_on == ("held_out", "test")
        assert found.values["test"].selects
        assert found.elsewhere == soup.notes[ELSEWHERE]
    # Nor does a place on the way to another model.
    way = {"a": "soup", "b": "m_0", "mix_a": soup.mix, "mix_b": [["m_0", 1.0]], "alpha": 0.5}
    assert sv.cook(halved, {"method": "interpolation"} | way).selected_on == ("held_out", "test")
    # What is written again names the data that selected it, not this kitchen's held_out.
    again = read_record(sv.export(soup, tmp_path / "again.safetensors")[0])
    assert again.selecting_data == read_record(exported).selecting_data
    assert again.selected_on == ("held_out", "test")


def test_a_soup_that_one_half_selected_reports_on_the_other_and_not_on_the_whole(tmp_path: Path) -> None:
    kitchen = without_test(tmp_path / "small")
    split_held_out(kitchen.file)
    halved = sv.Kitchen.load(kitchen.file)
    made = sv.greedy(halved)
    assert made.selected_on == ("held_out",)
    exported = sv.export(made, tmp_path / "soup.safetensors")[0]
    whole = {"format": "arrays", "path": "held_out.safetensors"}
    change_yaml(kitchen.file, lambda document: document["data"].update(shifts={"all": whole}))
    soup = restore(sv.Kitchen.load(kitchen.file), read_record(exported))
    assert soup.key == made.key  # selected by this very held_out
    found = verdict_of(sv.Kitchen.load(kitchen.file), soup)
    assert found.selected_on == ("held_out",)
    changed = sv.Kitchen.load(kitchen.file)
    changed.splits.load("shifts.all")
    assert verdict_of(changed, changed.store.run(made.key)).selected_on == ("held_out", "shifts.all")


def test_a_soup_selected_elsewhere_never_passes_for_what_its_recipe_makes_here(tmp_path: Path) -> None:
    kitchen = without_test(tmp_path / "small")
    exported = sv.export(sv.greedy(kitchen, alpha=0.3), tmp_path / "soup.safetensors")[0]
    change_yaml(kitchen.file, lambda document: document["data"]["held_out"].update(path="test.safetensors"))
    other = sv.Kitchen.load(kitchen.file)
    soup = restore(other, read_record(exported))
    assert "other data than this kitchen's held_out: no split here has any of it" in soup.notes[ELSEWHERE]
    own = sv.greedy(other, alpha=0.3)
    assert own.key != soup.key
    assert ELSEWHERE not in own.notes
    assert restore(other, read_record(exported)).key == soup.key
    # With other splits in kitchen.yaml it has to be found out anew which of them had a part in it.
    change_yaml(
        kitchen.file,
        lambda document: document["data"].update(test={"format": "arrays", "path": "held_out.safetensors"}),
    )
    later = sv.Kitchen.load(kitchen.file)
    assert not is_current(later, later.store.run(soup.key))
    assert restore(later, read_record(exported)).selected_on == ("held_out", "test")


def test_a_file_of_an_earlier_version_loads_and_what_cannot_be_checked_is_said(exported: tuple[Soup, Path]) -> None:
    soup, file = exported
    record = read_record(file)
    old = record.model_copy(update={"fingerprint": None, "tensors": "", "selecting_data": {}})
    again = restore(soup.kitchen, old)
    assert again.scores["test"].correct == soup.scores["test"].correct
    assert "it cannot be checked which splits here had a part in the choice" in again.notes[ELSEWHERE]
    assert verdict_of(soup.kitchen, again).elsewhere == again.notes[ELSEWHERE]


def test_other_coefficients_than_this_kitchen_found_are_not_taken_for_them(exported: tuple[Soup, Path]) -> None:
    soup, file = exported
    record = read_record(file)
    (first, weight), *others = record.mix
    again = restore(soup.kitchen, record.model_copy(update={"mix": ((first, weight + 0.01), *others)}))
    assert again.mix[0][1] == weight + 0.01
    assert "The same recipe made other coefficients in this kitchen" in again.notes[ELSEWHERE]
    assert "not those that were exported: 4 tensors differ, the first of them 0.bias" in again.notes[ELSEWHERE]


def test_a_test_split_that_has_held_outs_examples_reports_on_nothing(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path)
    change_yaml(file, lambda document: document["data"]["test"].update(path="held_out.safetensors"))
    kitchen = sv.Kitchen.load(file)
    soup = sv.greedy(kitchen)
    assert soup.selected_on == ("held_out", "test")
    assert set(soup.selecting_data) == {"held_out"}
    assert soup.selecting_data["held_out"] == examples_in(kitchen, "held_out")


def test_bake_holds_the_data_that_selected_a_soup_against_the_kitchens(tmp_path: Path, capsys) -> None:
    kitchen = without_test(tmp_path / "small")
    exported = sv.export(sv.greedy(kitchen), tmp_path / "soup.safetensors")[0]
    record = read_record(exported)
    selected = record.selecting_data["held_out"].fingerprint
    baked = ("bake", exported, "--out", tmp_path / "baked.safetensors", "--kitchen", kitchen.file)
    status, out, err = run_command(capsys, *baked)
    assert (status, err) == (0, "")
    assert f"fingerprint {record.fingerprint[:12]}…, the same weights as were exported" in out
    assert f"selected on held_out (fingerprint {selected[:12]}…)" in out
    split_held_out(kitchen.file)
    status, out, err = run_command(capsys, *baked)
    assert "selected on other data than this kitchen's held_out: held_out and test here have examples of it" in err
    found = json_of(capsys, *baked)
    assert found["is_checked"]  # the weights are the same all the same
    assert found["selecting_data"] == {"held_out": selected}


def test_the_card_names_the_weights_and_the_data_that_selected_them(tmp_path: Path) -> None:
    kitchen = without_test(tmp_path / "small")
    split_held_out(kitchen.file)
    soup, _, card = sv.export(sv.greedy(sv.Kitchen.load(kitchen.file)), tmp_path / "soup.safetensors")
    record, text = read_record(soup), card.read_text(encoding="utf-8")
    assert f"The fingerprint of these weights is `{record.fingerprint}`" in text
    selected = record.selecting_data["held_out"].fingerprint
    assert f"What chose it: held_out (part 0 of 2, fingerprint {selected[:12]}…)" in text


def test_loading_back_says_that_both_fingerprints_agree(exported: tuple[Soup, Path]) -> None:
    soup, file = exported
    record = read_record(file)
    said = checked(record, restore(soup.kitchen, record, file))
    assert f"Its weights are those that were exported, fingerprint {record.fingerprint[:12]}…" in said
    assert f"selected it: held_out (fingerprint {record.selecting_data['held_out'].fingerprint[:12]}…)" in said
    other = restore(soup.kitchen, record.model_copy(update={"selecting_data": {}}))
    assert checked(record, other) == f"{said.partition(' This kitchen')[0]} {other.notes[ELSEWHERE]}"
    moved = record.model_copy(update={"fingerprint": "0" * 64})
    assert checked(moved, restore(soup.kitchen, moved)).startswith("Its weights, as they are mixed here, are not those")


def test_a_file_whose_weights_were_changed_since_is_refused(exported: tuple[Soup, Path]) -> None:
    soup, file = exported
    record = read_record(file)
    tensors = load_file(file)
    tensors["0.bias"][0] += 1
    save(tensors, file, {"soupviz": record.model_dump_json()})
    with pytest.raises(ExportError, match=rf"expected fingerprint {record.fingerprint[:12]}…, got .* load its recipe"):
        restore(soup.kitchen, read_record(file), file)
    assert restore(soup.kitchen, record, file.parent / "recipe.yaml").notes == {}


def test_re_estimated_weights_are_checked_but_for_rounding(tmp_path: Path) -> None:
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), train=40, num_examples=40))
    file = sv.export(sv.uniform(kitchen, batchnorm="recalibrate"), tmp_path / "soup.safetensors")[0]
    record = read_record(file)
    assert restore(kitchen, record, file).notes == {}
    keys = sorted(load_file(file))

    def told(key: str) -> dict[str, str]:
        digests = record.tensors.split()
        digests[keys.index(key)] = "0" * 8
        other = record.model_copy(update={"fingerprint": "0" * 64, "tensors": " ".join(digests)})
        return restore(kitchen, other).notes

    assert told("1.running_var") == {}
    assert "1 tensors differ, the first of them 0.weight" in told("0.weight")[ELSEWHERE]
