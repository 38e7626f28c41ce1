"""Memory stays that of one checkpoint, whatever the number of ingredients; and results are those of whole tensors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from large_checkpoints import FORMS, large_kitchen
from torch import Tensor

from soupviz.errors import ExportError
from soupviz.mixing import merging
from soupviz.mixing.pieces import as_float, difference, norms_and_cosines
from soupviz.mixing.trimming import largest
from soupviz.models.architecture import Architecture
from soupviz.weights import scratch
from soupviz.weights.scratch import PIECE

SUM = ("uniform", "greedy", "export", "export_sharded", "export_pt", "bake")
FORMULAS = ("task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock", "karcher", "slerp")
LOOKED_AT = ("geometry", "inspect")
LEARNED = ("fisher", "regmean", "learned", "learned_by_layer")
MB = 10**6


def peaks(folder: Path, cache: Path, *actions: str) -> dict[str, int]:
    """Of each action in a process of its own, what it takes beside what it had at its start."""
    command = [sys.executable, str(Path(__file__).with_name("large_checkpoints.py")), str(folder), *actions]
    environment = os.environ | {"SOUPVIZ_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    start = found.pop("start")
    return {name: peak - start for name, peak in found.items()}


@pytest.mark.slow
def test_work_on_many_ingredients_takes_the_memory_of_one(tmp_path):
    """Of 24 checkpoints of 10 MB, nearly all of it one tensor: all of them as float32 differences would be 240 MB."""
    folder = tmp_path / "kitchen"
    large_kitchen(folder, 24, width=1000, depth=0, rows=2500)
    size = (folder / "m_1.safetensors").stat().st_size
    found = peaks(folder, tmp_path / "cache", "model_stock", "ties", "export", "export_pt", "bake", "fisher")
    assert {name: peak // MB for name, peak in found.items() if peak > allowed(name, size)} == {}


def allowed(action: str, size: int) -> int:
    """Bytes beside what PyTorch alone has before anything is opened, which is about 300 of 500 MB."""
    return (3 if action in LEARNED else 1) * size + 200 * MB


@pytest.mark.slow
@pytest.mark.parametrize("action", ["open", *SUM, *LOOKED_AT, *FORMULAS, *LEARNED])
def test_work_on_24_checkpoints_of_500_mb_takes_one_of_them_and_500_mb(tmp_path, action):
    """What needs gradients takes three."""
    folder = tmp_path / "kitchen"
    large_kitchen(folder, 24, width=2500, depth=18, rows=5000)
    size = (folder / "m_1.safetensors").stat().st_size
    actions = {"open": (), "bake": ("export", "bake")}.get(action, (action,))
    found = peaks(folder, tmp_path / "cache", *actions)
    assert found[action] <= allowed(action, size)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_in_parts_are_never_whole_in_memory(tmp_path, form):
    """Three of 250 MB each, of which the model itself is one."""
    folder = tmp_path / "kitchen"
    large_kitchen(folder, 2, width=2500, depth=8, rows=5000, form=form)
    size = (folder / "base.safetensors").stat().st_size
    found = peaks(folder, tmp_path / "cache", "uniform", "export")
    assert {name: peak // MB for name, peak in found.items() if peak > allowed(name, size)} == {}


@pytest.mark.slow
def test_regmean_holds_no_more_than_a_few_layers_beside_the_model(tmp_path):
    """Of 18 layers of 6 MB each, of which each has a Gram matrix as large."""
    folder = tmp_path / "kitchen"
    large_kitchen(folder, 3, width=1200, depth=18)
    found = peaks(folder, tmp_path / "cache", "regmean")
    assert found["regmean"] < (folder / "m_1.safetensors").stat().st_size + 200 * MB


# Pieces give what whole tensors give


def tensors(shape: tuple[int, ...], number: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(number)
    base = torch.randn(shape, generator=generator)
    # Rounded, so that many magnitudes are equal, and some differences are 0.
    found = [((base + torch.randn(shape, generator=generator)) * 8).round() / 8 for _ in range(number)]
    return ((base * 8).round() / 8).to(dtype), [one.to(dtype) for one in found]


def kept_of(magnitudes: Tensor, count: int) -> Tensor:
    """By a stable sort."""
    order = magnitudes.sort(descending=True, stable=True).indices
    return torch.zeros_like(magnitudes, dtype=torch.bool).index_fill_(0, order[:count], True)


@pytest.mark.parametrize("size", [1, 5, 1000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 17])
def test_the_largest_of_a_vector_are_those_of_a_sort_of_equals_the_earlier(size):
    base, [tensor] = tensors((size,), 1)
    counts = [0, 1, size // 5, size // 2, size - 1, size]
    vector = difference(tensor, base)
    expected = (tensor - base).abs()
    for one, count in zip(largest(vector, size, counts), counts, strict=True):
        parts = [one.of(vector(slice(at, at + PIECE)).abs()) for at in range(0, size, PIECE)]
        assert torch.equal(torch.cat(parts), kept_of(expected, count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("number", [1, 3, 9, 30])
def test_ties_by_pieces_is_ties_of_whole_tensors_bit_for_bit(number, dtype):
    shape = (PIECE // 700 + 3, 1501)
    base, ends = tensors(shape, number, dtype) if number < 9 else tensors((97, 101), number, dtype)
    shares = [1 / number] * number
    found = merging.ties(base, ends, shares, density=0.3, scale=0.7)
    vectors = [end.float() - base.float() for end in ends]
    trimmed = [v * kept_of(v.abs().flatten(), int(0.3 * v.numel())).view(v.shape) for v in vectors]
    exact = torch.tensor(shares, dtype=torch.float32).tolist()
    signs = sum((vector.double() * weight for vector, weight in zip(trimmed, exact, strict=True))).sign().float()
    total, agreeing = torch.zeros_like(signs), torch.zeros_like(signs)
    for vector, weight in zip(trimmed, exact, strict=True):
        agrees = vector.sign() == signs
        total.add_(vector * agrees, alpha=weight)
        agreeing.add_(agrees, alpha=weight)
    mean = total / agreeing.masked_fill(agreeing == 0, 1.0)
    assert torch.equal(found, mean * 0.7 + base.float())


def test_dares_masks_are_drawn_as_for_whole_tensors():
    base, ends = tensors((PIECE + 1000,), 2)
    found = merging.dare(base, ends, [0.5, 0.5], density=0.4, scale=1.0, generator_seed=7)
    generator = torch.Generator().manual_seed(7)
    total = torch.zeros_like(base)
    for end in ends:
        total.add_((end - base) * (torch.rand(base.shape, generator=generator) < 0.4), alpha=0.5 / 0.4)
    assert torch.equal(found, total + base)


@pytest.mark.parametrize("number", [2, 24, 60])
def test_norms_and_cosines_are_those_of_whole_vectors(number):
    _, ends = tensors((PIECE // 4 + 11,), number)
    norms, cosines = norms_and_cosines([as_float(end) for end in ends], ends[0].numel())
    rows = torch.stack(ends).double()
    assert torch.allclose(norms, rows.norm(dim=1), rtol=1e-13)
    assert torch.allclose(cosines, torch.corrcoef(rows) * 0 + (rows @ rows.T) / norms.outer(norms), atol=1e-13)


# A model is in memory once


def test_the_skeleton_of_a_model_is_made_without_a_second_model():
    built = []

    def build() -> torch.nn.Module:
        built.append(1)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))

    model = build()
    architecture = Architecture(model, build)
    state = {key: tensor + 1 for key, tensor in model.state_dict().items()}
    held = architecture.load(state).held
    assert built == [1] and all(torch.equal(held[key], state[key]) for key in state)
    assert all(not tensor.is_meta for tensor in model.state_dict().values())


def test_a_model_that_cannot_be_copied_is_built_once_more():
    class Fixed(torch.nn.Linear):
        def __deepcopy__(self, memo: object) -> torch.nn.Module:
            raise RuntimeError("cannot be copied")

    architecture = Architecture(Fixed(2, 2), lambda: Fixed(2, 2))
    state = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    assert architecture.load(state).held["weight"] is not None


# What is set down


def test_what_is_set_down_is_equal_and_can_be_written_to():
    tensor = torch.arange(100_000.0).reshape(100, 1000)
    kept = scratch.set_down(tensor)
    assert torch.equal(kept, tensor)
    kept += 1
    assert torch.equal(kept, tensor + 1) and kept.data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize("shape", [(), (0, 5), (3,), (70_000,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_zeros_are_set_down_in_any_shape_and_dtype(shape, dtype):
    found = scratch.zeros(torch.Size(shape), dtype)
    assert found.shape == shape and found.dtype == dtype and not found.any()


def test_files_that_are_set_down_leave_nothing_behind(empty_cache):
    kept = scratch.set_down(torch.ones(100_000))
    assert kept.sum() == 100_000 and list((empty_cache / "scratch").iterdir()) == []


def test_a_disk_without_room_is_told_with_sizes(monkeypatch):
    def full(_file: int, _start: int, _length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ExportError, match=r"4 MB of what is worked on cannot be set down \(No space.*SOUPVIZ_CACHE"):
        scratch.zeros(torch.Size([10**6]))


def test_tensors_that_are_made_one_after_another_are_not_in_memory_together(tmp_path):
    """Freed between smaller things, the memory of one would not be given back, nor be room for the next."""
    code = f"""
import json, sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from large_checkpoints import watched
from soupviz.weights.scratch import room
from soupviz.weights.writing import write
torch.set_num_threads(1)
shape, peaks = torch.Size([2000, 2500]), {{}}
like = {{str(at): torch.empty(shape, device="meta") for at in range(20)}}
for suffix in (".safetensors", ".pt"):
    peaks["start"] = 0
    with watched(peaks, "start"):
        pass
    with watched(peaks, suffix):
        made = ((key, room(shape, torch.float32).add_(1)) for key in like)
        write(made, like, Path({str(tmp_path)!r}) / ("soup" + suffix), "{{}}", suffix)
    peaks[suffix] -= peaks["start"]
print(json.dumps(peaks))
"""
    environment = os.environ | {"SOUPVIZ_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert max(found[".safetensors"], found[".pt"]) < 5 * 20 * MB  # of 400 MB
