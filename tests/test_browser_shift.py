"""The Shift page in a real browser: a table of scores is opened, a point is clicked and found in the table."""

from typing import Any

import pytest
from browsing import Server, assert_no_exception, goto, in_browser

from soupviz.pictures import palette

pytestmark = in_browser

ROWS = [f"m_{index},0.{70 + index},0.{50 + 2 * index % 7}" for index in range(6)]


@pytest.mark.slow
def test_a_table_is_opened_and_a_clicked_star_is_shown_and_stays_in_the_address(server: Server, page: Any) -> None:
    (server.folder / "scores.csv").write_text("\n".join(["model,test,blur", *ROWS, "greedy soup,0.77,0.70"]) + "\n")
    # A table needs no kitchen: the one of this address does not exist.
    goto(page, f"{server.url('shift', 'nowhere/kitchen.yaml')}&source=a+table+of+scores", "Shift")
    page.get_by_role("textbox", name="or a file or folder").fill("scores.csv")
    page.get_by_role("textbox", name="or a file or folder").press("Enter")
    page.get_by_text("1 of 1 soups lie above the line of the 6 individual models").wait_for()
    page.locator(f".role-mark.mark-symbol path[fill='{palette.SOUP}']").first.click(force=True)
    page.get_by_text("77.00 % on test, 70.00 % on blur").wait_for()
    assert "model=greedy" in page.url and "table=scores.csv" in page.url
    page.reload()
    page.get_by_text("77.00 % on test, 70.00 % on blur").wait_for()
    assert_no_exception(page)
