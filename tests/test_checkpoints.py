import argparse
import collections
import datetime
import functools
import json
import pickle
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import save
from torch import Tensor

from soupviz.errors import CheckpointError
from soupviz.weights import pickles
from soupviz.weights.checkpoints import NoWeightsError, read
from soupviz.weights.containers import Kind, checkpoints_in, kind_of, shards_of, without_suffix
from soupviz.weights.converting import convert
from soupviz.weights.pickles import NeedsCodeError
from soupviz.weights.vocabulary import WRAPPERS
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


NAMES = ["m.pt", "m.pth", "m.bin", "m.ckpt", "m.pth.tar", "m.th", "m.model", "m", "m.2026-11-28", "ü m,1.pkl"]


@pytest.mark.parametrize("name", NAMES)
def test_a_container_is_found_by_its_content_whatever_the_file_is_called(tmp_path, name):
    assert holds_weights(read(save(WEIGHTS, tmp_path / name)).candidates[0].tensors)
    save(WEIGHTS, tmp_path / "x.safetensors").rename(tmp_path / name)
    assert kind_of(tmp_path / name) is Kind.SAFETENSORS
    assert holds_weights(read(tmp_path / name).candidates[0].tensors)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_sharded_checkpoint_is_read_through_its_index(tmp_path, suffix):
    index = sharded(WEIGHTS, tmp_path, suffix)
    assert len(shards_of(index)) == 2
    assert holds_weights(read(index).candidates[0].tensors)


def test_a_file_of_before_the_zip_format_is_read(tmp_path):
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, tmp_path / "old.pt", **LEGACY)
    checkpoint = read(tmp_path / "old.pt")
    assert checkpoint.path == tmp_path / "old.pt"
    assert holds_weights(checkpoint.candidates[0].tensors)
    assert checkpoint.metadata == {"epoch": 3}


def test_a_file_of_before_the_zip_format_is_converted_once(tmp_path, empty_cache, monkeypatch):
    torch.save(WEIGHTS, tmp_path / "old.pt", **LEGACY)
    read(tmp_path / "old.pt")
    [copy] = (empty_cache / "converted").iterdir()
    opened = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: opened.append(Path(path)) or load(path, **options))
    assert holds_weights(read(tmp_path / "old.pt").candidates[0].tensors)
    assert opened == [copy]


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_a_pickle_that_is_called_safetensors_is_read(tmp_path, options):
    torch.save(WEIGHTS, tmp_path / "m.safetensors", **options)
    assert holds_weights(read(tmp_path / "m.safetensors").candidates[0].tensors)


def test_shards_of_zero_are_known_by_what_they_hold(tmp_path):
    for content in ({"optimizer_state_dict": {"zero_stage": 3, "fp32": [torch.ones(2)]}}, {"ds_version": "1"}):
        torch.save(content, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match=r"ZeRO.*zero_to_fp32\.py"):
            read(tmp_path / "m.pt")


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
    found = read(opened).candidates[0].tensors
    rewrite_in_place(file, marked.numpy().tobytes(), (2 * marked).numpy().tobytes())
    assert found["b"].unique().tolist() == [2.5]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_dict_is_found_under_each_usual_wrapper(tmp_path, wrapper):
    torch.save({wrapper: WEIGHTS, "epoch": 1, "optimizer": {"state": {}, "param_groups": []}}, tmp_path / "m.pt")
    assert holds_weights(read(tmp_path / "m.pt").candidates[0].tensors)


def test_a_state_dict_is_found_under_a_wrapper_of_any_name(tmp_path):
    torch.save({"my_network": WEIGHTS, "epoch": 1}, tmp_path / "m.pt")
    assert holds_weights(read(tmp_path / "m.pt").candidates[0].tensors)


def test_what_an_optimizer_keeps_is_no_candidate(tmp_path):
    torch.save({"model": WEIGHTS, "optimizer_states": [{"x": torch.ones(1)}], "optim": WEIGHTS}, tmp_path / "m.pt")
    assert [one.place for one in read(tmp_path / "m.pt").candidates] == ["model"]


def test_wrappers_may_be_nested(tmp_path):
    torch.save({"model": {"state_dict": WEIGHTS}}, tmp_path / "m.pt")
    assert holds_weights(read(tmp_path / "m.pt").candidates[0].tensors)


@pytest.mark.parametrize("name", ["ema", "state_dict_ema", "model_ema", "ema_state_dict", "shadow", "averaged_model"])
def test_raw_weights_come_before_an_average_and_each_is_called_what_it_is(tmp_path, name):
    averaged = {key: tensor + 1 for key, tensor in WEIGHTS.items()}
    torch.save({name: averaged, "state_dict": WEIGHTS}, tmp_path / "m.pt")
    raw, average = read(tmp_path / "m.pt").candidates
    assert (raw.is_average, average.is_average) == (False, True)
    assert holds_weights(raw.tensors)
    assert torch.equal(average.tensors["head.bias"], averaged["head.bias"])


def test_weights_that_lightnings_weight_averaging_keeps_aside_are_the_raw_ones(tmp_path):
    """It writes the average under `state_dict`, and what was trained under `current_model_state`."""
    averaged = {key: tensor + 1 for key, tensor in WEIGHTS.items()}
    state = {"n_averaged": torch.tensor(3)}
    content = {"state_dict": averaged, "current_model_state": WEIGHTS, "averaging_state": state}
    torch.save(content, tmp_path / "m.ckpt")
    raw, average = read(tmp_path / "m.ckpt").candidates
    assert holds_weights(raw.tensors)
    assert (raw.is_average, average.is_average) == (False, True)


ARRAYS = {key: tensor.numpy() for key, tensor in WEIGHTS.items()}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_plain_pickle_of_arrays_is_read_and_nothing_that_it_names_is_called(tmp_path, protocol):
    content = {"model": collections.OrderedDict(ARRAYS), "epoch": 3, "hook": functools.partial(max, 1)}
    content["big-endian"] = {"x": ARRAYS["head.bias"].astype(">f8"), "turned": np.asfortranarray(ARRAYS["head.weight"])}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(content, protocol))
    checkpoint = read(tmp_path / "m.pkl")
    first, second = checkpoint.candidates
    assert holds_weights(first.tensors)
    assert torch.equal(second.tensors["x"], WEIGHTS["head.bias"].double())
    assert torch.equal(second.tensors["turned"], WEIGHTS["head.weight"])
    assert checkpoint.metadata == {"epoch": 3}


def test_a_plain_pickle_of_modules_names_its_classes_and_is_converted_on_the_users_word(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": torch.nn.Linear(2, 1)}))
    with pytest.raises(NeedsCodeError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read(tmp_path / "m.pkl")
    [file] = convert(tmp_path / "m.pkl").files
    assert read(file).candidates[0].tensors.keys() == {"weight", "bias"}


AVERAGE = {key: tensor + 1 for key, tensor in WEIGHTS.items()}


@pytest.mark.parametrize(
    "beside",
    [
        {"callbacks": {"EMACallback{'decay': 0.9}": {"ema_state_dict": AVERAGE, "decay": torch.tensor(0.9)}}},
        {"optim_ema": AVERAGE, "optimizer": {"state": {}, "param_groups": []}},
        {"polyak": AVERAGE},
        {"emaModel": AVERAGE},
        {"modelEMA": [AVERAGE]},
        {"best": {"n_averaged": torch.tensor(3)} | AVERAGE},
        {"callbacks": {"StochasticWeightAveraging": {"average_model_state": AVERAGE}}},
    ],
    ids=["callback", "optim_ema", "polyak", "camel", "list", "AveragedModel", "swa callback"],
)
def test_an_average_is_found_wherever_a_training_keeps_it(tmp_path, beside):
    torch.save({"state_dict": WEIGHTS} | beside, tmp_path / "m.pt")
    raw, average = [one for one in read(tmp_path / "m.pt").candidates if "head.bias" in one.tensors]
    assert (raw.is_average, average.is_average) == (False, True)
    assert torch.equal(average.tensors["head.bias"], AVERAGE["head.bias"])


def test_what_optimizers_average_is_no_average_of_weights(tmp_path):
    moments = {"state": {"exp_avg": AVERAGE}, "param_groups": []}
    torch.save({"model": WEIGHTS, "adam": moments, "optimizer": {"exp_avg": AVERAGE}}, tmp_path / "m.pt")
    assert [one.place for one in read(tmp_path / "m.pt").candidates] == ["model"]


@pytest.mark.parametrize(
    "content",
    [list(WEIGHTS.items()), tuple(WEIGHTS.items()), [WEIGHTS, {"epoch": 1}], ({"model": WEIGHTS},),
     {key: tensor.numpy() for key, tensor in WEIGHTS.items()}],
    ids=["pairs", "tuple", "state dict in a list", "nested", "arrays"],
)  # fmt: skip
def test_state_dicts_in_lists_and_of_arrays_are_read(tmp_path, content):
    torch.save(content, tmp_path / "m.pt")
    assert any(holds_weights(one.tensors) for one in read(tmp_path / "m.pt").candidates)


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_types_of_the_standard_library_are_harmless_whatever_they_hold(tmp_path, options):
    beside = {
        "history": collections.defaultdict(list, {"loss": [1.0]}), "last": collections.deque([1, 2], maxlen=3),
        "day": datetime.date(2026, 11, 28), "zone": datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC),
        "frozen": frozenset({"head"}), "steps": range(10**12), "args": argparse.Namespace(type=int, lr=0.5),
    }  # fmt: skip
    torch.save({"state_dict": WEIGHTS} | beside, tmp_path / "m.pt", **options)
    checkpoint = read(tmp_path / "m.pt")
    assert holds_weights(checkpoint.candidates[0].tensors)
    assert checkpoint.metadata["lr"] == 0.5


@pytest.mark.parametrize(
    "content",
    [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]}, {"optimizer": {}, "epoch": 3}],
    ids=["optimizer", "nested"],
)
def test_an_optimizer_is_known_by_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / "m_opt.pt")
    with pytest.raises(NoWeightsError, match="the state of a training, without weights"):
        read(tmp_path / "m_opt.pt")


def test_safetensors_that_say_so_are_an_average(tmp_path):
    for weights in ("ema", "raw", "heavy"):
        checkpoint = read(save(WEIGHTS, tmp_path / f"{weights}.safetensors", {"weights": weights}))
        assert checkpoint.candidates[0].is_average is (weights == "ema")
        assert checkpoint.metadata == ({"weights": "heavy"} if weights == "heavy" else {})


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_harmless_globals_are_allowed_and_their_values_become_metadata(tmp_path, options):
    beside = {
        "more": types.SimpleNamespace(seed=7),
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
    assert holds_weights(checkpoint.candidates[0].tensors)
    assert checkpoint.metadata == {
        "seed": 7, "lr": 0.001, "name": "run 7", "best": 0.75, "step": 12, "flag": True, "small": 0.5, "epoch": 4,
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
    assert {tensor.device.type for tensor in read(tmp_path / "m.pt").candidates[0].tensors.values()} == {"cpu"}


def test_parameters_and_transposed_tensors_are_read_as_they_are(tmp_path):
    matrix = torch.arange(6.0).reshape(2, 3)
    torch.save({"w": torch.nn.Parameter(matrix), "t": matrix.T}, tmp_path / "m.pt")
    [found] = [one.tensors for one in read(tmp_path / "m.pt").candidates]
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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.onnx", b"\x08\x07\x12\x04pytorch", "of no known format; expected a checkpoint"),
        ("m.pt", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), r"HDF5 \(Keras, TensorFlow\)"),
        ("m.gguf", b"GGUF" + bytes(64), "GGUF; expected a checkpoint with weights"),
        ("m.txt", b"lr 0.1", "text; expected a checkpoint"),
        ("m.pt", b"", "the file is empty"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_what_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / name)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_program_is_refused_with_the_way_to_its_weights(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "m.pt"))
    with pytest.raises(CheckpointError, match=r"a TorchScript archive.*torch\.jit\.load"):
        read(tmp_path / "m.pt")


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state_0.pth", "scaler.pt"])
def test_what_a_training_keeps_beside_its_weights_is_no_checkpoint(tmp_path, name):
    assert kind_of(save(WEIGHTS, tmp_path / name)) is Kind.STATE


@pytest.mark.parametrize("name", ["optimized.pt", "config_3.pt", "random_2.pt", "loop_1.pt", "m_optim.pt"])
def test_names_that_only_sound_like_it_are_looked_into(tmp_path, name):
    assert kind_of(save(WEIGHTS, tmp_path / name)) is Kind.PICKLE


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.pth.tar", "a"),
        ("lr0.0005", "lr0.0005"),
        ("ft.v2.pt", "ft.v2"),
        (".pt", ".pt"),
        ("epoch=3.ckpt", "epoch=3"),
        ("A.PT", "A"),
        ("a.Pth.TAR", "a"),
    ],
)
def test_only_known_suffixes_are_taken_off_a_name(name, stem):
    assert without_suffix(name) == stem


# Folders and shards


@pytest.mark.parametrize("kind", ["safetensors", "bin", "sharded", "both"])
def test_a_folder_with_one_checkpoint_stands_for_it(tmp_path, kind):
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    for beside in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
        save({"state": torch.ones(1)}, folder / beside)
    (folder / "config.json").write_text("{}")
    (folder / "trainer_state.json").write_text("{}")
    if kind == "sharded":
        sharded(WEIGHTS, folder)
    else:
        names = {"safetensors": ["model.safetensors"], "bin": ["pytorch_model.bin"]}
        for name in names.get(kind, ["model.safetensors", "pytorch_model.bin"]):
            save(WEIGHTS, folder / name)
    assert len(checkpoints_in(folder)) == 1
    assert holds_weights(read(folder).candidates[0].tensors)


def test_a_folder_with_several_checkpoints_names_them(tmp_path):
    save(WEIGHTS, tmp_path / "a.pt")
    save(WEIGHTS, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints \(a\.pt, b\.pt\); expected a file, or a folder"):
        read(tmp_path)


def test_chunks_without_their_metadata_are_refused_with_the_remedy(tmp_path):
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"without their \.metadata; .*Copy the whole folder"):
        read(tmp_path)


@pytest.mark.parametrize("stage", ["model", "optim"])
def test_shards_of_zero_are_refused_with_what_gathers_them(tmp_path, stage):
    file = save({"x": torch.ones(1)}, tmp_path / f"zero_pp_rank_0_mp_rank_00_{stage}_states.pt")
    for path in (file, tmp_path):
        with pytest.raises(CheckpointError, match=r"ZeRO.*zero_to_fp32\.py"):
            read(path)


def test_an_index_of_something_else_is_no_index_of_shards(tmp_path):
    (tmp_path / "search.index.json").write_text('{"documents": []}')
    save(WEIGHTS, tmp_path / "m.pt")
    assert kind_of(tmp_path / "search.index.json") is Kind.TEXT
    assert checkpoints_in(tmp_path) == [tmp_path / "m.pt"]


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_the_index_decides_which_shard_a_key_comes_from(tmp_path, suffix):
    overlay = {"head.weight": WEIGHTS["head.weight"], "head.bias": torch.zeros(2)}
    save(overlay, tmp_path / f"a{suffix}")
    save({"head.bias": WEIGHTS["head.bias"], "head.weight": torch.zeros(2, 3)}, tmp_path / f"b{suffix}")
    index = tmp_path / f"m{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": {"head.weight": f"a{suffix}", "head.bias": f"b{suffix}"}}))
    assert holds_weights(read(index).candidates[0].tensors)


def test_a_key_that_its_shard_lacks_is_named(tmp_path):
    index = sharded(WEIGHTS, tmp_path)
    index.write_text(index.read_text().replace("head.bias", "head.scale"))
    with pytest.raises(CheckpointError, match=r"lacks 'head\.scale', which .*index\.json says is in it"):
        read(index)


@pytest.mark.parametrize("place", ["../secret.safetensors", "/secret.safetensors", "a/../../secret.safetensors"])
def test_an_index_may_not_point_outside_its_folder(tmp_path, place):
    save(WEIGHTS, tmp_path / "secret.safetensors")
    (tmp_path / "in").mkdir()
    index = tmp_path / "in" / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(WEIGHTS, place)}))
    with pytest.raises(CheckpointError, match=r"names '.*secret\.safetensors', outside its folder"):
        read(index)


# Pickles that need more


def unreadable(path, *values):
    torch.save({"model": WEIGHTS, "extra": values}, path)
    return path


def test_a_pickle_that_needs_code_names_the_exact_class_and_a_command_to_paste(tmp_path):
    file = unreadable(tmp_path / "my best.pt", torch.nn.Linear(1, 1), functools.partial(max, 1))
    with pytest.raises(NeedsCodeError) as caught:
        read(file)
    assert caught.value.classes == ["builtins.max", "functools.partial", "torch.nn.modules.linear.Linear"]
    assert f"soupviz convert '{file}' --trust" in NeedsCodeError.remedy_for([file])


def test_a_pickle_of_before_the_zip_format_names_its_class_too(tmp_path):
    torch.save({"model": WEIGHTS, "p": functools.partial(max, 1)}, tmp_path / "m.pt", **LEGACY)
    with pytest.raises(NeedsCodeError, match=r"a pickle that needs functools\.partial"):
        read(tmp_path / "m.pt")


@pytest.mark.parametrize("module", [b"pathlib", b"pathlib._local"])
@pytest.mark.parametrize("kind", [b"PosixPath", b"WindowsPath"])
def test_paths_of_any_system_and_python_are_harmless(tmp_path, module, kind):
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(out=Path("x"), lr=0.5)}, tmp_path / "m.pt", **LEGACY)
    content = (tmp_path / "m.pt").read_bytes()
    own = f"c{type(Path()).__module__}\nPosixPath\n".encode()  # Python 3.13 has moved it
    assert content.count(own) == 1
    changed = content.replace(own, b"c" + module + b"\n" + kind + b"\n")
    (tmp_path / "m.pt").write_bytes(changed)
    assert read(tmp_path / "m.pt").metadata == {"lr": 0.5}


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


def test_files_read_by_many_threads_at_once_are_read_as_by_one(tmp_path):
    file = tmp_path / "m.pt"
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=0.5)}, file)
    start = threading.Barrier(4)

    def read_often(_thread: int) -> int:
        start.wait()
        return sum("args" in pickles.load(file) for _ in range(50))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(read_often, range(4))) == [50] * 4
