"""Building a demo's kitchen where there is none yet, whole or not at all; and what every demo is made by."""

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.adamw import adamw

from soupviz.files import cache_folder
from soupviz.types import Progress

PRETRAIN = "pretrain"
"""The part of the data that the base is trained on; it is no split of the kitchen."""

Examples = tuple[Tensor, Tensor]
"""Inputs, and what is right."""

Net = TypeVar("Net", bound=nn.Module)


class Tuning(Protocol):
    """How one network is trained, as a frozen record; what it says goes with the checkpoint."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def lr(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def epochs(self) -> int: ...


def built(folder: Path | None, version: str, build: Callable[[Path, Progress], None], progress: Progress) -> Path:
    """A demo's kitchen.yaml, built at the first call and then kept.

    Args:
        folder: where; default: in the user's cache folder, under the version.
    """
    target = folder or cache_folder("demo") / version
    file = target / "kitchen.yaml"
    if not file.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".demo-", dir=target.parent))
        try:
            work.chmod(0o755)
            with _one_thread():
                build(work, progress)
            if target.is_dir():
                shutil.copytree(work, target, dirs_exist_ok=True)
            else:
                work.rename(target)
        except OSError:  # another process was first
            if not file.is_file():
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return file


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a network gains nothing by more; where the cores are busy, waiting for each other took 5 times as long.

    It also makes the demo the same on any number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def divided(inputs: Tensor, answers: Tensor, sizes: Mapping[str, int]) -> dict[str, Examples]:
    """Examples in disjoint parts, by name and in order; each part's tensors are its own."""
    parts = zip(*(torch.split(whole, list(sizes.values())) for whole in (inputs, answers)), strict=True)
    return {name: (part.clone(), right.clone()) for name, (part, right) in zip(sizes, parts, strict=True)}


def write_splits(splits: Mapping[str, Examples], folder: Path) -> None:
    """Every split as an array file of its name, but what the base is trained on."""
    for name, (inputs, answers) in splits.items():
        if name != PRETRAIN:
            save_file({"inputs": inputs, "labels": answers}, folder / f"{name}.safetensors")


def pretrained(net: Callable[[], Net], seed: int, train: Callable[[Net], None], folder: Path) -> Net:
    """The base: a new network from a seed, trained and written."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = net()
    train(base)
    save_file(base.state_dict(), folder / "base.safetensors", metadata={"note": "pre-trained"})
    return base


def write_fine_tunings(
    base: Net,
    tunings: Sequence[Tuning],
    train: Callable[[Net, Any], None],
    files: str,
    folder: Path,
    report: Callable[[int, str], None],
) -> None:
    """The ingredients: the base as each tuning trains it, with what the tuning says as metadata.

    Args:
        files: what they are called before their number. report: is told which is next, and that in words.
    """
    for index, tuning in enumerate(tunings):
        report(index, f"fine-tuning {index + 1} of {len(tunings)}")
        model = copy.deepcopy(base)
        train(model, tuning)
        values = {name: f"{value:g}" for name, value in asdict(tuning).items()}
        save_file(model.state_dict(), folder / f"{files}_{index:02d}.safetensors", metadata=values)


def optimise(
    model: nn.Module,
    data: Examples,
    tuning: Tuning,
    loss_of: Callable[[Tensor, Tensor, torch.Generator], Tensor],
    *,
    batch_size: int,
    weight_decay: float = 0.0,
    after_step: Callable[[Tensor], object] = lambda _loss: None,
) -> None:
    """Train a network by AdamW.

    Args:
        loss_of: of a batch's inputs and answers; what is random in it comes of the generator.
    """
    # AdamW as a function: the class imports PyTorch's compiler, which took as long as all the training.
    inputs, answers = data
    generator = torch.Generator().manual_seed(tuning.seed)
    parameters: list[Tensor] = list(model.parameters())
    means, squares = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    steps = [torch.tensor(0.0) for _ in parameters]
    for _ in range(tuning.epochs):
        for batch in torch.split(torch.randperm(len(inputs), generator=generator), batch_size):
            loss = loss_of(inputs[batch], answers[batch], generator)
            gradients = list(torch.autograd.grad(loss, parameters))
            with torch.no_grad():
                adamw(
                    parameters, gradients, means, squares, [], steps, amsgrad=False, maximize=False,
                    beta1=0.9, beta2=0.999, lr=tuning.lr, weight_decay=weight_decay, eps=1e-8,
                )  # fmt: skip
            after_step(loss)


def array_files(names: Sequence[str], above: str = "") -> dict[str, dict[str, str]]:
    """Splits that `write_splits` wrote, as kitchen.yaml names them. above: the way to them from where it lies."""
    return {name: {"format": "arrays", "path": f"{above}{name}.safetensors"} for name in names}


def write_kitchen(document: Mapping[str, Any], folder: Path) -> None:
    (folder / "kitchen.yaml").write_text(yaml.safe_dump(dict(document), sort_keys=False), encoding="utf-8")
