"""Multiple choice by a head that gives a number for each option, as those of transformers do."""

import numpy as np
import pytest
import torch
from kitchens import json_of, run_command, save, write_yaml
from test_choices import load, questions, scored, write_lines
from torch import nn
from writers import VOCABULARY, by_hand, write_tokenizer

from soupviz.data.text import option_pairs, tokens
from soupviz.errors import ModelError, SoupError
from soupviz.tasks.text import options_head


class ToyForMultipleChoice(nn.Module):
    """The mean of the tokens' embeddings, of each option."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(len(VOCABULARY), 6), nn.Linear(6, 1)

    def forward(self, input_ids, attention_mask):
        assert input_ids.ndim == 3
        mask = attention_mask[..., None]
        return {"logits": self.head((self.embedding(input_ids) * mask).sum(2) / mask.sum(2))[..., 0]}


def of_pairs(texts, pairs=None, longest=None):
    """What a tokenizer without a library makes of contexts and options."""
    return by_hand([" ".join(one) for one in zip(texts, pairs, strict=True)] if pairs else texts, None, longest)


@pytest.fixture
def no_library(monkeypatch):
    found = tokens.Tokenizer(of_pairs, {}, pads_left=False, size=len(VOCABULARY))
    monkeypatch.setattr(tokens, "load", lambda _where, _folder: found)


def toy(seed=0):
    torch.manual_seed(seed)
    return ToyForMultipleChoice().eval()


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_options_are_chosen_as_by_a_loop_over_questions(tmp_path, batch_size):
    rows, model = questions(30, 4), toy()
    outcomes = scored(load(tmp_path, rows, model), model, batch_size)
    for place, row in enumerate(rows):
        encoded = of_pairs([row["context"]] * len(row["options"]), row["options"])
        numbers = [
            model(torch.tensor([[ids]]), torch.tensor([[mask]]))["logits"].item()
            for ids, mask in zip(encoded["input_ids"], encoded["attention_mask"], strict=True)
        ]
        assert outcomes["prediction"][place] == int(np.argmax(numbers))
        expected = nn.functional.cross_entropy(torch.tensor([numbers]), torch.tensor([row["answer"]])).item()
        assert outcomes["loss"][place] == pytest.approx(expected, abs=1e-5)
    assert (outcomes["right"] == outcomes["right_by_length"]).all()


@pytest.mark.usefixtures("no_library")
def test_that_options_are_scored_whole_is_told_and_a_model_of_language_is_asked_as_before(tmp_path):
    rows = questions(6, 4)
    split = load(tmp_path, rows, toy())
    assert any("scores options whole" in note for note in split.notes)
    assert "predicted" not in split.arrays and split.arrays.keys() == {"input_ids", "attention_mask"}
    assert "predicted" in load(tmp_path / "other", rows).arrays


def test_a_class_is_a_head_by_its_name_or_that_of_what_it_is_made_from():
    class Mine(ToyForMultipleChoice):
        pass

    assert option_pairs.scores_options(Mine()) and not option_pairs.scores_options(nn.Linear(1, 1))


def test_another_output_is_refused_with_both_shapes():
    batch = {"input_ids": [torch.ones(3, 2)] * 4}
    with pytest.raises(ModelError, match=r"shape \(12,\) for 4 questions with 3 options"):
        options_head.scores(lambda input_ids: torch.zeros(12), batch)


@pytest.mark.extras
def test_a_kitchen_of_a_head_of_transformers_scores_as_its_own_code_does(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForMultipleChoice(config).eval()
    model.save_pretrained(tmp_path / "m")
    save(model.state_dict(), tmp_path / "a.safetensors")
    write_tokenizer(tmp_path / "tokenizer")
    rows = questions(12, 5)
    write_lines(tmp_path / "v.jsonl", rows)
    file = write_yaml(
        tmp_path, task="multiple_choice", model={"factory": "transformers:m"}, ingredients=["a.safetensors"],
        data={"held_out": {"format": "choices", "path": "v.jsonl", "tokenizer": "tokenizer"}}, device="cpu",
    )  # fmt: skip
    score = json_of(capsys, "score", file)["ingredients"]["a"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    losses, right = [], 0
    for row in rows:
        number = len(row["options"])
        fed = tokenizer([row["context"]] * number, row["options"], padding=False)
        with torch.inference_mode():
            logits = torch.stack(
                [model(**{k: torch.tensor([[v[one]]]) for k, v in fed.items()}).logits[0, 0] for one in range(number)]
            )
        losses.append(nn.functional.cross_entropy(logits, torch.tensor(row["answer"])).item())
        right += int(logits.argmax()) == row["answer"]
    assert score["metrics"]["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert score["value"] == pytest.approx(right / len(rows))
    assert run_command(capsys, "soup", file, "--recipe", "uniform")[0] == 0
    with pytest.raises(SoupError):
        load(tmp_path / "long", [rows[0] | {"context": " ".join(["the"] * 99)}] * 2, model, max_length=90)
