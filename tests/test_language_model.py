"""Language models: documents in windows, nats per token, and what no batch, precision or order changes."""

import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import build_model, change_yaml, json_of, run_command
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from writers import (
    POSITIONS,
    VOCABULARY,
    WRITER,
    by_hand,
    documents,
    no_library,  # noqa: F401 - a fixture
    write_documents,
    write_tokenizer,
    writers_kitchen,
)

import soupviz as sv
from soupviz.data import splits
from soupviz.data.split import Split
from soupviz.data.text.windows import NOTHING, windows
from soupviz.errors import DataError, ModelError
from soupviz.recipes import parse
from soupviz.scoring.evaluator import Evaluator, Trial
from soupviz.spec import SplitSpec
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import p_value
from soupviz.tasks.text import likelihood
from soupviz.tasks.text.language_model import BITS, NATS, PERPLEXITY, LanguageModel

pytestmark = pytest.mark.usefixtures("no_library")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return writers_kitchen(tmp_path_factory.mktemp("writers") / "k")


def load(folder: Path, texts: list[str], model: nn.Module | None = None, **keys) -> Split:
    write_documents(folder / "x.jsonl", texts)
    write_tokenizer(folder / "tokenizer")
    where = {"path": "x.jsonl", "tokenizer": "tokenizer", "max_length": POSITIONS}
    spec = SplitSpec(**{"format": "text"} | where | keys)
    return splits.load("held_out", spec, folder, model or build_model(WRITER), kind="none")


def scored(split: Split, model: nn.Module, batch_size: int = 256, precision: str = "float32") -> Outcomes:
    evaluator = Evaluator(model, CPU, precision, batch_size, LanguageModel())
    found = evaluator.blank(split)
    evaluator.evaluate(split, Trial(list, found))
    return found


def one_by_one(model: nn.Module, texts: list[str], width: int, stride: int) -> tuple[float, int]:
    """Nats and predicted tokens by the textbook's loop, a window at a time, in float64."""
    total, number = 0.0, 0
    for ids in by_hand(texts)["input_ids"]:
        known = 0
        for start in range(0, len(ids), stride):
            part = torch.tensor([ids[start : start + width]])
            with torch.no_grad():
                surprise = -model(part)["logits"][0].double().log_softmax(1)
            for place in range(max(known - start, 1), part.shape[1]):
                total += float(surprise[place - 1, part[0, place]])
                number += 1
            known = start + part.shape[1]
            if known == len(ids):
                break
    return total, number


# Windows


def test_windows_that_do_not_overlap_give_their_first_token():
    found = windows([5, 6, 7, 8, 9], 3, None)
    assert found.ids.tolist() == [[5, 6, 7], [8, 9, NOTHING]]
    assert found.predicted.tolist() == [[NOTHING, 6, 7], [NOTHING, 9, NOTHING]]


def test_a_token_in_two_windows_is_predicted_by_the_one_that_sees_more_before_it():
    found = windows([5, 6, 7, 8, 9], 3, 2)
    assert found.ids.tolist() == [[5, 6, 7], [7, 8, 9]]
    assert found.predicted.tolist() == [[NOTHING, 6, 7], [NOTHING, 8, 9]]
    assert windows([5, 6, 7, 8], 3, 1).predicted.tolist() == [[NOTHING, 6, 7], [NOTHING, NOTHING, 8]]


@pytest.mark.parametrize("tokens", [[], [5]])
def test_a_document_of_one_token_or_none_has_nothing_to_predict(tokens):
    assert windows(tokens, 3, None).ids.shape == (0, 1)


def test_a_window_of_one_token_that_is_left_over_is_left_out():
    assert windows([5, 6, 7, 8], 3, None).ids.tolist() == [[5, 6, 7]]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_where_windows_overlap_all_tokens_but_the_first_are_predicted_once(stride):
    for number in range(1, 30):
        found = windows(range(number), 5, stride)
        assert sorted(found.predicted[found.predicted != NOTHING].tolist()) == list(range(1, number))


# Scores


@pytest.mark.parametrize("stride", [None, 7])
@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_nats_are_those_of_a_loop_over_single_windows(tmp_path, stride, batch_size):
    texts, model = documents(20, seed=5, longest=60), build_model(WRITER)
    split = load(tmp_path, texts, max_length=12, stride=stride)
    found = scored(split, model, batch_size)
    total, number = one_by_one(model, texts, 12, stride or 12)
    assert found["tokens"].sum() == number
    assert NATS.value(found) == pytest.approx(total / number, rel=1e-6)
    assert PERPLEXITY.value(found) == pytest.approx(math.exp(total / number), rel=1e-6)
    size = sum(len(text.encode()) for text in texts)
    assert BITS.value(found) == pytest.approx(total / math.log(2) / size, rel=1e-6)


def test_a_corpus_counts_tokens_not_documents():
    columns = {"nats": np.array([1.0, 30.0]), "lost_tokens": np.zeros(2), "lost_bytes": np.zeros(2)}
    found = Outcomes.of(columns, {"tokens": np.array([1, 9]), "bytes": np.array([4, 27])})
    assert NATS.value(found) == pytest.approx(3.1)
    assert PERPLEXITY.value(found) == pytest.approx(math.exp(3.1))
    assert BITS.value(found) == pytest.approx(1 / math.log(2))


def test_a_document_without_a_finite_answer_is_in_no_ratio():
    columns = LanguageModel().outcomes(torch.tensor([[2.0], [math.nan]]), torch.tensor([[4, 9], [5, 11]]))
    found = Outcomes.of(columns, {"tokens": np.array([4, 5]), "bytes": np.array([9, 11])})
    assert NATS.value(found) == 0.5 and found.num_nonfinite == 1
    assert "not finite" in LanguageModel().told(found, 1, ())


def test_a_document_of_one_token_counts_in_no_ratio(tmp_path):
    texts, model = documents(4, seed=1), build_model(WRITER)
    plain = scored(load(tmp_path / "a", texts), model)
    split = load(tmp_path / "b", ["", *texts, ""])
    assert any("2 documents have one token or none" in note for note in split.notes)
    with_empty = scored(split, model)
    assert [metric.value(with_empty) for metric in LanguageModel.metrics] == pytest.approx(
        [metric.value(plain) for metric in LanguageModel.metrics]
    )
    assert with_empty["tokens"].tolist() == [0, *plain["tokens"], 0]


def test_logits_are_never_there_whole(tmp_path, monkeypatch):
    texts, sizes = documents(30, seed=5, longest=60), []
    model = build_model(WRITER)
    whole = scored(load(tmp_path, texts), model)
    model.register_forward_hook(lambda _module, _inputs, output: sizes.append(output["logits"].numel()))
    monkeypatch.setattr(likelihood, "ON_CPU", 3000)
    parts = scored(load(tmp_path, texts), model)
    assert max(sizes[1:]) <= 3000 and len(sizes) > 5
    assert parts["nats"] == pytest.approx(whole["nats"], rel=1e-6)


def test_losses_are_summed_in_float32_whatever_the_precision(tmp_path):
    texts, model = documents(10, seed=5), build_model(WRITER)
    split = load(tmp_path, texts)
    low = scored(split, model, precision="bfloat16")
    expected = 0.0
    for ids in by_hand(texts)["input_ids"]:
        for part in (ids[start : start + POSITIONS] for start in range(0, len(ids), POSITIONS)):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                logits = model(torch.tensor([part]))["logits"][0]
            assert logits.dtype == torch.bfloat16
            expected += float(
                F.cross_entropy(logits[:-1].double(), torch.tensor(part[1:], dtype=torch.int64), reduction="sum")
            )
    assert low["nats"].sum() == pytest.approx(expected, rel=1e-3)
    assert low["nats"].dtype == np.float64


class Masked(nn.Module):
    """What it says of a token depends on how many the mask leaves, so that an unmasked padding would show."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        assert bool(((input_ids > 0) <= (attention_mask > 0)).all())
        seen = attention_mask.sum(1)[:, None, None] * torch.arange(len(VOCABULARY)) * self.scale / 50
        return seen.expand(-1, input_ids.shape[1], -1)


def test_padding_is_masked_where_the_forward_takes_a_mask(tmp_path):
    split = load(tmp_path, documents(9, seed=5), Masked(), max_length=POSITIONS)
    assert set(split.arrays) == {"input_ids", "attention_mask", "predicted"}
    assert scored(split, Masked())["nats"] == pytest.approx(scored(split, Masked(), 1)["nats"], rel=1e-6)


def test_the_metrics_of_5000_documents_take_less_than_a_second():
    random = np.random.default_rng(0)
    tokens, zeros = random.integers(10, 900, 5000), np.zeros(5000, dtype=np.int64)
    columns = {"nats": 3.0 * tokens + random.normal(size=5000), "lost_tokens": zeros, "lost_bytes": zeros}
    found = Outcomes.of(columns, {"tokens": tokens, "bytes": 4 * tokens})
    better = Outcomes.of(columns | {"nats": columns["nats"] - 1}, found.targets)
    began = time.monotonic()
    assert all(metric.value(found) is not None for metric in LanguageModel.metrics)
    assert time.monotonic() - began < 1
    assert p_value(PERPLEXITY, better, found) < 0.05
    assert time.monotonic() - began < 4


# The journey


def told(capsys: pytest.CaptureFixture[str], command: str, file: Path, *arguments: object):
    return json_of(capsys, command, file, *arguments)


def test_every_command_speaks_of_nats_per_token(built, tmp_path, capsys):
    file = shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"
    scores = told(capsys, "score", file)["ingredients"]
    assert {score["metric"] for score in scores.values()} == {"nats_per_token"}
    assert set(scores["m_0"]["metrics"]) == {"nats_per_token", "perplexity", "bits_per_byte"}
    assert scores["m_0"]["num_units"] == 60
    best = min(score["value"] for score in scores.values())
    soup = told(capsys, "soup", file, "--recipe", "greedy", "--out", tmp_path / "soup.safetensors")
    assert soup["scores"]["held_out"]["value"] <= best
    assert set(soup["scores"]) == {"held_out", "test", "shifts.later"}
    uniform = told(capsys, "soup", file, "--recipe", "uniform")
    assert len(uniform["coefficients"]) == 4
    points = told(capsys, "interpolate", file, "m_0", "m_1", "--points", 3)["points"]
    assert points[0]["value"] == pytest.approx(scores["m_0"]["value"], rel=1e-6)
    status, out, _ = run_command(capsys, "score", file)
    assert status == 0 and "loss per token" in out
    status, _, err = run_command(capsys, "menu", file)
    assert status == 0, err
    assert run_command(capsys, "report", file, "--out", tmp_path / "report.html")[0] == 0
    baked = told(capsys, "bake", tmp_path / "soup.safetensors", "--kitchen", file, "--out", tmp_path / "b.safetensors")
    assert baked


def test_a_learned_soup_lowers_the_loss_per_token_of_what_it_learns_from(built, tmp_path, monkeypatch):
    kitchen = sv.Kitchen.load(shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml")
    recipe = parse({"method": "learned", "epochs": 4, "learning_rate": 0.1})
    soup = sv.cook(kitchen, recipe)
    assert soup.scores["held_out"].value < float(sv.uniform(kitchen).scores["held_out"].value)
    # As of one pass, though its logits come and go in parts.
    monkeypatch.setattr(likelihood, "ON_CPU", 20 * 24 * 4)
    parts = sv.cook(sv.Kitchen.load(shutil.copytree(built.parent, tmp_path / "p") / "kitchen.yaml"), recipe)
    assert dict(parts.coefficients) == pytest.approx(dict(soup.coefficients), abs=1e-4)


def test_embedding_and_head_stay_tied_in_soups_that_are_written_and_baked(built, tmp_path, capsys):
    file = shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"
    kitchen = sv.Kitchen.load(file)
    soup = sv.uniform(kitchen)
    path = tmp_path / "soup.safetensors"
    sv.export(soup, path)
    assert run_command(capsys, "bake", path, "--kitchen", file, "--out", tmp_path / "baked.safetensors")[0] == 0
    for one in (path, tmp_path / "baked.safetensors"):
        model = build_model(WRITER)
        model.load_state_dict(load_file(one))
        assert torch.equal(model.head.weight, model.embedding.weight)
        mean = sum(item.tensors["head.weight"] for item in kitchen.ingredients) / 4
        assert torch.allclose(model.head.weight, mean, atol=1e-6)
        again = scored(kitchen.splits.load("held_out"), model)
        assert NATS.value(again) == pytest.approx(float(soup.scores["held_out"].value), rel=1e-6)


@pytest.mark.parametrize("method", ["ensemble", "distilled", "fisher"])
def test_what_a_language_model_is_not_offered_is_told_in_a_sentence(built, method):
    kitchen = sv.Kitchen.load(built)
    assert "because" in parse({"method": method}).unfit(kitchen.task)


# Tokens of a data set in Python

OWN = """
import torch

ROWS = [[0, 3, 4, 5], [0, 7], [0, 9, 9, 2, 4]]


class Told(list):
    def text(self, index):
        return "x" * (10 * index + 10)


def lists():
    return ROWS


def told():
    return Told(ROWS)


def dicts():
    padded = [row + [0] * (5 - len(row)) for row in ROWS]
    masks = [[1] * len(row) + [0] * (5 - len(row)) for row in ROWS]
    return [{"input_ids": torch.tensor(row), "attention_mask": mask} for row, mask in zip(padded, masks)]


def shifted():
    return [(torch.tensor(row), torch.tensor(row[1:])) for row in ROWS]


def texts():
    return ["a text", "another"]


def negative():
    return [[0, -100], [0, 1]]
"""


def of_python(folder: Path, function: str) -> Split:
    (folder / "data.py").write_text(OWN)
    spec = SplitSpec(format="python", path=f"data.py:{function}")
    return splits.load("held_out", spec, folder, build_model(WRITER), kind="none")


@pytest.mark.parametrize("function", ["lists", "told", "dicts", "shifted"])
def test_a_data_set_may_give_the_tokens_of_each_document(tmp_path, function):
    split, model = of_python(tmp_path, function), build_model(WRITER)
    assert split.labels[:, 0].tolist() == [3, 1, 4]
    assert split.labels[:, 1].tolist() == ([10, 20, 30] if function == "told" else [0, 0, 0])
    found = scored(split, model)
    assert (BITS.value(found) is None) == (function != "told")
    with torch.no_grad():
        logits = model(torch.tensor([[0, 3, 4, 5]]))["logits"][0]
    expected = F.cross_entropy(logits[:-1], torch.tensor([3, 4, 5]), reduction="sum")
    assert found["nats"][0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("function", ["texts", "negative"])
def test_what_is_no_row_of_tokens_is_refused(tmp_path, function):
    with pytest.raises(DataError, match=r"example 0 is .*row of whole numbers") as told:
        of_python(tmp_path, function)
    assert "\n" not in str(told.value)


# Bad input


def refused(folder: Path, texts: list[str], model: nn.Module | None = None, **keys) -> str:
    with pytest.raises((DataError, ModelError)) as told:
        scored(load(folder, texts, model, **keys), model or build_model(WRITER))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused_with_both_numbers(tmp_path):
    message = refused(tmp_path, documents(4, seed=1), build_model(WRITER, vocabulary=12))
    assert "embedding" in message and "12 rows" in message and "tokens up to" in message


def test_a_head_that_knows_fewer_tokens_is_refused_with_both_numbers(tmp_path):
    model = build_model(WRITER)
    model.head = nn.Linear(16, 11, bias=False)
    message = refused(tmp_path, documents(4, seed=1), model)
    assert "11 outputs" in message and "tokens up to" in message


def test_a_window_longer_than_the_models_positions_is_refused(tmp_path):
    model = build_model(WRITER)
    model.config = type("Config", (), {"max_position_embeddings": POSITIONS})()
    message = refused(tmp_path, documents(4, seed=1, longest=60), model, max_length=40)
    assert "has 40 tokens" in message or "positions for 24" in message
    assert load(tmp_path, documents(4, seed=1, longest=60), model, max_length=None).shapes[""][1] == POSITIONS


def test_what_a_model_without_a_configuration_cannot_take_is_told_with_its_tables(tmp_path):
    message = refused(tmp_path, documents(4, seed=1, longest=60), max_length=40)
    assert "positions" in message and "24" in message and "40" in message


def test_a_stride_beyond_the_window_is_refused(tmp_path):
    assert "30" in refused(tmp_path, documents(4, seed=1), max_length=24, stride=30)
    assert "max_length" in refused(tmp_path, documents(4, seed=1), stride=30, max_length=None)
    assert "expected 2" in refused(tmp_path, documents(4, seed=1), max_length=1)


def test_names_of_classes_that_no_document_has_are_refused(built, tmp_path, capsys):
    file = shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"
    change_yaml(file, lambda keys: keys.update(classes=["a", "b"]))
    status, _, err = run_command(capsys, "score", file)
    assert status == 2 and "classes names classes, which the task language_model has not" in err


def test_documents_without_anything_to_predict_are_refused(tmp_path):
    assert "nothing is predicted" in refused(tmp_path, ["", "", ""])


def test_lists_a_missing_tokenizer_and_a_missing_column_are_told_with_the_key(tmp_path):
    texts = documents(4, seed=1)
    assert "expected a text" in refused(tmp_path, [*texts, ["the", "cat"]])
    assert "tokenizer: " in (told := refused(tmp_path, texts, tokenizer="elsewhere")) and "is no folder" in told
    assert "no column 'author'" in (told := refused(tmp_path, texts, group="author")) and "`group:`" in told


def test_pairs_and_formats_that_hold_no_text_are_refused(tmp_path):
    assert "pair" in refused(tmp_path, documents(4, seed=1), pair="text")
    (tmp_path / "pictures").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="text"):
        splits.load(
            "held_out", SplitSpec(format="imagefolder", path="pictures"), tmp_path, nn.Linear(2, 2), kind="none"
        )


def test_logits_of_another_shape_are_refused(tmp_path):
    class Pooled(nn.Module):
        def forward(self, input_ids: Tensor) -> Tensor:
            return torch.zeros(len(input_ids), 3)

    assert "(batch, tokens, vocabulary)" in refused(tmp_path, documents(4, seed=1), Pooled())


def test_a_tokenizer_with_other_tokens_than_the_embedding_has_rows_is_told(tmp_path):
    model = build_model(WRITER, vocabulary=5000)
    model.get_input_embeddings = lambda: model.embedding
    split = load(tmp_path, documents(4, seed=1), model)
    assert any("5,000 rows" in note and "20 tokens" in note for note in split.notes)
    assert not any("rows" in note for note in load(tmp_path, documents(4, seed=1)).notes)


# With transformers


@pytest.mark.extras
def test_a_gpt2_scores_as_trainer_evaluates_it_where_windows_are_as_long(tmp_path):
    """Its eval_loss divides by all labels that are not -100, also by the first of a row, which nothing predicts: they
    are equal where that is -100; and it is a mean of the batches' means, so that each must have as many tokens."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=12, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    texts = [" ".join(text.split()[:11]) for text in documents(80, seed=3, longest=40) if len(text.split()) > 10]
    rows = [{"input_ids": ids, "labels": [-100, *ids[1:]]} for ids in by_hand(texts)["input_ids"]]
    arguments = transformers.TrainingArguments(
        str(tmp_path / "out"), per_device_eval_batch_size=4, report_to=[], use_cpu=True
    )
    loss = transformers.Trainer(model, arguments, eval_dataset=rows[:16]).evaluate()["eval_loss"]
    found = scored(load(tmp_path, texts[:16], model), model)
    assert NATS.value(found) == pytest.approx(loss, rel=1e-5)


def trainer_run_of(folder: Path, kind: str) -> Path:
    """A run of two checkpoints of a tiny model, as Trainer leaves it, with a tokenizer beside the weights."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": len(VOCABULARY), "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_positions=POSITIONS, n_embd=16, n_layer=1, n_head=2, **sizes)
    else:
        config = transformers.LlamaConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=POSITIONS, tie_word_embeddings=False, **sizes,
        )  # fmt: skip
    for step in (10, 20):
        torch.manual_seed(step)
        place = folder / "output" / f"checkpoint-{step}"
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(place)
        write_tokenizer(place)
        history = [{"step": step, "eval_loss": 3.0}]
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": history}))
    (folder / "documents.txt").write_text("\n".join(documents(20, seed=1)), encoding="utf-8")
    return folder / "output"


@pytest.mark.extras
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_run_of_trainer_opens_and_its_soup_is_written_whole(tmp_path, capsys, kind):
    run = trainer_run_of(tmp_path, kind)
    told_of = json_of(capsys, "new", run, "--data", tmp_path / "documents.txt")
    assert told_of["check"]["correct"] is None and not told_of["check"]["is_doubtful"]
    file = Path(told_of["kitchen"])
    soup = json_of(capsys, "soup", file, "--recipe", "uniform", "--out", tmp_path / "soup.safetensors")
    assert soup["scores"]["held_out"]["metric"] == "nats_per_token"
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(run / "checkpoint-10")
    tensors = load_file(tmp_path / "soup.safetensors")
    left = model.load_state_dict(tensors, strict=False)
    assert not left.unexpected_keys
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert is_tied == (kind == "gpt2")
    split = sv.Kitchen.load(file).splits.load("held_out")
    assert NATS.value(scored(split, model)) == pytest.approx(soup["scores"]["held_out"]["value"], rel=1e-5)


@pytest.mark.extras
def test_the_tokenizers_of_both_libraries_read_the_same_tokens(tmp_path, monkeypatch, request):
    pytest.importorskip("transformers")
    from soupviz.data.text import tokens

    monkeypatch.undo()  # the tokenizer's own library
    folder, texts = write_tokenizer(tmp_path / "tokenizer"), documents(5, seed=1)
    for by in (tokens._by_transformers, tokens._by_tokenizers):
        found = by(folder)
        assert found.encode(texts, None, None)["input_ids"] == by_hand(texts)["input_ids"]
        assert found.size == len(VOCABULARY)
