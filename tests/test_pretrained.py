"""transformers:FOLDER builds the class that config.json names, from the folder alone."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from soupviz.errors import ModelError
from soupviz.models import building
from soupviz.models.identity import fingerprint
from soupviz.spec import ModelSpec

TINY = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 8, "vocab_size": 11,
    "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "max_position_embeddings": 8,
}  # fmt: skip


def spec(folder: Path, changes: dict[str, Any] | None = None, **args: Any) -> ModelSpec:
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "config.json").write_text(json.dumps(TINY | (changes or {})))
    return ModelSpec(factory="transformers:run", args=args)


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs transformers")


@pytest.mark.extras
def test_the_class_under_architectures_is_built_with_the_folders_sizes(tmp_path: Path, transformers: Any) -> None:
    model = building.build(spec(tmp_path, num_labels=3), tmp_path)
    assert type(model) is transformers.BertForSequenceClassification
    with torch.no_grad():
        logits = building.logits_of(model(torch.zeros(2, 4, dtype=torch.long)))
    assert logits.shape == (2, 3)


@pytest.mark.extras
def test_another_configuration_is_another_model(tmp_path: Path, transformers: Any) -> None:
    seen = set()
    for layers in (1, 2):
        one = spec(tmp_path, {"num_hidden_layers": layers})
        seen.add(fingerprint(one, building.build(one, tmp_path), tmp_path))
    assert len(seen) == 2


@pytest.mark.extras
@pytest.mark.parametrize("name", ["BertForNothing", "Trainer", "pipeline", "__name__"])
def test_what_is_no_model_of_transformers_is_refused_by_name(tmp_path: Path, transformers: Any, name: str) -> None:
    with pytest.raises(ModelError, match=f"no model '{name}'"):
        building.build(spec(tmp_path, {"architectures": [name]}), tmp_path)


@pytest.mark.extras
def test_code_of_the_folder_is_not_run(tmp_path: Path, transformers: Any) -> None:
    own = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "evil"}
    one = spec(tmp_path, own)
    (tmp_path / "run" / "evil.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ModelError, match="run"):
        building.build(one, tmp_path)


@pytest.mark.extras
def test_an_argument_that_the_configuration_lacks_is_refused_by_name(tmp_path: Path, transformers: Any) -> None:
    with pytest.raises(ModelError, match="num_lables"):
        building.build(spec(tmp_path, num_lables=3), tmp_path)


@pytest.mark.extras
def test_nothing_is_fetched_while_a_model_is_built(tmp_path: Path, transformers: Any, monkeypatch: Any) -> None:
    from huggingface_hub import constants

    seen = []

    class Watching(transformers.BertForSequenceClassification):
        def __init__(self, config: Any):
            seen.append(constants.HF_HUB_OFFLINE)
            super().__init__(config)

    monkeypatch.setattr(transformers, "BertForSequenceClassification", Watching)
    before = constants.HF_HUB_OFFLINE
    building.build(spec(tmp_path), tmp_path)
    assert (seen, constants.HF_HUB_OFFLINE) == ([True], before)


def test_without_transformers_the_command_that_installs_it_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="transformers, which is not installed: pip install"):
        building.build(spec(tmp_path), tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model_type": "bert"}', '{"architectures": []}'])
def test_a_folder_without_a_models_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    one = spec(tmp_path)
    (tmp_path / "run" / "config.json").unlink()
    if content is not None:
        (tmp_path / "run" / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        building.build(one, tmp_path)


def test_without_ultralytics_the_command_that_installs_it_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", None)
    one = ModelSpec(factory="soupviz.models.yolo:classifier", args={"model": "yolo11n-cls.yaml", "num_classes": 2})
    with pytest.raises(ModelError, match="pip install ultralytics"):
        building.build(one, tmp_path)


@pytest.mark.parametrize("name", ["https://example.org/a-cls.yaml", "../a-cls.yaml", "best.pt"])
def test_a_classifier_of_ultralytics_is_named_and_never_a_place(tmp_path: Path, name: str) -> None:
    one = ModelSpec(factory="soupviz.models.yolo:classifier", args={"model": name, "num_classes": 2})
    with pytest.raises(ModelError, match=r"expected a name such as yolo11n-cls\.yaml"):
        building.build(one, tmp_path)


@pytest.mark.extras
def test_an_argument_names_another_class_than_the_folder_does(tmp_path: Path, transformers: Any) -> None:
    folder = spec(tmp_path, {"architectures": ["BertForPreTraining"]}).factory
    head = ModelSpec(factory=folder, args={"architectures": ["BertForSequenceClassification"], "num_labels": 5})
    model = building.build(head, tmp_path)
    assert type(model) is transformers.BertForSequenceClassification and model.classifier.out_features == 5
    with pytest.raises(ModelError, match="no model 'Trainer'"):
        building.build(ModelSpec(factory=folder, args={"architectures": ["Trainer"]}), tmp_path)
