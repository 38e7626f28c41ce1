"""Folders that torch.distributed.checkpoint writes: read by chunks, without running what their metadata name."""

import pickle
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kitchens import MLP, build_model, change_yaml, json_of, small_kitchen
from safetensors.torch import load_file
from test_checkpoints import sharded
from test_fuzz import MUTATIONS, SECONDS, no_longer_than
from torch import Tensor
from torch.distributed.checkpoint import metadata as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo

import soupviz as sv
from soupviz.errors import CheckpointError
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.weights.checkpoints import NoWeightsError, read
from soupviz.weights.containers import Kind, checkpoints_in, files_of, kind_of
from soupviz.weights.distributed import _overlapping
from soupviz.weights.ingredients import fingerprint


def saved(state: Mapping[str, Any], folder: Path) -> Path:
    """As a training of one process saves it."""
    from torch.distributed.checkpoint import save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process
        save(dict(state), checkpoint_id=folder, no_dist=True)
    return folder


def chunked(tensors: Mapping[str, Tensor], folder: Path, number: int = 2, prefix: str = "model") -> Path:
    """As a sharded training of several processes saves it: a file for each, with rows of every tensor."""
    folder.mkdir(parents=True)
    whole, storage, paths = {}, {}, {}
    files = [(folder / f"__{rank}_0.distcp").open("wb") for rank in range(number)]
    for key, tensor in tensors.items():
        name, at, chunks = f"{prefix}.{key}", 0, []
        for file, part in zip(files, tensor.chunk(number) if tensor.ndim else [tensor], strict=False):
            offsets = torch.Size([at, *[0] * (tensor.ndim - 1)] if tensor.ndim else [])
            start = file.tell()
            torch.save(part.clone(), file)
            chunks.append(dcp.ChunkStorageMetadata(offsets, part.shape))
            storage[dcp.MetadataIndex(name, offsets)] = _StorageInfo(Path(file.name).name, start, file.tell() - start)
            at += len(part) if part.ndim else 0
        whole[name] = dcp.TensorStorageMetadata(dcp.TensorProperties(dtype=tensor.dtype), tensor.shape, chunks)
        paths[name] = (prefix, key)
    for file in files:
        file.close()
    (folder / ".metadata").write_bytes(pickle.dumps(dcp.Metadata(whole, paths, storage)))
    return folder


def sharded_folder(tensors: Mapping[str, Tensor], folder: Path) -> Path:
    folder.mkdir(parents=True)
    return sharded(dict(tensors), folder)


def trained(dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = build_model(MLP).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 6, dtype=dtype)).sum().backward()
    optimizer.step()
    return model, optimizer


def same(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return fingerprint(tensors) == fingerprint(others)


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_read_and_what_an_optimizer_keeps_is_left(tmp_path, dtype):
    model, optimizer = trained()
    state = {key: tensor.to(dtype) for key, tensor in model.state_dict().items()}
    saved({"model": state, "optimizer": optimizer.state_dict(), "step": 5, "args": {"lr": 0.1}}, tmp_path / "step-5")
    checkpoint = read(tmp_path / "step-5")
    assert [one.place for one in checkpoint.candidates] == ["model"]
    assert same(checkpoint.candidates[0].tensors, state)
    assert checkpoint.metadata["step"] == 5


@pytest.mark.parametrize("wrap", [
    lambda state: state, lambda state: {"model": state}, lambda state: {"app": {"model": state}},
    lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
    lambda state: {"state_dict": {f"net.{key}": tensor for key, tensor in state.items()}},
])  # fmt: skip
def test_wrappers_and_prefixes_are_taken_off_as_of_any_checkpoint(tmp_path, wrap):
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=30)
    for path in tmp_path.glob("m_*.safetensors"):
        saved(wrap(load_file(path)), tmp_path / "runs" / path.stem)
    whole = sv.Kitchen.load(file)
    opened = sv.Kitchen.load(change_yaml(file, lambda document: document.update(ingredients=["runs/*"])))
    assert opened.names == whole.names
    assert [one.fingerprint for one in opened.ingredients] == [one.fingerprint for one in whole.ingredients]


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_tensor_is_put_together_of_its_chunks(tmp_path, number):
    tensors = {
        "a": torch.arange(35.0).reshape(7, 5),
        "b": torch.arange(6),
        "c": torch.tensor(3),
        "d": torch.zeros(0, 4),
    }
    found = read(chunked(tensors, tmp_path / "x", number)).candidates[0]
    assert found.place == "model" and same(found.tensors, tensors)


def test_chunks_along_two_dimensions_go_to_their_places(tmp_path):
    tensor = torch.arange(24.0).reshape(4, 6)
    storage, chunks = {}, []
    with (tmp_path / "__0_0.distcp").open("wb") as file:
        for row in (0, 2):
            for column, width in ((0, 4), (4, 2)):
                start = file.tell()
                part = tensor[row : row + 2, column : column + width].clone()
                torch.save(part, file)
                offsets = torch.Size([row, column])
                chunks.append(dcp.ChunkStorageMetadata(offsets, part.shape))
                storage[dcp.MetadataIndex("w", offsets)] = _StorageInfo("__0_0.distcp", start, file.tell() - start)
    whole = {"w": dcp.TensorStorageMetadata(dcp.TensorProperties(), tensor.shape, chunks)}
    (tmp_path / ".metadata").write_bytes(pickle.dumps(dcp.Metadata(whole, None, storage)))
    assert same(read(tmp_path).candidates[0].tensors, {"w": tensor})


def test_tensors_are_mapped_from_one_file_of_the_cache_that_is_made_once(tmp_path, empty_cache):
    folder = chunked(build_model(MLP).state_dict(), tmp_path / "x")
    first = read(folder).candidates[0].tensors
    [copy] = (empty_cache / "converted").iterdir()
    made = copy.stat().st_mtime_ns
    assert same(read(folder).candidates[0].tensors, first) and copy.stat().st_mtime_ns == made
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(copy))]
    places = [range(*(int(end, 16) for end in line.split()[0].split("-"))) for line in maps]
    assert all(any(tensor.data_ptr() in place for place in places) for tensor in first.values())


def test_a_checkpoint_that_was_written_to_is_read_anew(tmp_path):
    weights = build_model(MLP).state_dict()
    read(saved(weights, tmp_path / "x"))
    saved({key: tensor + 1 for key, tensor in weights.items()}, tmp_path / "x")
    assert same(read(tmp_path / "x").candidates[0].tensors, {key: tensor + 1 for key, tensor in weights.items()})


def test_its_metadata_stand_for_all_that_lies_in_the_folder(tmp_path):
    chunked({"a": torch.ones(4)}, tmp_path / "x")
    torch.save({"epoch": 3, "w": torch.ones(2)}, tmp_path / "x" / "meta.pt")
    assert checkpoints_in(tmp_path / "x") == [tmp_path / "x" / ".metadata"]
    assert [path.name for path in files_of(tmp_path / "x" / ".metadata")] == [
        ".metadata", "__0_0.distcp", "__1_0.distcp",
    ]  # fmt: skip
    assert kind_of(tmp_path / "x" / "__0_0.distcp") is Kind.CHUNKS


def test_a_checkpoint_of_an_optimizer_alone_holds_no_weights(tmp_path):
    _, optimizer = trained()
    with pytest.raises(NoWeightsError, match="the state of a training, without weights"):
        read(saved({"optimizer": optimizer.state_dict()}, tmp_path / "x"))


# What is wrong with one


class Evil:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_metadata_that_name_anything_else_are_refused_and_nothing_of_it_is_run(tmp_path):
    folder = chunked({"a": torch.ones(4)}, tmp_path / "x")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    (folder / ".metadata").write_bytes(pickle.dumps(replace(metadata, storage_meta=Evil(tmp_path / "ran"))))
    with pytest.raises(CheckpointError, match=r"names .*expected what torch\.distributed\.checkpoint writes"):
        read(folder)
    assert not (tmp_path / "ran").exists()


def test_a_chunk_that_needs_code_is_refused_and_nothing_of_it_is_run(tmp_path):
    folder = chunked({"a": torch.ones(4)}, tmp_path / "x", number=1)
    torch.save(Evil(tmp_path / "ran"), folder / "__0_0.distcp")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    [info] = metadata.storage_data.values()
    info.length = (folder / "__0_0.distcp").stat().st_size
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match=r"__0_0\.distcp: the chunk of model\.a at \(0,\) cannot be read"):
        read(folder)
    assert not (tmp_path / "ran").exists()


def changed(folder: Path, change: Any) -> Path:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def outside(metadata: Any) -> None:
    next(iter(metadata.storage_data.values())).relative_path = "../secret.distcp"


def fewer(metadata: Any) -> None:
    metadata.state_dict_metadata["model.a"].chunks.pop()


def shifted(metadata: Any) -> None:
    metadata.state_dict_metadata["model.a"].size = torch.Size([3])


def overlapping(metadata: Any) -> None:
    """As many elements as before, one of them in both chunks, and one in none."""
    one = metadata.state_dict_metadata["model.a"]
    second = one.chunks[1]
    moved = dcp.ChunkStorageMetadata(torch.Size([second.offsets[0] - 1]), second.sizes)
    metadata.storage_data[dcp.MetadataIndex("model.a", moved.offsets)] = metadata.storage_data.pop(
        dcp.MetadataIndex("model.a", second.offsets)
    )
    one.chunks[1] = moved


def inside_out(metadata: Any) -> None:
    metadata.state_dict_metadata["model.a"].chunks[0].sizes = torch.Size([-2])


def otherwise_called(metadata: Any) -> None:
    next(iter(metadata.storage_data.values())).relative_path = "x.bin"


def below(metadata: Any) -> None:
    next(iter(metadata.storage_data.values())).relative_path = "sub/__0_0.distcp"


def long_name(metadata: Any) -> None:
    next(iter(metadata.storage_data.values())).relative_path = "x" * 100_000


def compressed(metadata: Any) -> None:
    next(iter(metadata.storage_data.values())).transform_descriptors = ["zstd"]


def other_place(metadata: Any) -> None:
    next(iter(metadata.storage_data.values())).offset += 7


def other_dtype(metadata: Any) -> None:
    metadata.state_dict_metadata["model.a"].properties.dtype = torch.float64


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (outside, r"names chunks in '\.\./secret\.distcp'; expected files in its own"),
        (otherwise_called, r"names chunks in 'x\.bin'; expected .* \*\.distcp"),
        (below, r"names chunks in 'sub/__0_0\.distcp'"), (long_name, "names chunks in 'x{299}…; expected"),
        (overlapping, r"the chunks of model\.a at \(0,\) and \(1,\) overlap"),
        (inside_out, r"a chunk of model\.a at \(0,\) of shape \(-2,\) lies outside"),
        (fewer, "do not make up its shape"),
        (shifted, r"a chunk of model\.a at .* lies outside \(3,\)"), (compressed, r"model\.a is stored with zstd"),
        (other_place, r"__0_0\.distcp: the chunk of model\.a at \(0,\) cannot be read"),
        (other_dtype, r"holds torch\.float32 of shape .*expected torch\.float64"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_with_its_place(tmp_path, change, told):
    folder = changed(chunked({"a": torch.ones(4)}, tmp_path / "x"), change)
    with pytest.raises(CheckpointError, match=told):
        read(folder)


@pytest.mark.parametrize(("boxes", "expected"), [
    ([((0, 0), (2, 4)), ((2, 0), (4, 4))], None),
    ([((0, 0), (4, 2)), ((0, 2), (4, 4))], None),
    ([((0, 0), (2, 2)), ((0, 2), (2, 4)), ((2, 0), (4, 3)), ((1, 2), (3, 4))], ((0, 2), (1, 2))),
    ([((0, 0), (4, 3)), ((0, 2), (4, 4))], ((0, 0), (0, 2))),
    ([((0, 1), (1, 9)), ((0, 0), (9, 1)), ((1, 1), (9, 9))], None),
    ([((), ())], None), ([], None),
])  # fmt: skip
def test_chunks_that_overlap_are_found_along_any_dimension(boxes, expected):
    assert _overlapping(boxes) == expected


def test_many_chunks_are_looked_at_in_no_time():
    """As of a thousand processes: each is compared with its neighbours, not with all others."""
    start = time.perf_counter()
    for _ in range(20):
        assert _overlapping([((0, at), (8, at + 1)) for at in range(1024)]) is None
    assert time.perf_counter() - start < 2


def test_names_in_metadata_that_are_refused_are_told_shortened(tmp_path):
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    (tmp_path / ".metadata").write_bytes(b"c" + b"m" * 100_000 + b"\nname\n.")
    with pytest.raises(CheckpointError) as told:
        read(tmp_path)
    assert len(str(told.value)) < 1000


def test_a_missing_file_of_chunks_is_named(tmp_path):
    folder = chunked({"a": torch.ones(4)}, tmp_path / "x")
    (folder / "__1_0.distcp").unlink()
    with pytest.raises(CheckpointError, match=r"__1_0\.distcp: .*No such file.*Copy it again"):
        read(folder)


@pytest.mark.parametrize("cut", [0, 1, 40, 400])
def test_cut_metadata_are_refused(tmp_path, cut):
    folder = chunked({"a": torch.ones(4)}, tmp_path / "x")
    content = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(content[:cut])
    with pytest.raises(CheckpointError, match="not the metadata of a distributed checkpoint"):
        read(folder)


def test_a_disk_without_room_for_what_is_put_together_is_told_with_sizes(tmp_path, empty_cache, monkeypatch):
    folder = chunked({"a": torch.ones(4)}, tmp_path / "x")
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: type("Usage", (), {"free": 1}))
    with pytest.raises(CheckpointError, match=r"takes 0\.00 GB, and 0\.00 GB are free.*SOUPVIZ_CACHE"):
        read(folder)


# The whole journey


@pytest.mark.parametrize("write", [chunked, sharded_folder])
def test_a_soup_of_divided_checkpoints_is_cooked_written_in_shards_baked_and_loaded_back(tmp_path, capsys, write):
    file = small_kitchen(tmp_path / "kitchen", num_ingredients=3, num_examples=60)
    whole = [item.fingerprint for item in sv.Kitchen.load(file).ingredients]
    for path in (tmp_path / "kitchen").glob("m_*.safetensors"):
        write(load_file(path), tmp_path / "kitchen" / "runs" / path.stem)
        path.unlink()
    change_yaml(file, lambda document: document.update(ingredients=["runs/*"]))
    assert [item.fingerprint for item in sv.Kitchen.load(file).ingredients] == whole
    assert set(json_of(capsys, "score", file)["ingredients"]) == {"m_0", "m_1", "m_2"}
    soup = tmp_path / "soup.safetensors"
    json_of(capsys, "soup", file, "--recipe", "greedy", "--out", soup, "--shard-size", "300B")
    index = tmp_path / "soup.safetensors.index.json"
    told = json_of(capsys, "bake", index, "--out", tmp_path / "baked.safetensors")
    assert told["is_checked"]
    record, kitchen = read_record(index), sv.Kitchen.load(file)
    assert record.fingerprint == fingerprint(load_file(tmp_path / "baked.safetensors"))
    assert restore(kitchen, record, index).notes == {}


TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

rank, folder, port = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
whole = {"0.weight": torch.arange(15.0).reshape(5, 3), "0.bias": torch.arange(5.0), "steps": torch.tensor(7)}
state = {key: distribute_tensor(t, mesh, [Shard(0)]) if t.ndim else t for key, t in whole.items()}
dcp.save({"model": state, "epoch": 3}, checkpoint_id=folder)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_what_two_processes_have_saved_of_sharded_tensors_is_whole(tmp_path):
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    command = [sys.executable, str(tmp_path / "two.py")]
    started = [subprocess.Popen([*command, str(rank), str(tmp_path / "x"), str(port)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    assert len(files_of(tmp_path / "x" / ".metadata")) == 3
    checkpoint = read(tmp_path / "x")
    expected = {"0.weight": torch.arange(15.0).reshape(5, 3), "0.bias": torch.arange(5.0), "steps": torch.tensor(7)}
    assert same(checkpoint.candidates[0].tensors, expected) and checkpoint.metadata["epoch"] == 3


@pytest.mark.parametrize(
    "numbers", [range(60), pytest.param(range(60, 2000), marks=pytest.mark.slow)], ids=["60", "1940"]
)
def test_whatever_is_damaged_is_refused_in_a_sentence_or_read(tmp_path, numbers):
    whole = chunked(build_model(MLP).state_dict(), tmp_path / "whole")
    originals = {path.name: path.read_bytes() for path in whole.iterdir()}
    for number in numbers:
        folder = tmp_path / f"x{number}"
        folder.mkdir()
        chance = random.Random(number)
        name = ".metadata" if number % 3 else "__0_0.distcp"
        mutation = chance.choice(MUTATIONS)
        damaged = originals | {name: bytes(mutation(bytearray(originals[name]), chance))}
        for file, content in damaged.items():
            (folder / file).write_bytes(content)
        try:
            with no_longer_than(SECONDS):
                checkpoint = read(folder)
                [fingerprint(one.tensors) for one in checkpoint.candidates]
        except CheckpointError:
            continue
        except BaseException as error:
            raise AssertionError(f"number {number}, {name}, {mutation.__name__}: {error!r}") from error
