"""The format `audio`: recordings from tables and folders, at one rate, told to models as they take them."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from kitchens import build_model
from scipy.signal import resample_poly
from shared import SHARED
from speech_kitchens import NET, RATE, write_table
from torch import nn

from soupviz.data import splits
from soupviz.errors import CorruptImagesError, DataError
from soupviz.spec import SplitSpec

CPU = torch.device("cpu")
DIGITS = SHARED / "data" / "free-spoken-digits.tar.xz"


def wave(length, seed=0):
    return (0.2 * np.random.default_rng(seed).normal(size=length)).clip(-0.9, 0.9).astype(np.float32)


def written(folder, lengths=(200, 90, 160), rate=RATE, suffix="wav", **columns):
    """Recordings and a table of them; of each its label, or other columns."""
    columns = columns or {"label": [f"class {index % 2}" for index in range(len(lengths))]}
    for index, length in enumerate(lengths):
        soundfile.write(
            folder / f"{index}.{suffix}", wave(length, index), rate, subtype="FLOAT" if suffix == "wav" else None
        )
    rows = [
        {"file": f"{index}.{suffix}", **{name: values[index] for name, values in columns.items()}}
        for index in range(len(lengths))
    ]
    return write_table(folder, "table", rows)


class Counting(nn.Module):
    """Takes what its forward names, and remembers it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 2)

    def answer(self, total):
        return self.head(total[:, None])


class Plain(Counting):
    def forward(self, waves):
        return self.answer(waves.mean(1))


class Told(Counting):
    def forward(self, waves, lengths):
        return self.answer(waves.sum(1) / lengths)


class Masked(Counting):
    def forward(self, input_values, attention_mask=None, output_hidden_states=None):
        return self.answer((input_values * attention_mask).sum(1) / attention_mask.sum(1))


class Careless(Counting):
    def forward(self, waves, lengths):
        return self.answer(waves.mean(1))


def load(folder, model=None, name="held_out", kind="classes", path="table.csv", **keys):
    spec = SplitSpec(format="audio", path=path, **keys)
    return splits.load(name, spec, folder, model or Plain(), kind=kind)


# Where recordings are


def test_a_table_names_files_relative_to_itself_and_gives_their_labels(tmp_path):
    inner = tmp_path / "data"
    inner.mkdir()
    written(inner)
    split = load(tmp_path, path="data/table.csv")
    assert split.labels.tolist() == [0, 1, 0]
    assert split.classes == ("class 0", "class 1")
    assert split.files == ("0.wav", "1.wav", "2.wav")


@pytest.mark.parametrize("kind", ["jsonl", "tsv", "parquet"])
def test_tables_are_of_the_kinds_that_texts_have(kind, tmp_path):
    import pandas as pd

    frame = pd.read_csv(written(tmp_path))
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, sep="\t", index=False)
    assert load(tmp_path, path=path.name).labels.tolist() == [0, 1, 0]


def test_a_folder_for_each_class_is_read_in_the_order_of_their_names(tmp_path):
    for name in ("no", "yes"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(2):
            soundfile.write(tmp_path / "data" / name / f"{index}.flac", wave(80), RATE)
    split = load(tmp_path, path="data")
    assert split.labels.tolist() == [0, 0, 1, 1]
    assert split.classes == ("no", "yes")
    assert split.files[0] == "no/0.flac"


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_recordings_of_every_kind_become_float32_samples(suffix, tmp_path):
    written(tmp_path, (4000, 3000), rate=8000, suffix=suffix)
    split = load(tmp_path)
    example = split.example(0)[""]
    assert example.dtype == torch.float32
    assert split.rate == 8000
    assert np.corrcoef(example[:4000], wave(4000))[0, 1] > (0.99 if suffix in ("wav", "flac") else 0.5)


def test_columns_have_the_names_that_the_keys_say(tmp_path):
    path = written(tmp_path, kind=["a", "b", "a"])
    path.write_text(path.read_text().replace("file", "sound"))
    assert load(tmp_path, file="sound", label="kind").labels.tolist() == [0, 1, 0]


def test_a_group_column_says_which_recordings_belong_together(tmp_path):
    written(tmp_path, label=["a", "b", "a"], speaker=["x", "y", "x"])
    assert load(tmp_path, group="speaker").group_of.tolist() == [0, 1, 0]


def test_transcripts_are_labels_of_texts(tmp_path):
    written(tmp_path, transcript=["ab", "", "c d e"])
    split = load(tmp_path, kind="texts")
    assert split.labels.tolist() == [[97, 98, -1, -1, -1], [-1] * 5, [99, 32, 100, 32, 101]]
    assert split.texts == ("ab", "", "c d e")


# Samples


def test_several_channels_become_their_mean_and_that_is_told(tmp_path):
    written(tmp_path)
    both = np.stack([wave(120, 5), wave(120, 6)], axis=1)
    soundfile.write(tmp_path / "1.wav", both, RATE, subtype="FLOAT")
    split = load(tmp_path)
    assert split.example(1)[""][:120].numpy() == pytest.approx(both.mean(axis=1), abs=1e-7)
    assert any("1 of 3 recordings" in note and "channels" in note for note in split.notes)


def test_a_sample_rate_resamples_all_to_it(tmp_path):
    written(tmp_path)
    split = load(tmp_path, sample_rate=RATE // 2)
    expected = resample_poly(wave(200), 1, 2)
    assert split.example(0)[""][:100].numpy() == pytest.approx(expected, abs=1e-6)
    assert split.rate == RATE // 2
    assert any("1,000" in note and "2,000" in note for note in split.notes)


def test_recordings_of_two_rates_are_refused_with_both_and_the_remedy(tmp_path):
    written(tmp_path)
    soundfile.write(tmp_path / "1.wav", wave(90), 16_000)
    with pytest.raises(DataError, match=r"1\.wav has 16000 .* 2000; .*sample_rate: 16000"):
        load(tmp_path)
    assert load(tmp_path, sample_rate=RATE).rate == RATE


def test_seconds_cut_what_is_longer_and_fill_up_what_is_shorter(tmp_path):
    written(tmp_path)
    split = load(tmp_path, seconds=0.06)
    assert split.shapes[""] == (120,)
    assert split.example(0)[""].numpy() == pytest.approx(wave(200)[:120])
    assert split.example(1)[""][90:].tolist() == [0.0] * 30


# What cannot be read


def with_a_broken_one(folder, **columns):
    written(folder, lengths=(200, 90, 160, 120), **columns)
    (folder / "1.wav").write_bytes(b"RIFF no more")
    return folder


def test_a_recording_that_cannot_be_decoded_is_refused_with_its_name_and_how_to_leave_it_out(tmp_path):
    with_a_broken_one(tmp_path)
    with pytest.raises(CorruptImagesError, match=r"1 of 4 recordings cannot be decoded: 1\.wav \(.*skip_corrupt: true"):
        load(tmp_path)


@pytest.mark.parametrize("how", ["kitchen.yaml", "caller"])
def test_recordings_are_left_out_where_that_is_asked_for_and_told(tmp_path, how):
    with_a_broken_one(tmp_path)
    spec = SplitSpec(format="audio", path="table.csv", skip_corrupt=how == "kitchen.yaml")
    split = splits.load("held_out", spec, tmp_path, Plain(), skip_corrupt=how == "caller")
    assert split.files == ("0.wav", "2.wav", "3.wav") and split.skipped == ("1.wav",)
    assert [len(split.example(row)[""].nonzero()) for row in range(3)] == [200, 160, 120]
    assert split.labels.tolist() == [0, 0, 1]
    assert any("1 of 4 recordings cannot be decoded: 1.wav" in note and "left out" in note for note in split.notes)


def test_what_belongs_to_recordings_stays_with_them_where_one_is_left_out(tmp_path):
    with_a_broken_one(tmp_path, transcript=["a", "b", "ab", "ba"], speaker=["x", "y", "z", "x"])
    (tmp_path / "s.csv").write_text("room\nhall\nhall\nbath\nhall\n")
    slices = {"file": "s.csv", "column": "room"}
    split = load(tmp_path, Told(), kind="texts", group="speaker", slices=slices, skip_corrupt=True)
    assert split.texts == ("a", "ab", "ba")
    assert [split.group.names[place] for place in split.group.index] == ["x", "z", "x"]
    assert [split.slices.names[place] for place in split.slices.index] == ["hall", "bath", "hall"]


def test_where_nothing_can_be_decoded_there_is_nothing_to_leave_out(tmp_path):
    written(tmp_path)
    for index in range(3):
        (tmp_path / f"{index}.wav").write_bytes(b"")
    with pytest.raises(DataError, match="none of 3 recordings can be decoded"):
        load(tmp_path, skip_corrupt=True)


# How models are told of padding


def test_a_model_that_takes_no_lengths_gets_recordings_padded_to_the_longest_of_the_split(tmp_path):
    written(tmp_path)
    split = load(tmp_path)
    assert split.take(torch.tensor([1]), CPU)[""].shape == (1, 200)
    assert any("0.10 s" in note for note in split.notes)


def test_a_forward_that_takes_lengths_is_told_the_samples_before_padding(tmp_path):
    written(tmp_path)
    batch = load(tmp_path, Told()).take(torch.tensor([1, 2]), CPU)
    assert batch.keys() == {"waves", "lengths"}
    assert batch["waves"].shape == (2, 160)
    assert batch["lengths"].tolist() == [90, 160] and batch["lengths"].dtype == torch.int64


def test_a_forward_that_takes_a_mask_gets_ones_where_there_are_samples(tmp_path):
    written(tmp_path)
    batch = load(tmp_path, Masked()).take(torch.tensor([1, 2]), CPU)
    assert batch.keys() == {"input_values", "attention_mask"}
    assert batch["attention_mask"].dtype == torch.int64
    assert batch["attention_mask"].sum(1).tolist() == [90, 160]
    assert batch["attention_mask"].shape == batch["input_values"].shape == (2, 160)


def test_a_model_whose_answers_change_with_padding_never_gets_batches_cut_to_their_own_longest(tmp_path):
    written(tmp_path)
    split = load(tmp_path, Careless())
    batch = split.take(torch.tensor([1]), CPU)
    assert batch["waves"].shape == (1, 200)
    assert batch["lengths"].tolist() == [90]
    assert any("change" in note for note in split.notes)


@pytest.mark.parametrize(
    ("told", "is_cut"), [("lengths", True), ("mask", True), ("untold", False), ("bare", False), ("leaking", False)]
)
def test_frames_are_cut_only_where_the_model_knows_where_a_recording_ends(told, is_cut, tmp_path):
    written(tmp_path, (400, 160, 240), transcript=["a", "b", "c"])
    split = load(tmp_path, build_model(NET, told=told), kind="texts")
    assert bool(split.padding) == is_cut
    batch = split.take(torch.tensor([1]), CPU)
    assert next(iter(batch.values())).shape == (1, 160 if is_cut else 400)
    assert batch["input_lengths"].tolist() == [160]


# Bad input


def refused(folder, model=None, **keys):
    with pytest.raises(DataError) as error:
        load(folder, model, **keys)
    told = str(error.value)
    assert "\n" not in told
    return told


def test_a_file_that_is_not_there_is_named_with_its_line(tmp_path):
    written(tmp_path)
    (tmp_path / "1.wav").unlink()
    told = refused(tmp_path)
    assert "line 3" in told and "1.wav" in told and str(tmp_path) in told


@pytest.mark.parametrize("content", [b"", b"RIFF....", b"no sound at all" * 20])
def test_a_file_that_is_no_recording_is_named_with_the_reason(content, tmp_path):
    written(tmp_path)
    (tmp_path / "1.wav").write_bytes(content)
    assert "1 of 3 recordings" in (told := refused(tmp_path)) and "1.wav" in told


def test_a_recording_without_samples_is_named(tmp_path):
    written(tmp_path)
    soundfile.write(tmp_path / "2.wav", np.zeros(0, dtype=np.float32), RATE)
    assert "2.wav (it holds no samples)" in refused(tmp_path)


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    written(tmp_path)
    soundfile.write(tmp_path / "2.wav", np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    assert "2.wav" in (told := refused(tmp_path)) and "no numbers" in told


def test_a_column_that_is_missing_is_named_with_the_key_that_says_which(tmp_path):
    written(tmp_path)
    told = refused(tmp_path, kind="texts")
    assert "'transcript'" in told and "file, label" in told and "`transcript:`" in told
    assert "`file:`" in refused(tmp_path, file="path")


def test_transcripts_that_are_all_empty_are_refused(tmp_path):
    written(tmp_path, transcript=["", " ", ""])
    assert "empty" in refused(tmp_path, kind="texts")


def test_a_folder_for_each_class_has_no_transcripts(tmp_path):
    (tmp_path / "data" / "yes").mkdir(parents=True)
    soundfile.write(tmp_path / "data" / "yes" / "0.wav", wave(80), RATE)
    assert "a text" in refused(tmp_path, kind="texts", path="data")


def test_a_folder_without_recordings_is_refused(tmp_path):
    (tmp_path / "data" / "yes").mkdir(parents=True)
    (tmp_path / "data" / "yes" / "notes.txt").write_text("none")
    assert "recordings" in refused(tmp_path, path="data")


def test_a_recording_that_changes_is_read_anew(tmp_path):
    written(tmp_path)
    before = load(tmp_path).fingerprint
    assert load(tmp_path).fingerprint == before
    soundfile.write(tmp_path / "1.wav", wave(91, 9), RATE, subtype="FLOAT")
    assert load(tmp_path).fingerprint != before


# Real ones


@pytest.mark.skipif(not DIGITS.is_file(), reason="needs ../shared/data/free-spoken-digits.tar.xz")
def test_real_recordings_are_read_by_table_and_by_folder(tmp_path):
    rows, number = [], 60
    with tarfile.open(DIGITS) as archive:
        for member in archive:
            if not member.name.endswith(".wav") or len(rows) == number:
                continue
            digit, speaker, _ = Path(member.name).stem.split("_")
            target = tmp_path / "recordings" / digit / Path(member.name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            target.write_bytes(content.read())
            rows.append({"file": str(target.relative_to(tmp_path)), "transcript": digit, "speaker": speaker})
    write_table(tmp_path, "digits", rows)
    by_table = load(tmp_path, Told(), path="digits.csv", kind="texts", group="speaker")
    by_folder = load(tmp_path, Told(), path="recordings")
    assert len(by_table) == len(by_folder) == number and by_table.rate == 8000
    assert by_table.grouped.column == "speaker"
    row = by_folder.files.index(Path(rows[7]["file"]).relative_to("recordings").as_posix())
    samples, _ = soundfile.read(io.BytesIO((tmp_path / rows[7]["file"]).read_bytes()), dtype="float32")
    for split, place in ((by_table, 7), (by_folder, row)):
        batch = split.take(torch.tensor([place]), CPU)
        assert np.array_equal(batch["waves"][0, : int(batch["lengths"])], samples)
