"""A kitchen whose files lie elsewhere, in the dashboard: opened in the background, asked about only where code is."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from elsewhere import moved
from kitchens import change_yaml, small_kitchen
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, fresh_server, settle, trusted  # noqa: F401 - fresh_server is a fixture

import soupviz as sv
from soupviz.errors import KitchenError, SoupError
from soupviz.kitchen import Kitchen
from soupviz.ui import workspace
from soupviz.ui.export import exporting
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


def test_a_soup_is_written_to_an_address_from_the_dashboard(file: Path) -> None:
    sv.uniform(Kitchen.load(file))
    at = page("export", trusted(file))
    field = next(one for one in at.text_input if one.label == "Folder")
    field.set_value(f"{BUCKET}/soups").run()
    next(button for button in at.button if button.label == "Write").click().run()
    settle(at)
    assert [as_read(error.value) for error in at.error] == []
    written = [name.rpartition("/")[2] for name in fsspec.filesystem("memory").find(f"{BUCKET}/soups")]
    assert "recipe.yaml" in written and any(name.endswith(".safetensors") for name in written)


@pytest.mark.extras
def test_an_address_that_takes_no_files_is_refused_before_anything_is_written() -> None:
    pytest.importorskip("aiohttp", reason="needs aiohttp")
    with pytest.raises(SoupError, match="takes no files"):
        exporting.target_of_weights("https://host/soups", "soup.safetensors")


def test_the_places_that_a_kitchen_reads_from_are_asked_about_once(file: Path) -> None:
    at = page("ingredients", file)
    [asked] = [one.value for one in at.warning]
    assert "`memory://bucket`" in asked
    next(button for button in at.button if button.label == "I trust it: open").click().run()
    settle(at)
    assert "m_3" in str(at.dataframe[0].value)
    assert workspace.is_trusted(workspace.request(file, read_kitchen_file(file)))
    change_yaml(file, lambda document: document.update(base="http://169.254.169.254/latest/role"))
    again = workspace.request(file, read_kitchen_file(file))
    assert again.places == ("http://169.254.169.254", "memory://bucket")
    assert not workspace.is_trusted(again)


def test_the_place_of_a_model_s_configuration_is_asked_about(file: Path) -> None:
    change_yaml(file, lambda document: document["model"].update(factory="transformers:s3://models/bert"))
    assert "s3://models" in workspace.request(file, read_kitchen_file(file)).places


def test_a_place_that_nobody_was_asked_about_is_not_read_from(file: Path) -> None:
    asked = workspace.request(file, read_kitchen_file(file))
    workspace.bind(asked)
    with pytest.raises(KitchenError, match="not asked about memory://other"):
        Kitchen.open(asked.spec.model_copy(update={"base": "memory://other/base.safetensors"}), file)
    held_out = asked.spec.data.held_out.model_copy(update={"path": "memory://other/held_out.npz"})
    data = asked.spec.data.model_copy(update={"held_out": held_out})
    with pytest.raises(KitchenError, match="not asked about memory://other"):
        Kitchen.open(asked.spec.model_copy(update={"data": data}), file).score()


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
