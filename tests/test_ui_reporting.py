"""The Export page writes a report where it may, and offers it to be taken away."""

from pathlib import Path

from kitchens import small_kitchen
from test_pages import errors, fresh_server, page, settle, trusted  # noqa: F401 - a fixture

import soupviz as sv


def test_a_report_is_made_from_the_export_page_and_can_be_made_again(tmp_path: Path) -> None:
    file = trusted(small_kitchen(tmp_path / "small", num_examples=40, num_ingredients=2))
    sv.uniform(sv.Kitchen.load(file))
    at = page("export.py", file)
    [button] = [button for button in at.button if button.label == "Make a report"]
    assert any("evaluation" in caption.value for caption in at.caption)
    button.click()
    settle(at)
    assert not at.exception
    assert (tmp_path / "average.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert any("average.html" in text.value for text in at.markdown)
    assert [item.proto.label for item in at.get("download_button")] == ["Download the report"]
    (tmp_path / "average.html").unlink()
    [again] = [button for button in at.button if button.label == "Make it again"]
    again.click()
    settle(at)
    [button] = [button for button in at.button if button.label == "Make a report"]
    assert any("Nothing to evaluate" in caption.value for caption in at.caption)
    button.click()
    settle(at)
    assert (tmp_path / "average.html").is_file()


def test_a_folder_outside_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    file = trusted(small_kitchen(tmp_path / "small", num_examples=40, num_ingredients=2))
    sv.uniform(sv.Kitchen.load(file))
    at = page("export.py", file)
    [folder] = [field for field in at.text_input if field.label == "Folder"]
    folder.set_value("/")
    settle(at)
    assert any("lies outside the folders" in text for text in errors(at))
    assert not [button for button in at.button if button.label == "Make a report"]
