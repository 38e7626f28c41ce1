"""From a run's folder to a greedy soup in a real browser: five clicks, two paths and a name are typed."""

from pathlib import Path
from typing import Any

from browsing import Server, assert_no_exception, goto, heading, in_browser
from runs import lightning_run

pytestmark = in_browser


def test_a_run_becomes_a_greedy_soup_in_five_clicks_without_yaml(server: Server, page: Any, tmp_path: Path) -> None:
    run = lightning_run(tmp_path / "elsewhere")
    goto(page, server.url("kitchens"), "Kitchens")  # the first click, on the menu
    page.get_by_label("Folder of a training run").fill(str(run))
    page.get_by_label("Its data (optional)").fill(str(run.parent / "val.npz"))
    page.get_by_role("button", name="Look into it").click()
    page.get_by_label("What builds the model").fill("../model.py:build")
    page.get_by_role("button", name="Check it, write kitchen.yaml and open it").click()
    heading(page, "Ingredients").wait_for()
    page.get_by_text("they agree").wait_for()
    page.get_by_role("button", name="Cook with all").click()
    page.get_by_text("Is it real?").wait_for()
    assert_no_exception(page)
    assert (run / "kitchen.yaml").is_file()
