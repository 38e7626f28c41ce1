"""What DESIGN.md promises of recordings and transcripts: tables, lengths, decoding, counting."""

import csv
import wave
from pathlib import Path

import pytest
import torch
from surface import edited, net, refused, save, told, write_kitchen

TOKENS = ["_", " ", "a", "b"]
RATE, FRAME = 1000, 10

LISTENER = """
import torch
from torch import nn

class Listener(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, waves, lengths):
        assert lengths.dtype == torch.int64 and lengths.shape == (len(waves),)
        levels = waves[:, : waves.shape[1] // 10 * 10].reshape(len(waves), -1, 10).mean(2)
        said = (levels * 10).round().long() % 4
        inside = torch.arange(levels.shape[1]) < (lengths // 10)[:, None]
        assert not waves[:, :][torch.arange(waves.shape[1]) >= lengths[:, None]].any()
        said = torch.where(inside, said, torch.tensor(2))  # nonsense beyond the end, which must not count
        logits = self.scale * nn.functional.one_hot(said, 4).float()
        return {"logits": logits, "lengths": lengths // 10}

def build():
    return Listener()
"""


def speak(path: Path, numbers: list[int]) -> None:
    """A recording whose level in each frame is a token's number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for number in numbers:
            file.writeframes(round(3277 * number).to_bytes(2, "little", signed=True) * FRAME)


SPOKEN = [[2, 2, 0, 2, 1, 3], [3, 3, 3], [2, 1, 1, 2, 0, 3, 3, 1, 3], [2]]
SAID = ["aa b", "b", "a ab b", ""]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(LISTENER)
    with (tmp_path / "clips.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("sound", "words", "who"))
        for index, (numbers, text) in enumerate(zip(SPOKEN, SAID, strict=True)):
            speak(tmp_path / "clips" / f"{index}.wav", numbers)
            table.writerow((f"clips/{index}.wav", text, "xy"[index % 2]))
    save(net(LISTENER).state_dict(), tmp_path / "m.safetensors")
    keys = {"format": "audio", "path": "clips.csv", "file": "sound", "transcript": "words", "group": "who"}
    return write_kitchen(
        tmp_path,
        task={"name": "transcription", "vocabulary": TOKENS, "blank": 0},
        model={"factory": "model.py:build"},
        ingredients=["m.safetensors"],
        data={"held_out": keys},
        device="cpu",
    )


def test_words_are_counted_over_the_corpus_and_an_empty_transcript_counts_its_insertions_only(speech):
    score = told("score", speech)["ingredients"]["m"]
    assert score["metric"] == "wer" and set(score["metrics"]) == {"wer", "cer"}
    # Six words; all are heard but for the "a" in the last recording, in which nothing is said.
    assert score["value"] == pytest.approx(1 / 6)
    assert score["metrics"]["cer"] == pytest.approx(1 / 11)
    assert score["num_units"] == 4


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_an_utterance_does_not_depend_on_its_batch(speech, batch_size):
    edited(speech, lambda keys: keys.update(batch_size=batch_size))
    assert told("score", speech)["ingredients"]["m"]["value"] == pytest.approx(1 / 6)


def test_a_vocabulary_in_a_file_is_read_as_a_list(speech):
    (speech.parent / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    edited(speech, lambda keys: keys["task"].update(vocabulary="vocab.txt"))
    assert told("score", speech)["ingredients"]["m"]["value"] == pytest.approx(1 / 6)


def test_a_recording_that_is_missing_and_a_vocabulary_that_does_not_fit_are_one_line_each(speech):
    (speech.parent / "clips" / "1.wav").rename(speech.parent / "1.wav")
    assert "1.wav" in refused("score", speech)
    (speech.parent / "1.wav").rename(speech.parent / "clips" / "1.wav")
    edited(speech, lambda keys: keys["task"].update(vocabulary=["_", "a"]))
    assert "2 tokens" in refused("score", speech)


def test_a_folder_for_each_class_is_speech_classification(speech):
    for index, name in enumerate(("no", "no", "yes", "yes")):
        speak(speech.parent / "words" / name / f"{index}.wav", [index] * 4)
    (speech.parent / "model.py").write_text(
        "from torch import nn\nimport torch\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.head = nn.Linear(1, 2)\n\n    def forward(self, waves):\n"
        "        return self.head(waves.mean(1, keepdim=True))\n\ndef build():\n    return Net()\n"
    )
    weights = {"head.weight": torch.tensor([[-1.0], [1.0]]), "head.bias": torch.tensor([0.3, 0.0])}
    save(weights, speech.parent / "m.safetensors")
    change = {"task": "classification", "data": {"held_out": {"format": "audio", "path": "words"}}}
    edited(speech, lambda keys: keys.update(change))
    assert told("score", speech)["ingredients"]["m"]["accuracy"] == 1.0
