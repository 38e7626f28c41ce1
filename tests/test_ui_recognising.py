"""Open a folder: a run's folder becomes a kitchen without a line of YAML, and nobody's code runs unasked."""

import sys
from pathlib import Path

import pytest
from detectors import write_coco
from kitchens import small_kitchen
from runs import lightning_run, timm_run, ultralytics_run
from streamlit.testing.v1 import AppTest
from test_pages import as_read, errors, fresh_server, page, press, settle  # noqa: F401 - fresh_server is a fixture

from soupviz.errors import KitchenError
from soupviz.ui import workspace
from soupviz.yaml_file import read_kitchen_file


@pytest.fixture
def kitchens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page of kitchens, of a dashboard that was started with another folder."""
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path / "start")])
    file = small_kitchen(tmp_path / "start" / "small", num_examples=40)
    at = page("kitchens.py", file)
    assert not at.exception
    return at


def look_into(at: AppTest, folder: Path, data: Path | None = None) -> AppTest:
    labels = {field.label: field for field in at.text_input}
    labels["Folder of a training run, or of checkpoints"].set_value(str(folder))
    labels["Its data (optional)"].set_value(str(data or ""))
    return press(at, "Look into it")


def shown(at: AppTest) -> str:
    kinds = (at.markdown, at.caption, at.warning, at.error, at.info, at.success, at.subheader, at.code)
    return as_read(" ".join(str(element.value) for kind in kinds for element in kind))


def test_open_a_folder_is_the_first_thing_on_the_page(kitchens: AppTest) -> None:
    assert kitchens.header[0].value == "Open a folder"


def test_a_run_is_opened_in_two_presses_and_what_is_asked_is_answered_between_them(
    kitchens: AppTest, tmp_path: Path
) -> None:
    run = lightning_run(tmp_path)
    at = look_into(kitchens, run, tmp_path / "val.npz")
    assert "A run of Lightning" in shown(at)
    at.text_input(key="asked factory").set_value("../model.py:build")
    at = press(at, "Check it")
    assert errors(at) == []
    at.switch_page("pages/ingredients.py")  # where the page went; AppTest goes back to the one it was sent to
    settle(at)
    assert "they agree" in shown(at)
    assert read_kitchen_file(run / "kitchen.yaml").model.args == {"features": 6}
    table = at.dataframe[0].value
    assert table["step"].tolist() == [5, 10]
    assert "lr" not in table  # the same in both: it stands below


def test_a_task_that_the_data_shows_is_told_with_where_it_is_from(kitchens: AppTest, tmp_path: Path) -> None:
    run = lightning_run(tmp_path)
    write_coco(tmp_path / "cells", "val", 1, 2)
    at = look_into(kitchens, run, tmp_path / "cells")
    assert errors(at) == []
    told = at.table[0].value
    assert told.loc["task", "found"] == "detection" and "boxes" in told.loc["task", "from"]
    assert any("cells/val.json" in as_read(cell) for cell in told["found"])


def test_where_the_logged_score_is_another_the_user_decides(kitchens: AppTest, tmp_path: Path) -> None:
    run = lightning_run(tmp_path, accuracy=0.3)
    at = look_into(kitchens, run, tmp_path / "val.npz")
    at.text_input(key="asked factory").set_value("../model.py:build")
    at = press(at, "Check it")
    assert "logged 0.300" in shown(at)
    assert not (run / "kitchen.yaml").exists()
    at = press(at, "all the same")
    assert (run / "kitchen.yaml").exists()
    at.switch_page("pages/ingredients.py")
    settle(at)
    assert "2 logged scores are others than ours" in [expander.label for expander in at.expander]


def test_an_answer_that_is_missing_is_named(kitchens: AppTest, tmp_path: Path) -> None:
    at = press(look_into(kitchens, lightning_run(tmp_path), tmp_path / "val.npz"), "Check it")
    assert "Still to be said: what builds the model" in shown(at)


def test_what_lies_beside_a_run_is_not_looked_at_unless_it_was_named(kitchens: AppTest, tmp_path: Path) -> None:
    at = look_into(kitchens, timm_run(tmp_path))
    assert any("Where the held-out data is" in field.label for field in at.text_input)
    assert not workspace.is_allowed(tmp_path / "data")
    assert workspace.is_allowed(tmp_path / "output" / "vit" / "x")


def test_code_that_the_runs_own_files_name_is_shown_before_it_runs(kitchens: AppTest, tmp_path: Path) -> None:
    run = lightning_run(tmp_path)
    (run / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    (run / "hparams.yaml").write_text("factory: evil.py:build\n")
    at = look_into(kitchens, run, tmp_path / "val.npz")
    assert "runs Python code that the run names: `evil.py:build`" in " ".join(one.value for one in at.warning)
    assert not (tmp_path / "ran").exists()


def test_code_that_was_exchanged_after_it_was_shown_is_shown_anew(kitchens: AppTest, tmp_path: Path) -> None:
    run = lightning_run(tmp_path)
    (run / "hparams.yaml").write_text("factory: good.py:build\n")
    at = look_into(kitchens, run, tmp_path / "val.npz")
    for name in ("good", "evil"):
        (run / f"{name}.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    (run / "hparams.yaml").write_text("factory: evil.py:build\n# longer, so that it is read anew\n")
    at = press(at, "Check it")
    assert "evil.py:build" in " ".join(one.value for one in at.warning)
    assert not (tmp_path / "ran").exists()
    press(at, "Check it")
    assert (tmp_path / "ran").exists()


def test_a_run_that_has_to_be_converted_shows_the_command(kitchens: AppTest, tmp_path: Path) -> None:
    at = look_into(kitchens, ultralytics_run(tmp_path))
    assert at.code[0].value.startswith("python -m soupviz convert ")
    assert not [button for button in at.button if "Check it" in button.label]


@pytest.mark.parametrize("typed", ["missing", "/"])
def test_a_folder_that_is_none_or_everything_is_refused(kitchens: AppTest, tmp_path: Path, typed: str) -> None:
    at = look_into(kitchens, tmp_path / typed)
    assert len(errors(at)) == 1
    assert workspace.opened_folders() == []


def test_a_link_opens_no_folder(kitchens: AppTest, tmp_path: Path) -> None:
    other = small_kitchen(tmp_path / "other", num_examples=40)
    kitchens.query_params["kitchen"] = str(other)
    settle(kitchens)
    with pytest.raises(KitchenError, match="lies outside"):
        workspace.allowed(other)
