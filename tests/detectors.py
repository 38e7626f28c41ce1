"""Kitchens of a small detector that learns bright squares on noise, written as COCO and as YOLO has them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kitchens import build_model, save, write_yaml
from PIL import Image
from torch import Tensor, nn

NAMES = ("square", "bar")
SIDE = {"square": (6, 6), "bar": (10, 4)}
"""Width and height of the shapes in pixels."""

MODEL = """
import torch
from torch import nn


class Detector(nn.Module):
    '''A shape at each pixel of a heat map, whose size its class tells.'''

    def __init__(self, first=1, most=12):
        super().__init__()
        self.first, self.most = first, most
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 5, padding=2), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 2, 7, padding=3)
        )
        self.register_buffer("sides", torch.tensor([[6.0, 6.0], [10.0, 4.0]]))

    def heat(self, images):
        return self.body(images)

    def forward(self, images):
        found = []
        for image in images:
            heat = self.heat(image[None])[0].sigmoid()
            peaks = torch.nn.functional.max_pool2d(heat[None], 3, 1, 1)[0] == heat
            scores, places = (heat * peaks).flatten().topk(self.most)
            label, y, x = places // heat[0].numel(), places // heat.shape[2] % heat.shape[1], places % heat.shape[2]
            centre = torch.stack([x, y], dim=1)
            half = self.sides[label] / 2
            boxes = torch.cat([centre - half, centre + half], dim=1)
            found.append({"boxes": boxes, "scores": scores, "labels": label + self.first})
        return found


def build(first=1, most=12):
    return Detector(first, most)
"""


def scene(random: np.random.Generator, side: tuple[int, int] = (32, 40)) -> tuple[np.ndarray, np.ndarray]:
    """A picture, shape (height, width, 3), and its objects: rows of x1, y1, x2, y2 and the class's place in NAMES."""
    height, width = side
    picture = random.normal(90, 32, (height, width, 3))
    rows = []
    for _ in range(random.integers(0, 5)):
        label = int(random.integers(len(NAMES)))
        wide, high = SIDE[NAMES[label]] + random.integers(-1, 2, 2)
        x, y = int(random.integers(width - wide)), int(random.integers(height - high))
        if any(x < b[2] and b[0] < x + wide and y < b[3] and b[1] < y + high for b in rows):
            continue
        picture[y : y + high, x : x + wide] += 42
        rows.append([x, y, x + wide, y + high, label])
    return picture.clip(0, 255).astype(np.uint8), np.array(rows, dtype=np.float64).reshape(-1, 5)


def scenes(seed: int, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures of two sizes in turn."""
    random = np.random.default_rng(seed)
    return [scene(random, (32, 40) if index % 2 else (30, 30)) for index in range(number)]


def coco_of(truths: Sequence[np.ndarray], files: Sequence[str], names: Sequence[str] = NAMES) -> dict[str, Any]:
    """What COCO's JSON says of these; classes count from 1."""
    rows = [(image, row) for image, of in enumerate(truths) for row in of]
    return {
        "images": [{"id": index, "file_name": file} for index, file in enumerate(files)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": int(row[4]) + 1,
                "bbox": [row[0], row[1], row[2] - row[0], row[3] - row[1]],
                "area": (row[2] - row[0]) * (row[3] - row[1]),
                "iscrowd": 0,
            }
            for number, (image, row) in enumerate(rows, 1)
        ],
        "categories": [{"id": place + 1, "name": name} for place, name in enumerate(names)],
    }


def write_coco(folder: Path, name: str, seed: int, number: int) -> dict[str, str]:
    """A split as COCO has it, and what kitchen.yaml says of it."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    made = scenes(seed, number)
    files = [f"{index:03d}.png" for index in range(number)]
    for file, (picture, _) in zip(files, made, strict=True):
        Image.fromarray(picture).save(folder / name / file)
    told = json.dumps(coco_of([truths for _, truths in made], files))
    (folder / f"{name}.json").write_text(told, encoding="utf-8")
    return {"format": "coco", "path": name, "annotations": f"{name}.json"}


def write_yolo(folder: Path, splits: Mapping[str, tuple[int, int]]) -> None:
    """A folder as Ultralytics has it. splits: by name there the seed and the number of images."""
    for name, (seed, number) in splits.items():
        for part in ("images", "labels"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
        for index, (picture, truths) in enumerate(scenes(seed, number)):
            height, width = picture.shape[:2]
            Image.fromarray(picture).save(folder / "images" / name / f"{index:03d}.png")
            lines = [
                f"{int(label)} {(x1 + x2) / 2 / width:.8f} {(y1 + y2) / 2 / height:.8f} {(x2 - x1) / width:.8f} "
                f"{(y2 - y1) / height:.8f}\n"
                for x1, y1, x2, y2, label in truths
            ]
            if lines:
                (folder / "labels" / name / f"{index:03d}.txt").write_text("".join(lines), encoding="utf-8")
    told = [*(f"{name}: images/{name}" for name in splits), "names:", *(f"  {k}: {one}" for k, one in enumerate(NAMES))]
    (folder / "data.yaml").write_text("\n".join(told) + "\n", encoding="utf-8")


def train(model: nn.Module, made: Sequence[tuple[np.ndarray, np.ndarray]], steps: int, seed: int, rate: float) -> None:
    """Lower the cross-entropy of the heat map at the centres of the shapes."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        picture, truths = made[int(torch.randint(len(made), (1,), generator=generator))]
        heat = model.heat(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)  # type: ignore[operator]
        goal = torch.zeros_like(heat)
        for x1, y1, x2, y2, label in truths:
            goal[0, int(label), int((y1 + y2) / 2), int((x1 + x2) / 2)] = 1.0
        loss = nn.functional.binary_cross_entropy_with_logits(heat, goal, weight=1 + 30 * goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def detection_kitchen(
    folder: Path,
    *,
    num_ingredients: int = 4,
    num_units: int = 40,
    steps: int = 120,
    first: int = 1,
    **keys: Any,
) -> Path:
    """A base, fine-tunes of it, and splits as COCO has them. first: the number of the detector's first class."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    model = build_model(MODEL, first=first)
    with torch.random.fork_rng(devices=[]):
        train(model, scenes(0, 60), steps, seed=0, rate=0.01)
        base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        save(base, folder / "base.safetensors")
        for index in range(num_ingredients):
            model.load_state_dict(base)
            train(model, scenes(10 + index, 15), steps // 3, seed=index, rate=0.003 * (1 + index % 3))
            save(model.state_dict(), folder / f"m_{index}.safetensors")
    document: dict[str, Any] = {
        "name": "shapes",
        "task": "detection",
        "model": {"factory": "model.py:build", "args": {"first": first}},
        "ingredients": ["m_*.safetensors"],
        "base": "base.safetensors",
        "data": {
            "held_out": write_coco(folder, "val", 1, num_units),
            "test": write_coco(folder, "test", 2, num_units),
            "train": write_coco(folder, "train", 3, num_units),
            "shifts": {
                "blur": {**write_coco(folder, "later", 4, num_units), "transform": {"corrupt": "gaussian_blur"}}
            },
        },
        "device": "cpu",
    }
    return write_yaml(folder, **(document | keys))


def images_of(tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(one.shape) for one in tensors]
