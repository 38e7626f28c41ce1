"""Checkpoints as frameworks themselves write them, in the test, score what the frameworks' own models score."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import write_arrays, write_yaml
from torch import nn

from soupviz.kitchen import Kitchen

pytestmark = pytest.mark.extras

NUM_EXAMPLES = 60


def arrays(folder: Path, shape: tuple[int, ...], classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(NUM_EXAMPLES, *shape, generator=generator)
    labels = torch.randint(0, classes, (NUM_EXAMPLES,), generator=generator)
    write_arrays(folder / "held_out.safetensors", inputs, labels)
    return inputs, labels


def num_correct(model: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, labels: torch.Tensor) -> int:
    with torch.no_grad():
        return int((model(inputs).argmax(1) == labels).sum())


def kitchen(
    folder: Path, factory: str, ingredients: list[str], args: dict[str, object] | None = None, **keys
) -> Kitchen:
    data = {"held_out": {"format": "arrays", "path": "held_out.safetensors"}}
    model = {"factory": factory, "args": args or {}}
    return Kitchen.load(write_yaml(folder, model=model, ingredients=ingredients, data=data, device="cpu", **keys))


def correct(opened: Kitchen) -> dict[str, int]:
    return {name: score.correct for name, score in opened.scores.of_ingredients().items()}


def test_what_timms_checkpoint_saver_writes(tmp_path):
    timm = pytest.importorskip("timm")
    from timm.utils import CheckpointSaver, ModelEmaV3

    args = {"num_classes": 5, "img_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = timm.create_model("test_vit", **args)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    average = ModelEmaV3(model, decay=0.5)
    inputs, labels = arrays(tmp_path, (3, 32, 32), 5)
    saver = CheckpointSaver(
        model, optimizer, args=argparse.Namespace(model="test_vit", lr=0.5), model_ema=average,
        checkpoint_dir=str(tmp_path), max_history=9,
    )  # fmt: skip
    raw, ema = {}, {}
    for epoch in range(3):
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        average.update(model)
        saver.save_checkpoint(epoch, metric=float(epoch))
        raw[f"checkpoint-{epoch}"] = num_correct(model.eval(), inputs, labels)
        ema[f"checkpoint-{epoch}"] = num_correct(average.module.eval(), inputs, labels)
        model.train()
    opened = kitchen(tmp_path, "timm:test_vit", ["*.pth.tar"], args)
    assert opened.pool == list(raw)
    assert {name: correct(opened)[name] for name in raw} == raw
    assert {
        name: correct(kitchen(tmp_path, "timm:test_vit", ["*.pth.tar"], args, weights="ema"))[name] for name in ema
    } == ema


LIGHTNING = """
from torch import nn

def build(width=8):
    return nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))
"""


@pytest.mark.filterwarnings("ignore")  # Lightning's own, of workers and of what it replaces
def test_what_lightning_writes(tmp_path):
    lightning = pytest.importorskip("lightning")
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.utils.data import DataLoader, TensorDataset

    (tmp_path / "model.py").write_text(LIGHTNING)
    names: dict[str, object] = {}
    exec(LIGHTNING, names)
    inputs, labels = arrays(tmp_path, (6,), 3)
    found: dict[str, int] = {}

    class Module(lightning.LightningModule):
        def __init__(self, lr: float = 0.1, note: str = "a"):
            super().__init__()
            self.save_hyperparameters()
            self.net = names["build"]()
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(3))

        def training_step(self, batch, _index):
            return self.criterion(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    class Saver(ModelCheckpoint):
        def on_train_epoch_end(self, trainer, module):
            super().on_train_epoch_end(trainer, module)
            module.eval()
            found[
                Path(self.format_checkpoint_name({"epoch": trainer.current_epoch, "step": trainer.global_step})).stem
            ] = num_correct(module.net, inputs, labels)
            module.train()

    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Saver(tmp_path / "out", save_top_k=-1, save_last="link", save_on_train_epoch_end=True)],
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(TensorDataset(inputs, labels), 16))
    opened = kitchen(tmp_path, "model.py:build", ["out/*"])
    assert opened.pool == ["epoch=0-step=4", "epoch=1-step=8", "epoch=2-step=12"]
    assert [correct(opened)[name] for name in opened.pool] == list(found.values())
    assert "criterion.weight" in " ".join(opened.notes)
    assert "last is a copy of epoch=2-step=12" in " ".join(opened.notes)


TOKENS = """
import numpy as np
from pathlib import Path

class Sentences:
    def __init__(self):
        arrays = np.load(Path(__file__).parent / "tokens.npz")
        self.ids, self.labels = arrays["ids"], arrays["labels"]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": int(self.labels[index])}

def held_out():
    return Sentences()
"""


@pytest.mark.filterwarnings("ignore")  # transformers' and accelerate's own
def test_what_trainer_writes(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 40, (NUM_EXAMPLES, 8), generator=generator)
    labels = (ids[:, 0] > 20).long()
    np.savez(tmp_path / "tokens.npz", ids=ids.numpy(), labels=labels.numpy())
    (tmp_path / "data.py").write_text(TOKENS)
    names: dict[str, object] = {"__file__": str(tmp_path / "data.py")}
    exec(TOKENS, names)
    sentences = names["held_out"]()
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, num_labels=2,
    )  # fmt: skip
    torch.manual_seed(0)
    found: dict[str, int] = {}

    class Counting(transformers.TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **more):
            found[f"checkpoint-{state.global_step}"] = round(metrics["eval_accuracy"] * NUM_EXAMPLES)

    trainer = transformers.Trainer(
        transformers.BertForSequenceClassification(config),
        transformers.TrainingArguments(
            str(tmp_path / "out"), num_train_epochs=3, per_device_train_batch_size=20, learning_rate=1e-2,
            save_strategy="epoch", eval_strategy="epoch", report_to=[], disable_tqdm=True, use_cpu=True,
        ),
        train_dataset=sentences,
        eval_dataset=sentences,
        compute_metrics=lambda told: {"accuracy": float((told.predictions.argmax(1) == told.label_ids).mean())},
        callbacks=[Counting()],
    )  # fmt: skip
    trainer.train()
    data = {"held_out": {"format": "python", "path": "data.py:held_out"}}
    model = {"factory": "transformers:out/checkpoint-3"}
    file = write_yaml(tmp_path, model=model, ingredients=["out/checkpoint-*"], data=data, device="cpu")
    opened = Kitchen.load(file)
    assert opened.names == list(found) == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    assert correct(opened) == found
    assert [item.metadata["step"] for item in opened.ingredients] == [3, 6, 9]
