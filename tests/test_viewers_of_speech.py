"""Cards of utterances: a player, what was said, and what both models heard, with their differences marked."""

import base64
import io
import re
import wave

import numpy as np
import pytest
import soundfile
import torch
from speech_kitchens import RATE, write_table
from test_recordings import Plain
from test_transcription import frames, labels, task

from soupviz.data import splits
from soupviz.spec import SplitSpec
from soupviz.tasks import edits
from soupviz.tasks.outcomes import Outcomes
from soupviz.ui.diversity.gallery import gallery
from soupviz.ui.viewers import sound


def spoken(folder, texts, lengths, rate=RATE, **keys):
    rows = []
    for index, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        samples = np.sin(np.arange(length) / 5).astype(np.float32)
        soundfile.write(folder / f"{index}.wav", samples, rate, subtype="FLOAT")
        rows.append({"file": f"{index}.wav", "transcript": text})
    write_table(folder, "table", rows)
    spec = SplitSpec(format="audio", path="table.csv", **keys)
    return splits.load("held_out", spec, folder, Plain(), kind="texts")


def cards(folder, said, soup, rival, own=None):
    own = own or task()
    split = spoken(folder, said, [100 + 10 * index for index in range(len(said))])
    new, old = (
        Outcomes.of(own.outcomes(frames(*one), labels(*said)), own.targets(labels(*said))) for one in (soup, rival)
    )
    return gallery(own, split, [], new, old, np.arange(len(said)))


def test_words_are_aligned_side_by_side():
    assert edits.aligned("a b c", "a x c d") == [("a", "a"), ("b", "x"), ("c", "c"), ("", "d")]
    assert edits.aligned("a b", "") == [("a", ""), ("b", "")]
    assert edits.aligned("", "a") == [("", "a")]


def test_a_card_marks_what_is_missed_heard_besides_and_heard_instead(tmp_path):
    shown = cards(tmp_path, ["ab c", "a"], ["ab b", "a b"], ["c", "a"])
    assert "<del>c</del>→<ins>b</ins>" in shown
    assert "−<del>ab</del> c" in shown
    assert "+<ins>b</ins>" in shown
    assert shown.count("✓ a") == 1
    assert "✗ 1 wrong" in shown
    assert "soup" in shown and "rival" in shown and "said" in shown


def test_what_is_said_is_escaped(tmp_path):
    shown = cards(tmp_path, ["<b>a</b> & c", "a"], ["a", "a"], ["c", "a"])
    assert "<b>" not in shown and "&lt;b&gt;a&lt;/b&gt; &amp; c" in shown


def players(shown):
    return [base64.b64decode(data) for data in re.findall(r"data:audio/wav;base64,([^']+)", shown)]


def test_a_player_has_the_recording_as_16_bits_without_its_padding(tmp_path):
    _, second = players(cards(tmp_path, ["a", "b"], ["a", "b"], ["a", "b"]))
    with wave.open(io.BytesIO(second)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (RATE, 2, 1)
        assert file.getnframes() == 110
        samples = np.frombuffer(file.readframes(110), "<i2")
    assert samples / 32767 == pytest.approx(np.sin(np.arange(110) / 5), abs=1e-4)


def test_a_player_of_a_part_has_the_parts_own_recording(tmp_path):
    split = spoken(tmp_path, ["a", "b", "c"], [100, 110, 120])
    part = split.part(torch.tensor([2, 0]), "p")
    (data,) = players(sound.player(part, 0, "x"))
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnframes() == 120


def test_long_recordings_of_many_samples_are_cut_and_made_smaller_and_that_is_told(tmp_path):
    split = spoken(tmp_path, ["a", "b"], [15 * 32_000, 100], rate=32_000)
    (data,) = players(sound.player(split, 0, "x"))
    with wave.open(io.BytesIO(data)) as file:
        assert file.getframerate() == sound.HIGHEST
        assert file.getnframes() == sound.LONGEST * sound.HIGHEST
    assert "10 s" in sound.note(split)


def test_loud_samples_are_cut_off_instead_of_turned_over(tmp_path):
    assert np.frombuffer(sound._wav(np.array([2.0, -2.0], dtype=np.float32), RATE)[-4:], "<i2").tolist() == [
        32767,
        -32767,
    ]
