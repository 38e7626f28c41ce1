"""Where the Export page may write, and how long what it prepared lies there."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from soupviz.errors import ExportError, KitchenError
from soupviz.ui import download
from soupviz.ui.export import exporting
from soupviz.weights.sharding import num_bytes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the dashboard was started with."""
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", ["app.py", str(folder)])
    return folder.resolve()


def test_a_plain_name_in_an_allowed_folder_passes(root: Path) -> None:
    assert exporting.target(str(root), "soup.pt") == root / "soup.pt"
    assert exporting.target(".", "soup.pt") == root / "soup.pt"


@pytest.mark.parametrize("name", ["../soup.pt", "a/soup.pt", "/etc/soup.pt", "a\\soup.pt"])
def test_a_name_that_leads_elsewhere_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ExportError, match="not a plain file name"):
        exporting.target(str(root), name)


def test_a_folder_outside_is_refused(root: Path) -> None:
    with pytest.raises(KitchenError, match="lies outside the folders"):
        exporting.target(str(root.parent), "soup.pt")


def test_a_link_out_of_the_folder_is_refused(root: Path) -> None:
    (root / "soup.pt").symlink_to(root.parent / "elsewhere.pt")
    with pytest.raises(KitchenError, match="lies outside the folders"):
        exporting.target(str(root), "soup.pt")


@pytest.mark.parametrize(
    ("title", "name"), [("greedy (alpha = 0.1)", "greedy-alpha-0.1"), ("../..", "soup"), ("Mix of a/b", "mix-of-a-b")]
)
def test_a_title_gives_a_plain_file_name(title: str, name: str) -> None:
    assert exporting.file_name(title) == name


def test_downloads_older_than_a_day_go_when_another_is_prepared(empty_cache):
    old, new = download.folder(), download.folder()
    (old / "soup.pt").write_bytes(b"x")
    os.utime(old, (time.time() - download.DAY - 10,) * 2)
    latest = download.folder()
    assert set((empty_cache / "downloads").iterdir()) == {new, latest}


def test_shards_are_offered_of_safetensors_only():
    class Row:
        def selectbox(self, _label: str, options: Sequence[str], *, help: str, disabled: bool = False) -> str:
            assert disabled is (len(options) == 1)
            return options[-1]

    assert exporting.choose_shards(Row(), ".pt") is None
    assert exporting.choose_shards(Row(), ".safetensors") == "500 MB"
    assert num_bytes("500 MB") == 500 * 10**6
