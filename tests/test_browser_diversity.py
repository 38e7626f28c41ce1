"""The Diversity page in a real browser: from a cell of the matrix to a pair, from a class to its examples."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser


def click_at(page: Any, number: int, across: float, down: float, happened: Callable[[], bool]) -> None:
    """Click a picture at a place, as shares of its width and height, until it answers: it may just be drawn anew."""
    for _ in range(6):
        canvas = page.get_by_test_id("stVegaLiteChart").nth(number).locator("canvas, svg").first
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        canvas.click(position={"x": box["width"] * across, "y": box["height"] * down})
        for _ in range(60):
            if happened():
                return
            page.wait_for_timeout(250)
    raise AssertionError(f"picture {number} does not answer a click")


def ask(page: Any, button: str, then: str) -> None:
    """Press a button that asks for scores, and wait for what they show."""
    page.get_by_role("button", name=re.compile(button)).click()
    page.get_by_role("heading", name=then).wait_for()
    wait_until_idle(page)


@pytest.mark.slow
def test_a_cell_opens_its_pair_and_a_bar_shows_its_examples(server: Server, page: Any) -> None:
    page.set_default_timeout(180_000)  # the demo is scored first, which a loaded machine takes minutes for
    goto(page, server.url("diversity"), "Diversity")
    page.get_by_role("radio", name="Pairs of ingredients").wait_for()
    ask(page, "Score .* ingredients", "Errors in common")
    page.get_by_role("combobox", name="Pair", exact=True).wait_for()  # what a click sets before it is lost to the URL
    click_at(page, 0, 0.5, 0.3, lambda: page.get_by_text("Both right").count() > 0)
    page.wait_for_url(re.compile(r"[?&]pair=digits"))

    page.get_by_role("radio", name="A soup and its rival").click()
    ask(page, "Score both", "Change of each class")
    page.locator(".soupviz-examples img").first.wait_for()
    wait_until_idle(page)
    prediction = page.get_by_role("combobox", name="Soup's prediction")
    click_at(page, 1, 0.55, 0.5, lambda: prediction.input_value() != "")
    assert page.get_by_role("combobox", name="Which").input_value() == "any"
    assert_no_exception(page)
