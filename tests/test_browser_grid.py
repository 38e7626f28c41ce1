"""Curves and a grid in a real browser: asked for, computed, and still there in a link."""

import re
from typing import Any

import pytest
from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser


@pytest.mark.slow
def test_curves_are_computed_and_then_cost_nothing(server: Server, page: Any) -> None:
    page.set_default_timeout(90_000)
    goto(page, f"{server.url('curves')}&from=base", "Curves")
    ask = page.get_by_role("button", name="Compute the curves")
    ask.click()
    page.get_by_text("Click a point of a curve").wait_for()
    wait_until_idle(page)
    page.reload()
    page.get_by_text("Click a point of a curve").wait_for()
    wait_until_idle(page)
    assert ask.count() == 0
    assert_no_exception(page)


@pytest.mark.slow
def test_a_grid_is_cooked_and_tells_its_best_cell(server: Server, page: Any) -> None:
    page.set_default_timeout(90_000)
    goto(page, server.url("grid"), "Grid")
    for label, values in (("Values of alpha", "0.1, 0.5"), ("Values of number of ingredients", "2, 3")):
        field = page.get_by_label(label, exact=True)
        field.fill(values)
        field.press("Enter")
        page.wait_for_url(re.compile(values.split(", ")[1].replace(".", r"\.")))
    page.get_by_role("button", name=re.compile("4 soups")).click()
    page.get_by_text("It is the best of 4, chosen on held_out").wait_for()
    wait_until_idle(page)
    assert_no_exception(page)
