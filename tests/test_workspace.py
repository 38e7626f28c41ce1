"""The folders the dashboard may touch, and the kitchens it knows."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupviz.errors import KitchenError
from soupviz.files import cache_folder
from soupviz.spec import KitchenSpec
from soupviz.trust import Request
from soupviz.ui import opening, workspace
from soupviz.yaml_file import validate

SPLIT = {"format": "arrays", "path": "held_out.npz"}


def spec_of(**keys: Any) -> KitchenSpec:
    document = {
        "model": {"factory": "torchvision:resnet18"},
        "ingredients": ["*.safetensors"],
        "data": {"held_out": SPLIT},
    }
    return validate(document | keys, "kitchen.yaml")


@pytest.fixture
def root(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that a dashboard was started with."""
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", ["app.py", str(folder)])
    return folder.resolve()


def kitchen_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "kitchen.yaml"
    file.write_text("name: x\n", encoding="utf-8")
    return file


def test_roots_are_the_folders_named_after_the_dashes(root: Path, tmp_path: Path) -> None:
    sys.argv = ["app.py", str(root), "--option", str(tmp_path), str(tmp_path / "missing")]
    assert workspace.roots() == [root, tmp_path.resolve()]


def test_the_root_is_the_current_folder_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py"])
    monkeypatch.chdir(tmp_path)
    assert workspace.roots() == [tmp_path]


def test_a_path_below_a_root_or_the_cache_is_allowed(root: Path) -> None:
    assert workspace.allowed(root / "a" / "b.yaml") == root / "a" / "b.yaml"
    assert workspace.allowed(root) == root
    assert workspace.allowed("a/b.yaml") == root / "a" / "b.yaml"
    assert workspace.allowed(cache_folder("demo")) == cache_folder("demo").resolve()


@pytest.mark.parametrize("escape", ["../elsewhere", "a/../../elsewhere", "/etc/passwd", "~"])
def test_a_path_outside_the_roots_is_refused_with_the_remedy(root: Path, escape: str) -> None:
    expected = r"lies outside the folders .*start the dashboard with: python -m soupviz dashboard /"
    with pytest.raises(KitchenError, match=expected):
        workspace.allowed(escape)


@pytest.mark.parametrize(
    "use", [workspace.allowed, workspace.open_folder, lambda typed: opening._split(workspace.roots()[0], typed, 0, "")]
)
@pytest.mark.parametrize("secret", ["", "?X-Amz-Signature=abc"])
def test_an_address_is_refused_with_the_command_that_takes_it_and_without_its_secrets(
    root: Path, use: Callable[[str], object], secret: str
) -> None:
    with pytest.raises(KitchenError, match=r"^s3://lab/sweep\S* is an address") as caught:
        use(f"s3://lab/sweep{secret}")
    assert "python -m soupviz new" in str(caught.value) and "abc" not in str(caught.value)


def test_on_the_page_that_opens_folders_the_remedy_is_said_to_be_there(root: Path) -> None:
    with pytest.raises(KitchenError, match=r"Name its folder above, under Open a folder, or start"):
        opening._split(root, "/etc", 0, "")
    with pytest.raises(KitchenError, match=r"under Open a folder on the page Kitchens, or start"):
        workspace.allowed("/etc")


def test_a_folder_whose_name_begins_like_a_root_is_refused(root: Path) -> None:
    sibling = root.with_name("root-of-another")
    sibling.mkdir()
    with pytest.raises(KitchenError, match="lies outside"):
        workspace.allowed(sibling)


def test_a_link_that_leads_outside_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(KitchenError, match="secret lies outside"):
        workspace.allowed(root / "link")


def test_kitchens_are_found_three_folders_deep_and_not_in_hidden_ones(root: Path) -> None:
    wanted = [kitchen_in(root), kitchen_in(root / "a"), kitchen_in(root / "a" / "b" / "c")]
    kitchen_in(root / "a" / "b" / "c" / "d")
    kitchen_in(root / ".hidden")
    assert workspace.found_kitchens() == sorted(wanted)


def test_the_first_kitchen_is_the_highest_of_folders_that_were_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace.first_kitchen() is None
    deep = kitchen_in(root / "a" / "b")
    assert workspace.first_kitchen() == deep
    high = kitchen_in(root / "z")
    assert workspace.first_kitchen() == high
    monkeypatch.setattr("sys.argv", ["app.py"])
    monkeypatch.chdir(root)
    assert workspace.first_kitchen() is None  # of several, and none was asked for
    high.unlink()
    assert workspace.first_kitchen() == deep


def test_opened_kitchens_are_remembered_latest_first_once_and_while_they_exist(root: Path) -> None:
    assert workspace.opened_before() == []
    first, second = kitchen_in(root / "a"), kitchen_in(root / "b")
    for file in (first, second, first):
        workspace.remember_opened(file)
    assert workspace.opened_before() == [first, second]
    first.unlink()
    assert workspace.opened_before() == [second]


def test_a_damaged_memory_is_as_good_as_none(root: Path) -> None:
    file = kitchen_in(root / "a")
    (cache_folder() / "dashboard.json").write_text("{not json", encoding="utf-8")
    assert workspace.opened_before() == []
    workspace.remember_opened(file)
    assert workspace.opened_before() == [file]


def asked(spec: KitchenSpec, folder: Path) -> Request:
    return workspace.request(folder / "kitchen.yaml", spec)


def test_a_kitchen_inside_the_roots_passes(root: Path) -> None:
    (root / "m.safetensors").write_bytes(b"x")
    workspace.check_paths(asked(spec_of(base="base.safetensors", model={"factory": "model.py:build"}), root))


@pytest.mark.parametrize(
    "keys",
    [
        {"ingredients": ["../out/*.safetensors"]},
        {"ingredients": {"a": "/elsewhere/a.pt"}},
        {"base": "../base.safetensors"},
        {"data": {"held_out": {"format": "imagefolder", "path": "../images"}}},
        {"data": {"held_out": SPLIT, "shifts": {"blur": {"format": "arrays", "path": "/elsewhere/x.npz"}}}},
        {"data": {"held_out": {"format": "python", "path": "../data.py:held_out"}}},
        {"model": {"factory": "../model.py:build"}},
    ],
)
def test_a_kitchen_that_reaches_outside_is_refused(root: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(KitchenError, match="lies outside the folders"):
        workspace.check_paths(asked(spec_of(**keys), root))


def test_a_link_among_the_checkpoints_that_leads_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    (root / "m_0.safetensors").write_bytes(b"x")
    (root / "held_out.npz").write_bytes(b"x")
    workspace.check_paths(asked(spec_of(), root))
    (root / "m_1.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(KitchenError, match=r"secret\.safetensors lies outside the folders"):
        workspace.check_paths(asked(spec_of(), root))
