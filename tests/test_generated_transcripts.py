"""Transcripts of encoder-decoders: made by transformers' `generate`, alike whatever else is in the batch."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from kitchens import change_yaml, json_of, perturbed, run_command, save, write_yaml
from speech_kitchens import LETTERS, write_split

import soupviz as sv
from soupviz.data.audio.listening import for_model
from soupviz.data.labels import as_text
from soupviz.errors import KitchenError, ModelError
from soupviz.reports.page import report
from soupviz.tasks.classes.class_metrics import CLOSE_LOGITS
from soupviz.tasks.finding import find_task
from soupviz.tasks.speech.generating import Generate, _Watch

pytestmark = pytest.mark.extras
transformers = pytest.importorskip("transformers")

TOKENS = ["<pad>", "<s>", "</s>", "<start>", " ", *LETTERS]
ARGUMENTS = {"max_new_tokens": 6, "suppress_tokens": [0, 1, 2, 3]}
"""A model that was never trained would stop at once."""

COMMON = {
    "vocab_size": len(TOKENS), "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "max_target_positions": 24, "init_std": 0.7, "tie_word_embeddings": False,
}  # fmt: skip


def whisper(folder):
    """The folders of a model and its processor; recordings are padded to one second."""
    config = transformers.WhisperConfig(
        **COMMON, num_mel_bins=8, max_source_positions=50, decoder_start_token_id=3, begin_suppress_tokens=None,
        architectures=["WhisperForConditionalGeneration"],
    )  # fmt: skip
    config.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    return transformers.WhisperForConditionalGeneration(config)


def speech_to_text(folder):
    """Recordings of varying length, told by a mask; the token that begins a transcript is the one that ends it."""
    config = transformers.Speech2TextConfig(
        **COMMON, input_feat_per_channel=24, max_source_positions=100, decoder_start_token_id=2,
        architectures=["Speech2TextForConditionalGeneration"],
    )  # fmt: skip
    config.save_pretrained(folder)
    transformers.Speech2TextFeatureExtractor(feature_size=24, num_mel_bins=24).save_pretrained(folder)
    return transformers.Speech2TextForConditionalGeneration(config)


def kitchen_of(folder, make, **keys):
    """Random ingredients that say something else of each recording."""
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(folder / "run")
    for index in range(3):
        save(perturbed(model.state_dict(), 0.35, seed=index), folder / f"m_{index}.safetensors")
    for seed, split in enumerate(("held_out", "test")):
        write_split(folder, split, 6, seed)
    data = {split: {"format": "audio", "path": f"{split}.csv", "processor": "run"} for split in ("held_out", "test")}
    task = {"name": "transcription", "decode": "generate", "vocabulary": TOKENS, "arguments": ARGUMENTS}
    document = {
        "name": "generated", "task": task, "model": {"factory": "transformers:run"},
        "ingredients": ["m_*.safetensors"], "data": data, "device": "cpu",
    }  # fmt: skip
    return write_yaml(folder, **(document | keys))


@pytest.fixture(scope="module", params=["whisper", "speech_to_text"])
def built(request, tmp_path_factory):
    make = {"whisper": whisper, "speech_to_text": speech_to_text}[request.param]
    return kitchen_of(tmp_path_factory.mktemp("generated") / "k", make)


@pytest.fixture
def file(built, tmp_path):
    return shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"


def heard(kitchen, name="m_0"):
    return [as_text(row) for row in kitchen.scores.score(((name, 1.0),)).outcomes["hypothesis"]]


def test_transcripts_are_those_of_generate_called_for_each_recording_alone(file):
    kitchen = sv.Kitchen.load(file)
    split, model = kitchen.splits.load("held_out"), kitchen.evaluator.model
    kitchen.evaluator.load(kitchen.ingredients[0].tensors.items())
    expected = []
    for row in range(len(split)):
        batch = for_model(split.take(torch.tensor([row]), torch.device("cpu")))
        with torch.inference_mode():
            said = model.generate(**batch, **ARGUMENTS, num_beams=1, do_sample=False)[0].tolist()
        kept = said[1:] if said[:1] == [model.config.decoder_start_token_id] else said
        kept = kept[: kept.index(2)] if 2 in kept else kept
        expected.append("".join(TOKENS[one] for one in kept if not TOKENS[one].startswith("<")).strip())
    assert heard(kitchen) == expected
    assert len(set(expected)) > 1 and any(expected)


def test_no_batch_size_changes_a_transcript_or_a_decision(file, tmp_path):
    found = []
    for size in (1, 3):
        copied = shutil.copytree(file.parent, tmp_path / str(size)) / "kitchen.yaml"
        kitchen = sv.Kitchen.load(change_yaml(copied, lambda keys, size=size: keys.update(batch_size=size)))
        soup = sv.greedy(kitchen)
        found.append((heard(kitchen), [(one.ingredient, one.accepted) for one in soup.trajectory]))
    assert found[0] == found[1]


def decisions(soup):
    return [(step.ingredient, step.accepted) for step in soup.trajectory], soup.coefficients


def test_giving_up_candidates_decides_as_the_plain_loop_does(file, tmp_path):
    """References that are what the best ingredient says leave the others no chance, which shows early."""
    kitchen = sv.Kitchen.load(file)
    with (file.parent / "held_out.csv").open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    for row, text in zip(rows, heard(kitchen, "m_1"), strict=True):
        row["transcript"] = text
    rows[0]["transcript"] = heard(kitchen, "m_2")[0]
    with (file.parent / "held_out.csv").open("w", encoding="utf-8", newline="") as opened:
        written = csv.DictWriter(opened, list(rows[0]))
        written.writeheader()
        written.writerows(rows)
    other = shutil.copytree(file.parent, tmp_path / "plain") / "kitchen.yaml"
    change_yaml(file, lambda keys: keys.update(batch_size=1))
    quick, kitchen = sv.greedy(sv.Kitchen.load(file)), sv.Kitchen.load(other)
    whole = sv.greedy(kitchen, complete=True)
    assert decisions(quick) == decisions(whole)
    assert any(step.num_scored < len(rows) for step in quick.trajectory)
    scores = {name: score.value for name, score in kitchen.scores.of_ingredients().items()}
    kept, *others = sorted(scores, key=scores.__getitem__)
    kept, best, expected = [kept], scores[kept], [(kept, True)]
    for name in others:
        value = kitchen.scores.score(tuple((one, 1 / (len(kept) + 1)) for one in [*kept, name])).value
        expected.append((name, value < best))
        if value < best:
            kept, best = [*kept, name], value
    assert decisions(quick)[0] == expected


def margins(kitchen, row):
    """How near the two likeliest tokens are at each step of a transcript, by the model's own forward."""
    split, model = kitchen.splits.load("held_out"), kitchen.evaluator.model
    batch = for_model(split.take(torch.tensor([row]), torch.device("cpu")))
    said, found = torch.tensor([[model.config.decoder_start_token_id]]), []
    for _ in range(ARGUMENTS["max_new_tokens"]):
        with torch.no_grad():
            scores = model(**batch, decoder_input_ids=said).logits[0, -1].clone()
        scores[ARGUMENTS["suppress_tokens"]] = -torch.inf
        best = scores.topk(2)
        found.append(float(best.values[0] - best.values[1]))
        said = torch.cat([said, best.indices[:1, None]], dim=1)
    return found


@pytest.mark.parametrize("size", [1, 4])
def test_transcripts_with_a_token_that_another_all_but_equals_are_counted(file, monkeypatch, size):
    kitchen = sv.Kitchen.load(change_yaml(file, lambda keys: keys.update(batch_size=size)))
    kitchen.evaluator.load(kitchen.ingredients[0].tensors.items())
    least = sorted(min(margins(kitchen, row)) for row in range(6))
    assert kitchen.scores.score((("m_0", 1.0),)).num_close == sum(one < CLOSE_LOGITS for one in least) == 0
    monkeypatch.setattr("soupviz.tasks.speech.generating.CLOSE_LOGITS", (least[2] + least[3]) / 2)
    answers = kitchen.task.answer_batch(
        kitchen.evaluator.model, kitchen.splits.load("held_out").take(torch.arange(6), torch.device("cpu"))
    )
    assert kitchen.task.decoder.close(answers).tolist().count(1) == 3


def test_what_is_said_after_the_end_is_close_to_nothing():
    watch = _Watch(3)
    watch.ends = torch.tensor([2, 3])
    near, far = [0.0, 1.0, 1.0], [0.0, 5.0, 1.0]
    watch(torch.tensor([[2], [2], [2]]), torch.tensor([far, far, far]))  # what it begins with is what ends it
    watch(torch.tensor([[2, 1], [2, 2], [2, 3]]), torch.tensor([far, near, near]))
    assert watch.close.tolist() == [0, 0, 0]
    watch(torch.tensor([[2, 1, 1], [2, 2, 0], [2, 3, 0]]), torch.tensor([near, near, near]))
    assert watch.close.tolist() == [1, 0, 0]
    watch(torch.tensor([[2], [2], [2]]), torch.tensor([far, near, far]))  # the next part of long recordings
    assert watch.close.tolist() == [1, 1, 0]


def test_of_beams_it_is_not_told_how_close_others_came(file, capsys):
    change_yaml(file, lambda keys: keys["task"]["arguments"].update(num_beams=2))
    kitchen = sv.Kitchen.load(file)
    assert kitchen.scores.score((("m_0", 1.0),)).num_close is None
    assert json_of(capsys, "score", file)["ingredients"]["m_0"]["num_close"] is None
    page = report(sv.uniform(kitchen), file.parent / "r.html").read_text("utf-8")
    assert "is not known, because beams are ranked" in " ".join(page.split())


def test_the_whole_journey_from_the_command_line(file, tmp_path, capsys):
    scores = json_of(capsys, "score", file)["ingredients"]
    assert set(scores["m_0"]["metrics"]) == {"wer", "cer"}
    out = tmp_path / "soup.safetensors"
    assert run_command(capsys, "soup", file, "--recipe", "uniform", "--out", out)[0] == 0
    assert json_of(capsys, "interpolate", file, "m_0", "m_1", "--points", 3)["points"][0]["value"] > 0


@pytest.mark.parametrize("recipe", ["learned", "ensemble", "fisher"])
def test_what_needs_chances_of_a_whole_transcript_is_refused_with_the_reason(recipe, file, capsys):
    status, _, told = run_command(capsys, "soup", file, "--recipe", recipe)
    assert status == 2 and "transcription" in told and "because" in told and "\n" not in told.strip()


def test_a_recording_without_a_finite_answer_counts_as_heard_as_nothing(file):
    kitchen = sv.Kitchen.load(file)
    answers = torch.tensor([[0, 6.0, 7.0, 0.0], [torch.nan] * 4])
    assert isinstance(kitchen.task.decoder, Generate)
    finite, texts = kitchen.task.decoder.heard(answers)
    assert finite.tolist() == [True, False]
    assert texts == ["ab", ""]
    weights = {key: torch.full_like(tensor, torch.nan) for key, tensor in kitchen.evaluator.model.state_dict().items()}
    kitchen.evaluator.load(weights.items())
    split = kitchen.splits.load("held_out")
    said = kitchen.task.answer_batch(kitchen.evaluator.model, split.take(torch.arange(2), torch.device("cpu")))
    assert not kitchen.task.decoder.heard(said)[0].any()


def test_a_tokenizers_folder_is_a_vocabulary(file):
    tokenizers = pytest.importorskip("tokenizers")
    words = {token: number for number, token in enumerate(TOKENS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    tokenizer.decoder = tokenizers.decoders.Fuse()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<start>"],
    )  # fmt: skip
    plain = heard(sv.Kitchen.load(file))
    fast.save_pretrained(file.parent / "run")
    change_yaml(file, lambda keys: keys["task"].update(vocabulary="run"))
    assert heard(sv.Kitchen.load(file)) == plain


def test_a_model_without_generate_is_refused():
    task = find_task("transcription", {"vocabulary": TOKENS, "decode": "generate"}, None)
    with pytest.raises(ModelError, match="generate"):
        task.answer_batch(torch.nn.Linear(2, 2), {"": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"arguments": 3}, "mapping"),
        ({"arguments": {"do_sample": True}}, "chance"),
        ({"blank": 0}, "blank"),
        ({"decode": "beam"}, "ctc and generate"),
    ],
)
def test_parameters_that_do_not_go_with_generate_are_refused(parameters, told):
    with pytest.raises(KitchenError, match=told):
        find_task("transcription", {"vocabulary": TOKENS, "decode": "generate"} | parameters, None)


def test_a_processor_that_is_missing_or_has_another_rate_is_refused(file, capsys):
    for changes, told in (({"processor": "nowhere"}, "preprocessor_config.json"), ({"sample_rate": 999}, "16000")):
        before = yaml.safe_load(file.read_text())
        change_yaml(file, lambda keys, changes=changes: keys["data"]["held_out"].update(changes))
        status, _, error = run_command(capsys, "score", file)
        assert status == 2 and told in error
        file.write_text(yaml.safe_dump(before))


def test_settings_beside_the_tokenizer_are_used(file):
    """As those of a checkpoint, which say what Whisper may not say."""
    (file.parent / "run" / "generation_config.json").write_text(
        json.dumps({"eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 3, "forced_eos_token_id": 7})
    )
    kitchen = sv.Kitchen.load(file)
    decoder = kitchen.task.decoder
    assert isinstance(decoder, Generate)
    found = Generate(decoder.text, decoder.arguments, file.parent / "run")._settings(kitchen.evaluator.model)
    assert (found.forced_eos_token_id, found.suppress_tokens) == (7, [0, 1, 2, 3])
    assert (found.num_beams, found.do_sample, found.max_new_tokens) == (1, False, 6)
    assert np.isfinite(found.eos_token_id)
