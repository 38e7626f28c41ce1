"""The Layers page in a real browser: score each layer, click a bar, and keep the mix."""

import re
from typing import Any

import pytest
from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser
SLOW = 180_000
"""Milliseconds: the demo is scored first, on a machine that may be loaded."""


@pytest.mark.slow
def test_a_layer_is_clicked_into_the_weights_and_the_mix_is_kept(server: Server, page: Any) -> None:
    page.set_default_timeout(SLOW)
    goto(page, server.url("layers"), "Layers")
    main = page.get_by_test_id("stMain")
    main.get_by_role("button", name="Ramp up", exact=True).wait_for()
    wait_until_idle(page)
    main.get_by_role("button", name=re.compile(r"^Score \d+ mixes$")).click()
    main.get_by_text(re.compile("Click a bar or a row")).wait_for()
    wait_until_idle(page)
    bars = main.get_by_test_id("stVegaLiteChart").first
    bars.scroll_into_view_if_needed()
    box = bars.bounding_box()
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])  # a row, beside its bar
    page.wait_for_url(re.compile(r"group=.*weights=|weights=.*group="))
    main.get_by_role("button", name="Ramp up", exact=True).click()
    page.wait_for_url(re.compile(r"weights=0%2C0\.25%2C"))
    wait_until_idle(page)
    main.get_by_role("button", name="Keep as a soup", exact=True).click()
    main.get_by_text(re.compile("is among the soups on the Compare page")).wait_for()
    page.wait_for_url(re.compile(r"soup="))
    assert_no_exception(page)
