"""The Tab key alone reaches everything on a page that can be pressed, typed into or opened, and shows where it is."""

from typing import Any

import pytest
from browsing import ROOT, Server, goto, in_browser, wait_until_idle

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))

pytestmark = in_browser

COMPOSITE = ".stSelectbox, .stMultiSelect, .stNumberInput, .stButtonGroup, [role=radiogroup], [role=tablist]"
"""Of these Tab reaches one part, and arrows the others."""

WANTED = """() => {
  const controls = 'a[href], button, input, select, textarea, summary, canvas, [role=slider], [tabindex]';
  const isThere = one => one.checkVisibility({opacityProperty: true, visibilityProperty: true})
    && !one.disabled && !one.closest('[inert], [aria-hidden=true]');
  const isControl = one => one.tabIndex >= 0 || one.matches('a, button, input');
  window.wanted = [...document.querySelectorAll(controls)].filter(one => isThere(one) && isControl(one));
  return window.wanted.length;
}"""
NOTE = """composite => {
  const at = document.activeElement, whole = at.closest(composite);
  window.wanted = window.wanted.filter(one => one !== at && one.isConnected && !(whole && whole.contains(one)));
  return window.wanted.length;
}"""
LEFT = "() => window.wanted.map(one => one.outerHTML.slice(0, 160))"


def unreached(page: Any) -> list[str]:
    """What Tab does not come to, in many times as many presses as there are controls: a table takes one a column."""
    for _ in range(15 * page.evaluate(WANTED)):
        page.keyboard.press("Tab")
        if not page.evaluate(NOTE, COMPOSITE):
            break
    return list(page.evaluate(LEFT))


@pytest.mark.slow
def test_tab_reaches_every_control_of_every_page(server: Server, page: Any) -> None:
    goto(page, server.url("ingredients"), "Ingredients")
    page.get_by_text("Why these?").wait_for()
    left = {}
    for name in PAGES:
        goto(page, server.url(name), name.capitalize())
        wait_until_idle(page)
        left[name] = unreached(page)
    assert {name: found for name, found in left.items() if found} == {}


def test_a_control_that_tab_does_not_reach_is_found(page: Any) -> None:
    page.set_content("<button>a</button><button tabindex=-1>b</button><p role=radiogroup><input type=radio></p>")
    assert unreached(page) == ['<button tabindex="-1">b</button>']
