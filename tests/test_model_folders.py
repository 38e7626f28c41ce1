"""A soup as a folder: transformers and timm open it by themselves, and what they open is the soup."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import bert_kitchen, tokenizer
from kitchens import change_yaml, perturbed, run_command, save, small_kitchen, write_yaml
from PIL import Image
from test_pages import errors, fresh_server, page, press_all, trusted  # noqa: F401 - a fixture

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.weights.lineage import front_matter


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def loaded_as_the_card_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    code = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder.parent)
    left: dict[str, Any] = {}
    exec(code, left)
    return left["model"]


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """A kitchen of tiny GPT-2s, each in a folder as Trainer leaves it; its head is tied to its embedding."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.GPT2Config(
        vocab_size=38, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    for index in range(3):
        torch.manual_seed(index)
        transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / f"run_{index}")
    tokenizer(tmp_path / "run_0")
    (tmp_path / "run_0" / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    (tmp_path / "held_out.txt").write_text("w1 w2 w3 w4\nw5 w6 w7\n" * 4)
    split = {"format": "text", "path": "held_out.txt", "tokenizer": "run_0", "max_length": 8}
    return write_yaml(
        tmp_path, model={"factory": "transformers:run_0"}, task="language_model", ingredients=["run_*"],
        data={"held_out": split}, device="cpu",
    )  # fmt: skip


@pytest.mark.extras
def test_transformers_opens_the_folder_of_a_language_model(gpt2, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    status, _, err = run_command(capsys, "soup", gpt2, "--recipe", "uniform", "--as", "folder", "--out", out)
    assert status == 0, err
    import transformers

    soup = sv.uniform(sv.Kitchen.load(gpt2))
    opened = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert same(opened.state_dict(), soup.state_dict())
    assert type(loaded_as_the_card_says(out, monkeypatch)) is transformers.GPT2LMHeadModel
    body = transformers.AutoModel.from_pretrained(out)
    assert torch.equal(body.wte.weight, soup.state_dict()["transformer.wte.weight"])
    ids = transformers.AutoTokenizer.from_pretrained(out)("w1 w2")["input_ids"]
    assert ids == transformers.AutoTokenizer.from_pretrained(tmp_path / "run_0")("w1 w2")["input_ids"]
    told = front_matter(out / "README.md")
    assert (told["library_name"], told["pipeline_tag"]) == ("transformers", "text-generation")


@pytest.mark.extras
def test_a_folder_in_shards_is_opened_and_baked_too(gpt2, tmp_path):
    import transformers

    soup = sv.uniform(sv.Kitchen.load(gpt2))
    written = sv.export(soup, tmp_path / "out", form="folder", shard_size=2000)
    assert written[0].name == "model.safetensors.index.json"
    assert same(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict(), soup.state_dict())
    whole = sv.export(soup, tmp_path / "out", form="folder")
    assert not list((tmp_path / "out").glob("*-of-*")) and whole[0].name == "model.safetensors"
    [again, *_] = sv.bake(tmp_path / "out", tmp_path / "again.safetensors")
    assert again.is_file()


@pytest.mark.extras
def test_a_soup_of_adapters_becomes_a_folder_of_the_whole_model_with_its_classes(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    kitchen = sv.Kitchen.load(bert_kitchen(tmp_path / "k", classes=["bad", "fair", "good"]))
    soup = sv.uniform(kitchen)
    sv.export(soup, tmp_path / "out", form="folder", dtype="float32")
    opened = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert opened.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert same(opened.state_dict(), soup.state_dict())
    assert (tmp_path / "out" / "tokenizer.json").is_file()


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    state = timm.create_model("test_vit", num_classes=2, img_size=32).state_dict()
    for index in range(2):
        save(perturbed(state, 0.01, index), tmp_path / f"m_{index}.safetensors")
    for split in ("held_out", "test"):
        for label, shade in (("dark", 30), ("light", 200)):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(4):
                Image.new("RGB", (40, 40), (shade + index,) * 3).save(tmp_path / split / label / f"{index}.png")
    data = {
        split: {
            "format": "imagefolder",
            "path": split,
            "transform": {"resize": 40, "crop": 32, "mean": [0.5] * 3, "std": [0.2] * 3},
        }
        for split in ("held_out", "test")
    }
    args = {"num_classes": 2, "img_size": 32}
    return write_yaml(
        tmp_path, model={"factory": "timm:test_vit", "args": args}, ingredients=["m_*.safetensors"], data=data,
        device="cpu",
    )  # fmt: skip


@pytest.mark.extras
def test_timm_opens_the_folder_of_a_model_whose_run_changed_its_preprocessing(vit, tmp_path):
    """As `new` proposes it of a run's args.yaml: by an overlay of the model's own description, and timm's preset."""
    import timm

    def as_proposed(keys):
        keys["model"]["args"]["pretrained_cfg_overlay"] = {"input_size": [3, 32, 32], "crop_pct": 1.0}
        for split in keys["data"].values():
            split["transform"] = {"preset": "timm"}

    soup = sv.uniform(sv.Kitchen.load(change_yaml(vit, as_proposed)))
    sv.export(soup, tmp_path / "out", form="folder")
    opened = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert same(opened.state_dict(), soup.state_dict())
    prepared = timm.data.resolve_model_data_config(opened)
    assert (tuple(prepared["input_size"]), prepared["crop_pct"]) == ((3, 32, 32), 1.0)


@pytest.mark.extras
def test_timm_opens_the_folder_of_an_image_model_with_its_preprocessing(vit, tmp_path, monkeypatch):
    import timm

    soup = sv.uniform(sv.Kitchen.load(vit))
    sv.export(soup, tmp_path / "out", form="folder")
    opened = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert same(opened.state_dict(), soup.state_dict())
    prepared = timm.data.resolve_model_data_config(opened)
    assert list(prepared["mean"]) == [0.5] * 3 and list(prepared["std"]) == [0.2] * 3
    assert tuple(prepared["input_size"]) == (3, 32, 32) and prepared["crop_pct"] == pytest.approx(0.8)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["label_names"] == ["dark", "light"]
    assert same(loaded_as_the_card_says(tmp_path / "out", monkeypatch).state_dict(), soup.state_dict())
    told = front_matter(tmp_path / "out" / "README.md")
    assert (told["library_name"], told["pipeline_tag"]) == ("timm", "image-classification")
    with pytest.raises(ExportError, match="timm reads the weights of a folder from one file"):
        sv.export(soup, tmp_path / "out", form="folder", shard_size="1MB")


def test_a_model_of_no_library_has_no_folder_and_says_so_before_it_is_cooked(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=20)
    status, _, err = run_command(
        capsys, "soup", file, "--recipe", "uniform", "--as", "folder", "--out", tmp_path / "out"
    )
    assert status == 2
    assert "transformers or timm" in err and "model.py:build" in err
    assert not (tmp_path / "out").exists()
    assert not sv.Kitchen.load(file).store.runs()


@pytest.mark.extras
def test_somebodys_own_model_is_not_written_over(gpt2, tmp_path):
    soup = sv.uniform(sv.Kitchen.load(gpt2))
    before = (tmp_path / "run_0" / "config.json").read_bytes()
    with pytest.raises(ExportError, match="holds a model that is no soup"):
        sv.export(soup, tmp_path / "run_0", form="folder")
    assert (tmp_path / "run_0" / "config.json").read_bytes() == before
    with pytest.raises(ExportError, match="is a folder"):
        sv.export(soup, tmp_path / "out.safetensors", form="folder")


@pytest.mark.extras
def test_a_folder_is_put_into_a_bucket(gpt2, tmp_path, memory):
    soup = sv.uniform(sv.Kitchen.load(gpt2))
    written = sv.export(soup, "memory://bucket/soups/one", form="folder")
    names = [one.rpartition("/")[2] for one in written]
    assert names[0] == "model.safetensors" and names[-1] == "config.json"
    here = sv.export(soup, tmp_path / "one", form="folder")
    assert sorted(path.name for path in here) == sorted(names)
    assert memory.cat_file("memory://bucket/soups/one/config.json") == (tmp_path / "one" / "config.json").read_bytes()
    memory.pipe_file("memory://bucket/own/config.json", b"{}")
    with pytest.raises(ExportError, match="holds a model that is no soup"):
        sv.export(soup, "memory://bucket/own", form="folder")


@pytest.mark.extras
def test_the_export_page_offers_the_folder_where_a_library_opens_it(gpt2, tmp_path):
    sv.uniform(sv.Kitchen.load(gpt2))
    at = page("export.py", trusted(gpt2))
    control = next(one for one in at.segmented_control if one.label == "Format")
    assert list(control.options) == [".safetensors", ".pt", "folder"]
    control.set_value("folder").run()
    next(one for one in at.text_input if one.label == "Folder").set_value(str(tmp_path)).run()
    next(one for one in at.text_input if one.label == "File name").set_value("whole").run()
    press_all(at, "Write")
    assert errors(at) == [] and not at.exception
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    press_all(at, "Prepare a download")
    assert errors(at) == [] and any("Download whole.zip" in str(one.proto) for one in at.get("link_button"))
