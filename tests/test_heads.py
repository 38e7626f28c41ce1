"""The heads that transformers puts on its encoders, by their `architectures`: tiny ones, of random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kitchens import json_of, perturbed, save, write_yaml
from tagging import TAGS
from tagging import sentences as tagged_sentences

import soupviz as sv
from soupviz.recognition import check, recognise

pytestmark = pytest.mark.extras

WORDS = [*(letter + other for letter in "abcdefghij" for other in "aeiou"), "mr", "in", "##a", "##e", "##i", "##o"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SMALL = {
    "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24, "vocab_size": 64,
    "max_position_embeddings": 130, "dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 24, "pad_token_id": 0,
}  # fmt: skip
KINDS = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}


@pytest.fixture
def transformers() -> Any:
    pytest.importorskip("tokenizers", reason="needs tokenizers")
    return pytest.importorskip("transformers", reason="needs transformers")


def a_tokenizer(transformers: Any) -> Any:
    """Words in small letters, and letters of what is none; with the tokens that BERT puts around a sentence."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *letters, "mr", "in", "good", "bad"])}
    tokens = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, model_max_length=128, **names)


def trainers_run(folder: Path, transformers: Any, kind: str, head: str, labels: list[str], **config: Any) -> Path:
    """Two checkpoints as Trainer leaves them, of an encoder with random weights."""
    names = dict(enumerate(labels))
    known = SMALL | {"vocab_size": 4 + 52 + 4, "id2label": names, "label2id": {v: k for k, v in names.items()}} | config
    settings = transformers.AutoConfig.for_model(kind, **known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, KINDS[kind] + head)(settings).eval()
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for number, step in enumerate((10, 20)):
        place = folder / f"checkpoint-{step}"
        model.load_state_dict(perturbed(base, 0.05, seed=number))
        model.save_pretrained(place)
        a_tokenizer(transformers).save_pretrained(place)
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return folder


def rows_of_texts(number: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS[:50], random.integers(1, 9))) for _ in range(number)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_classifier_scores_words_as_trainers_example_does(kind, tmp_path, transformers):
    """Each word by its first token, the others at -100, as transformers' run_ner has it."""
    seqeval = pytest.importorskip("seqeval.metrics", reason="needs seqeval")
    run = trainers_run(tmp_path / "run", transformers, kind, "ForTokenClassification", TAGS)
    rows = tagged_sentences(0, 20)
    write_rows(tmp_path / "val.jsonl", rows)
    proposal = recognise(run, data=tmp_path / "val.jsonl")
    assert (proposal.document["task"], proposal.document["classes"]) == ("token_classification", TAGS)
    split = proposal.document["data"]["held_out"]
    assert (split["text"], split["label"]) == ("tokens", "ner_tags") and not proposal.questions
    checked = check(proposal)
    assert checked.correct is None and not checked.is_doubtful
    assert "F1 of entities" in checked.sentence and "20 sentences" in checked.sentence

    file = write_yaml(run, **proposal.document)
    score = sv.Kitchen.load(file).scores.score((("checkpoint-10", 1.0),))
    model = getattr(transformers, KINDS[kind] + "ForTokenClassification").from_pretrained(run / "checkpoint-10").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(run / "checkpoint-10"))
    said, losses = [], []
    for row in rows:
        found = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, return_tensors="pt")
        words = found.word_ids(0)
        first = [words.index(word) for word in range(len(row["tokens"]))]
        wanted = {name: found[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            logits = model(**wanted).logits[0, first]
        said.append([TAGS[tag] for tag in logits.argmax(1).tolist()])
        true = torch.tensor([TAGS.index(tag) for tag in row["ner_tags"]])
        losses += torch.nn.functional.cross_entropy(logits, true, reduction="none").tolist()
    assert float(score.value) == pytest.approx(seqeval.f1_score([row["ner_tags"] for row in rows], said), abs=1e-12)
    assert score.shown("loss") == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_classified_as_trainers_padding_does(kind, tmp_path, transformers):
    """All in one batch padded to its longest, as DataCollatorWithPadding makes it."""
    run = trainers_run(tmp_path / "run", transformers, kind, "ForSequenceClassification", ["no", "yes"])
    firsts, seconds = rows_of_texts(30), rows_of_texts(30, seed=1)
    rows = [
        {"premise": a, "hypothesis": b, "label": i % 2} for i, (a, b) in enumerate(zip(firsts, seconds, strict=True))
    ]
    write_rows(tmp_path / "val.jsonl", rows)
    proposal = recognise(run, data=tmp_path / "val.jsonl")
    assert "task" not in proposal.document and proposal.document["data"]["held_out"]["pair"] == "hypothesis"
    kitchen = sv.Kitchen.load(write_yaml(run, **proposal.document, batch_size=7))
    found = kitchen.scores.logits((("checkpoint-10", 1.0),))

    model = (
        getattr(transformers, KINDS[kind] + "ForSequenceClassification").from_pretrained(run / "checkpoint-10").eval()
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(run / "checkpoint-10"))
    collated = transformers.DataCollatorWithPadding(tokenizer)(
        [tokenizer(a, b, truncation=True) for a, b in zip(firsts, seconds, strict=True)]
    )
    if kind == "distilbert":
        collated.pop("token_type_ids", None)
    with torch.no_grad():
        expected = model(**collated).logits
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_multi_label_head_proposes_its_task_and_takes_lists_of_names(tmp_path, transformers):
    names = ["calm", "glad", "sad"]
    run = trainers_run(
        tmp_path / "run", transformers, "bert", "ForSequenceClassification", names,
        problem_type="multi_label_classification",
    )  # fmt: skip
    random = np.random.default_rng(0)
    chosen = [[name for name in names if random.random() < 0.4] for _ in range(12)]
    write_rows(
        tmp_path / "val.jsonl", [{"text": t, "labels": c} for t, c in zip(rows_of_texts(12), chosen, strict=True)]
    )
    proposal = recognise(run, data=tmp_path / "val.jsonl")
    assert (proposal.document["task"], proposal.document["classes"]) == ("multilabel", names)
    kitchen = sv.Kitchen.load(write_yaml(run, **proposal.document))
    wanted = [[int(name in row) for name in names] for row in chosen]
    assert kitchen.splits.load("held_out").labels.tolist() == wanted
    assert kitchen.scores.score((("checkpoint-20", 1.0),)).metric == "macro_f1"


@pytest.mark.parametrize(("labels", "config"), [(["score"], {}), (["a", "b"], {"problem_type": "regression"})])
def test_a_regression_head_proposes_its_task(labels, config, tmp_path, transformers):
    run = trainers_run(tmp_path / "run", transformers, "bert", "ForSequenceClassification", labels, **config)
    rows = [{"text": text, "label": place / 7} for place, text in enumerate(rows_of_texts(8))]
    write_rows(tmp_path / "val.jsonl", rows)
    proposal = recognise(run, data=tmp_path / "val.jsonl")
    assert proposal.document["task"] == "regression" and "classes" not in proposal.document
    if len(labels) == 1:
        assert "RMSE" in check(proposal).sentence


def test_a_segmentation_head_is_scored_at_the_size_of_the_masks(tmp_path, transformers, capsys):
    from shapes import write_split

    sizes = {"hidden_sizes": [8, 8, 8, 8], "num_attention_heads": [1, 1, 1, 1], "depths": [1, 1, 1, 1]}
    config = transformers.SegformerConfig(**sizes, decoder_hidden_size=8, num_labels=3)
    model = transformers.SegformerForSemanticSegmentation(config)
    for index in range(2):
        model.save_pretrained(tmp_path / f"run_{index}")
        save(perturbed(model.state_dict(), 0.05, index), tmp_path / f"m_{index}.safetensors")
    document = {
        "task": "segmentation", "model": {"factory": "transformers:run_0"}, "ingredients": ["m_*.safetensors"],
        "data": {"held_out": write_split(tmp_path / "held_out", 0, 4) | {"transform": {"resize": 64}}}, "device": "cpu",
    }  # fmt: skip
    found = json_of(capsys, "soup", write_yaml(tmp_path, **document), "--recipe", "uniform")
    assert found["scores"]["held_out"]["metric"] == "mean_iou"


def test_a_tokenizer_of_another_model_is_told(tmp_path, transformers):
    run = trainers_run(
        tmp_path / "run", transformers, "bert", "ForSequenceClassification", ["no", "yes"], vocab_size=20
    )
    write_rows(tmp_path / "val.jsonl", [{"text": t, "label": i % 2} for i, t in enumerate(rows_of_texts(4))])
    proposal = recognise(run, data=tmp_path / "val.jsonl")
    with pytest.raises(sv.SoupError, match=r"tokens up to \d+, but the embedding of the model has 20 rows"):
        check(proposal)


def test_sentences_that_are_longer_than_the_model_takes_are_told(tmp_path, transformers):
    run = trainers_run(tmp_path / "run", transformers, "bert", "ForSequenceClassification", ["no", "yes"])
    write_rows(tmp_path / "val.jsonl", [{"text": "a " * 200, "label": 0}, {"text": "a", "label": 1}])
    document = recognise(run, data=tmp_path / "val.jsonl").document
    document["data"]["held_out"]["max_length"] = 140
    with pytest.raises(sv.SoupError, match="longest row has 140 tokens, but the model has positions for 130"):
        sv.Kitchen.load(write_yaml(run, **document)).scores.score((("checkpoint-10", 1.0),))


def test_no_batch_size_changes_a_decision_on_sentences(tmp_path, transformers):
    run = trainers_run(tmp_path / "run", transformers, "bert", "ForSequenceClassification", ["no", "yes"])
    write_rows(tmp_path / "val.jsonl", [{"text": t, "label": i % 2} for i, t in enumerate(rows_of_texts(60))])
    document = recognise(run, data=tmp_path / "val.jsonl").document
    found = []
    for size in (1, 7, 256):
        file = write_yaml(run, **document, batch_size=size)
        shutil.rmtree(run / ".soupviz", ignore_errors=True)
        soup = sv.greedy(sv.Kitchen.load(file), alpha=0.5)
        steps = [(step.ingredient, step.accepted, step.best_value) for step in soup.trajectory]
        found.append((soup.coefficients, steps, soup.scores["held_out"].correct))
    assert found[0] == found[1] == found[2]
