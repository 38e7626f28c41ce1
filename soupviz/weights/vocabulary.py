"""What people call the parts of checkpoints and their files: wrappers, averages, the state of a training."""

import re
from collections.abc import Sequence

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
    "ema", "ema_state_dict", "model_ema", "state_dict_ema", "ema_model",
)  # fmt: skip
"""Under what training scripts usually keep a state dict, the likeliest first; others are looked into after these."""

WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module")
"""What torch.compile, FSDP and activation checkpointing put into the middle of keys."""

PARALLEL = "module"
"""What DataParallel adds to keys; a model may have a module of its own that is called so."""

AVERAGES = frozenset({"ema", "swa", "ave", "avg", "average", "averaged", "polyak", "shadow", "soup"})
"""Words for an average over training."""

AVERAGED = "n_averaged"
"""Where torch's AveragedModel counts the models that it is the mean of."""

METADATA_KEY = "soupviz"
"""Under which a soup keeps its record in the metadata of safetensors, and in an index."""

METADATA_ATTRIBUTE = "_soupviz"
"""Of the state dict in a pickle, where a soup keeps its record."""

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
OF_GRADIENTS = re.compile(r"exp_?avg", re.IGNORECASE)
"""What Adam calls its moments, which are no weights."""

TRAINING = re.compile(
    r"(?:(?:lr|cuda|grad|amp|native|loss|torch|numpy|python)_)?"
    r"(?:(?:optim|optimizer|sched|scheduler|scaler|sampler|dataloader|custom_checkpoint|(?:rng|random|dl)_state)s?"
    r"(?:_?\d+|_?states?|_?dict)*|(?:training_|cli_)?args|trainer_state|hyper_?parameters|hparams|callbacks?|loops|amp"
    r"|configs?)",
    re.IGNORECASE,
)


def words(name: str) -> list[str]:
    """The words of a name in lower case: model, ema for model_ema, modelEMA and emaModel's like."""
    return [word.lower() for word in WORD.findall(name)]


def says_average(name: str) -> bool:
    """Whether the name of a file, of a place in it or of a prefix of keys says that it is an average over training."""
    return not AVERAGES.isdisjoint(words(OF_GRADIENTS.sub("", name)))


def is_training_state(name: str) -> bool:
    """Whether a key, or a file's name without suffix, is what a training calls what it keeps beside its weights.

    As Trainer, accelerate, Lightning, DeepSpeed and torchvision's references do: optimizer, lr_schedulers, rng_state_0.
    """
    return TRAINING.fullmatch(name) is not None


def without_wrappers(key: str, wrappers: Sequence[str] = WRAPPED, *, leading: bool = True) -> str:
    """A key without what wrappers put into it; those that it begins with are its prefix, and may stay."""
    parts = key.split(".")
    start = 0 if leading else next((at for at, part in enumerate(parts) if part not in wrappers), len(parts))
    return ".".join([*parts[:start], *(part for part in parts[start:] if part not in wrappers)])
