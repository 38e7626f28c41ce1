"""Takes docs/pages/tour.png, the README's moving picture: a walk through the real dashboard on the demo.

    python -m docs.moving

An animated PNG. Each step is a click or a move of the slider, at a ring, and what is there once nothing runs.
"""

import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from docs.pictures import ARGUMENTS, CHROMIUM, FOLDER, dashboard, wait_until_idle

WINDOW = {"width": 1280, "height": 800}
SIZE = (960, 600)
PAUSE, MOVE = 2600, 350
"""Milliseconds that a page is looked at, and a position of the slider."""

RING = "#D55E00"
ALPHAS = (0.2, 0.35, 0.5, 0.65, 0.8)


@dataclass
class Walk:
    """The pictures so far, each with how long it is shown."""

    page: Any
    frames: list[Image.Image] = field(default_factory=list)
    lasting: list[int] = field(default_factory=list)

    def show(self, lasting: int = PAUSE, ring: tuple[float, float] | None = None) -> None:
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        if ring is not None:
            x, y = ring
            ImageDraw.Draw(picture).ellipse((x - 18, y - 18, x + 18, y + 18), outline=RING, width=4)
        self.frames.append(picture.resize(SIZE, Image.Resampling.LANCZOS))
        self.lasting.append(lasting)

    def click(self, what: Any, title: str) -> None:
        """Show where it is clicked, and then the page that it leads to."""
        box = what.bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.show(700, middle)
        what.click()
        self.page.mouse.move(WINDOW["width"] - 1, 1)
        wait_until_idle(self.page, title)
        self.page.wait_for_timeout(2000)  # until charts have been drawn

    def save(self, target: Path) -> None:
        strip = Image.new("RGB", (SIZE[0], SIZE[1] * len(self.frames)))
        for number, frame in enumerate(self.frames):
            strip.paste(frame, (0, SIZE[1] * number))
        colors = strip.quantize(
            256, method=Image.Quantize.MAXCOVERAGE, kmeans=1
        )  # of all frames, however few points have one
        first, *rest = [frame.quantize(256, palette=colors, dither=Image.Dither.NONE) for frame in self.frames]
        first.save(target, save_all=True, append_images=rest, duration=self.lasting, loop=0, optimize=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, dashboard(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_context(viewport=WINDOW).new_page()
        walk, main = Walk(page), page.get_by_test_id("stMain")
        page.goto(f"{address}/?kitchen=demo")
        main.get_by_text("Why these?").wait_for(timeout=120_000)
        wait_until_idle(page, "ingredients")
        walk.show()
        walk.click(main.get_by_role("link", name="Why these?"), "soup")
        walk.show()
        main.get_by_role("heading", name="Decisions").scroll_into_view_if_needed()
        page.wait_for_timeout(1000)
        walk.show()
        main.evaluate("main => main.scrollTo(0, 0)")
        walk.click(main.get_by_role("link", name="Alpha", exact=True), "alpha")
        slide(walk, main.locator("input[type=range]").first)
        walk.click(page.locator(".st-key-places").get_by_role("link", name="Compare", exact=True), "compare")
        main.get_by_role("button", name="Cook the menu").click()
        wait_until_idle(page, "compare")
        walk.show()
        walk.click(page.locator(".st-key-places").get_by_role("link", name="Export", exact=True), "export")
        walk.show()
        walk.save(FOLDER / "tour.png")


def slide(walk: Walk, slider: Any) -> None:
    """Move the alpha of the curve, and show each position."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    for alpha in ALPHAS:
        slider.fill(f"{alpha}")
        walk.page.wait_for_timeout(900)
        walk.show(MOVE, (box["x"] + alpha * box["width"], box["y"] + box["height"] / 2))
    walk.lasting[-1] = PAUSE


if __name__ == "__main__":
    main()
