"""On a GPU: the same decisions as on the CPU, by kitchens of every kind. Skipped, saying so, where there is none."""

import pytest
import torch
from kitchens import BATCHNORM, MLP, small_kitchen

import soupviz as sv
from soupviz.kitchen import at_precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, which this machine has not")
SHAPES = {MLP: (6,), BATCHNORM: (3, 8, 8)}


@pytest.mark.parametrize("source", [MLP, BATCHNORM])
@pytest.mark.parametrize("alpha", ["mean", 0.3])
def test_a_gpu_decides_as_the_cpu_does(tmp_path, source, alpha):
    options = {"source": source, "shape": SHAPES[source], "num_examples": 120}
    soups = [
        sv.greedy(sv.Kitchen.load(small_kitchen(tmp_path / device, device=device, **options)), alpha=alpha)
        for device in ("cpu", "cuda")
    ]
    assert soups[0].mix == soups[1].mix
    assert [step.accepted for step in soups[0].trajectory] == [step.accepted for step in soups[1].trajectory]
    for split, score in soups[0].scores.items():
        assert abs(score.correct - soups[1].scores[split].correct) <= score.num_close + soups[1].scores[split].num_close


def test_the_split_is_kept_on_the_gpu(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, device="cuda"))
    kitchen.score()
    rows = kitchen.evaluator.prepared(kitchen.splits.load("held_out")).rows
    assert {tensor.device.type for tensor in rows.values()} == {"cuda"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_is_near_float32(tmp_path, precision):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, device="cuda", num_examples=120))
    full = kitchen.scores.score((("m_0", 1.0),))
    reduced = at_precision(kitchen, precision).scores.score((("m_0", 1.0),))
    assert reduced.precision == precision
    assert reduced.loss == pytest.approx(full.loss, rel=0.05)
