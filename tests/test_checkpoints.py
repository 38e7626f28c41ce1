import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import save
from torch import Tensor

from soupviz.errors import CheckpointError
from soupviz.weights.checkpoints import PICKLE_SUFFIXES, PREFIXES, WRAPPERS, read, shards_of
from soupviz.weights.writing import write

WEIGHTS = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.tensor([0.5, -0.5])}
LEGACY = {"_use_new_zipfile_serialization": False}


def sharded(tensors: dict[str, Tensor], folder: Path, suffix: str = ".safetensors") -> Path:
    """Write one shard a tensor and the index; returns the index."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = {key: f"{stem}-{index:05d}-of-{len(tensors):05d}{suffix}" for index, key in enumerate(tensors, start=1)}
    for key, name in names.items():
        save({key: tensors[key]}, folder / name)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": names}))
    return index


def holds_weights(tensors) -> bool:
    return tensors.keys() == WEIGHTS.keys() and all(torch.equal(tensors[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize("suffix", [".safetensors", *PICKLE_SUFFIXES])
def test_every_suffix_is_read(tmp_path, suffix):
    assert holds_weights(read(save(WEIGHTS, tmp_path / f"m{suffix}")).candidates[0])


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_sharded_checkpoint_is_read_through_its_index(tmp_path, suffix):
    index = sharded(WEIGHTS, tmp_path, suffix)
    assert len(shards_of(index)) == 2
    assert holds_weights(read(index).candidates[0])


def test_a_file_of_before_the_zip_format_is_read(tmp_path):
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, tmp_path / "old.pt", **LEGACY)
    checkpoint = read(tmp_path / "old.pt")
    assert checkpoint.path == tmp_path / "old.pt"
    assert holds_weights(checkpoint.candidates[0])
    assert checkpoint.metadata == {"epoch": 3}


def test_a_file_of_before_the_zip_format_is_converted_once(tmp_path, empty_cache, monkeypatch):
    torch.save(WEIGHTS, tmp_path / "old.pt", **LEGACY)
    read(tmp_path / "old.pt")
    [copy] = (empty_cache / "converted").iterdir()
    opened = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: opened.append(Path(path)) or load(path, **options))
    assert holds_weights(read(tmp_path / "old.pt").candidates[0])
    assert opened == [copy]


def rewrite_in_place(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    with path.open("r+b") as file:
        file.seek(content.index(old))
        file.write(new)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "legacy", "sharded"])
def test_tensors_are_mapped_from_the_file_not_read_into_memory(tmp_path, empty_cache, kind):
    """What is written into the file after it was opened is seen in a tensor not looked at before."""
    marked = torch.full((4096,), 1.25)
    tensors = {"a": torch.zeros(4096), "b": marked}
    if kind == "sharded":
        file, opened = tmp_path / "model-00002-of-00002.safetensors", sharded(tensors, tmp_path)
    elif kind == "legacy":
        opened = tmp_path / "m.pt"
        torch.save(tensors, opened, **LEGACY)
        read(opened)
        [file] = (empty_cache / "converted").iterdir()
    else:
        file = opened = save(tensors, tmp_path / f"m.{kind}")
    found = read(opened).candidates[0]
    rewrite_in_place(file, marked.numpy().tobytes(), (2 * marked).numpy().tobytes())
    assert found["b"].unique().tolist() == [2.5]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_dict_is_found_under_each_usual_wrapper(tmp_path, wrapper):
    torch.save({wrapper: WEIGHTS, "epoch": 1, "optimizer": {"state": {}, "param_groups": []}}, tmp_path / "m.pt")
    assert holds_weights(read(tmp_path / "m.pt").candidates[0])


def test_the_wrappers_that_design_names_are_known():
    assert {"state_dict", "model", "model_state_dict", "ema"} <= set(WRAPPERS)
    assert set(PREFIXES) == {"module.", "_orig_mod.", "model."}


def test_wrappers_may_be_nested(tmp_path):
    torch.save({"model": {"state_dict": WEIGHTS}}, tmp_path / "m.pt")
    assert holds_weights(read(tmp_path / "m.pt").candidates[0])


def test_both_the_raw_and_the_averaged_weights_are_candidates_the_raw_first(tmp_path):
    averaged = {key: tensor + 1 for key, tensor in WEIGHTS.items()}
    torch.save({"ema": averaged, "state_dict": WEIGHTS}, tmp_path / "m.pt")
    raw, ema = read(tmp_path / "m.pt").candidates
    assert holds_weights(raw)
    assert torch.equal(ema["head.bias"], averaged["head.bias"])


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "_orig_mod.module.", "model._orig_mod."])
def test_usual_prefixes_are_stripped_in_some_reading(tmp_path, prefix):
    save({prefix + key: tensor for key, tensor in WEIGHTS.items()}, tmp_path / "m.pt")
    readings = list(read(tmp_path / "m.pt").readings())
    assert set(readings[0]) == {prefix + key for key in WEIGHTS}
    assert holds_weights(readings[-1])


def test_a_prefix_that_only_some_keys_have_is_left_alone(tmp_path):
    save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "m.safetensors")
    assert [set(reading) for reading in read(tmp_path / "m.safetensors").readings()] == [{"module.a", "b"}]


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_harmless_globals_are_allowed_and_their_values_become_metadata(tmp_path, options):
    beside = {
        "args": argparse.Namespace(lr=0.001, name="run 7", output=Path("out"), layers=[1, 2]),
        "best": np.float64(0.75),
        "step": np.int64(12),
        "flag": np.bool_(True),
        "small": np.float32(0.5),
        "history": np.array([1.0, 2.0]),
        "epoch": 4,
        "note": "x" * 101,
    }
    torch.save({"state_dict": WEIGHTS} | beside, tmp_path / "m.ckpt", **options)
    checkpoint = read(tmp_path / "m.ckpt")
    assert holds_weights(checkpoint.candidates[0])
    assert checkpoint.metadata == {
        "lr": 0.001, "name": "run 7", "best": 0.75, "step": 12, "flag": True, "small": 0.5, "epoch": 4,
    }  # fmt: skip


def test_values_that_old_numpy_wrote_are_read(tmp_path):
    """NumPy 1 pickled scalars under numpy.core; the bytes are those of NumPy 2 but for the module's name."""
    torch.save({"state_dict": WEIGHTS, "best": np.float64(0.75)}, tmp_path / "m.pt", **LEGACY)
    content = (tmp_path / "m.pt").read_bytes()
    assert b"numpy._core.multiarray" in content
    (tmp_path / "m.pt").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read(tmp_path / "m.pt").metadata == {"best": 0.75}


def test_tensors_saved_on_another_device_type_are_read_on_the_cpu(tmp_path):
    save(WEIGHTS, tmp_path / "m.pt")
    assert {tensor.device.type for tensor in read(tmp_path / "m.pt").candidates[0].values()} == {"cpu"}


def test_parameters_and_transposed_tensors_are_read_as_they_are(tmp_path):
    matrix = torch.arange(6.0).reshape(2, 3)
    torch.save({"w": torch.nn.Parameter(matrix), "t": matrix.T}, tmp_path / "m.pt")
    [found] = read(tmp_path / "m.pt").candidates
    assert torch.equal(found["w"], matrix)
    assert torch.equal(found["t"], matrix.T)


def test_safetensors_metadata_is_kept_and_a_soups_record_set_apart(tmp_path):
    save(WEIGHTS, tmp_path / "m.safetensors", {"lr": "1e-3", "format": "pt"})
    assert read(tmp_path / "m.safetensors").metadata["lr"] == "1e-3"
    assert read(tmp_path / "m.safetensors").soup is None
    write(WEIGHTS.items(), WEIGHTS, tmp_path / "soup.safetensors", "the record", ".safetensors")
    checkpoint = read(tmp_path / "soup.safetensors")
    assert checkpoint.soup == "the record"
    assert "soupviz" not in checkpoint.metadata


def test_an_unknown_suffix_is_refused_with_those_known(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"unknown checkpoint format '\.onnx'; expected one of \.safetensors, "):
        read(tmp_path / "m.onnx")


def test_an_index_that_is_none_is_refused(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weights": {}}')
    with pytest.raises(CheckpointError, match="not a sharded checkpoint's index; expected JSON with a 'weight_map'"):
        read(index)


def test_a_missing_shard_is_named(tmp_path):
    index = sharded(WEIGHTS, tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors: no such file"):
        read(index)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2]])
def test_a_file_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="holds no tensors; expected a state dict"):
        read(tmp_path / "m.pt")
