"""What lies beside a checkpoint becomes what is known of it, read without running anything."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from kitchens import small_kitchen
from runs import lightning_run, timm_run, trainer_run, ultralytics_run

from soupviz.errors import CheckpointError
from soupviz.kitchen import Kitchen
from soupviz.weights.fitting import Fitted
from soupviz.weights.inert import read_pickle, read_yaml
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.logged import differs, disagreements, logged_accuracy
from soupviz.weights.metadata import beside


def test_timms_row_of_the_epoch_is_told_and_its_scores_are_those_of_the_moving_average(tmp_path):
    found = beside(timm_run(tmp_path) / "checkpoint-1.pth.tar")
    assert (found["epoch"], found["lr"], found["eval_top1 (EMA)"]) == (1, 0.002, 75.0)
    assert (found["given lr"], found["opt"], found["seed"]) == (0.003, "adamw", 1)


def test_without_a_moving_average_timms_scores_are_those_of_the_file(tmp_path):
    found = beside(timm_run(tmp_path, model_ema=False) / "checkpoint-1.pth.tar")
    assert found["eval_top1"] == 75.0


def test_a_file_whose_name_has_no_epoch_is_told_by_what_is_inside_it_and_else_gets_no_row(tmp_path):
    best = timm_run(tmp_path) / "model_best.pth.tar"
    best.touch()
    assert beside(best, {"epoch": 1})["eval_top1 (EMA)"] == 75.0
    assert "epoch" not in beside(best)


def test_trainers_scores_are_those_of_the_step_and_its_learning_rate_the_last_before_it(tmp_path):
    found = beside(trainer_run(tmp_path) / "checkpoint-20")
    assert (found["step"], found["epoch"], found["eval_accuracy"], found["learning_rate"]) == (20, 2.0, 0.75, 0.01)
    assert "eval_runtime" not in found


def test_the_weights_file_inside_trainers_folder_is_told_the_same(tmp_path):
    folder = trainer_run(tmp_path) / "checkpoint-20"
    assert beside(folder / "model.safetensors") == beside(folder)


class Settings:
    def __init__(self):
        self.learning_rate = 0.0007
        self.seed = 42
        self.device = torch.device("cpu")

    def __setstate__(self, state):
        pytest.fail("the class was imported")


class Evil:
    def __reduce__(self):
        return pytest.fail, ("a pickle's function was called",)


def test_training_args_are_read_without_importing_what_they_name(tmp_path):
    folder = trainer_run(tmp_path) / "checkpoint-20"
    torch.save(Settings(), folder / "training_args.bin")
    found = beside(folder)
    assert (found["given learning_rate"], found["seed"]) == (0.0007, 42)


def test_a_function_that_a_pickle_names_is_not_called(tmp_path):
    (tmp_path / "args.bin").write_bytes(pickle.dumps({"seed": 1, "evil": Evil(), "list": [1]}))
    assert read_pickle(tmp_path / "args.bin") == {"seed": 1, "evil": "a pickle's function was called"}


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04", b"\x80\x02}q\x00X\xff\xff\xff\x7f"])
def test_a_damaged_pickle_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "args.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"args\.bin"):
        read_pickle(tmp_path / "args.bin")


def test_lightnings_rows_of_the_epoch_are_joined_and_hyperparameters_stand_beside_them(tmp_path):
    found = beside(lightning_run(tmp_path, accuracy=0.9) / "checkpoints" / "epoch=1-step=10.ckpt")
    assert found == {"lr": 0.001, "features": 6, "epoch": 1, "step": 10, "train_loss": 1.5, "val_acc": 0.9}


def test_lightnings_file_without_numbers_in_its_name_is_told_by_what_is_inside_it(tmp_path):
    best = lightning_run(tmp_path) / "checkpoints" / "best.ckpt"
    best.touch()
    assert beside(best, {"epoch": 0, "global_step": 5})["val_acc"] == 0.9


@pytest.mark.parametrize(("name", "epoch"), [("epoch1", 2), ("best", 3), ("last", 3)])
def test_ultralytics_counts_epochs_in_names_from_zero_and_in_its_table_from_one(tmp_path, name, epoch):
    found = beside(ultralytics_run(tmp_path) / "weights" / f"{name}.pt")
    assert (found["epoch"], found["lr0"]) == (epoch, 0.05)


@pytest.mark.parametrize("name", ["epoch_3.yaml", "epoch_3.pt.yaml", "epoch_3.json", "CKPT.yaml"])
def test_values_in_a_file_of_its_name_are_told(tmp_path, name):
    (tmp_path / "epoch_3.pt").touch()
    values = {"cv_loss": 0.5, "tag": "x", "loss_dict": {"acc": 0.9}, "list": [1, 2]}
    (tmp_path / name).write_text(json.dumps(values))  # JSON is YAML too
    assert beside(tmp_path / "epoch_3.pt") == {"cv_loss": 0.5, "tag": "x", "acc": 0.9}


def test_tags_in_yaml_make_no_objects(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 0.1\nos: !!python/object/apply:os.getcwd []\nopt: !Adam {lr: 1}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"lr": 0.1, "os": [], "opt": {"lr": 1}}


@pytest.mark.parametrize("name", ["m.yaml", "m.json"])
def test_a_damaged_file_beside_a_checkpoint_is_named(tmp_path, name):
    (tmp_path / "m.pt").touch()
    (tmp_path / name).write_text("{a: [")
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        beside(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("metadata", "name", "accuracy", "is_ema"),
    [
        ({"eval_top1 (EMA)": 22.5}, "eval_top1", 0.225, True),
        ({"eval_top1": 0.5}, "eval_top1", 0.005, False),
        ({"eval_accuracy": 0.666}, "eval_accuracy", 0.666, False),
        ({"test_acc": 0.1, "val_acc": "0.424"}, "val_acc", 0.424, False),
        ({"metrics/accuracy_top1": "0.425", "metrics/accuracy_top5": 1}, "metrics/accuracy_top1", 0.425, False),
        ({"val/acc": 61.5}, "val/acc", 0.615, False),
        *(
            ({name: 0.25, "train_acc": 0.9, "val_acc5": 0.8}, name, 0.25, False)
            for name in (
                "best_acc1",
                "acc_val",
                "accuracy/val",
                "val/acc_top1",
                "Val Acc@1",
                "valAcc",
                "eval.accuracy",
                "val_top-1",
                "best_prec1",
                "max_val_accuracy",
                "val_acc/dataloader_idx_0",
                "val_MulticlassAccuracy",
                "Accuracy (val)",
                "held_out/acc",
                "val_acc_epoch",
                "acc@1",
                "Acc@1_val",
                "metrics/accuracy_top1",
            )
        ),
        ({"best_acc1": 90.0, "acc1": 25.0, "test_acc": 0.9}, "acc1", 0.25, False),
        ({"best_acc": 0.9, "val_acc": 0.25, "acc": 0.9}, "val_acc", 0.25, False),
    ],
)
def test_the_logged_accuracy_is_found_under_its_usual_names(metadata, name, accuracy, is_ema):
    found = logged_accuracy(metadata)
    assert found is not None
    assert (found.name, found.accuracy, found.is_ema) == (name, pytest.approx(accuracy), is_ema)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"lr": 0.1, "accum": 2},
        {"val_acc": True},
        {"acc": 250},
        {"acc": float("nan")},
        {"acc_cat": 0.5},
        {
            "train/acc1": 0.5,
            "train_accuracy": 0.5,
            "acc5": 0.5,
            "val_top5": 0.5,
            "top-10": 0.5,
            "val_balanced_acc": 0.5,
        },
    ],
)
def test_what_is_no_accuracy_is_not_taken_for_one(metadata):
    assert logged_accuracy(metadata) is None


def item(name, weights="raw", **metadata):
    return Ingredient(name, Path("a"), {}, "", metadata, Fitted({}, "", weights=weights), ())


def test_only_a_difference_beyond_chance_is_told():
    assert not differs(420, 1000, 0.43)
    assert differs(361, 1000, 0.742)
    assert differs(1, 10, 0.0)
    [told] = disagreements([(item("a", val_acc=0.742), 361, 1000), (item("b", val_acc=0.36), 361, 1000)])
    assert told.startswith("a: ")
    assert "0.742" in told
    assert "0.361" in told


def test_the_best_accuracy_so_far_may_be_another_epochs_and_that_is_said():
    [told] = disagreements([(item("a", best_acc1=74.2), 361, 1000)])
    assert "another epoch" in told
    [told] = disagreements([(item("a", acc1=74.2), 361, 1000)])
    assert "another epoch" not in told


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("file;val acc;note\nm.pt;0,85;caf\u00e9\n", "latin-1"),
        ("file;val acc;note\nm.pt;0,85;caf\u00e9\n", "utf-8-sig"),
        ("file\tval acc\tnote\nm.pt\t0.85\tcaf\u00e9\n", "utf-16"),
        ("file,val acc,note\nm.pt,0.85,caf\u00e9,,\n", "utf-8"),
    ],
)
def test_tables_are_read_as_spreadsheets_save_them(tmp_path, text, encoding):
    (tmp_path / "log.csv").write_bytes(text.encode(encoding))
    (tmp_path / "m.pt").touch()
    assert beside(tmp_path / "m.pt") == {"val acc": 0.85, "note": "caf\u00e9"}


def test_a_table_of_data_beside_a_checkpoint_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "data.csv").write_text("text,label\n" + "x" * 200_000 + ",1\n")
    (tmp_path / "m.pt").touch()
    monkeypatch.setattr("soupviz.weights.logs.read_rows", pytest.fail)
    assert beside(tmp_path / "m.pt") == {}


def test_what_cannot_be_read_is_told_once_and_refuses_no_kitchen(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=2)
    (tmp_path / "log.csv").write_text("file,note\nm_0," + "x" * 200_000 + "\n")
    (tmp_path / "m_0.yaml").write_text("{a: [")
    (tmp_path / "m_1.json").write_text('{"lr": 0.5}')
    kitchen = Kitchen.load(file)
    told = [note for note in kitchen.notes if note.startswith("Not read")]
    assert [name for note in told for name in ("log.csv", "m_0.yaml") if name in note] == ["log.csv", "m_0.yaml"]
    assert kitchen.weights.resolve("m_1").metadata["lr"] == 0.5


def test_a_score_that_was_logged_of_other_weights_is_not_compared():
    of_average = {"eval_top1 (EMA)": 90.0}
    assert disagreements([(item("a", **of_average), 10, 100)]) == []
    assert len(disagreements([(item("a", "ema", **of_average), 10, 100)])) == 1
    assert disagreements([(item("a", "ema", val_acc=0.9), 10, 100)]) == []


def test_what_lies_beside_and_is_no_table_is_no_reason_to_refuse_weights(tmp_path):
    """A folder that Spark calls x.csv, a link that leads nowhere; steps that a log left empty."""
    (tmp_path / "spark.csv").mkdir()
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    history = [{"step": None, "learning_rate": 1}, {"step": 5, "learning_rate": 0.5}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 5, "log_history": history}))
    (tmp_path / "m.pt").write_bytes(b"x")
    assert beside(tmp_path / "m.pt")["learning_rate"] == 0.5


def test_a_sidecar_that_is_nested_without_end_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"x")
    (tmp_path / "m.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"m\.json: not JSON"):
        beside(tmp_path / "m.pt")
