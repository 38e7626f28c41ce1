"""The pre-flight report in a real browser: measured, judged, a cell clicked."""

import re
from typing import Any

from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser


def test_the_demo_is_judged_in_the_browser(server: Server, page: Any) -> None:
    page.set_default_timeout(90_000)
    goto(page, server.url("preflight"), "Preflight")
    page.get_by_role("button", name="Measure 66 barriers and judge").click(timeout=240_000)
    page.get_by_text(re.compile("of 12 checkpoints belong together")).wait_for(timeout=240_000)
    page.get_by_text(re.compile("probably trained too far")).first.wait_for()
    wait_until_idle(page)
    cell = page.locator("[data-testid=stVegaLiteChart] .mark-rect path").nth(1)
    cell.scroll_into_view_if_needed()
    cell.click(force=True)
    page.wait_for_url(re.compile("first=digits_.*second=digits_"))
    page.get_by_text("From one to the other").wait_for()
    wait_until_idle(page)
    assert_no_exception(page)
    assert page.get_by_test_id("stAlertContentError").count() == 0
