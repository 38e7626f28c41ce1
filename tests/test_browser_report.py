"""A report in a real browser: made on the Export page, downloaded, and read as a file, in the dark and on paper."""

from pathlib import Path
from typing import Any

from browsing import Server, assert_no_exception, goto, in_browser
from kitchens import small_kitchen

import soupviz as sv

pytestmark = in_browser


def test_a_report_is_made_downloaded_and_read_without_a_network(server: Server, page: Any, tmp_path: Path) -> None:
    file = small_kitchen(server.folder / "reported", num_ingredients=3, num_examples=60)
    sv.greedy(sv.Kitchen.load(file))
    page.set_default_timeout(180_000)  # pictures are drawn behind the page, on a machine that may have other work
    goto(page, server.url("export", str(file)), "Export")
    page.get_by_role("button", name="I trust it: open").click()
    page.get_by_role("button", name="Make a report").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    assert_no_exception(page)
    report = tmp_path / "report.html"
    download.value.save_as(report)

    page.goto("about:blank")  # what the dashboard still says is not the report's
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.emulate_media(color_scheme="dark")
    page.goto(report.as_uri())
    assert asked == [report.as_uri()] and said == []
    page.get_by_role("heading", name="greedy (alpha = mean)", level=1).wait_for()
    assert page.get_by_role("img").count() >= 4
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill") == "rgb(0, 0, 0)"
