"""Six journeys, from an opened folder to a soup that is taken along: the clicks and places that each takes."""

import re
from typing import Any
from urllib.parse import urlsplit

from browsing import Server, assert_no_exception, heading, in_browser, wait_until_idle
from documents import ROOT
from kitchens import small_kitchen

from soupviz.ui.navigation import DEFAULT, PLACES

pytestmark = in_browser


class Walk:
    """Clicks and fields that are filled in, and the places of the sidebar that are looked at meanwhile."""

    def __init__(self, page: Any):
        self.page, self.taken = page, {}

    def begin(self, journey: str) -> None:
        self.journey, self.clicks, self.places = journey, 0, {self.place()}

    def place(self) -> str:
        view = urlsplit(self.page.url).path.strip("/") or DEFAULT
        return next(place for place, (_, views) in PLACES.items() if view in views)

    def click(self, what: Any) -> None:
        what.click()
        self.did()

    def did(self) -> None:
        self.clicks += 1

    def end(self, *, leads_to: str = "") -> None:
        """Note what it took, once its end is seen."""
        wait_until_idle(self.page)
        assert_no_exception(self.page)
        self.places.add(self.place())
        assert not leads_to or self.place() == leads_to
        self.taken[self.journey] = (self.clicks, len(self.places))


def told() -> dict[str, tuple[int, int]]:
    """What docs/dashboard.md says of each: clicks and places."""
    text = (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8")
    return {
        name: (int(clicks), int(places))
        for name, clicks, places in re.findall(r"^\| (.+\?) \| .+ \| (\d+) \| (\d+) \|$", text, re.M)
    }


def test_six_journeys_take_as_many_clicks_as_are_told_and_at_most_three_places(server: Server, page: Any) -> None:
    from playwright.sync_api import expect

    file = small_kitchen(server.folder / "small", num_examples=120)
    page.goto(server.url(kitchen=str(file)))
    page.get_by_role("button", name="I trust it: open").click()
    heading(page, "Ingredients").wait_for()
    wait_until_idle(page)
    main, walk = page.get_by_test_id("stMain"), Walk(page)

    walk.begin("What soup do these make?")
    walk.click(main.get_by_role("button", name=re.compile("^Cook with all")))
    page.get_by_test_id("stToast").get_by_text("Cooked: greedy").wait_for()
    main.get_by_text(re.compile("of [0-9]+: ")).wait_for()
    walk.end(leads_to="Ingredients")

    walk.begin("Is it better?")
    main.get_by_text(re.compile("(better|evidence).*, p [=<]|no difference to judge")).first.wait_for()
    walk.end()
    assert main.get_by_text("Not judged yet").count() == 0

    walk.begin("Why was that one rejected?")
    walk.click(main.get_by_role("link", name="Why these?"))
    expect(main.get_by_role("heading", name="Decisions")).to_be_in_viewport()
    log = main.get_by_label(re.compile("^Every decision")).first
    log.scroll_into_view_if_needed()
    box = log.bounding_box()
    page.mouse.click(box["x"] + 15, box["y"] + 2.5 * 35)
    walk.did()
    main.get_by_test_id("stAlertContentInfo").first.wait_for()
    walk.end(leads_to="Soup")

    walk.begin("What does alpha do?")
    main.get_by_text(re.compile(r"\d+ of \d+ alphas computed")).wait_for()
    walk.end()

    walk.begin("What does this layer do?")
    walk.click(main.get_by_role("link", name="Layers", exact=True))
    heading(page, "Layers").wait_for()
    walk.click(main.get_by_role("button", name=re.compile(r"^Score \d+ mixes$")))
    main.get_by_text(re.compile("Click a bar or a row")).wait_for()
    walk.end(leads_to="Soup")

    page.locator(".st-key-places").get_by_role("link", name="Ingredients", exact=True).click()
    main.get_by_text("Take it with me").wait_for()
    wait_until_idle(page)
    walk.begin("How do I take it along, and back?")
    walk.click(main.get_by_role("link", name="Take it with me"))
    heading(page, "Export").wait_for()
    walk.click(main.get_by_role("button", name="Write"))
    main.get_by_text(re.compile("Written|Wrote|wrote")).first.wait_for()
    [written] = server.folder.glob("*.safetensors")
    page.get_by_label("or its path").fill(str(written))
    page.keyboard.press("Enter")
    walk.did()
    walk.click(main.get_by_role("button", name="Load", exact=True))
    main.get_by_text(re.compile("^Loaded")).wait_for()
    walk.end(leads_to="Export")

    assert walk.taken == told()
    assert max(places for _, places in walk.taken.values()) <= 3
