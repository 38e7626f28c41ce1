"""The Diversity page in a real browser: from a cell of the matrix to a pair, from a class to its examples."""

import re
from typing import Any

from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser


def click_at(page: Any, number: int, across: float, down: float) -> None:
    """Click a picture at a place, as shares of its width and height."""
    canvas = page.get_by_test_id("stVegaLiteChart").nth(number).locator("canvas, svg").first
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * across, "y": box["height"] * down})


def test_a_cell_opens_its_pair_and_a_bar_shows_its_examples(server: Server, page: Any) -> None:
    page.set_default_timeout(60_000)
    goto(page, server.url("diversity"), "Diversity")
    page.get_by_role("radio", name="Pairs of ingredients").wait_for(timeout=180_000)  # the demo is built first
    wait_until_idle(page)
    if (ask := page.get_by_role("button", name=re.compile("Score .* ingredients"))).count():
        ask.click()
    page.get_by_role("heading", name="Errors in common").wait_for()
    wait_until_idle(page)
    click_at(page, 0, 0.5, 0.3)
    page.get_by_text("Both right").wait_for()
    page.wait_for_url(re.compile(r"[?&]pair=digits"))

    page.get_by_role("radio", name="A soup and its rival").click()
    page.get_by_role("heading", name="Change of each class").wait_for()
    page.locator(".soupviz-examples img").first.wait_for()
    wait_until_idle(page)
    before = page.get_by_label("Label", exact=True).input_value()
    click_at(page, 1, 0.55, 0.5)
    page.get_by_text(re.compile("examples of held_out|No example is of this kind")).first.wait_for()
    page.wait_for_function(
        "before => [...document.querySelectorAll('input')].some(i => i.ariaLabel?.startsWith('Label') "
        "&& i.value && i.value !== before)",
        arg=before,
    )
    assert_no_exception(page)
