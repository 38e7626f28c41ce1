"""What these tests stand on: the command line run in this process, and kitchens of their own, written file by file.

Nothing here or in the tests beside it knows what lies inside soupviz: they hold unchanged through a rebuild of it. They
import `soupviz` and the command line's entry, and read files.
"""

import contextlib
import hashlib
import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from soupviz.cli.run import main

State = dict[str, Tensor]

NET = """
from torch import nn

def build(features=5, classes=3):
    return nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, classes))
"""

NORMED = """
from torch import nn

def build(channels=1, classes=3):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes),
    )
"""

WORDS = """
from torch import nn

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(8, 4), nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1)
        return {"logits": self.head((self.embedding(input_ids) * mask).sum(1) / mask.sum(1))}

def build():
    return Words()
"""

NUM_EXAMPLES = 60


@dataclass(frozen=True)
class Told:
    """What a command left behind: its exit code, and what it wrote."""

    status: int
    out: str
    err: str


def run(*arguments: object) -> Told:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    status: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as left:
            status = left.code
    assert isinstance(status, int), "the command line ends with an exit code"
    return Told(status, out.getvalue(), err.getvalue())


def told(*arguments: object) -> Any:
    """The one JSON document that a command prints with --json; NaN and Infinity are none."""
    found = run(*arguments, "--json")
    assert found.status == 0, found.err

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(found.out, parse_constant=refuse)


def refused(*arguments: object) -> str:
    """The one line on stderr of a command that was asked for what cannot be; it has exit code 2 and prints nothing."""
    found = run(*arguments)
    lines = found.err.strip().splitlines()
    mistakes = [line for line in lines if not line.startswith(("note:", "left out:"))]
    assert (found.status, found.out, len(mistakes)) == (2, "", 1), found
    assert "Traceback" not in found.err
    return mistakes[0]


def net(source: str = NET, **args: Any) -> nn.Module:
    """The model that a source builds, seeded so that of the ingredients near it greedy keeps some and rejects some."""
    names: dict[str, Any] = {"__name__": "net_of_a_contract"}
    exec(source, names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return names["build"](**args).eval()


def decided(model: nn.Module, shape: Sequence[int]) -> nn.Module:
    """The same model, sure of its answers and giving each of them: its last layer is scaled and centred."""
    inputs = torch.randn(500, *shape, generator=torch.Generator().manual_seed(4))
    last = list(model.children())[-1]
    with torch.no_grad():
        last.weight *= 6
        last.bias -= model(inputs).mean(0)
    return model


def near(state: Mapping[str, Tensor], scale: float, seed: int) -> State:
    """Weights beside others: noise on what is a float, variances above 0, counters that differ."""
    generator = torch.Generator().manual_seed(seed)
    found: State = {}
    for key, tensor in state.items():
        noise = scale * torch.randn(tensor.shape, generator=generator)
        if not tensor.is_floating_point():
            found[key] = tensor + seed
        else:
            found[key] = tensor * noise.exp() if key.endswith("running_var") else tensor + noise
    return found


def save(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, path, metadata=metadata)
    else:
        torch.save(dict(state), path)
    return path


def write_split(path: Path, model: nn.Module, shape: Sequence[int], seed: int, size: int = NUM_EXAMPLES) -> Path:
    """An `arrays` file: random inputs, which the model labels, but for a tenth."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, *shape, generator=generator)
    with torch.no_grad():
        labels = model(inputs).argmax(1)
    wrong = torch.rand(size, generator=generator) < 0.1
    labels[wrong] = (labels[wrong] + 1) % 3
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"inputs": inputs, "labels": labels}, path)
    return path


def write_kitchen(folder: Path, **keys: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "kitchen.yaml"
    file.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    return file


def tiny(
    folder: Path,
    *,
    source: str = NET,
    shape: Sequence[int] = (5,),
    names: Sequence[str] = ("a", "b", "c", "d"),
    scale: float = 0.3,
    change: Callable[[str, State], Mapping[str, Any]] = lambda _name, state: state,
    suffix: str = ".safetensors",
    splits: Sequence[str] = ("held_out", "test"),
    **keys: Any,
) -> Path:
    """A whole kitchen of a few kilobytes; returns its kitchen.yaml.

    Args:
        change: what is written of each checkpoint's weights, by its name (`base` is one).
        splits: those of held_out, test, train and shifts.NAME that it has. keys: further keys of kitchen.yaml, which
            replace those written here; None leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(source, encoding="utf-8")
    model = decided(net(source), shape) if source in (NET, NORMED) else net(source)
    base = dict(model.state_dict())
    save(change("base", base), folder / f"base{suffix}")
    for seed, name in enumerate(names, 1):
        save(change(name, near(base, scale, seed)), folder / f"{name}{suffix}")
    data: dict[str, Any] = {}
    for seed, split in enumerate(splits):
        place = write_split(folder / "data" / f"{split}.safetensors", model, shape, 100 + seed)
        spec = {"format": "arrays", "path": place.relative_to(folder).as_posix()}
        outer, _, shift = split.partition(".")
        if shift:
            data.setdefault(outer, {})[shift] = spec
        else:
            data[split] = spec
    document: dict[str, Any] = {
        "model": {"factory": "net.py:build"}, "ingredients": [f"{name}{suffix}" for name in names],
        "base": f"base{suffix}", "data": data, "device": "cpu",
    } | keys  # fmt: skip
    return write_kitchen(folder, **{key: value for key, value in document.items() if value is not None})


def edited(file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A kitchen.yaml, changed in place."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def tensors_of(file: Path) -> State:
    """The tensors of a written soup, as plain PyTorch reads them."""
    if file.suffix != ".safetensors":
        return torch.load(file, weights_only=True)
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    kinds = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64, "BOOL": torch.bool}
    found = {}
    for key, place in header.items():
        start, stop = (8 + length + offset for offset in place["data_offsets"])
        raw = bytearray(content[start:stop])
        found[key] = torch.frombuffer(raw, dtype=kinds[place["dtype"]]).reshape(place["shape"])
    return found


def recipe_beside(file: Path) -> dict[str, Any]:
    """The recipe.yaml that was written with a soup, the only one in its folder."""
    return yaml.safe_load((file.parent / "recipe.yaml").read_text(encoding="utf-8"))


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """As DESIGN.md has it: SHA-256 over the sorted keys; key, dtype, shape, contiguous little-endian bytes."""
    sha = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        kind = str(tensor.dtype).removeprefix("torch.")
        sha.update(f"{key}\0{kind}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def num_scores(file: Path) -> int:
    """How many scores a kitchen's store keeps."""
    return told("cache", file)["store"]["scores"]


def losses(file: Path, split: str = "held_out") -> list[float]:
    """The ingredients' losses, in kitchen order."""
    return [score["loss"] for score in told("score", file, "--split", split)["ingredients"].values()]


def text_kitchen(folder: Path) -> Path:
    """Sentences of five words, a tokenizer that knows them, and a model that is called by name."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", "one", "two", "three", "four", "five"])}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }  # fmt: skip
    (folder / "words").mkdir()
    (folder / "words" / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "words" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = ["text,label", "one two three,no", "four,yes", "five five one,yes", "two,no", "three four,yes"]
    (folder / "val.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    spec = {"format": "text", "path": "val.csv", "tokenizer": "words"}
    return tiny(folder, source=WORDS, splits=(), names=("a", "b"), data={"held_out": spec})
