"""A soup is cooked, judged, cross-fitted, and its decisions are looked at, in a real browser."""

from typing import Any

import pandas as pd
from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser
PATIENT = 90_000
"""Milliseconds: a loaded machine searches slowly."""


def test_a_soup_is_judged_and_its_decisions_are_clicked_and_saved(server: Server, page: Any, tmp_path: Any) -> None:
    goto(page, f"{server.url('soup')}&recipe=greedy,+mean", "Soup")
    page.get_by_role("button", name="Cook").click(timeout=PATIENT)
    page.get_by_role("heading", name="Verdict").wait_for(timeout=PATIENT)
    wait_until_idle(page)
    page.get_by_role("button", name="Cross-fit").click()
    page.get_by_text("cross-fitted, soups have").wait_for(timeout=PATIENT)
    wait_until_idle(page)
    log = page.locator("[data-testid=stDataFrame]", has=page.get_by_text("in words")).last
    log.scroll_into_view_if_needed()
    # The table is a canvas: its second row, in the column of boxes.
    log.click(position={"x": 15, "y": 35 + 35 + 17})
    page.get_by_test_id("stAlertContentInfo").get_by_text("the soup before it").wait_for()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save the log as CSV").click()
    waiting.value.save_as(tmp_path / "log.csv")
    table = pd.read_csv(tmp_path / "log.csv")
    assert (
        table["outcome"][0] == "start" and table["sentence"].str.contains("the soup before it").sum() == len(table) - 1
    )
    assert_no_exception(page)
