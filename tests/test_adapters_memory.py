"""Many adapters over one base take the memory of the base, whatever is done with them."""

import itertools
import os
import subprocess
import sys
import textwrap
import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import adapters_kitchen, factors, write_adapter
from kitchens import small_kitchen

from soupviz.analysis import geometry
from soupviz.kitchen import Kitchen
from soupviz.learning import coefficients
from soupviz.mixing import formulas
from soupviz.mixing.averaging import mean_of, mix
from soupviz.mixing.formulas import Formula
from soupviz.weights.adapters import adapted
from soupviz.weights.adapters.products import product_of
from soupviz.weights.ingredients import fingerprint

WIDE = """
from torch import nn

def build(width=1000, layers=10):
    return nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)], nn.Linear(width, 3))
"""

MEASURED = """
import sys
from pathlib import Path
import soupviz as sv
from soupviz.analysis import geometry
from soupviz.kitchen import Kitchen

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

folder = Path(sys.argv[1])
peaks = []
seen = lambda *told: peaks.append(anonymous())
kitchen = Kitchen.load(folder / "kitchen.yaml")  # the model, its skeleton, and what loading modules takes
del kitchen
before = anonymous()
kitchen = Kitchen.load(folder / "kitchen.yaml", progress=seen)
soup = sv.uniform(kitchen)
seen()
sv.export(soup, folder / "soup.safetensors")
seen()
sv.export(soup, folder / "soup", form="adapter", rank=4)
geometry.gram(kitchen, progress=seen)
seen()
print(max(peaks) - before)
"""


def wide_kitchen(folder: Path, number: int) -> Path:
    """A base of 40 MB in tensors of 4 MB, and adapters of 0.6 MB."""
    file = small_kitchen(folder, source=WIDE, shape=(1000,), num_ingredients=0, num_examples=20)
    file.write_text(file.read_text().replace("ingredients: []", "ingredients: [adapters/*]"))
    for index in range(number):
        sizes = {str(layer): (1000, 1000) for layer in range(10)}
        write_adapter(folder / "adapters" / f"a{index}", factors(index, 8, sizes, 1e-4), r=8)
    return file


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
def test_twelve_adapters_take_no_twelve_bases(tmp_path: Path) -> None:
    """Merged, twelve would be 480 MB; what is held is the kitchen's own model and a few tensors."""
    wide_kitchen(tmp_path, 12)
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200


def test_a_fingerprint_does_not_depend_on_how_many_threads_sum(tmp_path: Path) -> None:
    kitchen = Kitchen.load(wide_kitchen(tmp_path, 1))
    (item,) = kitchen.ingredients
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert fingerprint(item.tensors) == item.fingerprint
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("rank", [1, 3, 16, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_the_same_bits_in_whatever_order_it_is_summed(rank: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rank)
    left = (torch.randn(50, rank, generator=generator) * torch.logspace(-6, 6, 50)[:, None]).to(dtype)
    right = torch.randn(rank, 70, generator=generator).to(dtype)
    order = torch.randperm(rank, generator=generator)
    whole = product_of(left, right)(slice(0, 50))
    assert torch.equal(whole, product_of(left[:, order], right[order])(slice(0, 50)))
    assert torch.equal(whole[7:9], product_of(left, right)(slice(7, 9)))


@pytest.mark.parametrize("rank", [1, 5, 64])
def test_a_product_is_exact_up_to_the_last_digits_of_float64(rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    left, right = torch.randn(6, rank, generator=generator), torch.randn(rank, 5, generator=generator)
    found = product_of(left, right)(slice(0, 6))
    for row, column in itertools.product(range(6), range(5)):
        terms = [Fraction(a) * Fraction(b) for a, b in zip(left[row].tolist(), right[:, column].tolist(), strict=True)]
        assert abs(Fraction(found[row, column].item()) - sum(terms)) <= Fraction(1, 2**51) * sum(map(abs, terms))


def test_factors_of_nothing_or_of_any_size_make_finite_products() -> None:
    left = torch.tensor([[0.0, 0.0], [1e-45, 0.0], [3e38, -3e38]])
    product = product_of(left, torch.tensor([[1.0, 1e-30], [1.0, 3e38]]))(slice(0, 3))
    expected = left.double() @ torch.tensor([[1.0, 1e-30], [1.0, 3e38]]).double()
    torch.testing.assert_close(product, expected, rtol=1e-12, atol=1e-60)


class Counted:
    """How many tensors that adapters made were alive at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        self.most = 0
        self._own = adapted._added
        monkeypatch.setattr(adapted, "_added", self)

    def __call__(self, *arguments: Any) -> torch.Tensor:
        tensor = self._own(*arguments)
        self.alive.add(tensor)
        self.most = max(self.most, len(self.alive))
        return tensor


def test_a_mix_holds_a_few_made_tensors_whatever_the_number_of_adapters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = Kitchen.load(wide_kitchen(tmp_path, 9))
    made = Counted(monkeypatch)
    mix([(item, 1 / 9) for item in kitchen.ingredients])
    assert 1 < made.most <= 6


PARAMETERS: dict[str, dict[str, Any]] = {
    "task_arithmetic": {"scale": 0.9}, "ties": {"density": 0.3, "scale": 0.8}, "karcher": {}, "model_stock": {},
    "dare": {"density": 0.5, "scale": 1.0, "seed": 3}, "breadcrumbs": {"density": 0.6, "gamma": 0.1, "scale": 1.1},
}  # fmt: skip


@pytest.mark.parametrize("kind", PARAMETERS)
def test_a_formula_holds_a_few_made_tensors_too_and_makes_the_same_bits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = Kitchen.load(adapters_kitchen(tmp_path, 9))
    assert kitchen.base is not None
    by_name = {item.name: item for item in kitchen.ingredients} | {"base": kitchen.base}
    base = None if kind == "karcher" else "base"
    formula = Formula(kind=kind, parts=mean_of(kitchen.names), base=base, parameters=PARAMETERS[kind])
    merged = {name: replace(item, tensors=dict(item.tensors)) for name, item in by_name.items()}
    expected = fingerprint(formulas.made("x", formula, merged.__getitem__, {}).tensors)
    monkeypatch.setattr("soupviz.weights.scratch.SMALL", 0)  # set down however little it is
    made = Counted(monkeypatch)
    assert fingerprint(formulas.made("x", formula, by_name.__getitem__, {}).tensors) == expected
    assert 0 < made.most <= 2


@pytest.mark.slow
def test_what_looks_at_the_weights_of_many_adapters_holds_a_few_made_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = Kitchen.load(wide_kitchen(tmp_path, 9))
    made = Counted(monkeypatch)
    key = "0.weight"
    slope = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
    products = coefficients._inner_products(slope, key, kitchen.ingredients)
    whole = [float((slope.double() * item.tensors[key]).sum()) for item in kitchen.ingredients]
    torch.testing.assert_close(products, torch.tensor(whole, dtype=torch.float64), rtol=1e-4, atol=1e-3)
    geometry.gram(kitchen)
    assert 0 < made.most <= 2
