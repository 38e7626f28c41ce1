"""axe finds nothing to mend on any page, in either theme and at three widths."""

from typing import Any

import pytest
from browsing import ROOT, Server, goto, in_browser, wait_until_idle

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))

STREAMLITS_OWN = "[data-testid=stFileUploaderDropzone]"
"""It calls itself presentation and has a label, which axe calls a minor conflict; nothing of ours can change it."""

RUN = """async (own) => {
  const found = await axe.run({exclude: [[own]]}, {resultTypes: ['violations']});
  return found.violations.map(one => `${one.impact} ${one.id}: ${one.nodes[0].html.slice(0, 200)}`);
}"""

pytestmark = in_browser


@pytest.fixture(scope="session")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python.base", reason="needs axe-playwright-python")
    return str(package.AXE_FILE_PATH.read_text(encoding="utf-8"))


def violations(page: Any, axe: str) -> list[str]:
    page.evaluate(axe)
    return list(page.evaluate(RUN, STREAMLITS_OWN))


def every_page(server: Server, page: Any, axe: str) -> dict[str, list[str]]:
    """What is to be mended, by page; of the demo, for which a soup was cooked."""
    goto(page, server.url("ingredients"), "Ingredients")
    page.get_by_text("Why these?").wait_for()
    found = {}
    for name in PAGES:
        goto(page, server.url(name), name.capitalize())
        wait_until_idle(page)
        found[name] = violations(page, axe)
    return {name: told for name, told in found.items() if told}


def test_no_page_has_a_violation(server: Server, page: Any, axe: str) -> None:
    assert every_page(server, page, axe) == {}


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1280])
def test_no_page_has_a_violation_at_any_width_in_any_theme(
    server: Server, page: Any, axe: str, theme: str, width: int
) -> None:
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    assert every_page(server, page, axe) == {}


def test_the_look_would_find_something(page: Any, axe: str) -> None:
    page.set_content("<html lang=en><title>x</title><main><h1>x</h1><img src='x.png'></main></html>")
    assert any("image-alt" in one for one in violations(page, axe))
