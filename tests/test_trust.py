"""What may be imported, unpickled and read: the spellings that go without a question, and using what was approved."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import MLP, change_yaml, small_kitchen

from soupviz import trust
from soupviz.errors import KitchenError, SoupError
from soupviz.kitchen import Kitchen
from soupviz.mixing.named import NamedWeights
from soupviz.models.building import load_function
from soupviz.spec import KitchenSpec
from soupviz.ui import workspace
from soupviz.yaml_file import read_kitchen_file, validate

SPLIT = {"format": "arrays", "path": "held_out.npz"}


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is bound by another test."""
    monkeypatch.setattr(trust.binding, "_bound", {})


@pytest.fixture
def root(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that a dashboard was started with."""
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", ["app.py", str(folder)])
    return folder.resolve()


@pytest.fixture
def beside(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a kitchen that Python looks in first, as where `python -m soupviz dashboard` is started in it."""
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.chdir(root)
    return root


def spec_of(**keys: Any) -> KitchenSpec:
    document = {
        "model": {"factory": "torchvision:resnet18"},
        "ingredients": ["*.safetensors"],
        "data": {"held_out": SPLIT},
    }
    return validate(document | keys, "kitchen.yaml")


def asked(folder: Path, **keys: Any) -> trust.Request:
    return workspace.request(folder / "kitchen.yaml", spec_of(**keys))


def model(factory: str, **args: Any) -> dict[str, Any]:
    return {"model": {"factory": factory, "args": args}}


@pytest.mark.parametrize("factory", ["torchvision:resnet18", "timm:resnet18", "transformers:run", *trust.OWN_FACTORIES])
def test_libraries_and_soupvizs_own_factories_run_no_code_of_anybody_else(root: Path, factory: str) -> None:
    assert asked(root, **model(factory)).code == ()
    assert workspace.is_trusted(asked(root, **model(factory)))


SPELLINGS = [
    "soupviz.py:build", "./soupviz.py:build", "sub/../soupviz.py:build", "soupviz.evil:build", "soupviz:build",
    "soupviz.demo:build", "soupviz.demo.py:DigitsNet", "./soupviz.demo:DigitsNet", " soupviz.demo:DigitsNet",
    "Soupviz.demo:DigitsNet", "soupviz.demo:DigitsNet:", "torchvision.models:resnet18", "torchvision.x:resnet18",
    "torchvision.py:resnet18", "./torchvision:resnet18", "torchvision/x.py:resnet18", "Torchvision:resnet18",
    "TORCHVISION:resnet18", " torchvision:resnet18", "torchvision :resnet18", "timm.py:build", "timm/x.py:build",
    "timm.models:resnet18", "TIMM:resnet18", "transformers.models:x", "somewhere.models:build", "MODEL.PY:build",
    "model.py:build", ":build", "",
]  # fmt: skip


@pytest.mark.parametrize("factory", SPELLINGS)
def test_every_other_spelling_is_asked_about(root: Path, factory: str) -> None:
    found = asked(root, **model(factory))
    assert found.code == (factory,)
    assert not workspace.is_trusted(found)
    workspace.trust(found)
    assert workspace.is_trusted(asked(root, **model(factory)))


@given(st.text(st.sampled_from("soupvizdemtrch./\\:_ A"), max_size=24) | st.text(max_size=12))
def test_no_other_text_is_taken_for_a_known_factory(text: str) -> None:
    library = text.partition(":")[0]
    assert trust.runs_code(text) == (library not in trust.LIBRARIES and text not in trust.OWN_FACTORIES)


@pytest.mark.parametrize("name", ["timm.py", "timm/__init__.py", "transformers.py"])
def test_a_file_beside_the_kitchen_that_has_a_librarys_name_is_code(
    beside: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = name.partition("/")[0].removesuffix(".py")
    for module in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    factory = f"{library}:resnet18"
    assert asked(beside, **model(factory)).code == ()
    (beside / name).parent.mkdir(exist_ok=True)
    (beside / name).write_text("a = 1\n", encoding="utf-8")
    found = asked(beside, **model(factory))
    assert found.code == (factory,)
    assert str(beside / name) in found.seen


def test_a_file_that_a_library_would_unpickle_is_asked_about_and_asked_again_when_it_changes(root: Path) -> None:
    keys = model("timm:resnet18", checkpoint_path="x.pth")
    assert asked(root, **keys).code == ()
    torch.save({"a": torch.zeros(1)}, root / "x.pth")
    found = asked(root, **keys)
    assert found.code == ("timm:resnet18 with x.pth",)
    workspace.trust(found)
    assert workspace.is_trusted(asked(root, **keys))
    (root / "x.pth").write_bytes(b"another")
    assert not workspace.is_trusted(asked(root, **keys))


def test_the_files_that_a_kitchen_names_are_looked_for_once_and_each_is_read_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "x.pth").write_bytes(b"large")
    looked, read = [], []
    files_in, file_digest = trust.naming.files_in, trust.asking.file_digest
    monkeypatch.setattr(trust.naming, "files_in", lambda *given: looked.append(given) or files_in(*given))
    monkeypatch.setattr(trust.asking, "file_digest", lambda path: read.append(path) or file_digest(path))
    split = {"format": "torchvision:CIFAR10", "path": "d", "args": {"file": "x.pth"}}
    asked(root, **model("timm:resnet18", checkpoint_path="x.pth"), data={"held_out": split})
    assert len(looked) == 2  # the model's arguments, and the split's
    assert read == [root / "x.pth"]


def test_trust_is_asked_for_each_file_of_code_and_again_when_it_changes(root: Path) -> None:
    keys = model("model.py:build") | {"data": {"held_out": {"format": "python", "path": "data.py:held_out"}}}
    for name in ("model.py", "data.py"):
        (root / name).write_text("a = 1\n", encoding="utf-8")
    assert asked(root, **keys).code == ("model.py:build", "data.py:held_out")
    assert not workspace.is_trusted(asked(root, **keys))
    workspace.trust(asked(root, **keys))
    assert workspace.is_trusted(asked(root, **keys))
    for name in ("data.py", "model.py"):
        (root / name).write_text("a = 2\n", encoding="utf-8")
        assert not workspace.is_trusted(asked(root, **keys))
        workspace.trust(asked(root, **keys))
        assert workspace.is_trusted(asked(root, **keys))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import helper", "helper.py"),
        ("import helper.part", "helper/part.py"),
        ("from helper import part", "helper/__init__.py"),
        ("from .helper import part", "helper.py"),
        ("from . import helper", "helper.py"),
        ("def build():\n    from helper.part import x", "helper/part.py"),
        ("import importlib\nimportlib.import_module('helper')", "helper.py"),
        ("exec(open('helper.py').read())", "helper.py"),
        ("import other", "helper.py"),
    ],
)
def test_what_the_code_imports_from_beside_it_counts(root: Path, line: str, name: str) -> None:
    (root / "model.py").write_text(line + "\n", encoding="utf-8")
    (root / "other.py").write_text("import helper\nimport model\n", encoding="utf-8")  # a circle ends
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("a = 1\n", encoding="utf-8")
    workspace.trust(asked(root, **model("model.py:build")))
    assert workspace.is_trusted(asked(root, **model("model.py:build")))
    (root / name).write_text("a = 2\n", encoding="utf-8")
    assert not workspace.is_trusted(asked(root, **model("model.py:build")))


def test_trust_ends_when_a_module_appears_that_the_code_would_import(root: Path) -> None:
    (root / "model.py").write_text("import json\n", encoding="utf-8")
    workspace.trust(asked(root, **model("model.py:build")))
    (root / "json.py").write_text("a = 1\n", encoding="utf-8")
    assert not workspace.is_trusted(asked(root, **model("model.py:build")))


def test_trust_ends_when_kitchen_yaml_gives_the_code_something_else_to_do(root: Path) -> None:
    (root / "model.py").write_text("a = 1\n", encoding="utf-8")
    workspace.trust(asked(root, **model("model.py:build", width=3)))
    assert workspace.is_trusted(asked(root, **model("model.py:build", width=3), name="another title"))
    assert not workspace.is_trusted(asked(root, **model("model.py:main", width=3)))
    assert not workspace.is_trusted(asked(root, **model("model.py:build", width=4)))


def test_trust_in_a_file_is_not_trust_in_its_namesake_elsewhere(root: Path) -> None:
    for folder in (root, root / "other"):
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text("a = 1\n", encoding="utf-8")
    workspace.trust(asked(root, **model("model.py:build")))
    assert not workspace.is_trusted(asked(root / "other", **model("model.py:build")))


def test_trust_in_a_missing_file_ends_when_the_file_appears(root: Path) -> None:
    workspace.trust(asked(root, **model("model.py:build")))
    (root / "model.py").write_text("a = 1\n", encoding="utf-8")
    assert not workspace.is_trusted(asked(root, **model("model.py:build")))


def test_looking_for_code_runs_none_of_it(beside: Path) -> None:
    (beside / "noisy").mkdir()
    for name in ("noisy/__init__.py", "noisy/models.py"):
        (beside / name).write_text("raise SystemExit\n", encoding="utf-8")
    found = asked(beside, **model("noisy.models:build"))
    assert {str(beside / "noisy" / name) for name in ("__init__.py", "models.py")} <= set(found.seen)


@pytest.mark.parametrize(
    "keys",
    [
        model("/elsewhere/model.py:build"),
        model("../model.py:build"),
        model("transformers:../../elsewhere"),
        model("transformers:/elsewhere"),
        model("timm:resnet18", checkpoint_path="/elsewhere/x.pth"),
        model("timm:resnet18", pretrained_cfg={"file": "../x.pth"}),
        model("model.py:build", places=["a", {"b": "../../x"}]),
        model("model.py:build", url="file:///elsewhere/x.pth"),
        model("model.py:build", place="~/x"),
        model("model.py:build", place="a\0b"),
        {"data": {"held_out": {"format": "torchvision:CIFAR10", "path": "d", "args": {"file": "/elsewhere/a.json"}}}},
        {"data": {"held_out": SPLIT | {"slices": {"file": "../slices.csv", "column": "a"}}}},
    ],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused_wherever_kitchen_yaml_names_it(root: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(KitchenError, match=r"lies outside the folders|is no path"):
        workspace.check_paths(asked(root, **keys))


def test_a_file_of_the_current_folder_that_arguments_name_is_refused_outside_the_roots(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.pth").write_bytes(b"x")
    with pytest.raises(KitchenError, match=r"secret\.pth lies outside"):
        workspace.check_paths(asked(root, **model("timm:resnet18", checkpoint_path="secret.pth")))


@pytest.mark.parametrize("link", ["model.py", "val", "val/cat", "val/cat/0.png"])
def test_a_link_that_leads_out_is_refused_at_every_level(root: Path, tmp_path: Path, link: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(secret)
    keys = model("model.py:build") | {"data": {"held_out": {"format": "imagefolder", "path": "val"}}}
    with pytest.raises(KitchenError, match="secret lies outside"):
        workspace.check_paths(asked(root, **keys))


def test_a_link_to_a_folder_whose_own_links_lead_out_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "val").mkdir()
    (root / "other" / "more").mkdir(parents=True)
    (root / "val" / "cat").symlink_to(root / "other")
    (root / "other" / "back").symlink_to(root / "val")  # a circle ends
    (root / "m.safetensors").write_bytes(b"x")
    keys = {"data": {"held_out": {"format": "imagefolder", "path": "val"}}}
    workspace.check_paths(asked(root, **keys))
    (root / "other" / "more" / "out").symlink_to(tmp_path)
    with pytest.raises(KitchenError, match="lies outside"):
        workspace.check_paths(asked(root, **keys))


def test_labels_that_look_like_paths_are_no_paths(root: Path) -> None:
    (root / "m.safetensors").write_bytes(b"x")
    workspace.check_paths(asked(root, classes=["/m/01g317", "../b"], name="../a"))


@pytest.mark.parametrize("name", ["../x.bin", "/elsewhere/x.bin", "link.bin"])
def test_an_index_leads_to_no_file_outside_the_folders(root: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    (root / "link.bin").symlink_to(tmp_path / "x.bin")
    index = root / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
    with pytest.raises(SoupError, match=r"outside (its folder|the folders)"):
        workspace.check_paths(asked(root, ingredients=[index.name]))


def approved(file: Path) -> trust.Request:
    """A kitchen as the dashboard opens it."""
    found = workspace.request(file, read_kitchen_file(file))
    workspace.bind(found)
    return found


def test_code_that_changes_between_the_yes_and_its_use_is_not_run(root: Path) -> None:
    file = small_kitchen(root / "small", num_examples=20)
    spec = approved(file).spec
    Kitchen.open(spec, file)
    (file.parent / "model.py").write_text(MLP + "# changed\n", encoding="utf-8")
    with pytest.raises(KitchenError, match=r"model\.py:build.* is not what you said yes to"):
        Kitchen.open(spec, file)
    workspace.bind(workspace.request(file, spec))
    Kitchen.open(spec, file)


def test_a_module_that_appears_beside_approved_code_is_not_imported(root: Path) -> None:
    file = small_kitchen(root / "small", source="import json\n" + MLP, num_examples=20)
    spec = approved(file).spec
    (file.parent / "json.py").write_text("raise SystemExit\n", encoding="utf-8")
    with pytest.raises(KitchenError, match=r"json\.py, which is not what you said yes to"):
        Kitchen.open(spec, file)


def test_nothing_but_what_was_approved_runs_in_a_kitchens_folder(root: Path) -> None:
    file = small_kitchen(root / "small", num_examples=20)
    approved(file)
    (file.parent / "more.py").write_text("def f():\n    return 1\n", encoding="utf-8")
    with pytest.raises(KitchenError, match=r"more\.py"):
        load_function("more.py:f", file.parent)


def test_on_the_command_line_naming_a_kitchen_is_consent(root: Path) -> None:
    file = small_kitchen(root / "small", num_examples=20)
    Kitchen.load(file)
    (file.parent / "model.py").write_text(MLP + "# changed\n", encoding="utf-8")
    Kitchen.load(file)


def test_the_source_that_was_checked_is_what_runs_not_what_was_compiled_before(root: Path) -> None:
    import py_compile

    path = root / "model.py"
    path.write_text("def f():\n    return 'compiled'\n", encoding="utf-8")
    py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    path.write_text("def f():\n    return 'read'\n", encoding="utf-8")
    assert load_function("model.py:f", root)() == "read"


def test_a_guests_kitchen_is_opened_as_it_was_approved(root: Path) -> None:
    file = small_kitchen(root / "own", num_examples=20)
    other = small_kitchen(root / "other", num_examples=20, num_ingredients=1)
    change_yaml(file, lambda yaml: yaml.update(other_models={"other": "../other"}))
    found = approved(file)
    change_yaml(other, lambda yaml: yaml["model"].update(factory="/elsewhere/x.py:build"))
    opened = Kitchen.open(found.spec, file, other_models=found.other_models)
    assert list(opened.other_models.items) == ["other/m_0"]


def test_the_dashboard_asks_for_trust_in_a_guests_code_too(root: Path) -> None:
    file = small_kitchen(root / "own", num_examples=20)
    other = small_kitchen(root / "other", num_examples=20)
    change_yaml(file, lambda yaml: yaml.update(other_models={"other": "../other"}))
    found = workspace.request(file, read_kitchen_file(file))
    assert found.code == ("model.py:build", "model.py:build")
    workspace.trust(found)
    assert workspace.is_trusted(workspace.request(file, read_kitchen_file(file)))
    (other.parent / "model.py").write_text(MLP + "\n# changed\n", encoding="utf-8")
    assert not workspace.is_trusted(workspace.request(file, read_kitchen_file(file)))


def test_a_soups_recipe_reads_no_file_outside_the_dashboards_folders(root: Path, tmp_path: Path) -> None:
    file = small_kitchen(root / "small", num_examples=20)
    elsewhere = small_kitchen(tmp_path / "elsewhere", num_examples=20).with_name("m_0.safetensors")
    named: NamedWeights = Kitchen.load(file).weights
    assert named.resolve(str(elsewhere)).path == elsewhere
    found = approved(file)
    with pytest.raises(KitchenError, match="lies outside the folders"):
        Kitchen.open(found.spec, file).weights.resolve(str(elsewhere))


TASK = """
import soupviz as sv

class Mine(sv.Task):
    metrics = (sv.SumMetric("n", "n", "", True, (), lambda n: n),)
"""


def test_a_task_of_the_users_own_is_asked_about_and_refused_once_it_changed(root):
    small_kitchen(root, source=MLP)
    (root / "mine.py").write_text(TASK, encoding="utf-8")
    file = change_yaml(root / "kitchen.yaml", lambda kitchen: kitchen.update(task="mine.py:Mine"))
    found = workspace.request(file, read_kitchen_file(file))
    assert "mine.py:Mine" in found.code
    assert str(root / "mine.py") in found.seen
    trust.bind(found, lambda path: path)
    Kitchen.load(file)
    (root / "mine.py").write_text(TASK + "\n# changed\n", encoding="utf-8")
    with pytest.raises(KitchenError, match=r"mine\.py.*not what you said yes to"):
        Kitchen.load(file)


def test_a_task_of_soupvizs_own_is_not_asked_about(root):
    small_kitchen(root, source=MLP, task="classification")
    assert asked(root, task="regression").code == ()


def test_tokens_that_are_listed_are_no_paths_but_the_file_of_a_vocabulary_is(root: Path) -> None:
    def speech(vocabulary: Any) -> dict[str, Any]:
        return model("timm:resnet18") | {"task": {"name": "transcription", "vocabulary": vocabulary}}

    (root / "m.safetensors").write_bytes(b"x")
    workspace.check_paths(asked(root, **speech(["_", "/", "..", "a"])))
    with pytest.raises(KitchenError, match="secret"):
        workspace.check_paths(asked(root, **speech("/secret/vocab.txt")))


def test_a_normaliser_of_a_package_is_asked_about_as_one_of_a_file_is(root: Path, monkeypatch) -> None:
    (root / "spelling.py").write_text("def short(text):\n    return text\n")
    monkeypatch.syspath_prepend(root)
    (root / "m.safetensors").write_bytes(b"x")
    for name in ("spelling:short", "spelling.py:short"):
        keys = {"name": "transcription", "vocabulary": ["_", "a:b"], "normalizer": name}
        found = asked(root, **model("timm:resnet18") | {"task": keys})
        assert name in found.code and any(file.endswith("spelling.py") for file in found.seen)
