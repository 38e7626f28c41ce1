"""transformers' own models of speech: tiny ones, with masks and without, against what they say of each alone."""

import json

import numpy as np
import pytest
import torch
from kitchens import json_of, perturbed, save, write_yaml
from speech_kitchens import LETTERS, write_split

import soupviz as sv
from soupviz.data.audio.listening import for_model
from soupviz.data.labels import as_text

pytestmark = pytest.mark.extras
transformers = pytest.importorskip("transformers")

TOKENS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4} | {letter: 5 + k for k, letter in enumerate(LETTERS)}


def kitchen_of(folder, norm):
    """Random ingredients; norm: layer as wav2vec2-large, told by a mask, or group as wav2vec2-base, which is not."""
    folder.mkdir()
    config = transformers.Wav2Vec2Config(
        vocab_size=len(TOKENS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 4), num_feat_extract_layers=2, feat_extract_norm=norm,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, do_stable_layer_norm=norm == "layer",
        pad_token_id=0, architectures=["Wav2Vec2ForCTC"], initializer_range=0.5,
    )  # fmt: skip
    config.save_pretrained(folder / "run")
    transformers.Wav2Vec2FeatureExtractor(
        sampling_rate=2000, do_normalize=True, return_attention_mask=norm == "layer"
    ).save_pretrained(folder / "run")
    (folder / "run" / "vocab.json").write_text(json.dumps(TOKENS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Wav2Vec2ForCTC(config)
    for index in range(2):
        save(perturbed(model.state_dict(), 0.2, seed=index), folder / f"m_{index}.safetensors")
    write_split(folder, "held_out", 8, 0)
    return write_yaml(
        folder,
        task={"name": "transcription", "vocabulary": "run", "normalizer": "lower"},
        model={"factory": "transformers:run"},
        ingredients=["m_*.safetensors"],
        data={"held_out": {"format": "audio", "path": "held_out.csv", "processor": "run"}},
        device="cpu",
        batch_size=3,
    )


def heard_alone(kitchen, split):
    """Greedy decoding of each recording on its own, as transformers' tokenizer does it, frame by frame."""
    model, found = kitchen.evaluator.model, []
    kitchen.evaluator.load(kitchen.ingredients[0].tensors.items())
    names = {number: token for token, number in TOKENS.items()}
    for row in range(len(split)):
        length = int(split.take(torch.tensor([row]), torch.device("cpu"))["input_lengths"])
        batch = for_model(split.take(torch.tensor([row]), torch.device("cpu")))
        wave = next(iter(batch.values()))[:, :length]
        with torch.inference_mode():
            numbers = model(wave).logits[0].argmax(1).tolist()
        kept = [one for one, before in zip(numbers, [None, *numbers], strict=False) if one != before and one]
        text = "".join({"|": " "}.get(names[one], names[one]) for one in kept if not names[one].startswith("<"))
        found.append(text.strip())
    return found


def test_a_model_with_a_mask_hears_in_a_batch_what_it_hears_alone(tmp_path, capsys):
    file = kitchen_of(tmp_path / "k", "layer")
    kitchen = sv.Kitchen.load(file)
    split = kitchen.splits.load("held_out")
    assert split.padding == "right" and {"attention_mask", "frames"} <= split.arrays.keys()
    outcomes = kitchen.scores.score((("m_0", 1.0),)).outcomes
    heard = [as_text(row) for row in outcomes["hypothesis"]]
    assert heard == heard_alone(kitchen, split)
    assert len(set(heard)) > 1
    assert any("'<pad>' (0) is the blank; '|' stands for a space" in note for note in split.notes)
    assert json_of(capsys, "score", file)["ingredients"]["m_0"]["metric"] == "wer"


def test_a_model_that_normalises_over_time_gets_no_mask_and_one_length(tmp_path):
    kitchen = sv.Kitchen.load(kitchen_of(tmp_path / "k", "group"))
    split = kitchen.splits.load("held_out")
    assert not split.padding and "attention_mask" not in split.arrays and "frames" in split.arrays
    assert any("feat_extract_norm" in note for note in split.notes)
    assert kitchen.scores.score((("m_0", 1.0),)).value is not None


def test_the_processor_scales_each_recording_once(tmp_path):
    kitchen = sv.Kitchen.load(kitchen_of(tmp_path / "k", "layer"))
    wave = kitchen.splits.load("held_out").example(0)["input_values"].numpy()
    assert (wave.mean(), wave.std()) == pytest.approx((0, 1), abs=1e-2)
    assert np.isfinite(wave).all()
