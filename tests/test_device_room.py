"""A model that is larger than its device is refused with both sizes, before any of it is moved there."""

import pytest
import torch
from kitchens import change_yaml, small_kitchen
from torch import nn

import soupviz as sv
from soupviz.errors import TooLargeError
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.room import check_room

CUDA = torch.device("cuda:0")


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device of 8 GB, of which 2 are free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (2 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def model_of(num_bytes: int) -> nn.Module:
    """A model that says that it is so large, and takes no memory."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(()).expand(num_bytes // 4))
    return model


@pytest.mark.usefixtures("small_device")
def test_a_model_larger_than_its_device_is_refused_with_both_sizes():
    with pytest.raises(TooLargeError, match=r"weights take 3\.00 GB, and cuda:0 has 2\.00 of its 8\.00 GB free.*cpu"):
        Evaluator(model_of(3 * 10**9), CUDA)


@pytest.mark.usefixtures("small_device")
def test_a_kitchen_whose_model_does_not_fit_is_refused_as_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (100, 8 * 10**9))
    file = change_yaml(small_kitchen(tmp_path), lambda document: document.update(device="cuda"))
    with pytest.raises(TooLargeError, match=r"has 0\.00 of its 8\.00 GB free"):
        sv.Kitchen.load(file)


@pytest.mark.usefixtures("small_device")
def test_a_model_that_fits_passes_and_what_is_shared_is_counted_once():
    model = model_of(10**9)
    check_room(model, CUDA)
    model.again, model.once_more = model.weight, model.weight
    check_room(model, CUDA)


@pytest.mark.usefixtures("small_device")
def test_the_cpu_has_the_model_already():
    check_room(model_of(3 * 10**9), torch.device("cpu"))
