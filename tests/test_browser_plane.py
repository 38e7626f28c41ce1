"""The plane in a real browser: compute the map, click a spot, keep it as a soup."""

import re
from typing import Any

from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser

A_SPOT = """() => {
    const plot = document.querySelector(".js-plotly-plot"), layout = plot._fullLayout;
    const trace = plot.data.findIndex(one => one.customdata && one.customdata[0][0] === "spot");
    const index = plot.data[trace].customdata.findIndex(one => one[1] === "0.5,0");
    const at = plot.calcdata[trace][index < 0 ? 0 : index], place = plot.getBoundingClientRect();
    return [place.x + layout._size.l + layout.xaxis.c2p(at.x), place.y + layout._size.t + layout.yaxis.c2p(at.y)];
}"""
"""Where on the screen the middle between A and B is: Plotly keeps places in units of the data."""


def test_a_spot_that_is_clicked_becomes_a_soup(server: Server, page: Any) -> None:
    page.set_default_timeout(90_000)
    page.set_viewport_size({"width": 1280, "height": 1600})
    goto(page, f"{server.url('plane')}&grid=5+%C3%97+5", "Plane")
    wait_until_idle(page)
    page.get_by_role("button", name="Compute the map").or_(page.locator(".js-plotly-plot")).first.wait_for()
    if page.get_by_role("button", name="Compute the map").count():
        page.get_by_role("button", name="Compute the map").click()
    wait_until_idle(page)
    page.locator(".js-plotly-plot .contourlayer path").first.wait_for(state="attached")
    wait_until_idle(page)
    page.mouse.move(*page.evaluate(A_SPOT))
    page.locator(".hoverlayer text").first.wait_for(state="attached")
    page.mouse.click(*page.evaluate(A_SPOT))
    keep = page.get_by_role("button", name="Keep as a soup")
    keep.wait_for()
    assert re.search(r"spot=", page.url)
    keep.click()
    page.get_by_text("is among the soups").wait_for()
    assert_no_exception(page)
