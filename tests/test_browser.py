"""The whole app in a real browser: a server started as a user starts it, on a cache of its own."""

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from browsing import ROOT, Server, assert_no_exception, goto, heading, in_browser, wait_until_idle
from safetensors.torch import load_file, save_file

from soupviz.ui.navigation import PLACES

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))

pytestmark = in_browser

FITS = """() => {
  const main = document.querySelector("[data-testid=stMain]");
  return main.scrollWidth <= main.clientWidth + 1;
}"""
"""Pictures take a moment to follow the window."""


def test_the_first_page_shows_the_table_of_the_demo_and_the_sidebar_its_kitchen(server: Server, page: Any) -> None:
    goto(page, server.address, "Ingredients")
    page.get_by_test_id("stDataFrame").first.wait_for()
    sidebar = page.get_by_test_id("stSidebar")
    assert "Demo: handwritten digits" in sidebar.inner_text() + " ".join(
        box.input_value() for box in sidebar.locator("input").all()
    )
    wait_until_idle(page)
    assert_no_exception(page)
    assert page.get_by_test_id("stAlertContentError").count() == 0


def test_every_page_opens_by_its_address_and_is_no_wider_than_the_window(server: Server, page: Any) -> None:
    for name in PAGES:
        page.set_viewport_size({"width": 800, "height": 900})
        goto(page, server.url(name), name.capitalize())
        wait_until_idle(page)
        assert_no_exception(page)
        assert page.get_by_test_id("stAlertContentError").count() == 0, name
        for width in (800, 1280):  # what a window shows that was opened small and then made wide
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(FITS, polling=200, timeout=90_000)


@pytest.mark.slow
def test_every_page_opens_from_the_menu_and_keeps_the_kitchen_in_the_address(server: Server, page: Any) -> None:
    goto(page, server.url(), "Ingredients")
    page.get_by_test_id("stDataFrame").first.wait_for()
    for name in [name for name in PAGES if name != "ingredients"]:
        place, views = next((place, views) for place, (_, views) in PLACES.items() if name in views)
        page.locator(".st-key-places").get_by_role("link", name=place, exact=True).click()
        if len(views) > 1:
            page.locator(".st-key-views").get_by_role("link", name=views[name], exact=True).click()
        heading(page, name.capitalize()).wait_for()
        page.wait_for_url(re.compile(rf"/{name}\?.*kitchen=demo"))
        wait_until_idle(page)
        assert_no_exception(page)


def status_of(request: urllib.request.Request) -> int:
    """The status a request is answered with."""
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_back_goes_to_the_page_before_in_one_step(server: Server, page: Any) -> None:
    goto(page, server.url("ingredients"), "Ingredients")
    page.get_by_text("Why these?").wait_for()
    wait_until_idle(page)
    places = page.locator(".st-key-places")
    for title in ("Soup", "Compare", "Export"):
        places.get_by_role("link", name=title, exact=True).click()
        heading(page, title).wait_for()
        wait_until_idle(page)
    for title in ("Compare", "Soup", "Ingredients"):
        page.go_back()
        heading(page, title).wait_for()
        wait_until_idle(page)


def test_a_foreign_host_is_not_answered(server: Server) -> None:
    request = urllib.request.Request(f"{server.address}/", headers={"Host": "elsewhere.example"})
    assert status_of(request) == 400


def test_a_download_nobody_was_given_is_not_served(server: Server) -> None:
    for path in ("guess/soup.safetensors", "..%2f..%2fdashboard.json/x", "../../dashboard.json"):
        assert status_of(urllib.request.Request(f"{server.address}/soupviz/download/{path}")) in (400, 404), path


@pytest.mark.skipif("soup" not in PAGES, reason="the page is not there yet")
def test_a_greedy_soup_is_cooked_and_found_again_after_a_reload(server: Server, page: Any) -> None:
    goto(page, server.url(), "Ingredients")
    page.get_by_test_id("stDataFrame").first.wait_for()
    goto(page, server.url("soup"), "Soup")
    page.get_by_test_id("stMain").locator("button", has_text="Cook").first.click()  # its name holds icon and shortcut
    page.reload()
    heading(page, "Soup").wait_for()
    page.get_by_text(re.compile(r"Greedy (started from|kept only) ")).first.wait_for()
    assert_no_exception(page)


@pytest.mark.skipif("alpha" not in PAGES, reason="the page is not there yet")
def test_dragging_alpha_changes_what_is_shown_at_once(server: Server, page: Any) -> None:
    goto(page, server.url("alpha"), "Alpha")
    wait_until_idle(page)
    slider = page.get_by_label("alpha, the weight of the second end")
    output = page.locator("output").first
    slider.focus()
    slider.press("Home")  # it starts at the best alpha that is known, which may be either end
    before = output.inner_text()
    for _ in range(12):
        slider.press("ArrowRight")
    assert output.inner_text() != before
    assert_no_exception(page)


SLOW_MODEL = """
import time
from torch import nn

class Slow(nn.Linear):
    def forward(self, x):
        if x.shape[0] and x.isfinite().all():  # a branch on the data: no graph can take the pause out
            time.sleep(0.1)
        return super().forward(x)

def build():
    return Slow(4, 3)
"""


def slow_kitchen(folder: Path) -> Path:
    """A kitchen whose every batch takes a tenth of a second, and whose model is code of its own."""
    import torch

    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for index in range(6):
        weights = {"weight": torch.randn(3, 4, generator=generator), "bias": torch.zeros(3)}
        save_file(weights, folder / f"m_{index}.safetensors")
    inputs = torch.randn(40, 4, generator=generator)
    save_file({"inputs": inputs, "labels": torch.arange(40) % 3}, folder / "data.safetensors")
    (folder / "model.py").write_text(SLOW_MODEL)
    split = "{format: arrays, path: data.safetensors}"
    (folder / "kitchen.yaml").write_text(
        "model: {factory: 'model.py:build'}\ningredients: ['m_*.safetensors']\nbatch_size: 4\n"
        f"data: {{held_out: {split}, test: {split}}}\n"
    )
    return folder / "kitchen.yaml"


def test_a_running_search_is_found_again_after_a_reload_and_can_be_cancelled(server: Server, page: Any) -> None:
    goto(page, server.url("soup", str(slow_kitchen(server.folder / "slow"))), "Soup")
    page.get_by_role("button", name="I trust it: open").click()
    page.get_by_role("button", name=re.compile("^Cook")).click()
    page.get_by_text(re.compile("greedy .alpha = 0.1.: scoring held_out")).first.wait_for()
    page.reload()
    heading(page, "Soup").wait_for()
    page.get_by_text(re.compile("greedy .alpha = 0.1.: scoring held_out")).first.wait_for()
    page.get_by_role("button", name="Cancel").first.click()
    # The sweep, which is computed ahead, may take it up at once.
    told = r"greedy .alpha = 0.1. was cancelled; what it measured is kept|“Alpha sweep” is at this very search"
    page.get_by_text(re.compile(told)).first.wait_for()
    assert_no_exception(page)


def test_a_soup_is_compared_exported_downloaded_and_loaded_back(server: Server, page: Any) -> None:
    goto(page, server.url("soup"), "Soup")
    page.get_by_role("button", name=re.compile("^Cook")).click()
    page.get_by_text(re.compile(r"Greedy (started from|kept only) ")).first.wait_for()
    goto(page, server.url("compare"), "Compare")
    page.get_by_role("button", name=re.compile("Score .* models on test")).click()
    from playwright.sync_api import expect

    # While the page changes, the button and its successor may be there for a moment.
    expect(page.get_by_role("button", name=re.compile("Score .* models on test"))).to_have_count(0, timeout=90_000)
    page.get_by_text(re.compile("on test against .*, the best ingredient on held_out")).first.wait_for()
    goto(page, server.url("export"), "Export")
    page.get_by_role("button", name=re.compile("Write")).click()
    page.get_by_text("Written:").wait_for()
    written = sorted(server.folder.glob("greedy*.safetensors"))
    assert len(written) == 1 and (server.folder / "recipe.yaml").is_file() and (server.folder / "README.md").is_file()
    page.get_by_role("button", name=re.compile("Prepare a download")).click()
    link = page.get_by_role("link", name=re.compile("Download greedy"))
    link.wait_for()
    with urllib.request.urlopen(server.address + str(link.get_attribute("href"))) as answer:
        assert safetensors.torch.load(answer.read()).keys() == load_file(written[0]).keys()
    page.get_by_label("or its path").fill(str(written[0]))
    page.get_by_label("or its path").press("Enter")
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_text(re.compile("Loaded: greedy")).wait_for()
    assert_no_exception(page)
