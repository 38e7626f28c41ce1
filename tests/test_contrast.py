"""Contrast by WCAG 2.2, level AA: 4.5 to 1 for text (1.4.3), 3 to 1 for graphics and what marks a field (1.4.11)."""

import tomllib
from itertools import product
from typing import Any

import pytest
from browsing import ROOT, Server, goto, in_browser, wait_until_idle

from soupviz.pictures import palette
from soupviz.ui import theme

THEMES = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
NAMES = ("light", "dark")
TEXT, GRAPHICS = 4.5, 3.0
FADED = 0.6
"""Streamlit sets captions at this share of the text's opacity."""

Color = tuple[float, float, float]


def parsed(text: str) -> Color:
    return tuple(int(text[place : place + 2], 16) / 255 for place in (1, 3, 5))  # type: ignore[return-value]


def luminance(color: Color) -> float:
    """WCAG's relative luminance of an sRGB colour, each channel in [0, 1]."""
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, other: Color) -> float:
    """WCAG's contrast ratio, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def over(color: Color, ground: Color, opacity: float) -> Color:
    return tuple(opacity * a + (1 - opacity) * b for a, b in zip(color, ground, strict=True))  # type: ignore[return-value]


def grounds(name: str) -> list[Color]:
    """What text stands on: the page, and the sidebar with the widgets."""
    return [parsed(THEMES[name][key]) for key in ("backgroundColor", "secondaryBackgroundColor")]


def test_the_ratio_is_that_of_the_standard() -> None:
    black, white = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    assert contrast(black, white) == pytest.approx(21)
    assert contrast(white, white) == 1
    assert contrast(parsed("#777777"), white) == pytest.approx(4.48, abs=0.005)  # the known pair around 4.5
    assert contrast(parsed("#767676"), white) == pytest.approx(4.54, abs=0.005)
    assert contrast(white, black) == contrast(black, white)


@pytest.mark.parametrize("name", NAMES)
def test_text_and_captions_can_be_read(name: str) -> None:
    ink = parsed(THEMES[name]["textColor"])
    for ground in grounds(name):
        assert contrast(ink, ground) >= TEXT
        assert contrast(over(ink, ground, FADED), ground) >= TEXT


@pytest.mark.parametrize("name", NAMES)
def test_the_primary_colour_can_be_read_as_text_and_under_it(name: str) -> None:
    primary = parsed(THEMES[name]["primaryColor"])
    for ground in grounds(name):
        assert contrast(primary, ground) >= TEXT
    page = grounds(name)[0]
    assert contrast(primary, over(primary, page, 0.1)) >= TEXT, "a chosen segment: on a tenth of itself"
    letters = parsed("#FFFFFF") if name == "light" else parsed(theme.ON_PRIMARY)
    assert contrast(letters, primary) >= TEXT


@pytest.mark.parametrize("name", NAMES)
def test_the_border_of_a_field_can_be_seen(name: str) -> None:
    for ground in grounds(name):
        assert contrast(parsed(THEMES[name]["borderColor"]), ground) >= GRAPHICS


@pytest.mark.parametrize("name", NAMES)
def test_rules_and_outlines_of_pictures_can_be_seen(name: str) -> None:
    assert contrast(parsed(palette.NEUTRAL), grounds(name)[0]) >= GRAPHICS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", palette.COLORS)
def test_each_colour_of_the_palette_or_the_outline_around_it_can_be_seen(kind: str, name: str) -> None:
    ground = grounds(name)[0]
    assert max(contrast(parsed(color), ground) for color in (palette.COLORS[kind], palette.NEUTRAL)) >= GRAPHICS


def test_the_words_of_a_picture_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theme, "is_dark", lambda: False)
    parts = theme.of_pictures()
    words = {color for part in ("axis", "legend", "header") for color in parts[part].values()}
    assert words
    assert all(contrast(parsed(color), grounds("light")[0]) >= TEXT for color in words)


MEASURED = r"""
() => {
  const parse = (text) => { const n = text.match(/[\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ancestors = (node) => node ? [node, ...ancestors(node.parentElement)] : [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), node = texts.currentNode.parentElement;
    const style = getComputedStyle(node), box = node.getBoundingClientRect();
    const skipped = "style, script, noscript, svg, canvas, [data-testid=stIconMaterial], [disabled]";
    if (!text || !box.width || !box.height || style.visibility === "hidden" || node.closest(skipped)) continue;
    if (node.closest("label")?.querySelector("input:disabled")) continue;
    if (node.closest(".stSlider") && !node.closest("[data-testid=stWidgetLabel]")) continue;  // set beside its thumb
    const around = ancestors(node);
    const opacity = around.reduce((all, each) => all * Number(getComputedStyle(each).opacity), 1);
    if (opacity < 0.05) continue;  // shown on hover only
    let ground = [255, 255, 255, 1];
    for (const each of around.reverse()) ground = over(parse(getComputedStyle(each).backgroundColor), ground);
    const color = parse(style.color);
    color[3] *= opacity;
    found.push({ text: text.slice(0, 40), color: over(color, ground).slice(0, 3), ground: ground.slice(0, 3),
      large: parseFloat(style.fontSize) >= 24 });
  }
  return found;
}
"""
"""Every text on the screen with its colour and what it stands on, as the browser mixed them."""


def too_faint(found: list[dict[str, Any]]) -> list[str]:
    """The texts that fail, with their ratios."""
    rows = [(contrast(*(tuple(v / 255 for v in one[key]) for key in ("color", "ground"))), one) for one in found]
    return [f"{ratio:.2f} {one['text']}" for ratio, one in rows if ratio < (GRAPHICS if one["large"] else TEXT) - 0.005]


@pytest.mark.slow
@in_browser[1]
@pytest.mark.browser
def test_every_text_of_a_page_can_be_read_in_the_browser(server: Server, page: Any) -> None:
    for name, page_name in product(NAMES, ["ingredients", "soup", "export", "history"]):
        page.emulate_media(color_scheme=name)
        goto(page, server.url(page_name) + "&members=digits_00,digits_01", page_name.capitalize())
        wait_until_idle(page)
        for _ in range(20):  # what was faded while the script ran comes back to its colour
            page.wait_for_timeout(500)
            found = page.evaluate(MEASURED)
            if len(found) > 20 and not too_faint(found):
                break
        assert len(found) > 20
        assert too_faint(found) == [], (name, page_name)
