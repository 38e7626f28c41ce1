import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from kitchens import BATCHNORM, TIED, build_model, perturbed, save, small_kitchen, write_yaml
from pydantic import ValidationError
from test_checkpoints import LEGACY, sharded

import soupviz as sv
from soupviz.errors import CompatibilityError, KitchenError
from soupviz.kitchen import Kitchen, at_precision
from soupviz.scoring import evaluator
from soupviz.spec import FORMATS, OF_IMAGES, SplitSpec
from soupviz.weights.selection import candidate_files


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return Kitchen.load(small_kitchen(tmp_path_factory.mktemp("kitchen")))


def edit(file: Path, **keys) -> Path:
    document = yaml.safe_load(file.read_text()) | keys
    return write_yaml(file.parent, **document)


# Opening


def test_a_kitchen_opens_from_its_file_or_its_folder(kitchen):
    for path in (kitchen.file, kitchen.folder, str(kitchen.folder)):
        again = Kitchen.load(path)
        assert again.names == ["m_0", "m_1", "m_2", "m_3"]
        assert again.base.name == "base"
        assert (again.name, again.device.type, again.refused) == ("small", "cpu", ())


def test_a_kitchen_opened_from_a_relative_path_is_the_same(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path)
    save(build_model_state(tmp_path), tmp_path / "more" / "m_0.pt")
    edit(file, ingredients=["m_*.safetensors", "more/*.pt"], name="")
    monkeypatch.chdir(tmp_path)
    relative, absolute = Kitchen.load("kitchen.yaml"), Kitchen.load(file)
    assert relative.names == absolute.names == ["m_0", "m_1", "m_2", "m_3", "more/m_0"]
    assert relative.name == absolute.name == tmp_path.name
    assert relative.score()["correct"].tolist() == absolute.score()["correct"].tolist()


def build_model_state(folder: Path) -> dict[str, torch.Tensor]:
    return perturbed(build_model((folder / "model.py").read_text()).state_dict(), 0.05, seed=9)


def test_a_kitchen_needs_no_file(kitchen):
    again = Kitchen.open(kitchen.spec, kitchen.folder / "not-there.yaml")
    assert again.names == kitchen.names


# Which files are ingredients


def test_globs_are_sorted_naturally_and_leave_out_the_base(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=12, ingredients=["[bm]*.safetensors"])
    assert Kitchen.load(file).names == [f"m_{index}" for index in range(12)]


def test_patterns_keep_their_order_and_name_each_file_once(tmp_path):
    file = small_kitchen(tmp_path, ingredients=["m_2.safetensors", "m_[0-2].safetensors", "m_3.safetensors"])
    assert Kitchen.load(file).names == ["m_2", "m_0", "m_1", "m_3"]


def test_a_mapping_gives_ingredients_their_names(tmp_path):
    file = small_kitchen(tmp_path, ingredients={"slow": "m_1.safetensors", "fast": "m_0.safetensors"})
    assert Kitchen.load(file).names == ["slow", "fast"]


def test_an_absolute_pattern_is_allowed(tmp_path):
    small_kitchen(tmp_path / "there")
    file = small_kitchen(tmp_path / "here", ingredients=[str(tmp_path / "there" / "m_*.safetensors")])
    assert Kitchen.load(file).names == ["m_0", "m_1", "m_2", "m_3"]


def test_same_named_files_are_called_by_their_folders(tmp_path):
    file = small_kitchen(tmp_path)
    for run, seed in (("run_10", 1), ("run_9", 2)):
        save(perturbed(build_model_state(tmp_path), 0.1, seed), tmp_path / run / "best.pt")
    assert Kitchen.load(edit(file, ingredients=["run_*/best.pt"])).names == ["run_9", "run_10"]


def test_an_exported_soup_and_what_lies_beside_it_are_no_ingredients_of_a_glob(tmp_path):
    file = edit(small_kitchen(tmp_path), ingredients=["m_*"])
    kitchen = Kitchen.load(file)
    for suffix in (".safetensors", ".pt"):
        sv.export(sv.uniform(kitchen), tmp_path / f"m_soup{suffix}")
    assert {"m_soup.safetensors", "m_soup.pt", "m_soup.README.md"} <= {path.name for path in tmp_path.glob("m_*")}
    assert Kitchen.load(file).names == kitchen.names


def test_metadata_beside_checkpoints_is_no_ingredient_of_a_glob(tmp_path):
    file = edit(small_kitchen(tmp_path), ingredients=["m_*"])
    (tmp_path / "m_0.json").write_text("{}")
    (tmp_path / "m_table.csv").write_text("name,lr\n")
    assert Kitchen.load(file).names == ["m_0", "m_1", "m_2", "m_3"]


def test_a_sharded_checkpoint_is_one_ingredient_and_its_shards_are_none(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=2)
    sharded(build_model_state(tmp_path), tmp_path)
    kitchen = Kitchen.load(edit(file, ingredients=["m*.safetensors", "*.index.json"]))
    assert kitchen.names == ["m_0", "m_1", "model"]
    assert kitchen.score()["num_examples"].tolist() == [200, 200, 200]


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    file = small_kitchen(tmp_path, ingredients=["x_*.pt"])
    with pytest.raises(KitchenError, match=r"ingredients: .*x_\*\.pt matches no checkpoint"):
        Kitchen.load(file)


def test_a_pattern_that_matches_only_shards_says_so(tmp_path):
    file = small_kitchen(tmp_path)
    sharded(build_model_state(tmp_path), tmp_path)
    with pytest.raises(KitchenError, match=r"\(4 matches are the base or shards; name an index: \*\.index\.json\)"):
        Kitchen.load(edit(file, ingredients=["model-*.safetensors"]))


def test_no_ingredient_is_named_base(tmp_path):
    file = small_kitchen(tmp_path, ingredients={"base": "m_0.safetensors"})
    with pytest.raises(KitchenError, match="an ingredient cannot be named 'base'"):
        Kitchen.load(file)


def test_files_of_every_format_stand_side_by_side_and_share_their_scores(tmp_path):
    """The same weights in another format have the same fingerprint, and so the same score from the store."""
    small_kitchen(tmp_path, num_ingredients=1)
    state = build_model_state(tmp_path)
    for suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"):
        save(state, tmp_path / f"x{suffix}")
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "x_old.pt", **LEGACY)
    kitchen = Kitchen.load(edit(tmp_path / "kitchen.yaml", ingredients=["x*"]))
    assert set(kitchen.names) == {"x.safetensors", "x.pt", "x.pth", "x.bin", "x.ckpt", "x_old"}
    assert len({item.fingerprint for item in kitchen.ingredients}) == 1
    kitchen.scores.score(((kitchen.names[0], 1.0),))
    assert all(kitchen.scores.known(((name, 1.0),), "held_out") for name in kitchen.names)


def test_a_tied_network_loads_from_files_that_name_the_tie_once(tmp_path):
    def untied(tensors):
        return {key: tensor for key, tensor in tensors.items() if key != "second.weight"}

    whole = Kitchen.load(small_kitchen(tmp_path / "whole", source=TIED))
    once = Kitchen.load(small_kitchen(tmp_path / "once", source=TIED, change=untied))
    assert whole.architecture.ties == {"second.weight": "first.weight"}
    assert [a.fingerprint for a in whole.ingredients] == [b.fingerprint for b in once.ingredients]
    assert sv.uniform(whole).scores == sv.uniform(once).scores


# What is refused


def test_files_that_do_not_fit_are_refused_all_at_once_or_left_out_when_asked(tmp_path):
    file = small_kitchen(tmp_path)
    save({"other": torch.ones(1)}, tmp_path / "m_4.safetensors")
    state = build_model_state(tmp_path)
    save({key: tensor.half() for key, tensor in state.items()}, tmp_path / "m_5.safetensors")
    edit(file, ingredients=["m_*.safetensors"])
    with pytest.raises(CompatibilityError, match=r"^2 files are refused\. Ingredient 'm_4' .*another architecture"):
        Kitchen.load(file)
    kitchen = Kitchen.load(file, skip_incompatible=True)
    assert kitchen.names == ["m_0", "m_1", "m_2", "m_3"]
    assert [refusal.name for refusal in kitchen.refused] == ["m_4", "m_5"]
    assert [Path(refusal.file).name for refusal in kitchen.refused] == ["m_4.safetensors", "m_5.safetensors"]
    assert "torch.float16" in kitchen.refused[1].reason


def test_a_kitchen_in_which_nothing_fits_is_refused_even_when_asked_to_skip(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=0, ingredients=["odd.safetensors"])
    save({"other": torch.ones(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(CompatibilityError, match="'odd'"):
        Kitchen.load(file, skip_incompatible=True)


def test_a_checkpoint_that_was_read_before_is_not_fingerprinted_again(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path)
    first = Kitchen.load(file)
    monkeypatch.setattr("soupviz.weights.ingredients.fingerprint", lambda *_: pytest.fail("fingerprinted again"))
    assert [item.fingerprint for item in Kitchen.load(file).ingredients] == [i.fingerprint for i in first.ingredients]
    monkeypatch.undo()
    save(build_model_state(tmp_path), tmp_path / "m_0.safetensors")
    assert Kitchen.load(file).weights.resolve("m_0").fingerprint != first.weights.resolve("m_0").fingerprint


# Splits


def test_splits_are_named_and_only_reporting_ones_are_scored(tmp_path):
    arrays = {"format": "arrays", "path": "held_out.safetensors"}
    data = {"held_out": arrays, "test": arrays, "train": arrays, "shifts": {"blur": arrays, "noise": arrays}}
    kitchen = Kitchen.load(small_kitchen(tmp_path, data=data))
    assert kitchen.splits.names == ["held_out", "test", "train", "shifts.blur", "shifts.noise"]
    assert kitchen.splits.reporting == ["held_out", "test", "shifts.blur", "shifts.noise"]
    assert list(sv.uniform(kitchen).scores) == kitchen.splits.reporting
    assert kitchen.splits.load("shifts.blur").name == "shifts.blur"


def test_a_kitchen_without_test_scores_what_it_has(tmp_path):
    data = {"held_out": {"format": "arrays", "path": "held_out.safetensors"}}
    assert list(sv.uniform(Kitchen.load(small_kitchen(tmp_path, data=data))).scores) == ["held_out"]


def test_a_split_is_read_once_per_process(kitchen):
    assert kitchen.splits.load("test") is kitchen.splits.load("test")


def test_an_unknown_split_names_those_known(kitchen):
    with pytest.raises(KitchenError, match=r"no split 'shifts\.fog'; this kitchen has held_out, test"):
        kitchen.splits.load("shifts.fog")


# Names


def test_resolve_finds_ingredients_the_base_and_files(kitchen, tmp_path):
    assert kitchen.weights.resolve("m_1") is kitchen.ingredients[1]
    assert kitchen.weights.resolve("base") is kitchen.base
    outside = save(dict(kitchen.weights.resolve("m_2").tensors), tmp_path / "copy.pt")
    assert kitchen.weights.resolve(str(outside)).fingerprint == kitchen.weights.resolve("m_2").fingerprint
    assert kitchen.weights.resolve("m_3.safetensors").fingerprint == kitchen.weights.resolve("m_3").fingerprint


def test_resolve_refuses_what_is_none_of_these(kitchen, tmp_path):
    with pytest.raises(KitchenError, match="no ingredient 'm_l' in this kitchen; did you mean"):
        kitchen.weights.resolve("m_l")
    save({"other": torch.ones(1)}, tmp_path / "odd.pt")
    with pytest.raises(
        CompatibilityError, match=r"odd\.pt is of another architecture.*Choose a file of this kitchen's"
    ):
        kitchen.weights.resolve(str(tmp_path / "odd.pt"))


def test_a_kitchen_without_base_says_how_to_name_one(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, base=None))
    with pytest.raises(KitchenError, match="this kitchen has no base; add `base: FILE`, or name an ingredient"):
        kitchen.weights.resolve("base")


# kitchen.yaml as runs are kept under it

KEPT_SPLIT = (
    '{"format":"imagefolder","path":"x","transform":{"preset":null,"args":{},"channels":3,"resize":64,"interpolation":'
    '"bilinear","crop":null,"corrupt":null,"severity":3,"mean":null,"std":null},"args":{},"download":false,"version":'
    'null,"skip_corrupt":false,"restrict_classes":false,"text":"text","pair":null,"label":"label","tokenizer":null,'
    '"max_length":null,"group":null,"part":null}'
)


def test_a_split_is_the_plain_data_that_0_1_0_kept_runs_under(tmp_path):
    """Runs that learned on train, or looked at shifts, are found by it: keys that came since are left out of it."""
    split = SplitSpec(format="imagefolder", path="x", transform={"resize": 64})
    assert split.model_dump_json(exclude={"slices"}) == KEPT_SPLIT


@pytest.mark.parametrize("format", FORMATS)
def test_only_formats_of_images_take_a_transform(format):
    keys = {"format": format.replace("NAME", "CIFAR10"), "path": "x", "transform": {"resize": 64}}
    keys |= {"masks": {"masks": "m"}}.get(format, {})
    if format.partition(":")[0] in OF_IMAGES:
        assert SplitSpec(**keys).transform.resize == 64
    else:
        with pytest.raises(ValidationError, match="takes no transform"):
            SplitSpec(**keys)


# Scores


def test_score_is_a_table_with_one_row_per_ingredient(kitchen):
    table = kitchen.score()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == [
        "ingredient", "accuracy", "loss", "macro_f1", "split", "top5_accuracy", "num_examples", "correct",
    ]  # fmt: skip
    assert table["ingredient"].tolist() == kitchen.names
    assert table["accuracy"].tolist() == (table["correct"] / 200).tolist()
    assert set(kitchen.score("test")["split"]) == {"test"}
    assert kitchen.score(members=["m_3", "m_0"])["ingredient"].tolist() == ["m_0", "m_3"]


def test_the_score_table_of_a_classifier_has_the_kitchens_metric_whatever_it_is(tmp_path):
    table = Kitchen.load(small_kitchen(tmp_path, metric="ece")).score()
    assert list(table.columns) == [
        "ingredient", "ece", "accuracy", "loss", "macro_f1", "split", "top5_accuracy", "num_examples", "correct",
    ]  # fmt: skip
    assert table["ece"].notna().all()


def test_the_metrics_of_a_run_that_logged_much_are_read_in_a_terminal_of_80_columns(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path, num_ingredients=2)
    for number in range(2):
        of_trainer = {f"{number}_a_long_name_of_an_argument_{one}": one for one in range(12)}
        (tmp_path / f"m_{number}.json").write_text(json.dumps({"eval_loss": 0.1 * number} | of_trainer))
    monkeypatch.setenv("COLUMNS", "80")
    table = Kitchen.load(file).score()
    with pd.option_context("display.max_columns", 0):
        heads, *rows = repr(table).splitlines()
    assert heads.split() == ["ingredient", "accuracy", "loss", "...", "top5_accuracy", "num_examples", "correct"]
    assert rows[0].split()[1] == "m_0" and table["accuracy"][0] == float(rows[0].split()[2])


def test_a_kitchen_is_one_line_where_it_is_printed(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_ingredients=1, name="run"))
    assert repr(kitchen) == str(kitchen) == "<Kitchen run: 1 ingredient, classification>"


def test_metadata_of_files_and_of_tables_beside_them_stands_in_the_score_table(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=3)
    tensors = dict(Kitchen.load(file).weights.resolve("m_0").tensors)
    save(tensors, tmp_path / "m_0.safetensors", {"lr": "1e-3", "epochs": "12", "loss": "not the score's"})
    (tmp_path / "m_1.json").write_text(json.dumps({"lr": 0.01, "tags": ["a"]}))
    (tmp_path / "sweep.csv").write_text("file,lr,note\nm_2.safetensors,0.1,long\nm_9.safetensors,9,none\n")
    table = Kitchen.load(file).score()
    assert table["lr"].tolist() == [0.001, 0.01, 0.1]
    assert table["epochs"].tolist()[0] == 12
    assert table["note"].tolist()[2] == "long"
    assert "tags" not in table
    assert table["loss"].dtype == np.float64


def test_a_score_is_computed_once_whoever_asks(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path)
    first = Kitchen.load(file).scores.of_ingredients()
    monkeypatch.setattr(evaluator.Evaluator, "evaluate", lambda *_args, **_keys: pytest.fail("computed again"))
    again = Kitchen.load(file)
    assert again.scores.of_ingredients() == first
    assert again.scores.known((("m_0", 1.0),), "held_out") == first["m_0"]
    assert again.scores.known((("m_0", 0.5), ("m_1", 0.5)), "held_out") is None
    assert again.scores.known((("m_0", 1.0),), "test") is None


def test_a_mix_is_kept_by_content_not_by_name(tmp_path):
    file = small_kitchen(tmp_path, ingredients={"one": "m_0.safetensors", "two": "m_1.safetensors"})
    score = Kitchen.load(file).scores.score((("one", 0.25), ("two", 0.75)))
    renamed = edit(file, ingredients={"eins": "m_0.safetensors", "zwei": "m_1.safetensors"})
    assert Kitchen.load(renamed).scores.known((("eins", 0.25), ("zwei", 0.75)), "held_out") == score
    assert Kitchen.load(renamed).scores.known((("eins", 0.75), ("zwei", 0.25)), "held_out") is None


def test_a_zero_coefficient_is_the_mix_without_it(kitchen):
    score = kitchen.scores.score((("m_0", 1.0),))
    assert kitchen.scores.known((("m_0", 1.0), ("m_1", 0.0)), "held_out") == score


def test_another_aggregation_of_batchnorm_is_another_score(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_examples=50))
    half = (("m_0", 0.5), ("m_1", 0.5))
    average, first = (kitchen.scores.score(half, aggregation=aggregation) for aggregation in ("average", "first"))
    assert average.loss != first.loss
    whole = (("m_0", 1.0),)
    score = kitchen.scores.score(whole)
    assert kitchen.scores.known(whole, "held_out", "first") == score


def test_scoring_leaves_the_checkpoints_as_they_were(tmp_path):
    file = small_kitchen(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    kitchen = Kitchen.load(file)
    sv.greedy(kitchen, alpha=0.3)
    sv.interpolate(kitchen, "m_0", "base", points=3, start=-1, stop=2)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == before


def test_progress_of_scoring_ingredients_counts_all_of_them(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, batch_size=50))
    kitchen.splits.load("held_out")
    told = []
    kitchen.scores.of_ingredients(progress=lambda *values: told.append(values))
    assert [done for done, _, _ in told if done > 1] == list(range(50, 801, 50))
    assert {total for _, total, _ in told if total > 4} == {800}
    assert told[-1][2] == "scoring held_out: m_3"


def test_candidate_files_need_not_exist_yet(kitchen):
    spec = kitchen.spec.model_copy(update={"ingredients": ("later.pt",)})
    assert candidate_files(spec, kitchen.folder) == ({"later": kitchen.folder / "later.pt"}, [])


@pytest.mark.parametrize("pattern", ["all/**/*.*", "all/**/*"])
def test_a_pattern_that_matches_a_folder_and_the_checkpoint_in_it_lists_that_once(tmp_path, pattern):
    file = small_kitchen(tmp_path, num_ingredients=3)
    for index, folder in enumerate(["lr0.1", "lr0.01", "plain"]):
        (tmp_path / "all" / folder).mkdir(parents=True)
        (tmp_path / f"m_{index}.safetensors").rename(tmp_path / "all" / folder / "model.safetensors")
    opened = Kitchen.load(edit(file, ingredients=[pattern]))
    assert opened.names == ["lr0.01", "lr0.1", "plain"]
    assert {item.path for item in opened.ingredients} == set((tmp_path / "all").rglob("*.safetensors"))


def test_another_precision_decides_on_its_own_scores_and_leaves_the_kitchens_alone(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=100))
    full = sv.greedy(kitchen, alpha=0.3)
    reduced = sv.greedy(at_precision(kitchen, "bfloat16"), alpha=0.3)
    assert full.key != reduced.key
    assert {score.precision for score in reduced.scores.values()} == {"bfloat16"}
    assert {score.precision for score in full.scores.values()} == {"float32"}
    assert kitchen.spec.precision == "float32"
    assert sv.greedy(kitchen, alpha=0.3).as_dict() == full.as_dict()
