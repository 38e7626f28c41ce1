"""Boxes, masks and recordings beside a run are recognised by how they lie; what they do not say is asked."""

import json
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from detectors import MODEL as DETECTOR
from detectors import NAMES, coco_of, scenes, write_coco, write_yolo
from kitchens import build_model, save
from PIL import Image
from runs import images, trainer_run
from speech_kitchens import NET, TOKENS, write_split, write_table
from typer.testing import CliRunner

import soupviz as sv
from soupviz.cli.run import application
from soupviz.errors import DataError
from soupviz.recognition import recognise


def checkpoints(folder):
    (folder / "run").mkdir(parents=True)
    for name in ("a", "b"):
        save({"w": torch.ones(2)}, folder / "run" / f"{name}.safetensors")
    return folder / "run"


def ultralytics_run(root, **args):
    folder = root / "output"
    save({"w": torch.ones(2)}, folder / "weights" / "best.safetensors")
    told = {"task": "detect", "model": "yolo11n.pt", "imgsz": 64, "data": "data/data.yaml"} | args
    (folder / "args.yaml").write_text(json.dumps(told))
    return folder


def recording(path, length=200, rate=2000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(length, 0.1, dtype=np.float32), rate)


def pairs(pictures, masks, number=2):
    for folder, mode in ((pictures, "RGB"), (masks, "L")):
        folder.mkdir(parents=True)
        for index in range(number):
            Image.new(mode, (8, 8)).save(folder / f"{index}.png")


def asked(proposal):
    return [question.key for question in proposal.questions]


# Boxes


def test_a_detection_run_of_ultralytics_gives_the_whole_kitchen(tmp_path):
    write_yolo(tmp_path / "data", {"val": (1, 2), "test": (2, 2), "train": (3, 2)})
    proposal = recognise(ultralytics_run(tmp_path))
    assert proposal.framework == "Ultralytics" and not proposal.questions
    document = proposal.document
    assert document["task"] == "detection"
    assert document["model"] == {
        "factory": "soupviz.models.yolo:detector", "args": {"model": "yolo11n.yaml", "size": 64, "num_classes": 2},
    }  # fmt: skip
    assert document["data"] == {name: {"format": "yolo", "path": "../data"} for name in ("held_out", "test", "train")}
    assert proposal.spec().task.name == "detection"


def test_a_detection_run_of_ultralytics_has_to_be_converted_first_as_one_of_classification_has(tmp_path):
    write_yolo(tmp_path / "data", {"val": (1, 2)})
    run = ultralytics_run(tmp_path)
    (run / "weights" / "best.safetensors").unlink()
    torch.save({"model": None, "ema": partial(max, 1)}, run / "weights" / "best.pt")
    assert [path.name for path in recognise(run).run.convert] == ["best.pt"]
    result = CliRunner().invoke(application(), ["new", str(run)])
    assert "convert" in str(result.exception) and "--trust" in str(result.exception)


def test_a_data_yaml_with_a_name_of_its_own_is_named_as_the_path(tmp_path):
    write_yolo(tmp_path / "data", {"val": (1, 2)})
    (tmp_path / "data" / "data.yaml").rename(tmp_path / "data" / "cells.yaml")
    proposal = recognise(ultralytics_run(tmp_path, data="data/cells.yaml"))
    assert proposal.document["data"]["held_out"] == {"format": "yolo", "path": "../data/cells.yaml"}
    assert proposal.document["model"]["args"]["num_classes"] == 2


def test_another_task_of_ultralytics_is_no_run_that_is_known(tmp_path):
    assert recognise(ultralytics_run(tmp_path, task="pose")).framework == "plain"


def test_coco_is_found_by_its_files_and_the_images_that_they_name(tmp_path):
    folder = tmp_path / "data"
    for name, seed in (("val", 1), ("test", 2)):
        write_coco(folder, name, seed, 2)
    (tmp_path / "model.py").write_text(DETECTOR)
    proposal = recognise(checkpoints(tmp_path), factory="../model.py:build", data=folder)
    assert proposal.document["task"] == "detection"
    assert proposal.document["data"] == {
        name: {"format": "coco", "path": f"../data/{called}", "annotations": f"../data/{called}.json"}
        for name, called in (("held_out", "val"), ("test", "test"))
    }


def as_coco_itself(folder):
    (folder / "annotations").mkdir(parents=True)
    for name, year in (("val", "val2017"), ("train", "train2017")):
        write_coco(folder, year, 1, 2)
        (folder / f"{year}.json").rename(folder / "annotations" / f"instances_{name}2017.json")
    return "val2017", "annotations/instances_val2017.json"


def as_roboflow(folder):
    write_coco(folder, "valid", 1, 2)
    (folder / "valid.json").rename(folder / "valid" / "_annotations.coco.json")
    return "valid", "valid/_annotations.coco.json"


@pytest.mark.parametrize("make", [as_coco_itself, as_roboflow])
def test_layouts_of_coco_that_people_download_are_known(tmp_path, make):
    path, annotations = make(tmp_path / "data")
    held_out = recognise(checkpoints(tmp_path)).document["data"]["held_out"]
    assert held_out == {"format": "coco", "path": f"../data/{path}", "annotations": f"../data/{annotations}"}


def test_a_file_of_coco_may_be_named_itself_and_one_without_its_images_is_refused(tmp_path):
    path, annotations = as_coco_itself(tmp_path / "data")
    run = checkpoints(tmp_path)
    found = recognise(run, data=tmp_path / "data" / annotations).document["data"]["held_out"]
    assert found["path"] == f"../data/{path}"
    lonely = tmp_path / "lonely" / "boxes.json"
    lonely.parent.mkdir()
    lonely.write_text(json.dumps(coco_of([truths for _, truths in scenes(1, 2)], ["a.png", "b.png"])))
    with pytest.raises(DataError, match=r"boxes\.json: expected .*\.json of COCO's with its images"):
        recognise(run, data=lonely)


def test_a_torchvision_detector_gets_a_class_for_each_category_and_the_background(tmp_path):
    run = checkpoints(tmp_path)
    factory = "torchvision:ssdlite320_mobilenet_v3_large"
    write_coco(tmp_path / "data", "val", 1, 2)  # whose categories are 1 and 2
    assert recognise(run, factory=factory).document["model"]["args"] == {"num_classes": 3}
    write_yolo(tmp_path / "yolo", {"val": (1, 2)})  # whose classes are 0 and 1
    proposal = recognise(run, factory=factory, data=tmp_path / "yolo")
    assert proposal.document["model"]["args"] == {"num_classes": 3}
    assert proposal.document["task"] == {"name": "detection", "label_offset": 1}


def test_images_with_labels_that_no_data_yaml_explains_are_no_classes(tmp_path):
    write_yolo(tmp_path / "data", {"val": (1, 2)})
    (tmp_path / "data" / "data.yaml").unlink()
    assert "data" in asked(recognise(checkpoints(tmp_path)))


# Masks


@pytest.mark.parametrize("layout", ["a split in each", "each in a split"])
def test_images_beside_masks_are_segmentation(tmp_path, layout):
    for name in ("val", "test"):
        place = ("images/{}", "masks/{}") if layout == "a split in each" else ("{}/images", "{}/masks")
        pairs(*(tmp_path / "data" / one.format(name) for one in place))
    document = recognise(checkpoints(tmp_path)).document
    assert document["task"] == "segmentation"
    assert document["data"]["held_out"] == {
        "format": "masks", "path": f"../data/{place[0].format('val')}", "masks": f"../data/{place[1].format('val')}"
    }  # fmt: skip


def test_images_by_class_stay_what_they_were(tmp_path):
    images(tmp_path / "data" / "val", ("annotations", "bee"))
    assert recognise(checkpoints(tmp_path)).document["data"]["held_out"]["format"] == "imagefolder"


# Recordings


def test_a_folder_of_recordings_for_each_class_is_audio(tmp_path):
    for name in ("cat", "dog"):
        recording(tmp_path / "data" / "val" / name / "0.wav")
    proposal = recognise(checkpoints(tmp_path))
    assert proposal.document["data"]["held_out"] == {"format": "audio", "path": "../data/val"}
    assert "task" not in proposal.document and any("sample_rate" in note for note in proposal.notes)


def test_a_table_of_recordings_with_labels_is_classification(tmp_path):
    recording(tmp_path / "data" / "0.wav")
    write_table(tmp_path / "data", "val", [{"path": "0.wav", "category": "cat", "speaker": "x"}])
    proposal = recognise(checkpoints(tmp_path))
    assert proposal.document["data"]["held_out"] == {
        "format": "audio", "path": "../data/val.csv", "file": "path", "label": "category", "group": "speaker"
    }  # fmt: skip
    assert "task" not in proposal.document


def test_boxes_of_coco_that_count_their_classes_from_zero_leave_torchvisions_detectors_their_background(tmp_path):
    def proposed(folder, **ids):
        (folder / "val").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "val" / "0.png")
        told = {"images": [{"id": 1, "file_name": "0.png", "width": 8, "height": 8}]}
        told["categories"] = [{"id": number, "name": f"c{number}"} for number in ids["categories"]]
        told["annotations"] = [
            {"id": i, "image_id": 1, "category_id": number, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
            for i, number in enumerate(ids["used"])
        ]
        (folder / "val.json").write_text(json.dumps(told))
        factory = "torchvision:detection.ssdlite320_mobilenet_v3_large"
        return recognise(checkpoints(folder), factory=factory, data=folder).document

    used = proposed(tmp_path / "used", categories=[0, 1], used=[0, 1])
    assert used["model"]["args"] == {"num_classes": 3} and used["task"] == {"name": "detection", "label_offset": 1}
    idle = proposed(tmp_path / "idle", categories=[0, 1], used=[1, 1])
    assert idle["model"]["args"] == {"num_classes": 2} and idle["task"] == "detection"


def test_a_broken_file_of_coco_is_told_by_its_name(tmp_path):
    (tmp_path / "val").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "0.png")
    (tmp_path / "val.json").write_text('{"images": [{"file_name": "0.png"}], "categories": [')
    with pytest.raises(DataError, match=r"val\.json"):
        recognise(checkpoints(tmp_path), factory="torchvision:detection.ssdlite320_mobilenet_v3_large", data=tmp_path)


def test_a_manifest_of_transcripts_asks_for_the_vocabulary_alone_and_offers_what_lies_near(tmp_path):
    (tmp_path / "data").mkdir()
    row = {"audio_filepath": "0.wav", "duration": 1.5, "text": "a b"}
    (tmp_path / "data" / "val.jsonl").write_text(json.dumps(row) + "\n")
    run = checkpoints(tmp_path)
    (tmp_path / "tokens.txt").write_text("_\na\nb\n")
    proposal = recognise(run, factory="torchvision:resnet18")
    (question,) = proposal.questions
    assert question.key == "vocabulary" and question.choices == (str(tmp_path / "tokens.txt"),)
    document = recognise(run, factory="torchvision:resnet18", vocabulary=question.choices[0]).document
    assert document["task"] == {"name": "transcription", "vocabulary": "../tokens.txt"}
    assert document["data"]["held_out"] == {
        "format": "audio", "path": "../data/val.jsonl", "file": "audio_filepath", "transcript": "text"
    }  # fmt: skip


def test_what_a_table_of_recordings_is_for_is_asked_where_its_columns_do_not_say(tmp_path):
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data", "val", [{"file": "0.wav", "label": "cat", "text": "a b"}])
    run = checkpoints(tmp_path)
    proposal = recognise(run, factory="torchvision:resnet18")
    assert asked(proposal) == ["task"]
    told = recognise(run, factory="torchvision:resnet18", task="classification")
    assert not told.questions and told.document["data"]["held_out"]["label"] == "label"
    assert asked(recognise(run, factory="torchvision:resnet18", task="transcription")) == ["vocabulary"]


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("Wav2Vec2ForCTC", {"name": "transcription", "vocabulary": "checkpoint-20"}),
        (
            "WhisperForConditionalGeneration",
            {"name": "transcription", "vocabulary": "checkpoint-20", "decode": "generate"},
        ),
        ("Wav2Vec2ForSequenceClassification", None),
    ],
)  # fmt: skip
def test_a_speech_model_of_trainer_brings_its_vocabulary_and_its_feature_extractor(tmp_path, architecture, expected):
    run = trainer_run(tmp_path, architectures=[architecture], id2label={"0": "a", "1": "b"})
    for step in (10, 20):
        (run / f"checkpoint-{step}" / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    (tmp_path / "held_out.csv").write_text("file,label,text\n0.wav,a,x\n" if expected else "file,label\n0.wav,a\n")
    proposal = recognise(run)
    assert not proposal.questions and proposal.document.get("task") == expected
    assert proposal.document["data"]["held_out"]["processor"] == "checkpoint-20"
    assert "transform" not in proposal.document["data"]["held_out"]


def test_what_the_user_says_of_a_speech_model_adds_to_what_its_run_says(tmp_path):
    run = trainer_run(tmp_path, architectures=["WhisperForConditionalGeneration"])
    for step in (10, 20):
        (run / f"checkpoint-{step}" / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    (tmp_path / "held_out.csv").write_text("file,text\n0.wav,x\n")
    (tmp_path / "own.json").write_text("{}")
    named = recognise(run, task="transcription")
    assert not named.questions and named.document["task"]["decode"] == "generate"
    assert recognise(run, vocabulary=str(tmp_path / "own.json")).document["task"]["vocabulary"] == "../own.json"


# Questions


def test_a_file_with_a_word_and_its_tag_in_each_line_is_of_token_classification(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val.conll").write_text("Anna B-PER\nsleeps O\n\nBob B-PER\n")
    proposal = recognise(checkpoints(tmp_path), factory="torchvision:resnet18")
    assert proposal.document["task"] == "token_classification"


@pytest.mark.parametrize("columns", ["premise,question", "article,question", "sent1,sent2"])
def test_two_columns_of_which_each_may_be_the_context_are_asked_about(tmp_path, columns):
    run = trainer_run(tmp_path, architectures=["BertForMultipleChoice"])
    (tmp_path / "held_out.csv").write_text(f"{columns},choice1,choice2,label\na,b,c,d,1\n")
    (question,) = recognise(run).questions
    assert question.key == "text" and set(question.choices) == set(columns.split(","))
    first = columns.split(",")[0]
    assert recognise(run, text=first).document["data"]["held_out"]["context"] == first


def test_a_head_for_multiple_choice_takes_a_table_of_questions(tmp_path):
    run = trainer_run(tmp_path, architectures=["BertForMultipleChoice"])
    (tmp_path / "held_out.csv").write_text("sent1,ending0,ending1,label\na,b,c,1\n")
    proposal = recognise(run)
    assert proposal.document["task"] == "multiple_choice" and not proposal.questions
    assert proposal.document["data"]["held_out"] == {
        "format": "choices", "path": "../held_out.csv", "context": "sent1", "options": ["ending0", "ending1"],
        "answer": "label", "tokenizer": "checkpoint-20",
    }  # fmt: skip
    assert proposal.spec().data.held_out.options == ("ending0", "ending1")
    (tmp_path / "held_out.csv").write_text("a,b,c\na,b,c\n")
    with pytest.raises(DataError, match=r"its columns are a, b, c; expected a context"):
        recognise(run)


# The command


def test_new_writes_a_kitchen_of_a_detector_that_opens(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.py").write_text(DETECTOR)
    save(build_model(DETECTOR).state_dict(), tmp_path / "run" / "a.safetensors")
    write_coco(tmp_path / "data", "val", 1, 4)
    result = CliRunner().invoke(application(), ["new", str(tmp_path / "run"), "--factory", "model.py:build"])
    assert result.exit_code == 0, result.output
    kitchen = sv.Kitchen.load(tmp_path / "run" / "kitchen.yaml")
    assert kitchen.task.name == "detection" and kitchen.splits.load("held_out").classes[1:] == NAMES


def test_new_writes_a_kitchen_of_a_speech_model_and_names_the_option_that_was_missing(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.py").write_text(NET)
    save(build_model(NET).state_dict(), tmp_path / "run" / "a.safetensors")
    write_split(tmp_path, "val", 6, 1)
    command = ["new", str(tmp_path / "run"), "--factory", "model.py:build", "--data", str(tmp_path / "val.csv")]
    result = CliRunner().invoke(application(), command)
    assert result.exit_code != 0 and "--vocabulary" in str(result.exception or result.output)
    (tmp_path / "tokens.json").write_text(json.dumps(TOKENS))
    result = CliRunner().invoke(application(), [*command, "--vocabulary", str(tmp_path / "tokens.json")])
    assert result.exit_code == 0, result.output
    kitchen = sv.Kitchen.load(tmp_path / "run" / "kitchen.yaml")
    assert kitchen.task.name == "transcription" and kitchen.splits.load("held_out").group is not None
