"""mergekit's YAML: what it says here, what is refused by name, and that both programs make the same weights of it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from adapters import adapters_kitchen
from kitchens import change_yaml, json_of, perturbed, run_command, save, small_kitchen, write_yaml
from safetensors.torch import load_file

import soupviz as sv
from benchmarks.mixes import mergekit
from soupviz.errors import ExportError, KitchenError, RecipeError
from soupviz.mixing import merging
from soupviz.recipes import parse
from soupviz.recipes.merge_files import METHODS, read_merge


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = small_kitchen(tmp_path_factory.mktemp("kitchen"), num_ingredients=3, num_examples=40)
    base = file.with_name("base.safetensors")
    save(perturbed(load_file(base), 0.3, seed=99), base)  # differences from it have much in common, as in practice
    return file


def written(folder: Path, method: str, models: Any, **keys: Any) -> Path:
    """models: a mapping of name to parameters."""
    listed = [{"model": name} | ({"parameters": told} if told else {}) for name, told in models.items()]
    place = folder / "merge.yaml"
    place.write_text(yaml.safe_dump({"merge_method": method, "models": listed, **keys}))
    return place


def weights(file: Path, recipe: Any) -> dict[str, torch.Tensor]:
    return sv.cook(sv.Kitchen.load(file), recipe).state_dict()


def close(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(tensor, other[key], rtol=1e-5, atol=2e-6)


THREE = {"m_0": {"weight": 1.0}, "m_1": {"weight": 2.0}, "m_2": {"weight": 1.0}}


def test_linear_divides_weights_by_their_sum_unless_it_is_told_not_to(file, tmp_path):
    recipe = sv.from_mergekit(sv.Kitchen.load(file), written(tmp_path, "linear", THREE))
    assert recipe.parts == (("m_0", 0.25), ("m_1", 0.5), ("m_2", 0.25))
    soup = sv.cook(sv.Kitchen.load(file), recipe)
    assert soup.coefficients == {"m_0": 0.25, "m_1": 0.5, "m_2": 0.25}
    left = read_merge(written(tmp_path, "linear", THREE, parameters={"normalize": False}))
    assert [weight for _, weight in left.parts] == [1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("method", "own", "shared", "by_hand"),
    [
        ("task_arithmetic", {}, {"lambda": 0.5}, lambda b, t: b + 0.5 * ((t[0] - b) + 2 * (t[1] - b) + (t[2] - b))),
        ("task_arithmetic", {}, {"normalize": True}, lambda b, t: b + ((t[0] - b) + 2 * (t[1] - b) + (t[2] - b)) / 4),
        (
            "ties", {"density": 0.5}, {"lambda": 0.7},
            lambda b, t: merging.ties(b, t, [0.25, 0.5, 0.25], density=0.5, scale=0.7),
        ),
        (
            "breadcrumbs", {"density": 0.8, "gamma": 0.1}, {},
            lambda b, t: merging.breadcrumbs(b, t, [0.25, 0.5, 0.25], density=0.8, gamma=0.1, scale=4.0),
        ),
        ("dare_linear", {"density": 1.0}, {"lambda": 0.25}, lambda b, t: (t[0] + 2 * t[1] + t[2]) / 4),
        ("model_stock", None, {}, lambda b, t: merging.model_stock(b, t)),
    ],
)  # fmt: skip
def test_a_method_over_differences_is_what_its_formula_says(file, tmp_path, method, own, shared, by_hand):
    models = {name: None if own is None else told | own for name, told in THREE.items()}
    place = written(tmp_path, method, models, base_model="base", **({"parameters": shared} if shared else {}))
    found = weights(file, sv.from_mergekit(sv.Kitchen.load(file), place))
    base, *others = (load_file(file.with_name(f"{name}.safetensors")) for name in ("base", *THREE))
    close(found, {key: by_hand(base[key], [one[key] for one in others]) for key in base})


def test_slerp_runs_from_the_base_model(file, tmp_path):
    place = written(tmp_path, "slerp", {"m_1": None, "m_0": None}, base_model="m_0", parameters={"t": 0.3})
    found = weights(file, sv.from_mergekit(sv.Kitchen.load(file), place))
    a, b = (load_file(file.with_name(f"{name}.safetensors")) for name in ("m_0", "m_1"))
    close(found, {key: merging.slerp(a[key], b[key], 0.3) for key in a})


def test_karcher_takes_its_own_number_of_steps(file, tmp_path):
    recipe = read_merge(written(tmp_path, "karcher", dict.fromkeys(THREE), parameters={"max_iter": 7}))
    assert (recipe.iterations, recipe.tolerance) == (7, 1e-5)


def test_a_base_model_that_is_listed_too_is_no_difference_from_itself(file, tmp_path):
    place = written(tmp_path, "ties", {"base": None} | THREE, base_model="base")
    assert [name for name, _ in read_merge(place).parts] == ["m_0", "m_1", "m_2"]


REFUSED = {
    "passthrough": ({"merge_method": "passthrough"}, "passthrough"),
    "della": ({"merge_method": "della"}, "'della'"),
    "dare_ties": ({"merge_method": "dare_ties"}, "'dare_ties'"),
    "key": ({"modules": {}}, "'modules'"),
    "slices": ({"models": None, "slices": []}, "'slices'"),
    "parameter": ({"parameters": {"epsilon": 0.1}}, "'epsilon'"),
    "gradient": ({"parameters": {"density": [0.1, 0.9]}}, "density of parameters differs by layer"),
    "filter": ({"parameters": {"density": [{"filter": "mlp", "value": 0.5}, {"value": 1}]}}, "differs by layer"),
    "switch": ({"parameters": {"normalize": False}}, "normalize is False"),
    "number": ({"parameters": {"lambda": "much"}}, "lambda is 'much'"),
    "tokenizer": ({"tokenizer_source": "union"}, "tokenizer_source is 'union'"),
    "weight": ({"models": [{"model": "m_0"}]}, "weight is None"),
    "twice": ({"models": [{"model": "m_0"}, {"model": "m_0"}]}, "twice"),
    "no base": ({"base_model": None}, "base"),
    "density": (
        {"models": [{"model": f"m_{i}", "parameters": {"weight": 1, "density": d}} for i, d in enumerate((0.2, 0.4))]},
        "density is 0.2, 0.4",
    ),
    "range": ({"parameters": {"density": 3}}, "density"),
    "negative": ({"models": [{"model": f"m_{i}", "parameters": {"weight": w}} for i, w in enumerate((2, -1))]}, "-1"),
    "model": ({"models": ["m_0"]}, "'m_0'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_soupviz_has_not_is_refused_by_name(tmp_path, name):
    changes, told = REFUSED[name]
    values = yaml.safe_load(written(tmp_path, "ties", THREE, base_model="base").read_text()) | changes
    place = tmp_path / "merge.yaml"
    place.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    with pytest.raises(RecipeError, match=told) as raised:
        read_merge(place)
    assert str(place) in str(raised.value)


def test_a_file_that_is_no_configuration_says_so(tmp_path):
    for text, told in (("a: [", "not YAML"), ("a: 1", "merge_method"), ("- a", "merge_method")):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(RecipeError, match=told):
            read_merge(tmp_path / "a.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_merge(tmp_path / "none.yaml")


def test_models_are_found_by_name_file_folder_and_name_on_the_hub(tmp_path):
    file = small_kitchen(tmp_path / "k", num_ingredients=3, num_examples=20)
    places = {"m_0": "run/model.safetensors", "m_1": "models--org--b/snapshots/abc/model.safetensors"}
    for name, place in places.items():
        (file.parent / place).parent.mkdir(parents=True)
        file.with_name(f"{name}.safetensors").rename(file.parent / place)
    change_yaml(file, lambda document: document.update(ingredients=places | {"m_2": "m_2.safetensors"}))
    kitchen = sv.Kitchen.load(file)
    models = {
        "k/run": {"weight": 1},
        "org/b@main": {"weight": 1},
        str(file.with_name("m_2.safetensors")): {"weight": 2},
    }
    recipe = sv.from_mergekit(kitchen, written(tmp_path, "linear", models))
    assert recipe.parts == (("m_0", 0.25), ("m_1", 0.25), ("m_2", 0.5))


def test_a_model_that_is_none_or_could_be_several_is_told(file, tmp_path):
    kitchen = sv.Kitchen.load(file)
    with pytest.raises(KitchenError, match=r"'m_9'.*did you mean"):
        sv.from_mergekit(kitchen, written(tmp_path, "linear", {"m_9": {"weight": 1}}))
    with pytest.raises(KitchenError, match="m_0 and m_1 and m_2"):
        sv.from_mergekit(kitchen, written(tmp_path, "linear", {str(file.parent): {"weight": 1}}))


def test_the_command_line_cooks_a_configuration(file, tmp_path, capsys):
    place = written(tmp_path, "ties", THREE, base_model="base", parameters={"density": 0.5})
    found = json_of(capsys, "soup", file, "--recipe", place)
    assert found["recipe"]["formula"] == "ties" and found["scores"]["test"]["value"] > 0
    status, _, err = run_command(capsys, "soup", file, "--recipe", place, "--members", "m_0")
    assert status == 2 and "--members" in err
    status, _, err = run_command(
        capsys, "soup", file, "--recipe", written(tmp_path, "dare_linear", THREE, base_model="base")
    )
    assert status == 0 and "note: dare drops numbers at random" in err


RECIPES = {
    "greedy": {"method": "greedy", "alpha": 0.3},
    "uniform": {"method": "uniform"},
    "WiSE-FT": {"method": "wise_ft", "alpha": 0.4},
    "task arithmetic": {"method": "task_arithmetic", "scale": 0.7},
    "ties": {"method": "ties", "density": 0.4, "scale": 0.8},
    "breadcrumbs": {"method": "breadcrumbs", "density": 0.7, "gamma": 0.1},
    "model stock": {"method": "model_stock"},
    "slerp": {"method": "slerp", "alpha": 0.3},
    "karcher": {"method": "karcher"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_soup_is_the_same_after_it_was_written_and_read(file, tmp_path, name):
    kitchen = sv.Kitchen.load(file)
    soup = sv.cook(kitchen, RECIPES[name])
    [place] = sv.export(soup, tmp_path / "merge.yaml", form="mergekit")
    close(weights(file, sv.from_mergekit(kitchen, place)), soup.state_dict())


def test_a_soup_of_adapters_names_each_behind_its_base(tmp_path):
    kitchen = sv.Kitchen.load(adapters_kitchen(tmp_path / "k"))
    [place] = sv.export(sv.uniform(kitchen), tmp_path / "merge.yaml", form="mergekit")
    models = [one["model"] for one in yaml.safe_load(Path(place).read_text())["models"]]
    assert all("+" in one for one in models)
    assert [name for name, _ in sv.from_mergekit(kitchen, place).parts] == kitchen.names


def test_a_merge_is_exported_and_baked_like_all_soups(file, tmp_path):
    kitchen = sv.Kitchen.load(file)
    soup = sv.cook(kitchen, sv.from_mergekit(kitchen, written(tmp_path, "ties", THREE, base_model="base")))
    [path, *_] = sv.export(soup, tmp_path / "soup.safetensors")
    [again, *_] = sv.bake(path, tmp_path / "again.safetensors")
    assert load_file(path).keys() == load_file(again).keys()
    assert parse(soup.recipe.model_dump(mode="json")) == soup.recipe


@pytest.mark.parametrize("recipe", [{"method": "ensemble"}, {"method": "fisher"}])
def test_what_mergekit_cannot_make_is_told(tmp_path, recipe):
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=20, train=20)
    soup = sv.cook(sv.Kitchen.load(file), recipe)
    with pytest.raises(ExportError, match="mergekit"):
        sv.export(soup, tmp_path / "merge.yaml", form="mergekit")


def test_no_other_file_is_written_over(file, tmp_path):
    soup = sv.uniform(sv.Kitchen.load(file))
    before = file.read_text()
    for target in (file, tmp_path / "a.safetensors", "memory://bucket/a.yaml"):
        with pytest.raises(ExportError, match="configuration of mergekit"):
            sv.export(soup, target, form="mergekit")
    assert file.read_text() == before


# mergekit itself


def command(name: str) -> str:
    found = mergekit()
    place = Path(found).with_name(name) if found else None
    if place is None or not place.is_file():
        pytest.skip(f"no {name}: set SOUPVIZ_MERGEKIT to mergekit-pytorch, beside which it lies, or put it on the path")
    return str(place)


def by_mergekit(name: str, place: Path, out: Path) -> dict[str, torch.Tensor]:
    done = subprocess.run([command(name), str(place), str(out)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    [file] = out.glob("*.safetensors")
    return load_file(file)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_mergekit_makes_the_same_weights_of_what_is_written(file, tmp_path, name):
    command("mergekit-pytorch")
    soup = sv.cook(sv.Kitchen.load(file), RECIPES[name])
    [place] = sv.export(soup, tmp_path / "merge.yaml", form="mergekit")
    close(by_mergekit("mergekit-pytorch", place, tmp_path / "out"), soup.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("karcher", "slerp")])
def test_what_mergekit_makes_of_a_configuration_is_made_here(file, tmp_path, method):
    command("mergekit-pytorch")
    models = {str(file.with_name(f"{name}.safetensors")): told for name, told in THREE.items()}
    models = dict.fromkeys(models) if method == "model_stock" else models
    base = {} if method == "linear" else {"base_model": str(file.with_name("base.safetensors"))}
    place = written(tmp_path, method, models, dtype="float32", **base)
    found = by_mergekit("mergekit-pytorch", place, tmp_path / "out")
    close(weights(file, sv.from_mergekit(sv.Kitchen.load(file), place)), found)


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize("recipe", ["greedy", "ties"])
def test_mergekit_merges_folders_of_gpt2_to_the_same_weights(tmp_path, recipe):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    command("mergekit-yaml")
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    for index, name in enumerate(("base", "a", "b")):
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
        torch.manual_seed(index)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / name)
    from adapters import tokenizer

    tokenizer(tmp_path / "base")
    (tmp_path / "base" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (tmp_path / "held_out.txt").write_text("w1 w2 w3 w4\nw5 w6 w7\n" * 4)
    split = {"format": "text", "path": "held_out.txt", "tokenizer": "base", "max_length": 8}
    file = write_yaml(
        tmp_path, model={"factory": "transformers:base"}, task="language_model", ingredients={"a": "a", "b": "b"},
        base="base", data={"held_out": split}, device="cpu",
    )  # fmt: skip
    soup = sv.cook(sv.Kitchen.load(file), RECIPES[recipe])
    [place] = sv.export(soup, tmp_path / "merge.yaml", form="mergekit")
    named = yaml.safe_load(Path(place).read_text())
    assert all((Path(one["model"]) / "config.json").is_file() for one in named["models"])
    by_mergekit("mergekit-yaml", place, tmp_path / "out")
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    close(found, soup.state_dict())
