"""Folders of LoRA adapters are ingredients over their base: each is the base with its scaled product added."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import PREFIX, SIZES, adapters_kitchen, factors, merged, write_adapter
from kitchens import MLP, build_model, change_yaml, run_command, save

import soupviz as sv
from soupviz import trust
from soupviz.errors import CompatibilityError, KitchenError, SoupError
from soupviz.kitchen import Kitchen
from soupviz.recognition.peft import recognise
from soupviz.weights.adapters.adapted import Adapted, _update
from soupviz.weights.adapters.bases import cached
from soupviz.weights.checkpoints import read
from soupviz.yaml_file import read_kitchen_file


def base_of(kitchen: Kitchen) -> dict[str, torch.Tensor]:
    assert kitchen.base is not None
    return dict(kitchen.base.tensors)


def test_a_folder_of_adapters_is_a_kitchen_whose_ingredients_are_the_merged_weights(tmp_path: Path) -> None:
    kitchen = Kitchen.load(adapters_kitchen(tmp_path))
    assert kitchen.names == ["a1", "a2", "a3"]
    for name in kitchen.names:
        expected = merged(base_of(kitchen), tmp_path / "adapters" / name)
        found = kitchen.weights.resolve(name)
        assert {key: tensor.tolist() for key, tensor in found.tensors.items()} == {
            key: tensor.tolist() for key, tensor in expected.items()
        }


def test_an_adapter_and_the_file_that_it_was_merged_into_are_one_ingredient(tmp_path: Path) -> None:
    file = adapters_kitchen(tmp_path, 1)
    kitchen = Kitchen.load(file)
    save(merged(base_of(kitchen), tmp_path / "adapters" / "a1"), tmp_path / "whole.safetensors")
    change_yaml(file, lambda document: document["ingredients"].append("whole.safetensors"))
    first, whole = Kitchen.load(file).ingredients
    assert first.fingerprint == whole.fingerprint


def test_what_an_adapter_leaves_alone_is_the_bases_own_memory(tmp_path: Path) -> None:
    kitchen = Kitchen.load(adapters_kitchen(tmp_path, 1))
    (item,) = kitchen.ingredients
    assert kitchen.base is not None and isinstance(item.tensors, Adapted)
    assert item.tensors["0.bias"].data_ptr() == kitchen.base.tensors["0.bias"].data_ptr()
    assert item.num_bytes < kitchen.base.num_bytes + 3000
    assert {Path(name).name for name, *_ in item.stamp} == {
        "adapter_model.safetensors", "adapter_config.json", "base.safetensors",
    }  # fmt: skip


def test_a_soup_is_the_mean_of_the_products_whatever_the_ranks(tmp_path: Path) -> None:
    kitchen = Kitchen.load(adapters_kitchen(tmp_path))
    soup = sv.uniform(kitchen)
    base = base_of(kitchen)
    each = [merged(base, tmp_path / "adapters" / name) for name in kitchen.names]
    for key, tensor in soup.state_dict().items():
        exact = torch.stack([one[key].double() for one in each]).mean(0)
        torch.testing.assert_close(tensor.double(), exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_factors_are_read_with_and_without_the_adapters_own_name(tmp_path: Path, suffix: str) -> None:
    file = adapters_kitchen(tmp_path, 1)
    (before,) = Kitchen.load(file).ingredients
    folder = tmp_path / "adapters" / "a1"
    named = {
        key.replace(".weight", ".mine.weight"): tensor
        for key, tensor in read(folder / "adapter_model.safetensors").candidates[0].tensors.items()
    }
    named["base_model.model.2.original_module.weight"] = torch.ones(1)
    (folder / "adapter_model.safetensors").unlink()
    save({key: tensor.clone() for key, tensor in named.items()}, folder / f"adapter_model{suffix}")
    kitchen = Kitchen.load(file)
    assert kitchen.ingredients[0].fingerprint == before.fingerprint
    assert any("original_module" in note for note in kitchen.notes)


def test_names_may_lack_a_part_that_the_model_has_before_them_all(tmp_path: Path) -> None:
    wrapped = (
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)))\n"
    )
    file = adapters_kitchen(tmp_path, 1, source=wrapped)
    kitchen = Kitchen.load(file)
    (item,) = kitchen.ingredients
    assert item.adapter is not None and item.adapter.names.put == "0."
    assert not torch.equal(item.tensors["0.0.weight"], base_of(kitchen)["0.0.weight"])


def refused(tmp_path: Path, file: Path, match: str) -> None:
    with pytest.raises(SoupError, match=match):
        Kitchen.load(file)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"peft_type": "VERA"}, "VERA.*merge_and_unload"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"use_dora": True}, "DoRA"),
        ({"use_something_new": True}, "use_something_new"),
        ({"some_new_config": {"size": 3}}, "some_new_config.*not known here"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"init_lora_weights": ["pissa"]}, r"init_lora_weights.*\['pissa'\]"),
        ({"lora_alpha": "x"}, "lora_alpha: 'x'"),
        ({"lora_alpha": None}, "lora_alpha: None"),
        ({"lora_alpha": float("inf")}, "lora_alpha: inf"),
        ({"alpha_pattern": {"(": 3}}, r"alpha_pattern.*'\('"),
        ({"alpha_pattern": [1]}, "alpha_pattern"),
        ({"alpha_pattern": {"0": float("nan")}}, "alpha_pattern.0: nan"),
        ({"base_model_name_or_path": ["x"]}, "base_model_name_or_path"),
        ({"modules_to_save": 3}, "modules_to_save: 3"),
        ({"peft_type": "y" * 100_000}, "y{299}…; expected LORA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4.*path_initial_model_for_weight_conversion"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"trainable_token_indices": [3]}, "trainable tokens"),
    ],
)
def test_what_is_no_scaled_product_over_an_unchanged_base_is_refused_with_the_reason(
    tmp_path: Path, config: dict[str, Any], match: str
) -> None:
    file = adapters_kitchen(tmp_path, 2)
    write_adapter(tmp_path / "adapters" / "a2", factors(2, 3, SIZES), **config)
    refused(tmp_path, file, f"'a2'.*{match}")


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        (factors(1, 2, {"0": (16, 7)}), r"0\.weight by a product of shape \(16, 7\); its base has \(16, 6\)"),
        (factors(1, 0, SIZES), "factors of rank 0 for 0"),
        (factors(1, 2, {"layers.9": (16, 6)}), r"layers\.9\.weight, which the model lacks"),
        ({f"{PREFIX}0.lora_A.weight": torch.ones(2, 6)}, "only the factor A of 0"),
        ({f"{PREFIX}0.lora_magnitude_vector": torch.ones(2)}, "lora_magnitude_vector.*merge_and_unload"),
        (factors(1, 2, {"0": (16, 6)}) | {f"{PREFIX}0.lora_A.weight": torch.ones(3, 6)}, "make no product"),
        (factors(1, 2, {"0": (16, 6)}) | {f"{PREFIX}0.lora_B.weight": torch.full((16, 2), float("nan"))}, "diverged"),
        (factors(1, 2, {"0": (16, 6)}) | {f"{PREFIX}9.weight": torch.ones(2)}, r"9\.weight, which the model lacks"),
    ],
)
def test_factors_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, torch.Tensor], match: str
) -> None:
    file = adapters_kitchen(tmp_path, 2)
    write_adapter(tmp_path / "adapters" / "a2", tensors)
    refused(tmp_path, file, f"'a2'.*{match}")


def test_a_base_without_what_the_adapter_has_not_saved_is_refused_by_key(tmp_path: Path) -> None:
    file = adapters_kitchen(tmp_path, 2)
    base = {key: value for key, value in build_model(MLP).state_dict().items() if key != "2.bias"}
    base |= {"old.weight": torch.ones(2, 2)}
    save(base, tmp_path / "base.safetensors")
    refused(tmp_path, file, r"'a1'.*no 2\.bias.*base\.safetensors.*modules_to_save")
    whole = {f"{PREFIX}2.bias": torch.zeros(3)}
    for name in ("a1", "a2"):
        write_adapter(tmp_path / "adapters" / name, factors(1 + (name == "a2"), 2, SIZES) | whole)
    kitchen = Kitchen.load(file)
    assert kitchen.base is None and kitchen.weights.base is not None
    soup = sv.uniform(kitchen)
    sv.export(soup, tmp_path / "soup.safetensors")
    sv.bake(tmp_path / "soup.safetensors", tmp_path / "again.safetensors")
    sv.export(soup, tmp_path / "one", form="adapter")
    sv.bake(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    "config",
    [{"lora_alpha": None}, {"alpha_pattern": {"(": 1}}, {"init_lora_weights": []}, {"bias": 3}, {"revision": 1}],
    ids=str,
)
def test_one_bad_adapter_is_refused_by_name_and_the_others_are_a_kitchen(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    file = adapters_kitchen(tmp_path, 3)
    write_adapter(tmp_path / "adapters" / "a2", factors(2, 3, SIZES), **config)
    kitchen = Kitchen.load(file, skip_incompatible=True)
    assert kitchen.names == ["a1", "a3"] and [one.name for one in kitchen.refused] == ["a2"]


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "x" * 300, "a\0b", "../../" * 200, "/", "."])
@pytest.mark.parametrize("has_base", [True, False])
def test_whatever_an_adapter_calls_its_base_is_no_traceback(tmp_path: Path, name: str, has_base: bool) -> None:
    file = adapters_kitchen(tmp_path, 1)
    write_adapter(tmp_path / "adapters" / "a1", factors(1, 2, SIZES), base_model_name_or_path=name)
    if has_base:
        assert Kitchen.load(file).names == ["a1"]
    else:
        change_yaml(file, lambda document: document.pop("base"))
        refused(tmp_path, file, "needs the model that it changes")
    recognise(tmp_path / "adapters", lambda _: True)


@pytest.mark.parametrize("revision", ["/etc/hostname", "../../secret", "a//b", "main\n"])
def test_a_revision_names_nothing_outside_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("read"))
    assert cached({"base_model_name_or_path": "a/b", "revision": revision}) is None


def test_a_convolution_in_groups_is_refused_with_what_can_be_done() -> None:
    with pytest.raises(CompatibilityError, match=r"in 2 groups.*peft can add to no weight either"):
        _update("lora_", "0", {"A": torch.ones(4, 3, 3, 3), "B": torch.ones(8, 2, 1, 1)}, 1.0)


def test_two_adapters_in_one_file_are_refused(tmp_path: Path) -> None:
    file = adapters_kitchen(tmp_path, 2)
    plain = factors(1, 2, {"0": (16, 6)})
    both = {key.replace(".weight", f".{name}.weight"): value for name in ("x", "y") for key, value in plain.items()}
    write_adapter(tmp_path / "adapters" / "a2", both)
    refused(tmp_path, file, r"two updates of 0 \(x, y\)")


def test_without_a_base_one_line_says_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = adapters_kitchen(tmp_path, 3)
    change_yaml(file, lambda document: document.pop("base"))
    for name in ("a1", "a2", "a3"):
        write_adapter(tmp_path / "adapters" / name, factors(1, 2, SIZES), base_model_name_or_path="lab/tiny-7b")
    status, _, err = run_command(capsys, "score", file)
    assert status == 2
    assert "a1: is a LoRA adapter" in err and "lab/tiny-7b" in err and "2 more files need the same" in err
    assert "base: tiny-7b" in err and err.strip().endswith("hf download lab/tiny-7b --local-dir tiny-7b")
    assert len(err.strip().splitlines()) == 1


def test_the_base_that_an_adapter_names_is_taken_where_it_lies_here_and_told(tmp_path: Path) -> None:
    file = adapters_kitchen(tmp_path, 2)
    (tmp_path / "start").mkdir()
    (tmp_path / "base.safetensors").rename(tmp_path / "start" / "model.safetensors")
    change_yaml(file, lambda document: document.pop("base"))
    for name in ("a1", "a2"):
        write_adapter(
            tmp_path / "adapters" / name, factors(1 + (name == "a2"), 2, SIZES), base_model_name_or_path="start"
        )
    kitchen = Kitchen.load(file)
    assert kitchen.base is not None and kitchen.base.path == tmp_path / "start" / "model.safetensors"
    assert any("start" in note and "base_model_name_or_path" in note for note in kitchen.notes)


def test_the_base_is_taken_from_the_hubs_own_cache_where_it_was_fetched_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = adapters_kitchen(tmp_path, 1)
    repository = tmp_path / "hub" / "models--lab--tiny-7b"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (tmp_path / "base.safetensors").rename(repository / "snapshots" / "abc" / "model.safetensors")
    change_yaml(file, lambda document: document.pop("base"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, found in (("lab/tiny-7b", True), ("lab/other", False), ("../tiny-7b", False)):
        write_adapter(tmp_path / "adapters" / "a1", factors(1, 2, SIZES), base_model_name_or_path=name)
        if found:
            assert any("snapshots/abc" in note for note in Kitchen.load(file).notes)
        else:
            refused(tmp_path, file, "neither a folder here nor in the cache")


def test_adapters_that_name_two_models_are_refused(tmp_path: Path) -> None:
    file = adapters_kitchen(tmp_path, 2)
    for name, base in (("a1", "lab/one-7b"), ("a2", "lab/two-7b")):
        write_adapter(tmp_path / "adapters" / name, factors(1, 2, SIZES), base_model_name_or_path=base)
    refused(tmp_path, file, "'a2'.*two-7b.*one-7b")


def test_an_adapter_whose_own_base_lies_here_and_is_another_is_refused(tmp_path: Path) -> None:
    file = adapters_kitchen(tmp_path, 2)
    save(build_model(MLP).state_dict(), tmp_path / "same" / "model.safetensors")
    save({key: 2 * value for key, value in build_model(MLP).state_dict().items()}, tmp_path / "other" / "model.pt")
    for name, base in (("a1", "same"), ("a2", str(tmp_path / "other"))):
        write_adapter(tmp_path / "adapters" / name, factors(1 + (name == "a2"), 2, SIZES), base_model_name_or_path=base)
    with pytest.raises(CompatibilityError, match=r"'a2'.*other.*base\.safetensors") as told:
        Kitchen.load(file)
    assert "'a1'" not in str(told.value)


def test_what_adapters_are_is_told(tmp_path: Path) -> None:
    kitchen = Kitchen.load(adapters_kitchen(tmp_path))
    assert any("a1, a2, a3" in note and "2, 3, 4" in note and "base.safetensors" in note for note in kitchen.notes)


def test_a_base_that_was_written_to_is_noticed(tmp_path: Path) -> None:
    kitchen = Kitchen.load(adapters_kitchen(tmp_path, 2))
    save(build_model(MLP).state_dict(), tmp_path / "base.safetensors")
    with pytest.raises(SoupError, match="has changed"):
        kitchen.score()


def test_another_scale_in_the_description_is_another_ingredient(tmp_path: Path) -> None:
    file = adapters_kitchen(tmp_path, 1)
    before = Kitchen.load(file).ingredients[0].fingerprint
    config = tmp_path / "adapters" / "a1" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 3}))
    assert Kitchen.load(file).ingredients[0].fingerprint != before


def test_a_base_that_an_adapter_names_is_not_even_looked_for_where_the_dashboard_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter is a file from somewhere: what it names goes the way of every path that nobody approved."""
    root = tmp_path / "root"
    file = adapters_kitchen(root, 1)
    save(build_model(MLP).state_dict(), tmp_path / "elsewhere" / "model.safetensors")
    change_yaml(file, lambda document: document.pop("base"))
    write_adapter(root / "adapters" / "a1", factors(1, 2, SIZES), base_model_name_or_path=str(tmp_path / "elsewhere"))

    def allowed(path: Path) -> Path:
        if not path.resolve().is_relative_to(root):
            raise KitchenError(f"{path}: lies outside")
        return path.resolve()

    assert Kitchen.load(file).base is not None
    spec = read_kitchen_file(file)
    trust.bind(trust.request(file, spec, allowed), allowed)
    looked_at: list[str] = []
    for name in ("is_file", "is_dir", "open", "iterdir"):
        own = getattr(Path, name)
        monkeypatch.setattr(
            Path, name, lambda self, *args, own=own, **keys: (looked_at.append(str(self)), own(self, *args, **keys))[1]
        )
    try:
        with pytest.raises(SoupError, match="elsewhere', which is neither a folder here"):
            Kitchen.load(file)
    finally:
        del trust.binding._bound[root.resolve()]
    assert looked_at and not [path for path in looked_at if path.startswith(str(tmp_path / "elsewhere"))]
