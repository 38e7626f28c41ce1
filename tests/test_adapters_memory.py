"""Many adapters over one base take the memory of the base, whatever is done with them."""

import os
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pytest
import torch
from adapters import factors, write_adapter
from kitchens import small_kitchen

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mix
from soupviz.weights.adapters import adapted
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


def test_a_mix_holds_a_few_made_tensors_whatever_the_number_of_adapters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = Kitchen.load(wide_kitchen(tmp_path, 9))
    made, most = weakref.WeakSet(), 0
    own = adapted._added

    def counted(*arguments: object) -> torch.Tensor:
        nonlocal most
        tensor = own(*arguments)  # type: ignore[arg-type]
        made.add(tensor)
        most = max(most, len(made))
        return tensor

    monkeypatch.setattr(adapted, "_added", counted)
    mix([(item, 1 / 9) for item in kitchen.ingredients])
    assert most <= 6
