"""Damaged files are read, or refused in a sentence: never another exception, a hang or a crash."""

import json
import pickle
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from kitchens import MLP, build_model, perturbed, save, small_kitchen

from soupviz.errors import SoupError
from soupviz.models.architecture import Architecture
from soupviz.weights.checkpoints import read
from soupviz.weights.containers import shards_of
from soupviz.weights.fitting import fit
from soupviz.weights.ingredients import check_against_model, fingerprint
from soupviz.yaml_file import read_kitchen_file

SECONDS = 20
"""That one file may take, on a loaded machine."""


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    def stop(*_seen: object) -> None:
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def flipped(content: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def flipped_in_the_header(content: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice([1, 2, 4])):
        content[chance.randrange(min(200, len(content)))] = chance.randrange(256)
    return content


def cut(content: bytearray, chance: random.Random) -> bytearray:
    return content[: chance.randrange(len(content))]


def repeated(content: bytearray, chance: random.Random) -> bytearray:
    start = chance.randrange(len(content))
    return content[:start] + content[start : start + 64] * chance.choice([2, 50]) + content[start:]


def swapped(content: bytearray, chance: random.Random) -> bytearray:
    """The start of one half where the other's was."""
    at = chance.randrange(1, len(content))
    return content[at:] + content[:at]


def zeroed(content: bytearray, chance: random.Random) -> bytearray:
    start = chance.randrange(len(content))
    content[start : start + 32] = bytes(len(content[start : start + 32]))
    return content


MUTATIONS = (flipped, flipped_in_the_header, cut, repeated, swapped, zeroed)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    state = perturbed(build_model(MLP).state_dict(), 0.1, 1)
    save(state, folder / "m.safetensors", {"lr": "0.1"})
    torch.save({"epoch": 3, "state_dict": state, "args": {"lr": 0.1}}, folder / "m.pt")
    torch.save({"epoch": 3, "state_dict": state}, folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "plain.pkl").write_bytes(pickle.dumps({key: tensor.numpy() for key, tensor in state.items()}))
    index = {"metadata": {"total_size": 9}, "weight_map": dict.fromkeys(state, "m.safetensors")}
    (folder / "m.safetensors.index.json").write_text(json.dumps(index))
    kitchen = small_kitchen(folder / "kitchen", num_ingredients=1)
    full = yaml.safe_load(kitchen.read_text()) | {"classes": ["a", "b", "c"], "weights": "raw", "batch_size": 64}
    (folder / "kitchen.yaml").write_text(yaml.safe_dump(full))
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def read_all_of(path: Path, architecture: Architecture) -> None:
    """As opening a kitchen does, to the last byte."""
    if path.suffix == ".yaml":
        read_kitchen_file(path)
        return
    checkpoint = read(path)
    if path.name.endswith(".json"):
        shards_of(path)
    fitted = fit(checkpoint, architecture)
    check_against_model(fitted.tensors, architecture.state, architecture.ties)
    fingerprint(fitted.tensors)


def mutate(folder: Path, originals: dict[str, bytes], number: int, architecture: Architecture) -> bool:
    """Read one damaged file; whether it could be read."""
    chance = random.Random(number)
    name = sorted(originals)[number % len(originals)]
    mutation = chance.choice(MUTATIONS)
    path = folder / name
    path.write_bytes(bytes(mutation(bytearray(originals[name]), chance)))
    if name != "m.safetensors":
        (folder / "m.safetensors").write_bytes(originals["m.safetensors"])
    try:
        with no_longer_than(SECONDS):
            read_all_of(path, architecture)
    except SoupError:
        return False
    except BaseException as error:
        raise AssertionError(
            f"number {number}, {name}, {mutation.__name__}: {type(error).__name__}: {error}"
        ) from error
    return True


@pytest.mark.parametrize(
    "numbers", [range(100), pytest.param(range(100, 2000), marks=pytest.mark.slow)], ids=["100", "1900"]
)
def test_damaged_files_are_read_or_refused_in_a_sentence(tmp_path, empty_cache, originals, numbers):
    architecture = Architecture(build_model(MLP), lambda: build_model(MLP))
    outcomes = [mutate(tmp_path, originals, number, architecture) for number in numbers]
    assert 0 < sum(outcomes) < len(outcomes)
