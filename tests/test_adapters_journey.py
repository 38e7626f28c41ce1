"""From the folders that peft saved to a soup that peft loads: on the command line, in Python and on the pages."""

import warnings
from pathlib import Path

import pytest
import torch
from adapters import adapters_kitchen, bert_kitchen
from kitchens import json_of
from test_pages import errors, fresh_server, page, press_all, settle, trusted  # noqa: F401 - a fixture

import soupviz as sv
from soupviz.kitchen import Kitchen
from soupviz.soups.provenance import read_record


@pytest.mark.extras
def test_adapters_of_peft_are_scored_souped_exported_and_baked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = bert_kitchen(tmp_path / "k")
    assert list(json_of(capsys, "score", file)["ingredients"]) == ["r0", "r1", "r2"]
    for recipe in ("uniform", "greedy"):
        out = tmp_path / recipe
        dense = json_of(capsys, "soup", file, "--recipe", recipe, "--out", f"{out}.safetensors")
        one = json_of(capsys, "soup", file, "--recipe", recipe, "--as", "adapter", "--out", out)
        assert dense["scores"] == one["scores"]
        assert json_of(capsys, "bake", f"{out}.safetensors", "--out", f"{out}2.safetensors")["is_checked"]
        assert json_of(capsys, "bake", out, "--out", f"{out}2")["is_checked"]
    kitchen = Kitchen.load(file)
    whole = kitchen.weights.read(tmp_path / "uniform.safetensors")
    again = kitchen.weights.read(tmp_path / "uniform" / "adapter_model.safetensors")
    for key, tensor in whole.tensors.items():
        torch.testing.assert_close(again.tensors[key], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.extras
def test_peft_answers_with_a_soups_adapter_as_the_soup_does(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    file = bert_kitchen(tmp_path / "k")
    kitchen = Kitchen.load(file)
    soup = sv.uniform(kitchen)
    sv.export(soup, tmp_path / "one", form="adapter")
    torch.manual_seed(3)
    base = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "k" / "base", num_labels=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers and peft about each other
        model = peft.PeftModel.from_pretrained(base, tmp_path / "one").eval()
    own = transformers.BertForSequenceClassification(base.config).eval()
    own.load_state_dict(soup.state_dict())
    ids = torch.arange(12).reshape(2, 6) + 4
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, own(ids).logits, rtol=1e-5, atol=1e-5)


def test_the_pages_open_a_kitchen_of_adapters_and_offer_it_as_one(tmp_path: Path) -> None:
    file = trusted(adapters_kitchen(tmp_path / "k", scale=0.3))
    at = page("preflight.py", file)
    assert errors(at) == []
    at = page("soup.py", file)
    assert errors(at) == []
    sv.greedy(Kitchen.load(file))
    at = page("export.py", file)
    control = next(one for one in at.segmented_control if one.label == "Format")
    assert list(control.options) == [".safetensors", ".pt", "adapter"]
    control.set_value("adapter").run()
    next(one for one in at.number_input if one.label == "Rank").set_value(2).run()
    next(one for one in at.text_input if one.label == "Folder").set_value(str(tmp_path)).run()
    next(one for one in at.text_input if one.label == "File name").set_value("one").run()
    press_all(at, "Write")
    assert errors(at) == [] and not at.exception
    assert any("rank 2, which loses" in success.value for success in at.success)
    record = read_record(tmp_path / "one")
    assert record.adapter is not None and record.adapter.rank == 2
    press_all(at, "Prepare a download")
    assert errors(at) == [] and any("Download one.zip" in str(one.proto) for one in at.get("link_button"))


def test_a_kitchen_without_adapters_is_not_asked_for_one(tmp_path: Path) -> None:
    from kitchens import small_kitchen

    file = trusted(small_kitchen(tmp_path / "k"))
    sv.greedy(Kitchen.load(file))
    at = page("export.py", file)
    assert list(next(one for one in at.segmented_control if one.label == "Format").options) == [".safetensors", ".pt"]
