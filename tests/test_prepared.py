"""A split made ready for the model, and the activations at a cut that all soups share."""

import pytest
import torch
from kitchens import MLP, build_model, small_kitchen

from soupviz.kitchen import Kitchen
from soupviz.models.routes import Routes


@pytest.fixture
def frozen(tmp_path):
    """A kitchen whose first layer is the same in all ingredients, so that its activations are computed once."""
    first = {key: tensor for key, tensor in build_model(MLP).state_dict().items() if key.startswith("0.")}
    return small_kitchen(tmp_path, num_examples=200, batch_size=16, change=lambda tensors: tensors | first)


@pytest.fixture
def prefixes(monkeypatch):
    """The sizes of the batches that the shared layers are run on; above a limit memory runs out."""
    sizes, limit = [], [10**9]
    before = Routes.before

    def watched(self, batch):
        sizes.append(len(batch[""]))
        if sizes[-1] > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return before(self, batch)

    monkeypatch.setattr(Routes, "before", watched)
    return sizes, limit


def test_layers_that_all_soups_share_are_run_in_batches_of_the_kitchens_size(frozen, prefixes):
    sizes, _ = prefixes
    Kitchen.load(frozen).scores.score((("m_0", 1.0),))
    assert sizes == [16] * 12 + [8]


def test_shared_layers_that_do_not_fit_into_memory_are_run_in_smaller_batches(frozen, prefixes):
    sizes, limit = prefixes
    limit[0] = 5
    kitchen = Kitchen.load(frozen)
    score = kitchen.scores.score((("m_0", 1.0),))
    assert sizes == [16, 8, *[4] * 50]
    kitchen.store.clear()
    limit[0] = 10**9
    whole = Kitchen.load(frozen).scores.score((("m_0", 1.0),))
    assert (whole.class_correct, whole.loss) == (score.class_correct, pytest.approx(score.loss, rel=1e-6))
