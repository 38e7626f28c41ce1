"""What the libraries that people count with say of the examples' kitchens: the model asked by plain code, and the data
read from its own files. By ingredient a value of each metric, as `Score.values` names them."""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import soupviz as sv
from soupviz.data.labels import as_text

Values = dict[str, dict[str, float]]


def differences(kitchen: sv.Kitchen, split: str, expected: Values) -> dict[str, float]:
    """How far the kitchen's scores are from what is expected, by metric the farthest of all ingredients; above 1 as a
    share of it."""
    assert set(expected) == set(kitchen.names)
    found: dict[str, float] = {}
    for name, values in expected.items():
        score = kitchen.scores.score(((name, 1.0),), split)
        for metric, value in values.items():
            found[metric] = max(found.get(metric, 0.0), abs(float(score.values[metric]) - value) / max(1.0, value))
    return found


def spec_of(kitchen: sv.Kitchen, split: str) -> dict[str, Any]:
    told = yaml.safe_load(kitchen.file.read_text(encoding="utf-8"))
    return told["data"][split]


def models(kitchen: sv.Kitchen, build: Callable[[], nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Each ingredient's model, from its file."""
    model = build().eval()
    for item in kitchen.ingredients:
        model.load_state_dict(load_file(item.path))
        yield item.name, model


def by_jiwer(kitchen: sv.Kitchen, split: str, build: Callable[[], nn.Module]) -> Values:
    """Each recording heard alone, its letters taken frame by frame."""
    import jiwer
    import soundfile

    table, told = Path(spec_of(kitchen, split)["path"]), yaml.safe_load(kitchen.file.read_text())
    letters = told["task"]["vocabulary"]
    with table.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    waves = [torch.from_numpy(soundfile.read(table.parent / row["file"], dtype="float32")[0])[None] for row in rows]
    references, found = [row["transcript"] for row in rows], {}
    for name, model in models(kitchen, build):
        heard = []
        for wave in waves:
            with torch.no_grad():
                frames = model(wave, torch.tensor([wave.shape[1]]))["logits"][0].argmax(1).tolist()
            heard.append("".join(letters[token] for token, _ in groupby(frames) if token != 0).strip())
        kept = kitchen.scores.score(((name, 1.0),), split).outcomes
        assert kept is not None
        assert [as_text(text) for text in kept["hypothesis"]] == heard
        found[name] = {"wer": jiwer.wer(references, heard), "cer": jiwer.cer(references, heard)}
    return found


def by_pycocotools(kitchen: sv.Kitchen, split: str, build: Callable[[], nn.Module]) -> Values:
    """Each image looked at alone, its boxes judged against the file of annotations."""
    from PIL import Image
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    spec, found = spec_of(kitchen, split), {}
    truths = json.loads(Path(spec["annotations"]).read_text(encoding="utf-8"))
    pictures = [np.array(Image.open(Path(spec["path"]) / one["file_name"]).convert("RGB")) for one in truths["images"]]
    images = [torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in pictures]
    for name, model in models(kitchen, build):
        results = []
        for image, one in zip(images, truths["images"], strict=True):
            with torch.no_grad():
                told = {key: value.tolist() for key, value in model([image])[0].items()}
            results += [
                {"image_id": one["id"], "category_id": label, "bbox": [x, y, u - x, v - y], "score": score}
                for (x, y, u, v), score, label in zip(told["boxes"], told["scores"], told["labels"], strict=True)
            ]
        with contextlib.redirect_stdout(io.StringIO()):
            right = COCO(spec["annotations"])
            judge = COCOeval(right, right.loadRes(results), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        places = {"map": 0, "map50": 1, "map_small": 3, "map_medium": 4, "map_large": 5}
        values = {metric: float(judge.stats[place]) for metric, place in places.items()}
        found[name] = {metric: value for metric, value in values.items() if value != -1}  # -1: of no object
    return found


def by_trainer(kitchen: sv.Kitchen, split: str, out: Path) -> Values:
    """`Trainer.evaluate` of each checkpoint's own folder; classes in the order of its config."""
    from sklearn.metrics import f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    spec, found = spec_of(kitchen, split), {}
    with (kitchen.file.parent / spec["path"]).open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))

    def judged(told: Any) -> dict[str, float]:
        chosen = told.predictions.argmax(-1)
        f1 = f1_score(told.label_ids, chosen, average="macro", zero_division=0)
        return {"accuracy": float((chosen == told.label_ids).mean()), "macro_f1": float(f1)}

    for item in kitchen.ingredients:
        folder = item.path if item.path.is_dir() else item.path.parent
        model, tokenizer = (
            kind.from_pretrained(folder, local_files_only=True)
            for kind in (AutoModelForSequenceClassification, AutoTokenizer)
        )
        texts = tokenizer([row[spec["text"]] for row in rows], truncation=True)["input_ids"]
        labels = [model.config.label2id.get(row["label"], row["label"]) for row in rows]
        examples = [{"input_ids": one, "labels": int(label)} for one, label in zip(texts, labels, strict=True)]
        arguments = TrainingArguments(
            str(out), per_device_eval_batch_size=64, report_to=[], use_cpu=True, disable_tqdm=True
        )
        trainer = Trainer(
            model, arguments, DataCollatorWithPadding(tokenizer), eval_dataset=examples, compute_metrics=judged
        )
        told = trainer.evaluate()
        found[item.name] = {name: told[f"eval_{name}"] for name in ("accuracy", "loss", "macro_f1")}
    return found


def by_windows(kitchen: sv.Kitchen, split: str) -> Values:
    """The strided loop of the documentation of transformers, a window at a time, document by document; the model's own
    loss, of float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec, found = spec_of(kitchen, split), {}
    lines = Path(spec["path"]).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    for item in kitchen.ingredients:
        folder = item.path if item.path.is_dir() else item.path.parent
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        longest = spec.get("max_length", model.config.n_positions)
        nats, number = 0.0, 0
        for text in texts:
            tokens, known = tokenizer(text, return_tensors="pt")["input_ids"], 0
            for start in range(0, tokens.shape[1], spec.get("stride", longest)):
                end = min(start + longest, tokens.shape[1])
                wanted = tokens[:, start:end].clone()
                wanted[:, : known - start] = -100
                counted = int((wanted[:, 1:] != -100).sum())
                if counted:
                    with torch.no_grad():
                        nats += float(model(tokens[:, start:end], labels=wanted).loss) * counted
                number, known = number + counted, end
                if end == tokens.shape[1]:
                    break
        size = sum(len(text.encode()) for text in texts)
        found[item.name] = {
            "nats_per_token": nats / number, "perplexity": float(np.exp(nats / number)),
            "bits_per_byte": nats / np.log(2) / size,
        }  # fmt: skip
    return found


def arrays(kitchen: sv.Kitchen, split: str) -> tuple[torch.Tensor, np.ndarray]:
    """Inputs and labels of a split's own file."""
    path = Path(spec_of(kitchen, split)["path"])
    told = load_file(path) if path.suffix == ".safetensors" else {k: torch.tensor(v) for k, v in _numbers(path)}
    return told["inputs"], told["labels"].numpy()


def _numbers(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path) as opened:
        yield from ((name, opened[name]) for name in ("inputs", "labels"))


def answers(model: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([model(part).double().numpy() for part in inputs.split(32)])


def by_errors(kitchen: sv.Kitchen, split: str, build: Callable[[], nn.Module]) -> Values:
    """Scikit-learn's errors of numbers."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    counted = {"rmse": root_mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}
    inputs, labels = arrays(kitchen, split)
    return {
        name: {metric: float(count(labels, told)) for metric, count in counted.items()}
        for name, model in models(kitchen, build)
        for told in [answers(model, inputs)]
    }


def by_labels(kitchen: sv.Kitchen, split: str, build: Callable[[], nn.Module]) -> Values:
    """Scikit-learn's F1 and average precision of several labels."""
    from sklearn.metrics import average_precision_score, f1_score

    inputs, labels = arrays(kitchen, split)
    found = {}
    for name, model in models(kitchen, build):
        told = answers(model, inputs)
        f1 = {
            f"{kind}_f1": float(f1_score(labels, told > 0, average=kind, zero_division=0))
            for kind in ("macro", "micro")
        }
        found[name] = f1 | {"map": float(average_precision_score(labels, told))}
    return found


def by_pixels(kitchen: sv.Kitchen, split: str, build: Callable[[], nn.Module]) -> Values:
    """Scikit-learn's Jaccard index and F1 of all pixels."""
    from PIL import Image
    from sklearn.metrics import accuracy_score, f1_score, jaccard_score

    spec = spec_of(kitchen, split)
    folders = [sorted(Path(spec[kind]).iterdir()) for kind in ("path", "masks")]
    images, masks = (np.stack([np.array(Image.open(file)) for file in files]) for files in folders)
    inputs, labels, found = torch.from_numpy(images)[:, None].float() / 255, masks.ravel(), {}
    for name, model in models(kitchen, build):
        told = answers(model, inputs).argmax(1).ravel()
        iou, dice = (float(count(labels, told, average="macro")) for count in (jaccard_score, f1_score))
        found[name] = {"mean_iou": iou, "dice": dice, "pixel_accuracy": float(accuracy_score(labels, told))}
    return found


def by_seqeval(kitchen: sv.Kitchen, split: str) -> Values:
    """Each sentence alone, the tag of a word that of its first token; counted by seqeval."""
    from seqeval.metrics import f1_score, precision_score, recall_score
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    spec, found = spec_of(kitchen, split), {}
    lines = (kitchen.file.parent / spec["path"]).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for item in kitchen.ingredients:
        folder = item.path if item.path.is_dir() else item.path.parent
        model = AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tags = []
        for row in rows:
            made = tokenizer(row[spec["text"]], is_split_into_words=True, truncation=True, return_tensors="pt")
            with torch.no_grad():
                told = model(**made).logits[0].argmax(1).tolist()
            words = made.word_ids()
            first = [words.index(word) if word in words else None for word in range(len(row[spec["text"]]))]
            tags.append(["O" if place is None else model.config.id2label[told[place]] for place in first])
        true = [row[spec["label"]] for row in rows]
        counted = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
        found[item.name] = {name: float(count(true, tags, zero_division=0)) for name, count in counted.items()}
    return found


def by_likelihood(kitchen: sv.Kitchen, split: str) -> Values:
    """Each option alone behind its context, of whose tokens as many are left out as it has alone, as in lm-eval."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec, found = spec_of(kitchen, split), {}
    rows = [json.loads(line) for line in Path(spec["path"]).read_text(encoding="utf-8").splitlines()]
    for item in kitchen.ingredients:
        folder = item.path if item.path.is_dir() else item.path.parent
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        right = 0
        for row in rows:
            known = len(tokenizer(row["context"])["input_ids"])
            chances = []
            for option in row["options"]:
                text = f"{row['context']} {option}"
                ids = torch.tensor([tokenizer(text)["input_ids"]])
                with torch.no_grad():
                    told = model(ids).logits[0].log_softmax(-1)
                chances.append(sum(float(told[at - 1, ids[0, at]]) for at in range(known, ids.shape[1])))
            right += max(range(len(chances)), key=chances.__getitem__) == row["answer"]
        found[item.name] = {"accuracy": right / len(rows)}
    return found
