"""A kitchen whose files lie elsewhere, in the dashboard: opened in the background, asked about only where code is."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from elsewhere import moved
from kitchens import change_yaml, small_kitchen
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, fresh_server, settle, trusted  # noqa: F401 - fresh_server is a fixture

from soupviz.errors import KitchenError
from soupviz.kitchen import Kitchen
from soupviz.ui import workspace
from soupviz.yaml_file import read_kitchen_file

BUCKET = "memory://bucket/small"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield moved(small_kitchen(tmp_path / "whole", ingredients=["m_*.safetensors"]), BUCKET, tmp_path / "here")
    system.store.clear()


def page(name: str, file: Path) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page(f"pages/{name}.py")
    at.query_params["kitchen"] = str(file)
    at.run()
    settle(at)
    assert not at.exception, at.exception[0].stack_trace
    return at


def test_a_kitchen_elsewhere_opens_and_is_scored_in_the_dashboard(file: Path) -> None:
    at = page("ingredients", trusted(file))
    assert [as_read(error.value) for error in at.error] == []
    assert "m_3" in str(at.dataframe[0].value)


def test_the_dashboard_tells_what_is_wrong_elsewhere_by_its_address(file: Path) -> None:
    change_yaml(file, lambda document: document.update(base=f"{BUCKET}/gone.safetensors"))
    at = page("ingredients", trusted(file))
    assert any(f"{BUCKET}/gone.safetensors: nothing is there" in as_read(error.value) for error in at.error)


def test_files_elsewhere_are_no_code_and_a_factory_elsewhere_is_refused(file: Path) -> None:
    asked = workspace.request(file, read_kitchen_file(file))
    assert [name.rpartition("/")[2] for name in asked.code] == ["model.py:build"]
    workspace.check_paths(asked)
    change_yaml(file, lambda document: document["model"].update(factory=f"{BUCKET}/model.py:build"))
    at = page("ingredients", trusted(file))
    assert any("code is not fetched" in as_read(error.value) for error in at.error)


def test_an_address_that_a_link_names_is_not_fetched(file: Path) -> None:
    asked = workspace.request(file, read_kitchen_file(file))
    workspace.bind(asked)
    opened = Kitchen.open(asked.spec, file)
    with pytest.raises(KitchenError, match=r"not in kitchen\.yaml"):
        opened.weights.resolve(f"{BUCKET}/m_0.safetensors")


def test_the_hub_s_snapshot_folder_may_link_to_its_own_blobs_and_nowhere_else(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dashboard was started with the snapshot: what it links to lies beside the folder of snapshots."""
    repository = tmp_path_factory.mktemp("hub") / "models--group--model"
    snapshot = repository / "snapshots" / "revision"
    whole = small_kitchen(snapshot, num_ingredients=2)
    (repository / "blobs").mkdir()
    for name in ("m_0", "m_1", "base"):
        (snapshot / f"{name}.safetensors").rename(repository / "blobs" / name)
        (snapshot / f"{name}.safetensors").symlink_to(f"../../blobs/{name}")
    monkeypatch.setattr("sys.argv", ["app.py", str(snapshot)])
    at = page("ingredients", trusted(whole))
    assert [as_read(error.value) for error in at.error] == []
    assert "m_1" in str(at.dataframe[0].value)
    (repository / "secret").write_bytes(b"x")
    (snapshot / "m_1.safetensors").unlink()
    (snapshot / "m_1.safetensors").symlink_to("../../secret")
    with pytest.raises(KitchenError, match="secret"):
        workspace.check_paths(workspace.request(whole, read_kitchen_file(whole)))
