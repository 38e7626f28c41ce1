"""A kitchen opens what people have, and tells what it understood."""

import functools
import json
import os
from pathlib import Path

import pytest
import torch
from kitchens import BATCHNORM, MLP, build_model, change_yaml, json_of, perturbed, run_command, save, small_kitchen
from safetensors.torch import load_file
from test_checkpoints import sharded
from torch import nn

import soupviz as sv
from soupviz.errors import CheckpointError, CompatibilityError, KitchenError
from soupviz.kitchen import Kitchen
from soupviz.weights.containers import Kind, kind_of
from soupviz.weights.conversions import stand_ins
from soupviz.weights.ingredients import fingerprint


def state(seed: int = 9) -> dict[str, torch.Tensor]:
    return perturbed(build_model(MLP).state_dict(), 0.1, seed)


def kitchen_of(folder: Path, files: dict[str, object], pattern: str = "x*", **keys) -> Path:
    """A kitchen whose ingredients are these files: a dictionary is pickled whole, a text is written."""
    file = small_kitchen(folder, num_ingredients=0, ingredients=[pattern], **keys)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            torch.save(content, path)
    return file


def only_note(kitchen: Kitchen) -> str:
    [note] = kitchen.notes
    return note


# Files and folders


def test_a_glob_takes_what_is_a_checkpoint_and_says_what_it_passed_over(tmp_path):
    others = {"x.yaml": "lr: 1", "x.csv": "a,b", "x_readme.md": "#", "x_log": "line\n"}
    file = kitchen_of(tmp_path, {"x1.pth.tar": {"state_dict": state(1)}, "x2.th": state(2), "x3": state(3)} | others)
    (tmp_path / "x_empty_folder").mkdir()
    kitchen = Kitchen.load(file)
    assert kitchen.names == ["x1", "x2", "x3"]
    note = only_note(kitchen)
    assert note.startswith("Passed over, as no checkpoints: ")
    assert {"x.yaml", "x.csv", "x_readme.md", "x_log", "x_empty_folder"} <= set(note.replace(",", " ").split())


@pytest.mark.parametrize("name", ["x.pt", "x.pth.tar", "x"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut", b"\x80\x02cut", bytes(40)], ids=["empty", "zip", "pkl", "odd"]
)
def test_a_glob_does_not_pass_over_what_is_damaged(tmp_path, name, content):
    file = kitchen_of(tmp_path, {"x_whole.pt": state()})
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CompatibilityError, match=rf"/{name}: "):
        Kitchen.load(file)


def test_folders_with_a_checkpoint_each_are_ingredients_called_by_the_folder(tmp_path):
    file = kitchen_of(tmp_path, {}, pattern="checkpoint-*")
    for number in (1000, 500):
        (tmp_path / f"checkpoint-{number}").mkdir()
        save(state(number), tmp_path / f"checkpoint-{number}" / "model.safetensors")
        save({"state": torch.ones(1)}, tmp_path / f"checkpoint-{number}" / "optimizer.pt")
    (tmp_path / "checkpoint-2000").mkdir()
    sharded(state(2000), tmp_path / "checkpoint-2000")
    assert Kitchen.load(file).names == ["checkpoint-500", "checkpoint-1000", "checkpoint-2000"]
    change_yaml(file, lambda document: document.update(ingredients=["checkpoint-500", "checkpoint-1000"]))
    assert Kitchen.load(file).names == ["checkpoint-500", "checkpoint-1000"]


def test_a_folder_that_is_named_stands_for_each_checkpoint_in_it(tmp_path):
    file = kitchen_of(tmp_path, {"out/epoch=2.ckpt": state(2), "out/epoch=10.ckpt": state(10)}, pattern="out")
    assert Kitchen.load(file).names == ["epoch=2", "epoch=10"]


def test_the_base_may_be_a_folder(tmp_path):
    file = kitchen_of(tmp_path, {"x1.pt": state(1), "start/model.pt": state(0)}, base="start")
    assert Kitchen.load(file).base.path == tmp_path / "start" / "model.pt"


def test_names_with_commas_and_equals_signs_work_as_members(tmp_path, capsys):
    names = ["x,lr=0.1,wd=0", "x,lr=0.2,wd=0", "xlast"]
    file = kitchen_of(tmp_path, {f"{name}.pt": state(seed) for seed, name in enumerate(names)})
    arguments = ("soup", file, "--recipe", "uniform", "--members", names[0], "--members")
    for rest in ([names[1]], [names[1], "--members", "xlast"]):
        used = json_of(capsys, *arguments, *rest)["coefficients"]
        assert [name for name, weight in used.items() if weight] == [names[0], *rest[::2]]
    several = json_of(capsys, "score", file, "--members", names[0], "--members", "xlast")["ingredients"]
    assert list(several) == [names[0], "xlast"]


# Raw and averaged weights


def test_raw_or_averaged_weights_are_chosen_aloud(tmp_path, capsys):
    both = {
        "x1.pt": {"state_dict": state(1), "state_dict_ema": state(2)},
        "x2.pt": {"model": state(3), "ema": state(4)},
    }
    file = kitchen_of(tmp_path, both)
    raw, ema = Kitchen.load(file), Kitchen.load(file, weights="ema")
    assert "the file holds raw and EMA weights. The raw ones are read; weights: ema" in only_note(raw)
    assert "The EMA ones are read" in only_note(ema)
    for kitchen, seeds in ((raw, (1, 3)), (ema, (2, 4))):
        for name, seed in zip(kitchen.names, seeds, strict=True):
            assert torch.equal(kitchen.weights.resolve(name).tensors["0.bias"], state(seed)["0.bias"])
    status, out, err = run_command(capsys, "score", file, "--weights", "ema", "--json")
    assert status == 0
    assert f"note: {only_note(ema)}" in err
    correct = [score["correct"] for score in json.loads(out)["ingredients"].values()]
    assert correct == [score.correct for score in ema.scores.of_ingredients().values()]
    change_yaml(file, lambda document: document.update(weights="ema"))
    assert Kitchen.load(file).weights.resolve("x1").fingerprint == ema.weights.resolve("x1").fingerprint


def test_a_kitchen_in_which_only_some_files_have_averages_says_so(tmp_path):
    files = {"x1.pt": {"state_dict": state(1), "ema": state(2)}, "x2.pt": {"ema": state(3)}, "x3.pt": state(4)}
    told = " ".join(Kitchen.load(kitchen_of(tmp_path, files)).notes)
    assert "x2: the file holds EMA weights only" in told
    assert "side by side: 1 and 2 ingredients" in told
    told = " ".join(Kitchen.load(tmp_path, weights="ema").notes)
    assert "x3: the file holds no EMA weights" in told


def test_raw_weights_and_their_average_in_two_files_count_once_and_are_told(tmp_path, capsys):
    files = {f"x{seed}.pt": state(seed) for seed in (1, 2)} | {f"x{seed}_ema.pt": state(seed + 2) for seed in (1, 2)}
    file = kitchen_of(tmp_path, files | {"x3.pt": state(5)})
    raw, ema = Kitchen.load(file), Kitchen.load(file, weights="ema")
    assert raw.names == ["x1", "x1_ema", "x2", "x2_ema", "x3"]
    assert (raw.pool, ema.pool) == (["x1", "x2", "x3"], ["x1_ema", "x2_ema", "x3"])
    assert only_note(raw).startswith("Averages of raw weights in other files: x1_ema (of x1), x2_ema (of x2).")
    assert "Raw weights of averages in other files: x1 (of x1_ema), x2 (of x2_ema)." in " ".join(ema.notes)
    assert [item.fitted.weights for item in raw.ingredients] == ["raw", "ema", "raw", "ema", "raw"]
    assert sv.uniform(raw, members=["x1", "x1_ema"]).coefficients == {"x1": 0.5, "x1_ema": 0.5}


def test_what_convert_writes_of_one_file_is_told_apart_by_what_it_says(tmp_path, capsys):
    """Whatever the file is called: here its name says of an average, and one of the two is raw."""
    content = needs_code(1) | {"ema": state(2), "loss": {"w": torch.ones(1)}}
    file = kitchen_of(tmp_path, {"x_ema.pt": content})
    status, out, err = run_command(capsys, "convert", tmp_path / "x_ema.pt", "--trust")
    assert status == 0 and "x_ema.ema.safetensors" in out
    assert "not written, of further weights in it: loss." in err
    change_yaml(file, lambda document: document.update(ingredients=["x*.safetensors"]))
    kitchen = Kitchen.load(file)
    assert {item.name: item.fitted.weights for item in kitchen.ingredients} == {"x_ema": "raw", "x_ema.ema": "ema"}
    assert kitchen.pool == ["x_ema"]
    assert all("weights" not in item.metadata for item in kitchen.ingredients)


def test_convert_takes_lists_apart(tmp_path, capsys):
    torch.save([nn.Linear(2, 2), {"epoch": 3}], tmp_path / "m.pt")
    json_of(capsys, "convert", tmp_path / "m.pt", "--trust")
    assert load_file(tmp_path / "m.safetensors").keys() == {"weight", "bias"}


def test_averages_where_there_are_none_are_refused(tmp_path):
    with pytest.raises(KitchenError, match="weights is 'ema', but none of the 1 files is an average or has one"):
        Kitchen.load(kitchen_of(tmp_path, {"x1.pt": state()}), weights="ema")


# Copies, averages, left-overs


def test_a_copy_counts_once_unless_both_are_named(tmp_path):
    file = kitchen_of(tmp_path, {"x_epoch=1.pt": state(1), "x_epoch=2.pt": state(2)})
    (tmp_path / "x_best.pt").symlink_to("x_epoch=2.pt")
    kitchen = Kitchen.load(file)
    assert kitchen.names == ["x_best", "x_epoch=1", "x_epoch=2"]
    assert only_note(kitchen) == (
        "x_best is a copy of x_epoch=2: the same weights, which count once unless both are chosen by name."
    )
    assert sv.uniform(kitchen).coefficients == {"x_epoch=1": 0.5, "x_epoch=2": 0.5}
    assert sv.greedy(kitchen).coefficients.keys() == {"x_epoch=1", "x_epoch=2"}
    both = sv.uniform(kitchen, members=["x_best", "x_epoch=2"])
    assert both.coefficients == {"x_best": 0.5, "x_epoch=2": 0.5}
    assert list(kitchen.scores.of_ingredients()) == kitchen.names


def test_a_copy_in_which_only_batches_were_counted_on_counts_once(tmp_path):
    whole = perturbed(build_model(BATCHNORM).state_dict(), 0.1, 1)
    later = whole | {"1.num_batches_tracked": torch.tensor(5)}
    other = whole | {"5.bias": whole["5.bias"] + 1}
    files = {"x1.pt": whole, "x2.pt": later, "x3.pt": other}
    kitchen = Kitchen.load(kitchen_of(tmp_path, files, source=BATCHNORM, shape=(3, 8, 8)))
    assert kitchen.pool == ["x1", "x3"]
    assert only_note(kitchen).startswith("x2 is a copy of x1")


def test_extra_states_that_differ_from_file_to_file_are_left_over_and_named(tmp_path):
    files = {f"x{index}.pt": state(index) | {"0._extra_state": torch.tensor(index)} for index in range(2)}
    kitchen = Kitchen.load(kitchen_of(tmp_path, files))
    assert only_note(kitchen) == "x0, x1: left over, as no part of the model: 0._extra_state."
    [exported, *_] = sv.export(sv.uniform(kitchen), tmp_path / "soup.safetensors")
    sv.bake(exported, tmp_path / "again.safetensors")


def test_optimizers_and_foreign_indices_are_passed_over_by_what_they_hold(tmp_path):
    optimizer = torch.optim.Adam(build_model(MLP).parameters()).state_dict()
    files = {"x1.pt": state(1), "x_optim.pt": optimizer, "x_search.index.json": '{"documents": []}'}
    note = only_note(Kitchen.load(kitchen_of(tmp_path, files)))
    assert "x_optim.pt (the state of a training, without weights)" in note
    assert "x_search.index.json (text)" in note


def test_an_adapter_of_another_kind_than_lora_is_refused_with_the_remedy(tmp_path):
    file = kitchen_of(tmp_path, {"x1/adapter_config.json": '{"peft_type": "IA3"}', "x2.pt": state()})
    save({"base_model.model.0.ia3_l.weight": torch.ones(1, 6)}, tmp_path / "x1" / "adapter_model.safetensors")
    with pytest.raises(CompatibilityError, match=r"'x1' .* is an adapter of peft_type 'IA3'.*merge_and_unload"):
        Kitchen.load(file)


def test_a_folder_of_zero_shards_is_refused_with_what_gathers_them(tmp_path):
    shards = [f"x1/zero_pp_rank_{rank}_mp_rank_00_{what}_states.pt" for rank in (0, 1) for what in ("model", "optim")]
    file = kitchen_of(tmp_path, {name: {"module": {}} for name in shards} | {"x2.pt": state()})
    with pytest.raises(CompatibilityError, match=r"x1 is a checkpoint of ZeRO.*zero_to_fp32\.py"):
        Kitchen.load(file)
    change_yaml(file, lambda document: document.update(ingredients=["x1/*.pt"]))
    with pytest.raises(KitchenError, match=r"matches no checkpoint: .*a shard of DeepSpeed's ZeRO; .*zero_to_fp32\.py"):
        Kitchen.load(file)


def test_files_that_are_averages_themselves_are_told(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(build_model(MLP))
    for _ in range(3):
        averaged.update_parameters(build_model(MLP))
    files = {"x1.pt": averaged.state_dict(), "x_swa.pt": state(2), "x_ave_5best.pt": state(3), "x_wave.pt": state(4)}
    kitchen = Kitchen.load(kitchen_of(tmp_path, files))
    told = " ".join(kitchen.notes)
    assert [item.fitted.weights for item in kitchen.ingredients] == ["ema", "ema", "ema", "raw"]
    assert "side by side: 3 and 1 ingredients" in told
    assert "EMA weights only" not in told
    assert "Averages themselves: x1 (of 3 models), x_ave_5best (by its name), x_swa (by its name)." in told
    assert "x1: left over, as no part of the model: n_averaged." in told


def test_left_over_keys_are_named_once_for_all_files_that_have_them(tmp_path):
    wrapped = {f"net.{key}": tensor for key, tensor in state().items()} | {"criterion.weight": torch.ones(3)}
    files = {f"x{index}.pt": {"state_dict": wrapped | {"val.tp": torch.tensor(index)}} for index in range(2)}
    told = " ".join(Kitchen.load(kitchen_of(tmp_path, files)).notes)
    assert "x0, x1: left over, as no part of the model: criterion.weight, val.tp." in told


def test_constants_that_differ_from_file_to_file_are_refused_by_key(tmp_path):
    files = {f"x{index}.pt": state() | {"ids": torch.tensor([index])} for index in range(2)}
    with pytest.raises(
        CompatibilityError, match=r"'x1' .* has ids, which the model lacks, with other values than 'x0'"
    ):
        Kitchen.load(kitchen_of(tmp_path, files))


def test_an_exported_soup_of_wrapped_files_is_rebuilt_without_the_kitchen(tmp_path):
    wrapped = [{f"net.{key}": tensor for key, tensor in state(seed).items()} for seed in range(2)]
    files = {f"x{index}.pt": {"state_dict": one | {"net.ids": torch.arange(3), "loss.weight": torch.ones(2)}}
             for index, one in enumerate(wrapped)}  # fmt: skip
    kitchen = Kitchen.load(kitchen_of(tmp_path, files))
    [exported, *_] = sv.export(sv.uniform(kitchen), tmp_path / "soup.safetensors")
    (tmp_path / "again").mkdir()
    [again, *_] = sv.bake(exported, tmp_path / "again" / "soup.safetensors")
    one, other = load_file(exported), load_file(again)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_checkpoint_that_changes_while_it_is_open_is_not_scored(tmp_path):
    kitchen = Kitchen.load(kitchen_of(tmp_path, {"x1.pt": state(1), "x2.pt": state(2)}))
    torch.save(state(5), tmp_path / "x2.pt")
    kitchen.scores.score((("x1", 1.0),))
    with pytest.raises(CheckpointError, match=r"x2\.pt has changed since the kitchen was opened"):
        sv.uniform(kitchen)


# A base with another head


@pytest.mark.parametrize("recipe", ["task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock", "wise_ft"])
def test_recipes_work_over_what_a_base_with_another_head_shares_and_average_the_head(tmp_path, recipe):
    other = state(0) | {"2.weight": torch.ones(7, 16), "2.bias": torch.ones(7)}
    file = kitchen_of(tmp_path, {"x1.pt": state(1), "x2.pt": state(2), "start.pt": other}, base="start.pt")
    kitchen = Kitchen.load(file)
    assert "The base (start.pt) has another head: 2.weight, 2.bias are not its own" in only_note(kitchen)
    assert kitchen.base is None
    soup = sv.cook(kitchen, {"method": recipe, **({"alpha": 0.5} if recipe == "wise_ft" else {})})
    head = (state(1)["2.bias"] + state(2)["2.bias"]) / 2
    torch.testing.assert_close(soup.state_dict()["2.bias"], head)
    body = (state(1)["0.bias"] + state(2)["0.bias"]) / 2
    assert not torch.allclose(soup.state_dict()["0.bias"], body) or recipe == "task_arithmetic"
    [exported, *_] = sv.export(soup, tmp_path / "soup.safetensors")
    (tmp_path / "again").mkdir()
    [again, *_] = sv.bake(exported, tmp_path / "again" / "soup.safetensors")
    assert all(torch.equal(load_file(exported)[key], tensor) for key, tensor in load_file(again).items())


def test_a_base_of_another_type_is_read_in_the_ingredients_and_this_is_told(tmp_path):
    half = {key: tensor.half() for key, tensor in state(0).items()}
    files = {"x1.pt": state(1), "x2.pt": state(2), "start.pt": half}
    kitchen = Kitchen.load(kitchen_of(tmp_path, files, base="start.pt"))
    assert only_note(kitchen) == "The base holds float16; it is read as float32, which the ingredients hold."
    assert torch.equal(kitchen.base.tensors["0.bias"], half["0.bias"].float())
    assert kitchen.base.fingerprint == fingerprint({key: tensor.float() for key, tensor in half.items()})
    [exported, *_] = sv.export(sv.cook(kitchen, {"method": "task_arithmetic"}), tmp_path / "soup.safetensors")
    (tmp_path / "again").mkdir()
    [again, *_] = sv.bake(exported, tmp_path / "again" / "soup.safetensors")
    assert all(torch.equal(load_file(exported)[key], tensor) for key, tensor in load_file(again).items())


def test_a_base_too_large_for_the_ingredients_type_is_refused(tmp_path):
    files = {"x1.pt": {key: tensor.half() for key, tensor in state(1).items()}, "start.pt": state(0)}
    files["start.pt"]["0.bias"][0] = 1e6
    with pytest.raises(CompatibilityError, match=r"'base' .* of type torch\.float32"):
        Kitchen.load(kitchen_of(tmp_path, files, base="start.pt"))


def test_a_base_with_another_head_may_share_layers_with_all_ingredients(tmp_path):
    """A frozen layer is looked for in all of them, and the base has no head to look at."""
    frozen = {"0.weight": state(0)["0.weight"]}
    other = state(0) | {"2.weight": torch.ones(7, 16), "2.bias": torch.ones(7)}
    files = {"x1.pt": state(1) | frozen, "x2.pt": state(2) | frozen, "start.pt": other}
    head = {"2.weight": state(1)["2.weight"]}
    files = {name: content | (head if name != "start.pt" else {}) for name, content in files.items()}
    kitchen = Kitchen.load(kitchen_of(tmp_path, files, base="start.pt"))
    assert sv.cook(kitchen, {"method": "wise_ft", "alpha": 0.5}).scores["held_out"].num_examples == 200


def test_a_file_that_was_exchanged_under_an_old_date_is_another_checkpoint(tmp_path):
    """As tar, rsync and containers set dates."""
    file = kitchen_of(tmp_path, {"x1.pt": state(1), "x2.pt": state(2)})
    for seed in (1, 5):
        torch.save(state(seed), tmp_path / "x1.pt")
        os.utime(tmp_path / "x1.pt", (0, 0))
        found = Kitchen.load(file).weights.resolve("x1")
        assert found.fingerprint == fingerprint(state(seed))


def test_a_name_with_brackets_is_a_file_and_a_pattern_that_is_none_is_refused(tmp_path):
    file = kitchen_of(tmp_path, {"x[0].pt": state(1)}, pattern="x[0].pt")
    assert Kitchen.load(file).names == ["x[0]"]
    for pattern, words in {"a**b.pt": "is no pattern|matches no checkpoint", "": "at least 1 character"}.items():
        change_yaml(file, lambda document, pattern=pattern: document.update(ingredients=[pattern]))
        with pytest.raises(KitchenError, match=words):
            Kitchen.load(file)


def test_the_best_alpha_from_a_base_with_another_head_leaves_the_base_alone_out(tmp_path):
    other = state(0) | {"2.weight": torch.ones(7, 16), "2.bias": torch.ones(7)}
    file = kitchen_of(tmp_path, {"x1.pt": state(1), "x2.pt": state(2), "start.pt": other}, base="start.pt")
    soup = sv.cook(Kitchen.load(file), {"method": "wise_ft"})
    assert [step.ingredient for step in soup.trajectory][:2] == ["alpha 0.1", "alpha 0.2"]


def test_a_base_with_another_head_cannot_be_scored_itself(tmp_path):
    other = state(0) | {"2.weight": torch.ones(7, 16), "2.bias": torch.ones(7)}
    file = kitchen_of(tmp_path, {"x1.pt": state(1), "start.pt": other}, base="start.pt")
    with pytest.raises(CompatibilityError, match=r"'base' \(.*start\.pt\) has no 2\.weight as the model has it"):
        sv.interpolate(Kitchen.load(file), "base", "x1", points=3)


# Pickles that need code


def needs_code(seed: int) -> dict[str, object]:
    return {"epoch": seed, "model": state(seed), "hook": functools.partial(max, 1)}


def test_files_that_need_the_same_code_are_refused_once_with_one_command(tmp_path):
    file = kitchen_of(tmp_path, {f"x{index}.pt": needs_code(index) for index in range(12)})
    with pytest.raises(CompatibilityError) as caught:
        Kitchen.load(file)
    message = str(caught.value)
    assert message.count("a pickle that needs builtins.max, functools.partial") == 1
    assert message.count("11 more files") == 1
    command = message[message.index("soupviz convert") :]  # to the end of the line, as it is copied
    assert command.split()[2:] == [*(str(tmp_path / f"x{index}.pt") for index in range(12)), "--trust"]


def test_files_that_are_refused_for_different_reasons_are_counted_once(tmp_path, capsys):
    file = kitchen_of(tmp_path, {"x1.pt": needs_code(1), "x2.pt": needs_code(2), "x3.pt": state(3)})
    (tmp_path / "x4.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    _, _, err = run_command(capsys, "score", file)
    assert err.startswith("soupviz: 3 files are refused. ")
    assert err.count("1 more files") == 1
    assert err.endswith(" --trust\n")
    _, _, err = run_command(capsys, "score", file, "--skip-incompatible")
    left_out = [line for line in err.splitlines() if line.startswith("left out")]
    assert [line.split()[-1] for line in left_out] == ["--trust", "pull"]


@pytest.mark.parametrize("pattern", ["*.pt", "*"])
def test_a_pickle_that_was_converted_is_read_from_what_was_made_of_it_and_that_is_told(tmp_path, capsys, pattern):
    (tmp_path / "run").mkdir()
    file = kitchen_of(tmp_path, {"run/x1.pt": needs_code(1), "run/x2.pt": state(2)}, pattern=f"run/{pattern}")
    json_of(capsys, "convert", tmp_path / "run" / "x1.pt", "--trust")
    kitchen = Kitchen.load(file)
    assert {item.name: item.path.name for item in kitchen.ingredients} == {"x1": "x1.safetensors", "x2": "x2.pt"}
    assert "converted_content" not in kitchen.weights.resolve("x1").metadata
    assert [note for note in kitchen.notes if "x1.safetensors for x1.pt" in note]
    torch.save(needs_code(9), tmp_path / "run" / "x1.pt")
    with pytest.raises(CompatibilityError, match=r"x1\.pt.* --trust$"):
        Kitchen.load(file)


def test_of_a_converted_pickle_with_an_average_the_chosen_weights_are_read(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    both = needs_code(1) | {"ema": state(5)}
    file = kitchen_of(tmp_path, {"run/x1.pt": both}, pattern="run/*.pt")
    json_of(capsys, "convert", tmp_path / "run" / "x1.pt", "--trust")
    raw, average = Kitchen.load(file), Kitchen.load(file, weights="ema")
    assert torch.equal(raw.weights.resolve("x1").tensors["2.bias"], state(1)["2.bias"])
    assert torch.equal(average.weights.resolve("x1").tensors["2.bias"], state(5)["2.bias"])
    assert any("weights: ema (--weights ema)" in note for note in raw.notes)


def test_a_base_and_a_named_file_that_were_converted_are_found_too(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    files = {"run/x1.pt": needs_code(1), "run/b.pt": needs_code(0)}
    file = kitchen_of(tmp_path, files, pattern="run/x1.pt", base="run/b.pt")
    json_of(capsys, "convert", tmp_path / "run" / "x1.pt", tmp_path / "run" / "b.pt", "--trust")
    kitchen = Kitchen.load(file)
    assert kitchen.names == ["x1"]
    assert kitchen.base is not None
    for base in ("run/b.pt", "run/b.safetensors"):
        change_yaml(file, lambda document, base=base: document.update(ingredients=["run/*"], base=base))
        assert Kitchen.load(file).names == ["x1"]


@pytest.mark.parametrize("legacy", [{}, {"_use_new_zipfile_serialization": False}])
def test_what_convert_wrote_stands_for_a_copy_of_the_pickle_whatever_its_time(tmp_path, capsys, legacy):
    torch.save(needs_code(1), tmp_path / "x1.pt", **legacy)
    json_of(capsys, "convert", tmp_path / "x1.pt", "--trust")
    (tmp_path / "x1.pt").touch()
    assert stand_ins(tmp_path / "x1.pt") == {"raw": tmp_path / "x1.safetensors"}
    (tmp_path / "x1.safetensors").rename(tmp_path / "x2.safetensors")
    (tmp_path / "x1.pt").rename(tmp_path / "x2.pt")
    assert stand_ins(tmp_path / "x2.pt") == {}


def test_convert_runs_a_files_code_only_on_the_users_word(tmp_path, capsys):
    file = kitchen_of(tmp_path, {"x1.pt": needs_code(1), "x2.pt": needs_code(2)}, pattern="*.safetensors")
    for name in ("held_out", "test", "base"):
        assert (tmp_path / f"{name}.safetensors").exists()
    paths = [tmp_path / "x1.pt", tmp_path / "x2.pt"]
    status, _, err = run_command(capsys, "convert", *paths)
    assert status == 2
    assert "x1.pt, x2.pt" in err and "--trust" in err
    written = json_of(capsys, "convert", *paths, "--trust")["files"]
    assert written == {str(path): [str(path.with_suffix(".safetensors"))] for path in paths}
    change_yaml(file, lambda document: document.update(ingredients=["x*.safetensors"]))
    kitchen = Kitchen.load(file)
    assert [item.metadata["epoch"] for item in kitchen.ingredients] == ["1", "2"]
    assert torch.equal(kitchen.weights.resolve("x2").tensors["2.bias"], state(2)["2.bias"])
    assert json_of(capsys, "convert", *paths, "--trust")["files"] == written


def test_convert_takes_modules_apart_and_keeps_raw_weights_and_averages_apart(tmp_path, capsys):
    model, average = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save({"model": model, "ema": average, "epoch": 3}, tmp_path / "best.pt")
    torch.save({"model": None, "ema": average.half()}, tmp_path / "last.pt")
    written = json_of(capsys, "convert", tmp_path / "best.pt", tmp_path / "last.pt", "--trust")["files"]
    names = [[Path(path).name for path in paths] for paths in written.values()]
    assert names == [["best.safetensors", "best.ema.safetensors"], ["last.safetensors"]]
    assert torch.equal(load_file(tmp_path / "best.safetensors")["weight"], model.weight)
    assert load_file(tmp_path / "last.safetensors")["weight"].dtype == torch.float16


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_convert_takes_the_weights_of_a_program(tmp_path, capsys):
    model = nn.Linear(2, 2)
    torch.jit.trace(model, torch.zeros(1, 2)).save(str(tmp_path / "m.pt"))
    json_of(capsys, "convert", tmp_path / "m.pt", "--trust")
    assert torch.equal(load_file(tmp_path / "m.safetensors")["weight"], model.weight)


def test_convert_leaves_files_alone_that_are_not_its_own(tmp_path, capsys):
    torch.save(needs_code(1), tmp_path / "m.pt")
    save(state(7), tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    status, _, err = run_command(capsys, "convert", tmp_path / "m.pt", "--trust")
    assert status == 2
    assert "is there already, and was not made from this file" in err
    assert (tmp_path / "m.safetensors").read_bytes() == before


def test_what_convert_cannot_read_is_one_line(tmp_path, capsys):
    (tmp_path / "cut.pt").write_bytes(b"\x80\x02cut")
    (tmp_path / "a.txt").write_text("x")
    torch.save({"epoch": 3}, tmp_path / "bare.pt")
    for name, words in {
        "cut.pt": "loading it failed",
        "a.txt": "text",
        "bare.pt": "holds no weights",
        "no": "no such",
    }.items():
        status, _, err = run_command(capsys, "convert", tmp_path / name, "--trust")
        assert status == 2 and words in err and "Traceback" not in err, name


def test_kinds_are_told_apart_without_reading_the_file_whole(tmp_path):
    file = save({"w": torch.zeros(10)}, tmp_path / "m.safetensors")
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 8)
    assert kind_of(file) is Kind.SAFETENSORS
