"""`new FOLDER` on folders of LoRA adapters proposes their kitchen, with the base that they name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import PREFIX, bert_kitchen, factors, write_adapter
from kitchens import json_of, run_command, save

from soupviz.errors import KitchenError
from soupviz.recognition.proposal import recognise

QUERY = "bert.encoder.layer.0.attention.self.query"
HEAD = {f"{PREFIX}classifier.weight": torch.ones(3, 8), f"{PREFIX}classifier.bias": torch.ones(3)}


def base_in(folder: Path, **config: Any) -> Path:
    save({"w": torch.ones(2)}, folder / "model.safetensors")
    known = {"architectures": ["BertForMaskedLM"], "model_type": "bert"} | config
    (folder / "config.json").write_text(json.dumps(known))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def adapters_in(folder: Path, names: tuple[str, ...], head: Any = HEAD, **config: Any) -> Path:
    (folder.parent / "held_out.csv").parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / "held_out.csv").write_text("sentence,label\nfine,1\nbad,0\n")
    for seed, name in enumerate(names):
        write_adapter(folder / name, factors(seed, 2, {QUERY: (8, 8)}) | dict(head), **config)
    return folder


def test_adapters_side_by_side_with_the_base_that_they_name(tmp_path: Path) -> None:
    base_in(tmp_path / "start")
    folder = adapters_in(
        tmp_path / "sweep", ("lr2", "lr10"), base_model_name_or_path=str(tmp_path / "start"), task_type="SEQ_CLS"
    )
    proposal = recognise(folder)
    document = proposal.document
    assert (proposal.framework, proposal.questions) == ("peft", ())
    assert document["base"] == "../start" and document["ingredients"] == ["*/adapter_model.*"]
    assert document["model"] == {
        "factory": "transformers:../start",
        "args": {"architectures": ["BertForSequenceClassification"], "num_labels": 3},
    }
    assert document["data"]["held_out"]["tokenizer"] == "../start"


def test_checkpoints_of_trainer_with_adapters_are_a_run(tmp_path: Path) -> None:
    base_in(tmp_path / "start")
    folder = adapters_in(
        tmp_path / "output", ("checkpoint-9", "checkpoint-10"), base_model_name_or_path="../start", task_type="SEQ_CLS"
    )
    for name in ("checkpoint-9", "checkpoint-10"):
        (folder / name / "trainer_state.json").write_text("{}")
        (folder / name / "tokenizer.json").write_text("{}")
        torch.save({"state": {}, "param_groups": []}, folder / name / "optimizer.pt")
    document = recognise(folder).document
    assert document["data"]["held_out"]["tokenizer"] == "checkpoint-10"
    assert document["base"] == "../start"
    assert recognise(folder / "checkpoint-9").document["ingredients"] == ["*/adapter_model.*"]


def test_several_runs_are_a_sweep_of_their_last_adapters(tmp_path: Path) -> None:
    base_in(tmp_path / "start")
    for run in ("lr1", "lr2"):
        adapters_in(
            tmp_path / "runs" / run, ("checkpoint-9", "checkpoint-10"), task_type="SEQ_CLS",
            base_model_name_or_path=str(tmp_path / "start"),
        )  # fmt: skip
    document = recognise(tmp_path / "runs", data=tmp_path / "runs" / "held_out.csv").document
    assert document["ingredients"] == {"lr1": "lr1/checkpoint-10", "lr2": "lr2/checkpoint-10"}
    assert document["base"] == "../start"


def test_a_causal_language_model_keeps_its_class(tmp_path: Path) -> None:
    base_in(tmp_path / "start", architectures=["GPT2LMHeadModel"])
    folder = adapters_in(
        tmp_path / "sweep", ("a", "b"), head={}, base_model_name_or_path=str(tmp_path / "start"), task_type="CAUSAL_LM"
    )
    (tmp_path / "documents.txt").write_text("one document\n\nanother one\n")
    document = recognise(folder, data=tmp_path / "documents.txt").document
    assert document["model"] == {"factory": "transformers:../start"} and document["task"] == "language_model"


def test_the_class_that_peft_wrapped_is_taken_where_no_task_is_told(tmp_path: Path) -> None:
    base_in(tmp_path / "start")
    folder = adapters_in(
        tmp_path / "sweep", ("a", "b"), head={}, base_model_name_or_path=str(tmp_path / "start"),
        auto_mapping={"base_model_class": "BertForNextSentencePrediction"},
    )  # fmt: skip
    args = recognise(folder).document["model"]["args"]
    assert args == {"architectures": ["BertForNextSentencePrediction"]}


def test_a_base_on_the_hub_is_told_and_its_model_asked_for(tmp_path: Path) -> None:
    folder = adapters_in(tmp_path / "sweep", ("a", "b"), base_model_name_or_path="lab/tiny-7b")
    proposal = recognise(folder)
    assert [question.key for question in proposal.questions] == ["factory"]
    assert any("lab/tiny-7b" in note for note in proposal.notes)
    with pytest.raises(KitchenError, match="what builds the model"):
        proposal.spec()


def test_a_base_that_may_not_be_read_is_not_looked_at(tmp_path: Path) -> None:
    base_in(tmp_path / "start")
    folder = adapters_in(tmp_path / "sweep", ("a", "b"), base_model_name_or_path=str(tmp_path / "start"))
    proposal = recognise(folder, may_read=lambda path: path.is_relative_to(folder))
    assert "base" not in proposal.document


@pytest.mark.extras
def test_the_proposed_kitchen_of_pefts_own_folders_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bert_kitchen(tmp_path / "k")
    folder = file.parent
    (folder / "base" / "tokenizer.json").write_text((folder / "model" / "tokenizer.json").read_text())
    status, _, err = run_command(
        capsys, "new", folder / "runs", "--data", folder / "held_out.jsonl", "--out", folder / "proposed.yaml"
    )
    assert status == 0, err
    assert len(json_of(capsys, "score", folder / "proposed.yaml")["ingredients"]) == 3
