"""Soups are written as they are mixed, in formats that every loader reads."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from soupviz.weights.checkpoints import read
from soupviz.weights.writing import DTYPE_NAMES, write

WEIGHTS = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.tensor([0.5, -0.5])}


def holds_weights(tensors) -> bool:
    return tensors.keys() == WEIGHTS.keys() and all(torch.equal(tensors[key], WEIGHTS[key]) for key in WEIGHTS)


def written(tensors: dict[str, Tensor], path) -> dict[str, Tensor]:
    write(tensors.items(), tensors, path, "record", path.suffix)
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def test_a_written_pt_soup_loads_in_plain_pytorch_and_carries_its_record(tmp_path):
    loaded = written(WEIGHTS, tmp_path / "soup.pt")
    assert holds_weights(loaded)
    model = torch.nn.Sequential()
    model.add_module("head", torch.nn.Linear(3, 2))
    model.load_state_dict(loaded, strict=True)
    assert read(tmp_path / "soup.pt").soup == "record"


def test_a_written_safetensors_soup_loads_in_plain_safetensors_and_carries_its_record(tmp_path):
    assert holds_weights(written(WEIGHTS, tmp_path / "soup.safetensors"))
    assert read(tmp_path / "soup.safetensors").soup == "record"


@pytest.mark.parametrize("dtype", DTYPE_NAMES, ids=str)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype):
    """Also a scalar, an empty tensor, and one whose memory is not contiguous."""
    matrix = torch.arange(12).reshape(3, 4).to(dtype)
    tensors = {"whole": matrix, "turned": matrix.T, "scalar": matrix[1, 1], "empty": matrix[:0]}
    found = written(tensors, tmp_path / "soup.safetensors")
    for key, tensor in tensors.items():
        assert (found[key].dtype, found[key].shape) == (dtype, tensor.shape)
        assert found[key].tolist() == tensor.tolist()


def test_tied_tensors_are_written_under_each_of_their_names(tmp_path):
    tensor = torch.arange(4.0)
    assert set(written({"a": tensor, "b": tensor}, tmp_path / "soup.safetensors")) == {"a", "b"}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_writing_leaves_nothing_but_the_file(tmp_path, suffix):
    written(WEIGHTS, tmp_path / f"soup{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"soup{suffix}"]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_an_error_of_the_writer_is_raised_where_the_soup_is_mixed():
    big = torch.zeros(1_000_000)
    with pytest.raises(OSError, match="No space left"):
        write(
            [("a", big), ("b", big), ("c", big)],
            {"a": big, "b": big, "c": big},
            Path("/dev/full"),
            "record",
            ".safetensors",
        )


MEASURED = """
import sys
from pathlib import Path
import torch
from soupviz.weights.ingredients import Ingredient
from soupviz.mixing import averaging
from soupviz.weights import checkpoints, writing

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

files = sorted(Path(sys.argv[1]).glob("m_*.safetensors"))
items = [(Ingredient(f.stem, f, checkpoints.read(f).candidates[0].tensors, f.stem), 1 / len(files)) for f in files]
like = items[0][0].tensors
before = peak = anonymous()

def watched():
    global peak
    for item in averaging.mix_tensors(items):
        peak = max(peak, anonymous())
        yield item

writing.write(watched(), like, Path(sys.argv[1], "soup.safetensors"), "record", ".safetensors")
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
def test_a_soup_is_written_in_the_memory_of_a_few_tensors_however_many_ingredients(tmp_path):
    """160 MB a checkpoint in tensors of 8 MB: measured in a process of its own, for 2 and for 8 of them."""
    generator = torch.Generator().manual_seed(0)
    base = {f"{index}": torch.randn(2_000_000, generator=generator) for index in range(20)}
    peaks = []
    for number in (2, 8):
        for index in range(number):
            save_file({key: tensor + index for key, tensor in base.items()}, tmp_path / f"m_{index}.safetensors")
        command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path)]
        # Freed tensors go back to the system at once, so that what is measured is what is held.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout))
    assert max(peaks) < 80
