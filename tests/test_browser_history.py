"""History, links and keys in a real browser."""

import re
from typing import Any

import browsing
import pytest
from browsing import Server, assert_no_exception, goto, heading, in_browser, wait_until_idle

pytestmark = in_browser


@pytest.mark.slow
def test_a_run_is_cooked_by_keys_named_and_found_by_its_link_in_another_browser(
    server: Server, page: Any, browser: Any
) -> None:
    goto(page, server.url("soup") + "&recipe=greedy, mean&members=digits_00,digits_01,digits_02", "Soup")
    not_yet = page.get_by_text("Not computed yet")
    not_yet.wait_for(timeout=3 * browsing.PATIENCE)
    wait_until_idle(page)
    page.wait_for_timeout(1000)  # until the button listens to its keys again
    page.get_by_role("combobox", name=re.compile("Order")).focus()  # a key pressed in a field reaches the button too
    page.keyboard.press("Control+Enter")
    not_yet.wait_for(state="detached")
    wait_until_idle(page)

    goto(page, server.url("history") + "&find=greedy digits_01", "History")
    number = page.get_by_text(re.compile(r"\d+ of \d+ runs")).first
    number.wait_for()
    wait_until_idle(page)
    page.get_by_test_id("stDataFrame").first.click(position={"x": 18, "y": 52})  # the first row
    name = page.get_by_role("textbox", name="Name")
    name.fill("For the paper")
    name.press("Enter")
    heading_of_run = page.get_by_role("heading", name=re.compile("For the paper"))
    heading_of_run.wait_for()
    page.wait_for_url(re.compile(r"runs=\d+"))
    wait_until_idle(page)

    other = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    other.set_default_timeout(browsing.PATIENCE)
    other.goto(page.url)
    heading(other, "History").wait_for()
    other.get_by_role("heading", name=re.compile("For the paper")).wait_for()
    other.wait_for_function("() => document.querySelector('input[aria-label=Find]')?.value === 'greedy digits_01'")
    wait_until_idle(other)
    other.get_by_role("link", name=re.compile("Open on Compare")).click()
    heading(other, "Compare").wait_for()
    other.get_by_role("heading", name=re.compile("For the paper")).wait_for()
    assert_no_exception(other)
    other.context.close()

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name=re.compile("Undo")).click()
    page.get_by_role("heading", name=re.compile("For the paper")).wait_for()
    assert_no_exception(page)
