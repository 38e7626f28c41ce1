"""For the user's own training loop: checkpoints over time, and running averages of them, as files."""

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from soupviz.errors import ExportError, RecipeError
from soupviz.files import is_writable, replacing
from soupviz.weights.checkpoints import WEIGHTS_KEY
from soupviz.weights.vocabulary import PARALLEL, WRAPPED, without_wrappers

Tensors = tuple[Tensor, ...] | list[Tensor]
Average = Callable[[Tensors, Tensors, Tensor | int], None]
"""Moves averages, in place, towards the tensors of one more model; told how many were averaged before."""


class SWARecorder:
    """Writes a run's checkpoints as `step_000300.safetensors`, and at its end `swa.safetensors`, `ema.safetensors`.

    Name `step_*.safetensors` in a kitchen, which leaves the averages out. They are kept beside the model, in its dtype,
    and start anew with each recorder. Running statistics of BatchNorm are averaged as the weights are; counters and
    other integers are the latest. In distributed training one process records.

    Args:
        model: what is trained; DataParallel, DistributedDataParallel and torch.compile are looked through.
        folder: made if missing; files of the same name are replaced.
        every: a checkpoint at each multiple of so many steps.
        start: the first step that is recorded or averaged.
        swa: keep the plain mean of the checkpoints written.
        ema_decay: keep the exponential moving average of the model after every step; None: keep none.
    Raises:
        RecipeError: `every`, `start` or `ema_decay` is out of range.
        ExportError: the folder cannot be made, or written to.
    Source:
        Izmailov et al. 2018 (arXiv 1803.05407), algorithm 1; Polyak and Juditsky 1992; torch.optim.swa_utils. Differs
        from algorithm 1: running statistics are averaged, since a second pass over the data is the caller's.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: str | Path,
        every: int,
        start: int = 0,
        *,
        swa: bool = True,
        ema_decay: float | None = None,
    ):
        if every < 1 or start < 0:
            raise RecipeError(f"every is {every} and start is {start}; expected at least 1 and at least 0 steps.")
        if ema_decay is not None and not 0.0 <= ema_decay < 1.0:
            raise RecipeError(f"ema_decay is {ema_decay}; expected at least 0 and less than 1, such as 0.999.")
        self.model = unwrapped(model)
        self.folder = Path(folder)
        self.every = every
        self.start = start
        self._last = 0
        self._means: dict[str, Average] = {"swa": get_swa_multi_avg_fn()} if swa else {}  # type: ignore[no-untyped-call]
        if ema_decay is not None:
            self._means["ema"] = get_ema_multi_avg_fn(ema_decay)  # type: ignore[no-untyped-call]
        self._how = {"swa": {"every": str(every)}, "ema": {"ema_decay": str(ema_decay)}}
        self._averaged: dict[str, AveragedModel] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        _make(self.folder)

    def step(self, number: int | None = None, /, **facts: object) -> Path | None:
        """To be called after each step of the optimizer.

        Args:
            number: how many steps were done; default: one more than at the last call. Where a multiple of `every` is
                passed over, the next number is recorded.
            facts: what to write beside the weights, such as loss=loss, lr=3e-5.
        Returns:
            The checkpoint, where one was due.
        Raises:
            RecipeError: a number less than the last.
            ExportError: the checkpoint cannot be written.
        """
        last, self._last = self._last, self._last + 1 if number is None else number
        if self._last < last:
            raise RecipeError(f"step {self._last} came after step {last}; expected the steps of one run, in order.")
        if self._last < self.start or self._last == last:
            return None
        if "ema" in self._means:
            self._average("ema")
        if self._last // self.every == max(last, self.start - 1) // self.every:
            return None
        file = self.folder / f"step_{self._last:06d}.safetensors"
        _save(self.model, file, {**{key: _text(value) for key, value in facts.items()}, "step": str(self._last)})
        if "swa" in self._means:
            self._average("swa")
        return file

    def finish(self) -> list[Path]:
        """Write the averages as they are now; none where no step was averaged.

        Returns:
            The files, whose metadata says from which step to which, and how many models were averaged.
        Raises:
            ExportError: a file cannot be written.
        """
        files = []
        for name, (first, last) in sorted(self._spans.items(), reverse=True):  # swa, ema
            averaged = self._averaged[name]
            span = {
                WEIGHTS_KEY: "ema",
                "from_step": str(first),
                "to_step": str(last),
                "averaged": str(int(averaged.n_averaged)),
            }
            files.append(self.folder / f"{name}.safetensors")
            _save(averaged.module, files[-1], span | self._how[name])
        return files

    def _average(self, name: str) -> None:
        if name not in self._averaged:  # not before `start`: a copy of the model takes memory
            mean = _of_floats(self._means[name])
            self._averaged[name] = AveragedModel(self.model, multi_avg_fn=mean, use_buffers=True)
        self._averaged[name].update_parameters(self.model)
        first, _ = self._spans.get(name, (self._last, 0))
        self._spans[name] = first, self._last


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside wrappers that hold nothing else."""
    while (children := dict(model.named_children())).keys() <= {PARALLEL, *WRAPPED} and len(children) == 1:
        if not all("." in key for key in model.state_dict(keep_vars=True)):
            break
        (model,) = children.values()
    return model


def _of_floats(mean: Average) -> Average:
    """The mean where there is one. A count is kept, not averaged: torch's own mean fails at BatchNorm's on a GPU."""

    def update(averages: Tensors, latest: Tensors, number: Tensor | int) -> None:
        if averages[0].is_floating_point() or averages[0].is_complex():  # torch calls with tensors of one dtype
            mean(averages, latest, number)
            return
        for average, tensor in zip(averages, latest, strict=True):
            average.copy_(tensor)

    return update


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be made ({error.strerror}); choose another folder.") from None
    if not is_writable(folder):
        raise ExportError(f"{folder}: the folder is read-only; choose another.")


def _save(model: nn.Module, file: Path, metadata: Mapping[str, str]) -> None:
    """Every tensor under each of its names, as soups are written: what is tied loads everywhere."""
    tensors = {
        without_wrappers(key): tensor.detach().to("cpu", copy=True).contiguous()
        for key, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor)  # what a module adds by get_extra_state is not weights
    }
    try:
        with replacing(file) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt", **metadata})
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{file}: cannot be written ({error}). Free some space, or choose another folder.") from None


def _text(value: object) -> str:
    return str(value.item() if isinstance(value, Tensor) else value)
