"""A run's folder is recognised by its files; every value has its source, and what nobody can know is asked."""

import argparse
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from kitchens import save
from runs import images, lightning_run, timm_run, trainer_run, ultralytics_run
from typer.testing import CliRunner

import soupviz as sv
from soupviz.cli.run import application, main
from soupviz.data.classes import natural_order
from soupviz.errors import DataError, KitchenError, SoupError
from soupviz.recognition import check, recognise
from soupviz.recognition.data import columns_of
from soupviz.recognition.files import definitions
from soupviz.recognition.trainer import transform
from soupviz.recognition.writing import text_of, write
from soupviz.weights.converting import convert
from soupviz.yaml_file import validate


def source_of(proposal, key):
    return next(fact.source for fact in proposal.facts if fact.key == key)


def test_a_run_of_timm_gives_the_whole_kitchen(tmp_path):
    proposal = sv.recognise(timm_run(tmp_path))
    document = proposal.document
    assert (proposal.framework, proposal.questions) == ("timm", ())
    assert document["model"]["factory"] == "timm:test_vit"
    assert document["model"]["args"] == {
        "num_classes": 3, "img_size": 32, "patch_size": 4, "pretrained_cfg_overlay": {"input_size": [3, 32, 32]},
    }  # fmt: skip
    assert document["ingredients"] == ["checkpoint-*.pth.tar"]
    assert document["data"]["held_out"] == {
        "format": "imagefolder", "path": "../../data/validation", "transform": {"preset": "timm"},
    }  # fmt: skip
    assert "args.yaml" in source_of(proposal, "model.factory")


def test_raw_or_moving_average_is_said_where_the_files_hold_both(tmp_path):
    assert recognise(timm_run(tmp_path / "a")).document["weights"] == "raw"
    assert recognise(timm_run(tmp_path / "b"), weights="ema").document["weights"] == "ema"
    assert "weights" not in recognise(timm_run(tmp_path / "c", model_ema=False)).document


def test_what_timm_was_told_of_preprocessing_overrides_the_models_own(tmp_path):
    folder = timm_run(tmp_path, mean=[0.5], std=[0.25], crop_pct=1.0, input_size=None, img_size=48)
    assert recognise(folder).document["model"]["args"]["pretrained_cfg_overlay"] == {
        "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0, "input_size": [3, 48, 48],
    }  # fmt: skip


def test_timm_orders_class_folders_by_number_and_without_capitals(tmp_path):
    assert natural_order(["10", "2", "B", "a"]) == ["2", "10", "a", "B"]
    folder = timm_run(tmp_path)
    images(tmp_path / "other" / "val", ("1", "10", "2"))
    assert recognise(folder, data=tmp_path / "other").document["classes"] == ["1", "2", "10"]
    assert "classes" not in recognise(folder).document


@pytest.mark.extras
def test_timms_class_order_is_that_of_its_own_reader(tmp_path):
    reader = pytest.importorskip("timm.data.readers.reader_image_folder")
    names = ("n10", "n9", "N1", "a", "B", "10", "9")
    images(tmp_path / "val", names, each=1)
    _, classes = reader.find_images_and_targets(str(tmp_path / "val"))
    assert natural_order(sorted(names)) == sorted(classes, key=classes.get)


def test_a_run_of_trainer_gives_the_whole_kitchen(tmp_path):
    proposal = recognise(trainer_run(tmp_path, id2label={"1": "good", "0": "bad"}))
    document = proposal.document
    assert (proposal.framework, proposal.questions) == ("Trainer", ())
    assert document["model"] == {"factory": "transformers:checkpoint-20"}
    assert document["ingredients"] == ["checkpoint-*"]
    assert document["classes"] == ["bad", "good"]
    assert document["data"]["held_out"] == {
        "format": "text", "path": "../held_out.csv", "text": "sentence", "label": "label", "tokenizer": "checkpoint-20",
    }  # fmt: skip


def test_a_classifier_of_images_has_its_names_and_its_transform(tmp_path):
    run = trainer_run(tmp_path, architectures=["ViTForImageClassification"], id2label={"0": "cat", "1": "dog"})
    for step in (10, 20):
        told = {"do_resize": True, "size": {"height": 32, "width": 32}, "do_normalize": False}
        (run / f"checkpoint-{step}" / "preprocessor_config.json").write_text(json.dumps(told))
    images(tmp_path / "data" / "val", ("cat", "dog"))
    document = recognise(run, data=tmp_path / "data").document
    assert document["classes"] == ["cat", "dog"]
    assert "transform" in document["data"]["held_out"]


def test_placeholders_of_trainer_are_no_class_names(tmp_path):
    proposal = recognise(trainer_run(tmp_path, id2label={"0": "LABEL_0", "1": "LABEL_1"}))
    assert "classes" not in proposal.document


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_a_causal_language_model_of_trainer_is_judged_by_texts_without_labels(tmp_path, architecture):
    folder = trainer_run(tmp_path, architectures=[architecture])
    (tmp_path / "documents.txt").write_text("one document\n\nanother one\n")
    proposal = recognise(folder, data=tmp_path / "documents.txt")
    assert (proposal.document["task"], proposal.questions) == ("language_model", ())
    assert proposal.document["data"]["held_out"] == {
        "format": "text", "path": "../documents.txt", "text": "text", "tokenizer": "checkpoint-20",
    }  # fmt: skip
    assert architecture in source_of(proposal, "task")
    assert "language_model" in text_of(proposal)
    table = tmp_path / "documents.csv"
    table.write_text("id,body\n1,one document\n2,another\n")
    assert [question.key for question in recognise(folder, data=table).questions] == ["text"]
    assert recognise(folder, data=table, text="body").document["data"]["held_out"]["text"] == "body"


def test_a_classifier_of_trainer_has_no_task_of_its_own_and_asks_for_labels(tmp_path):
    (tmp_path / "documents.txt").write_text("one document\nanother one\n")
    proposal = recognise(trainer_run(tmp_path), data=tmp_path / "documents.txt")
    assert "task" not in proposal.document
    assert [question.key for question in proposal.questions] == ["label"]


def test_a_folder_of_the_same_architecture_beside_trainers_run_is_the_base(tmp_path):
    folder = trainer_run(tmp_path)
    save({"w": torch.ones(2)}, tmp_path / "base" / "model.safetensors")
    (tmp_path / "base" / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert recognise(folder).document["base"] == "../base"
    (tmp_path / "base" / "config.json").write_text('{"architectures": ["BertModel"]}')
    assert "base" not in recognise(folder).document


def test_one_checkpoint_of_trainer_stands_for_its_run(tmp_path):
    assert recognise(trainer_run(tmp_path) / "checkpoint-10").document["ingredients"] == ["checkpoint-*"]


@pytest.mark.parametrize(
    ("config", "expected", "told"),
    [
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True,
             "resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.1, 0.2, 0.3]},
            {"resize": 256, "interpolation": "bicubic", "crop": 224, "mean": [0.5] * 3, "std": [0.1, 0.2, 0.3]},
            0,
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "do_normalize": False},
         {"resize": 256, "crop": 224, "interpolation": "bilinear"}, 0),
        ({"size": {"height": 32, "width": 48}, "do_normalize": False},
         {"resize": [32, 48], "interpolation": "bilinear"}, 0),
        ({"size": 32, "feature_extractor_type": "ViTFeatureExtractor"},
         {"resize": [32, 32], "interpolation": "bilinear"}, 0),
        ({"size": 32, "image_processor_type": "CLIPImageProcessor"}, {"resize": 32, "interpolation": "bilinear"}, 0),
        ({"size": {"longest_edge": 32}}, {"interpolation": "bilinear"}, 1),
        ({"size": {"shortest_edge": 32}, "resample": 1, "do_normalize": False}, {"resize": 32}, 1),
        ({"do_resize": False, "do_normalize": False}, {}, 0),
    ],
)  # fmt: skip
def test_a_preprocessor_config_becomes_a_transform_and_what_it_cannot_say_is_told(config, expected, told):
    values, notes = transform(config)
    assert values == expected
    assert len(notes) == told


def test_lightning_asks_for_the_factory_and_offers_what_lies_beside_the_run(tmp_path):
    proposal = recognise(lightning_run(tmp_path))
    [question] = proposal.questions
    assert (proposal.framework, question.key) == ("Lightning", "factory")
    assert question.choices == ("../model.py:build",)
    with pytest.raises(KitchenError, match="what builds the model"):
        proposal.spec()


def test_a_factory_gets_those_hyperparameters_that_it_takes(tmp_path):
    document = recognise(lightning_run(tmp_path), factory="../model.py:build").document
    assert document["model"] == {"factory": "../model.py:build", "args": {"features": 6}}
    given = recognise(tmp_path / "version_0", factory="../model.py:build", arguments={"classes": 3})
    assert given.document["model"]["args"] == {"classes": 3}


def test_a_factory_that_hyperparameters_name_is_taken(tmp_path):
    folder = lightning_run(tmp_path)
    (folder / "hparams.yaml").write_text("factory: timm:resnet18\n")
    assert recognise(folder).document["model"] == {"factory": "timm:resnet18"}


def test_last_of_lightning_is_no_ingredient_beside_the_epochs(tmp_path):
    folder = lightning_run(tmp_path)
    (folder / "checkpoints" / "last.ckpt").touch()
    [pattern] = recognise(folder).document["ingredients"]
    assert sorted(path.name for path in folder.glob(pattern)) == ["epoch=0-step=5.ckpt", "epoch=1-step=10.ckpt"]


def test_looking_for_factories_runs_nothing(tmp_path):
    (tmp_path / "train.py").write_text(
        "raise SystemExit\nclass Net(nn.Module):\n    def __init__(self, width, *, depth=2): ...\n"
        "def make_net(a): ...\ndef other() -> nn.Module: ...\ndef load_data(): ...\n"
    )
    assert definitions(tmp_path / "train.py") == {"Net": ("width", "depth"), "make_net": ("a",), "other": ()}
    (tmp_path / "broken.py").write_text("def (")
    assert definitions(tmp_path / "broken.py") == {}


def test_a_script_that_would_train_when_it_is_imported_is_not_offered_as_a_factory(tmp_path):
    folder = lightning_run(tmp_path)
    (tmp_path / "model.py").rename(tmp_path / "train.py")
    source = (tmp_path / "train.py").read_text()
    for more, offered in {
        "torch.manual_seed(0)\nif __name__ == '__main__':\n    main()\n": ("../train.py:build",),
        "trainer.fit(build())\n": (),
        "main()\n": (),
    }.items():
        (tmp_path / "train.py").write_text(source + more)
        assert recognise(folder).questions[0].choices == offered


def test_a_run_of_ultralytics_has_to_be_converted_first(tmp_path):
    proposal = recognise(ultralytics_run(tmp_path))
    assert proposal.framework == "Ultralytics"
    assert [path.name for path in proposal.run.convert] == ["best.pt", "epoch1.pt", "last.pt"]
    assert proposal.document["model"] == {
        "factory": "soupviz.models.yolo:classifier", "args": {"model": "yolo11n-cls.yaml", "num_classes": 3},
    }  # fmt: skip
    assert proposal.document["data"]["held_out"]["transform"] == {"resize": 64, "crop": 64}


def test_a_run_of_torchvisions_references_is_known_by_the_arguments_in_its_files(tmp_path):
    args = argparse.Namespace(model="resnet18", val_resize_size=40, val_crop_size=32, data_path="data", lr=0.1)
    for epoch in range(2):
        torch.save(
            {"model": {"fc.weight": torch.ones(3, 4)}, "epoch": epoch, "args": args}, tmp_path / f"model_{epoch}.pth"
        )
    images(tmp_path / "data" / "val")
    proposal = recognise(tmp_path)
    assert proposal.framework == "torchvision"
    assert proposal.document["model"] == {"factory": "torchvision:resnet18", "args": {"num_classes": 3}}
    assert proposal.document["ingredients"] == ["model_*.pth"]
    held_out = proposal.document["data"]["held_out"]
    assert (held_out["transform"]["resize"], held_out["transform"]["crop"]) == (40, 32)


def test_a_plain_folder_asks_for_the_factory_and_the_data(tmp_path):
    save({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    save({"w": torch.ones(2)}, tmp_path / "base.safetensors")
    save({"w": torch.ones(2)}, tmp_path / "optimizer.pt")
    proposal = recognise(tmp_path)
    assert (proposal.framework, [q.key for q in proposal.questions]) == ("plain", ["factory", "data"])
    assert proposal.document["ingredients"] == ["*.safetensors"]
    assert proposal.document["base"] == "base.safetensors"


@pytest.mark.parametrize("name", ["model.safetensors", "best.pth", "weights", "my.weights"])
def test_a_plain_folder_of_folders_with_one_checkpoint_each(tmp_path, name):
    for folder in ("x", "y"):
        save({"w": torch.ones(2)}, tmp_path / folder / name)
    assert recognise(tmp_path).document["ingredients"] == [f"*/{name}"]


def test_of_several_checkpoints_in_each_folder_the_best_or_the_last_is_taken(tmp_path):
    for name in ("a/epoch_9.pt", "a/epoch_10.pt", "b/best.pt", "b/last.pt"):
        save({"w": torch.ones(2)}, tmp_path / name)
    proposal = recognise(tmp_path)
    assert proposal.document["ingredients"] == {"a": "a/epoch_10.pt", "b": "b/best.pt"}
    assert "of each its best" in source_of(proposal, "ingredients")


def test_files_are_checkpoints_by_their_content_not_by_their_names(tmp_path):
    for name in ("step_1", "step_2", "a.weights", "b.any"):
        save({"w": torch.ones(2)}, tmp_path / name)
    (tmp_path / "notes.pt").write_text("text")
    (tmp_path / "log").write_text("text")
    assert recognise(tmp_path).document["ingredients"] == ["*.weights", "b.any", "step_1", "step_2"]


def test_an_optimizers_state_is_no_checkpoint_whatever_it_is_called(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a_optim.pt")
    torch.save(optimizer.state_dict(), tmp_path / "m_0.pt")
    save({"w": torch.ones(2)}, tmp_path / "m_1.safetensors")
    assert recognise(tmp_path).document["ingredients"] == ["*.safetensors"]


def test_the_folder_of_a_run_may_have_brackets_in_its_name(tmp_path):
    save({"w": torch.ones(2)}, tmp_path / "run [1]" / "a.pt")
    save({"w": torch.ones(2)}, tmp_path / "run [1]" / "b.pt")
    for out in (None, tmp_path / "k.yaml"):
        [pattern] = recognise(tmp_path / "run [1]", out=out).document["ingredients"]
        found = (out or tmp_path / "run [1]" / "k").parent.glob(pattern)
        assert sorted(path.name for path in found) == ["a.pt", "b.pt"]


def test_a_cache_of_hugging_face_is_read_through_its_snapshots(tmp_path):
    for name in ("a", "b"):
        repository = tmp_path / f"models--me--{name}"
        blob = save({"w": torch.ones(2)}, repository / "blobs" / "0123")
        (repository / "snapshots" / name).mkdir(parents=True)
        (repository / "snapshots" / name / "model.safetensors").symlink_to(blob)
        config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}
        (repository / "snapshots" / name / "config.json").write_text(json.dumps(config))
    document = recognise(tmp_path).document
    assert document["ingredients"] == ["*/*/*/model.safetensors"]
    assert document["model"] == {"factory": "transformers:models--me--a/snapshots/a"}
    assert document["classes"] == ["no", "yes"]


def test_what_timm_wrote_for_the_hub_names_model_and_preprocessing(tmp_path):
    save({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    own = {"input_size": [3, 96, 96], "mean": [0.5, 0.5, 0.5], "crop_pct": 0.9, "url": "x"}
    config = {"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    proposal = recognise(tmp_path, data=images(tmp_path / "pictures"))
    overlay = {key: own[key] for key in ("input_size", "mean", "crop_pct")}
    arguments = {"num_classes": 7, "pretrained_cfg_overlay": overlay}
    assert proposal.document["model"] == {"factory": "timm:resnet18", "args": arguments}
    assert proposal.document["data"]["held_out"]["transform"] == {"preset": "timm"}


@pytest.mark.parametrize(("arch", "library"), [("resnet18", "torchvision"), ("vit_tiny_patch16_224", "timm")])
def test_an_architecture_named_in_a_file_is_that_of_the_library_that_has_it(tmp_path, arch, library):
    torch.save({"arch": arch, "state_dict": {"fc.weight": torch.ones(5, 2)}}, tmp_path / "model_best.pth.tar")
    model = recognise(tmp_path).document["model"]
    assert model == {"factory": f"{library}:{arch}", "args": {"num_classes": 5}}


def test_a_librarys_factory_that_the_user_names_gets_the_number_of_outputs(tmp_path):
    save({"conv.weight": torch.ones(4, 3, 1, 1), "fc.weight": torch.ones(5, 2)}, tmp_path / "a.pt")
    assert recognise(tmp_path, factory="timm:x").document["model"]["args"] == {"num_classes": 5}
    assert "args" not in recognise(tmp_path, factory="model.of:mine").document["model"]


def test_new_with_a_factory_of_another_model_says_to_name_the_right_one_and_offers_no_option_that_it_lacks(tmp_path):
    told = run("new", lightning_run(tmp_path), "--factory", "torchvision:resnet18")
    assert "torchvision:resnet18" in told and "--factory" in told
    assert "skip-incompatible" not in told and "remove it" not in told


def test_a_damaged_checkpoint_is_told_and_the_first_that_can_be_read_is_checked(tmp_path):
    folder = lightning_run(tmp_path)
    (folder / "checkpoints" / "epoch=0-step=5.ckpt").write_bytes(b"PK\x03\x04 cut")
    proposal = recognise(folder, factory="../model.py:build")
    [note] = [note for note in proposal.notes if "epoch=0-step=5.ckpt" in note]
    assert "--skip-incompatible" in note
    assert check(proposal).ingredient == "epoch=1-step=10"


def test_what_files_are_is_told_where_none_of_them_is_a_checkpoint(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(KitchenError, match=r"a\.pt is a Git LFS pointer"):
        recognise(tmp_path)


def test_what_a_glob_passes_over_is_not_told_as_damaged(tmp_path):
    save({"w": torch.ones(2)}, tmp_path / "a.pt")
    save({"w": torch.ones(2)}, tmp_path / "optimizer.pt")
    assert not any("optimizer" in note for note in recognise(tmp_path).notes)


def test_new_says_where_else_to_write_before_anything_is_scored(tmp_path, monkeypatch):
    folder = lightning_run(tmp_path)
    monkeypatch.setattr("soupviz.cli.opening.is_writable", lambda place: place != folder)
    assert "--out FILE" in run("new", folder, "--factory", "../model.py:build")
    run("new", folder, "--factory", "../model.py:build", "--out", tmp_path / "k.yaml")


def test_every_pickle_of_a_run_that_needs_code_is_to_be_converted_and_is_then_found(tmp_path):
    folder = lightning_run(tmp_path)
    files = sorted((folder / "checkpoints").iterdir())
    for path in files:
        whole = torch.load(path) | {"hyper_parameters": {"optimizer": partial(max, 1)}}
        torch.save(whole, path)
    assert list(recognise(folder).run.convert) == files
    for path in files:
        convert(path)
    proposal = recognise(folder, factory="../model.py:build")
    assert proposal.run.convert == ()
    assert check(proposal).ingredient == "epoch=0-step=5"


def test_a_run_of_ultralytics_is_proposed_again_where_only_the_converted_files_are_left(tmp_path):
    folder = ultralytics_run(tmp_path)
    assert recognise(folder).document["ingredients"] == ["weights/*.pt"]
    for path in (folder / "weights").iterdir():
        path.rename(path.with_suffix(".safetensors"))
    assert recognise(folder).document["ingredients"] == ["weights/*.safetensors"]


def test_a_run_is_found_some_folders_below_and_several_of_different_models_are_refused_by_name(tmp_path):
    timm_run(tmp_path / "one")
    assert recognise(tmp_path).run.folder == tmp_path / "one" / "output" / "vit"
    timm_run(tmp_path / "two", num_classes=4)
    with pytest.raises(KitchenError, match=r"2 runs .*\(one/output/vit, two/output/vit\)"):
        recognise(tmp_path)


def test_runs_of_one_model_are_a_sweep_of_the_best_of_each(tmp_path):
    for name in ("one", "two"):
        (timm_run(tmp_path / name, lr=0.1) / "model_best.pth.tar").touch()
    proposal = recognise(tmp_path, data=tmp_path / "one" / "data")
    assert proposal.document["ingredients"] == {
        "one/output/vit": "one/output/vit/model_best.pth.tar", "two/output/vit": "two/output/vit/model_best.pth.tar",
    }  # fmt: skip
    assert proposal.file == tmp_path / "kitchen.yaml"


def test_a_sweep_of_lightning_takes_the_last_epoch_of_each(tmp_path):
    for name in ("one", "two"):
        lightning_run(tmp_path / name)
    proposal = recognise(tmp_path, data=tmp_path / "one" / "val.npz", factory=str(tmp_path / "one" / "model.py:build"))
    assert check(proposal).ingredient == "one/version_0"
    assert all(path.endswith("step=10.ckpt") for path in proposal.document["ingredients"].values())
    assert yaml.safe_load(text_of(proposal)) == proposal.document


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_checkpoints_is_refused_by_name(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitchenError, match=name):
        recognise(tmp_path / name)


def test_splits_are_found_by_their_names_and_what_the_run_evaluated_on_comes_first(tmp_path):
    folder = timm_run(tmp_path, val_split="dev")
    for name in ("train", "test", "val", "dev"):
        images(tmp_path / "other" / name)
    data = recognise(folder, data=tmp_path / "other").document["data"]
    assert {name: Path(split["path"]).name for name, split in data.items()} == {
        "held_out": "dev", "test": "test", "train": "train",
    }  # fmt: skip


def test_the_one_folder_inside_the_runs_that_has_splits_is_found_whatever_it_is_called(tmp_path):
    save({"w": torch.ones(2)}, tmp_path / "a.pt")
    images(tmp_path / "pets" / "held_out")
    images(tmp_path / "pets" / "test")
    proposal = recognise(tmp_path)
    assert proposal.document["data"]["held_out"]["path"] == "pets/held_out"
    assert any("taken as they are" in note for note in proposal.notes)
    images(tmp_path / "birds" / "val")
    assert [question.key for question in recognise(tmp_path).questions] == ["factory", "data"]


def test_a_folder_of_classes_selects_and_so_does_a_lone_test_split(tmp_path):
    folder = timm_run(tmp_path)
    alone = recognise(folder, data=images(tmp_path / "pictures"))
    assert Path(alone.document["data"]["held_out"]["path"]).name == "pictures"
    images(tmp_path / "only" / "test")
    proposal = recognise(folder, data=tmp_path / "only")
    assert list(proposal.document["data"]) == ["held_out"]
    assert any("only a test split" in note for note in proposal.notes)


@pytest.mark.parametrize("make", ["nothing", "text"])
def test_data_that_holds_no_split_is_refused_by_name(tmp_path, make):
    folder = timm_run(tmp_path)
    (tmp_path / "text").write_text("no table")
    with pytest.raises(DataError, match=make):
        recognise(folder, data=tmp_path / make)


def test_columns_that_say_nothing_are_asked_for(tmp_path):
    folder = trainer_run(tmp_path)
    (tmp_path / "val.csv").write_text("a,b,c\nx,0,1\n")
    proposal = recognise(folder, data=tmp_path / "val.csv")
    assert [(q.key, q.choices) for q in proposal.questions] == [("text", ("a", "b", "c")), ("label", ("a", "b", "c"))]
    whole = recognise(folder, data=tmp_path / "val.csv", text="a", label="c")
    assert (whole.questions, whole.document["data"]["held_out"]["label"]) == ((), "c")
    with pytest.raises(DataError, match="'d'"):
        recognise(folder, data=tmp_path / "val.csv", text="d")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_columns_are_found_whatever_stands_between_them(tmp_path, separator):
    folder = trainer_run(tmp_path)
    (tmp_path / "val.csv").write_bytes(f"sentence{separator}label\ncaf\u00e9{separator}1\n".encode("latin-1"))
    held_out = recognise(folder, data=tmp_path / "val.csv").document["data"]["held_out"]
    assert (held_out["text"], held_out["label"]) == ("sentence", "label")


def test_nothing_is_looked_at_that_may_not_be_read(tmp_path):
    folder = timm_run(tmp_path)
    proposal = recognise(folder, may_read=lambda path: path.is_relative_to(folder))
    assert [question.key for question in proposal.questions] == ["data"]


@pytest.mark.parametrize("inner", ["checkpoints", "version_0"])
def test_a_run_is_not_left_upwards_where_that_may_not_be_read(tmp_path, inner):
    folder = lightning_run(tmp_path)
    folder = folder / "checkpoints" if inner == "checkpoints" else folder
    assert recognise(folder).run.folder == tmp_path / "version_0"
    alone = recognise(folder, may_read=lambda path: path.is_relative_to(folder))
    assert alone.file.parent == folder
    assert {question.key for question in alone.questions} == {"factory", "data"}


def test_a_base_that_may_not_be_read_is_not_looked_at(tmp_path):
    folder = trainer_run(tmp_path)
    save({"w": torch.ones(2)}, tmp_path / "base" / "model.safetensors")
    (tmp_path / "base" / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert "base" not in recognise(folder, may_read=lambda path: path.is_relative_to(folder)).document


def test_names_of_classes_that_are_no_folders_are_told_and_left_out(tmp_path):
    folder = trainer_run(tmp_path, id2label={"0": "cat", "1": "bee", "2": "ant"})
    assert recognise(folder, data=images(tmp_path / "same")).document["classes"] == ["cat", "bee", "ant"]
    other = recognise(folder, data=images(tmp_path / "other", ("x", "y")))
    assert "classes" not in other.document
    assert any("other names" in note for note in other.notes)


def test_paths_are_relative_to_where_the_kitchen_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    proposal = recognise(timm_run(tmp_path), out=tmp_path / "elsewhere" / "k.yaml")
    assert proposal.document["ingredients"] == ["../output/vit/checkpoint-*.pth.tar"]
    assert proposal.document["data"]["held_out"]["path"] == "../data/validation"


def test_a_folder_for_the_kitchen_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(KitchenError, match="missing"):
        recognise(timm_run(tmp_path), out=tmp_path / "missing" / "k.yaml")


def test_what_is_written_is_the_proposal_with_its_sources_as_comments(tmp_path):
    proposal = recognise(lightning_run(tmp_path), factory="../model.py:build")
    text = text_of(proposal)
    assert yaml.safe_load(text) == proposal.document
    assert "  # you said so" in text
    assert validate(yaml.safe_load(text), "k") == proposal.spec()
    assert max(map(len, text.splitlines())) <= 120


def test_a_kitchen_that_is_there_is_kept(tmp_path):
    proposal = recognise(lightning_run(tmp_path), factory="../model.py:build")
    assert write(proposal) is None
    assert write(proposal) == proposal.file.with_name("kitchen.yaml.bak")
    assert sv.Kitchen.load(proposal.file).names == ["epoch=0-step=5", "epoch=1-step=10"]


@pytest.mark.parametrize(("accuracy", "doubtful"), [(0.9, False), (0.3, True)])
def test_the_first_checkpoint_is_scored_and_held_against_what_was_logged(tmp_path, accuracy, doubtful):
    checked = check(recognise(lightning_run(tmp_path, accuracy), factory="../model.py:build"))
    assert (checked.ingredient, checked.num_examples) == ("epoch=0-step=5", 200)
    assert checked.logged is not None
    assert checked.logged.accuracy == accuracy
    assert checked.is_doubtful is doubtful
    assert f"{accuracy:.3f}" in checked.sentence


def test_a_model_that_does_not_take_an_example_is_told(tmp_path):
    with pytest.raises(SoupError, match=r"data\.held_out|architecture|shape"):
        check(recognise(lightning_run(tmp_path), factory="../model.py:build", arguments={"features": 5}))


def run(*arguments, expect=0):
    done = CliRunner().invoke(application(), [str(argument) for argument in arguments], catch_exceptions=True)
    if isinstance(done.exception, SoupError):
        return str(done.exception)
    assert done.exit_code == expect, done.output
    return done.stdout


def test_new_writes_a_kitchen_that_opens_and_tells_what_it_took_from_where(tmp_path):
    folder = lightning_run(tmp_path)
    told = json.loads(run("new", folder, "--factory", "../model.py:build", "--json"))
    assert told["framework"] == "Lightning"
    assert told["check"]["logged"] == 0.9
    assert {"key": "model.factory", "value": "../model.py:build", "source": "you said so"} in told["facts"]
    scores = json.loads(run("score", told["kitchen"], "--json"))["ingredients"]
    assert scores["epoch=0-step=5"]["correct"] == told["check"]["correct"]


def test_new_without_a_terminal_names_the_option_and_writes_nothing(tmp_path):
    folder = lightning_run(tmp_path)
    told = run("new", folder)
    assert "--factory" in told
    assert "../model.py:build" in told
    assert not (folder / "kitchen.yaml").exists()


def test_new_names_the_command_that_converts(tmp_path):
    told = run("new", ultralytics_run(tmp_path))
    command = told[told.index("soupviz convert ") :].split()
    assert command[-2:] == [str(tmp_path / "output" / "weights" / "last.pt"), "--trust"]


def test_score_tells_a_logged_accuracy_that_cannot_be_ours(tmp_path, capsys):
    proposal = recognise(lightning_run(tmp_path, accuracy=0.3), factory="../model.py:build")
    write(proposal)
    with pytest.raises(SystemExit):
        main(["score", str(proposal.file)])
    told = [line for line in capsys.readouterr().err.splitlines() if "logged 0.300" in line]
    assert len(told) == 2


def test_weights_in_the_runs_own_folder_do_not_hide_its_checkpoints(tmp_path):
    """As `trainer.save_model()` and `save_state()` leave them at the end."""
    folder = trainer_run(tmp_path)
    for file in (folder / "checkpoint-10").iterdir():
        shutil.copy(file, folder / file.name)
    assert recognise(folder).document["ingredients"] == ["checkpoint-*"]


@pytest.mark.parametrize(
    ("name", "line"),
    [("x.csv", "text,label"), ("x.csv", "text;label"), ("x.csv", "\ufefftext\tlabel"), ("x.tsv", '"text"\t"label"')],
)
def test_the_columns_of_a_table_are_those_that_its_format_will_read(tmp_path, name, line):
    (tmp_path / name).write_text(f"{line}\na,b\n", encoding="utf-8")
    assert columns_of(tmp_path / name) == ("text", "label")
