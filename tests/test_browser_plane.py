"""The plane in a real browser: compute the map, click a spot, keep it as a soup."""

import re
from typing import Any

import pytest
from browsing import Server, assert_no_exception, goto, in_browser, wait_until_idle

pytestmark = in_browser

A_SPOT = """() => {
    const plot = document.querySelector(".js-plotly-plot"), layout = plot._fullLayout;
    const trace = plot.data.findIndex(one => one.customdata && one.customdata[0][0] === "spot");
    const far = one => { const [u, v] = one[1].split(",").map(Number); return (u - 0.25) ** 2 + (v - 0.5) ** 2; };
    const spots = plot.data[trace].customdata, nearest = Math.min(...spots.map(far));
    const at = plot.calcdata[trace][spots.findIndex(one => far(one) === nearest)], place = plot.getBoundingClientRect();
    const [x, y] = [layout.xaxis, layout.yaxis];
    return [place.x + x._offset + x.c2p(at.x), place.y + y._offset + y.c2p(at.y)];
}"""
"""Where on the screen a spot inside the triangle is, away from the models: Plotly keeps places in units of the data."""


@pytest.mark.slow
def test_a_spot_that_is_clicked_becomes_a_soup(server: Server, page: Any) -> None:
    page.set_default_timeout(90_000)
    page.set_viewport_size({"width": 1280, "height": 1600})
    goto(page, f"{server.url('plane')}&grid=5+%C3%97+5", "Plane")
    wait_until_idle(page)
    page.get_by_role("button", name="Compute the map").click()
    wait_until_idle(page)
    page.locator(".js-plotly-plot .contourlayer path").first.wait_for(state="attached")
    wait_until_idle(page)
    hover, keep = page.locator(".hoverlayer text").first, page.get_by_role("button", name="Keep as a soup")
    for _ in range(30):  # the map is mounted anew when its values come, and then has to be pointed at again
        page.mouse.move(5, 5)
        page.mouse.move(*page.evaluate(A_SPOT), steps=5)
        page.wait_for_timeout(500)
        if hover.count():
            page.mouse.click(*page.evaluate(A_SPOT))
            page.wait_for_timeout(2000)
        if keep.count():
            break
    assert re.search(r"spot=", page.url)
    keep.click()
    page.get_by_text("is among the soups").wait_for()
    assert_no_exception(page)
