"""The written report: one file, complete, escaped, readable in both themes and by a screen reader, and true."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kitchens import BATCHNORM, change_yaml, json_of, run_command, small_kitchen
from safetensors.torch import load_file

import soupviz as sv
from soupviz.analysis.verdicts import verdict_of
from soupviz.errors import Cancelled, ExportError, KitchenError
from soupviz.mixing.averaging import combine
from soupviz.pictures import models
from soupviz.reports import figures, page
from soupviz.reports.choosing import chosen
from soupviz.reports.drawing import inline_svg
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.wording import in_percent, places

NASTY = "<script>alert('&\"x')</script>"
"""A name that is dangerous wherever it is not escaped."""

VOID = {"meta", "br"}


@dataclass
class Node:
    """An element of a report."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Node | str"] = field(default_factory=list)

    def __iter__(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child

    def all(self, *tags: str) -> list["Node"]:
        return [node for node in self if node.tag in tags]

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Reader(HTMLParser):
    """A strict reader: every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        assert len(node.attributes) == len(attrs), f"an attribute of {tag} is there twice"
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(path: Path) -> Node:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert len(reader.open) == 1
    return reader.open[0]


def cells(document: Node, label: str) -> list[list[str]]:
    """The rows of a table, by the label of the region that it stands in."""
    [region] = [node for node in document if node.attributes.get("aria-label") == label]
    [body] = region.all("tbody")
    return [[cell.text.strip() for cell in row.all("th", "td")] for row in body.all("tr")]


def renamed(document: dict[str, Any]) -> None:
    """Names that must be escaped: of the kitchen, of an ingredient, of a class."""
    document["name"] = f"kitchen {NASTY}"
    document["ingredients"] = {f"a {NASTY}": "m_0.safetensors"} | {f"m_{n}": f"m_{n}.safetensors" for n in range(1, 5)}
    document["classes"] = [f"zero {NASTY}", "one", "two"]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> sv.Kitchen:
    folder = tmp_path_factory.mktemp("report")
    file = small_kitchen(folder, num_ingredients=5, num_examples=120, scale=0.3, shifts=["blur"])
    return sv.Kitchen.load(change_yaml(file, renamed))


@pytest.fixture(scope="module")
def soup(kitchen: sv.Kitchen) -> sv.Soup:
    return sv.greedy(kitchen)


@pytest.fixture(scope="module")
def path(soup: sv.Soup) -> Path:
    """The report of a greedy soup, beside the ingredients."""
    return sv.report(soup, soup.kitchen.folder / "report.html")


@pytest.fixture(scope="module")
def document(path: Path) -> Node:
    return read(path)


# One file that needs nothing else


def test_a_report_refers_to_nothing_outside_itself(path, document):
    assert not re.search(r"https?://|//[a-z]|@import", path.read_text(encoding="utf-8"))
    assert document.all("script", "link", "img", "iframe", "object", "image", "use", "form") == []
    for node in document:
        for name in ("href", "src", "srcset", "data", "action", "xlink:href"):
            place = node.attributes.get(name)
            assert place is None or place.startswith(("#", "data:text/yaml;")), place


def test_a_browser_is_told_to_fetch_nothing(document):
    [policy] = [node.attributes["content"] for node in document.all("meta") if "http-equiv" in node.attributes]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_names_are_escaped_and_shown_as_they_are(path, document):
    assert "<script" not in path.read_text(encoding="utf-8")
    assert f"kitchen {NASTY}" in document.all("title")[0].text
    assert [row[0] for row in cells(document, "Ingredients") if NASTY in row[0]]
    assert [row for row in cells(document, "Change by class") if row[0] == f"zero {NASTY}"]
    drawn = [text.text for svg in document.all("svg") for text in svg.all("text")]
    assert any(text.startswith("a <scr") for text in drawn)


def test_a_report_of_a_dozen_ingredients_is_small(path):
    assert path.stat().st_size < 500_000


# Readable


def test_a_report_says_its_language_its_letters_and_that_it_knows_both_themes(document):
    assert document.all("html")[0].attributes["lang"] == "en"
    meta = [node.attributes for node in document.all("meta")]
    assert {"charset": "utf-8"} in meta
    assert {"name": "color-scheme", "content": "light dark"} in meta


def test_headings_are_in_order_and_every_entry_of_the_contents_leads_to_one(document):
    headings = document.all("h1", "h2", "h3")
    assert [node.tag for node in headings][:2] == ["h1", "h2"]
    assert [node.tag for node in headings].count("h1") == 1
    targets = [node.attributes["href"] for node in document.all("nav")[0].all("a")]
    assert targets == [f"#{node.attributes['id']}" for node in headings if node.tag == "h2"]


def test_identifiers_are_unique_and_every_reference_has_one(document):
    identifiers = [node.attributes["id"] for node in document if "id" in node.attributes]
    assert len(identifiers) == len(set(identifiers))
    for node in document:
        for value in node.attributes.values():
            for name in re.findall(r"url\(#([^)]+)\)", value or ""):
                assert name in identifiers
        for name in (node.attributes.get("aria-labelledby") or "").split():
            assert name in identifiers


def test_every_picture_has_a_title_and_a_description(document):
    pictures = [svg for svg in document.all("svg") if svg.attributes.get("aria-hidden") != "true"]
    assert len(pictures) >= 4
    for svg in pictures:
        assert svg.attributes["role"] == "img"
        assert [child.tag for child in svg.children[:2]] == ["title", "desc"]
        assert all(len(child.text) > 15 for child in svg.children[:2])


def test_every_table_has_a_caption_and_heads_that_say_what_they_are_heads_of(document):
    tables = document.all("table")
    assert len(tables) >= 5
    for table in tables:
        assert len(table.all("caption")) == 1
        assert all(head.attributes["scope"] == "col" for head in table.all("thead")[0].all("th"))
        for row in table.all("tbody")[0].all("tr"):
            assert [head.attributes["scope"] for head in row.all("th")] == ["row"]
            assert len(row.all("th", "td")) == len(table.all("thead")[0].all("th"))


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Of WCAG 2.2."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_it_should_be():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark", "paper"])
def test_text_is_legible_in_every_theme(document, theme):
    css = document.all("style")[0].text
    blocks = [
        dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    assert len(blocks) == 3
    colors = blocks[0] | blocks[["light", "dark", "paper"].index(theme)]
    for name in ("ink", "quiet", "link", "best"):
        for behind in ("paper", "shade"):
            assert contrast(colors[name], colors[behind]) >= 4.5, (name, behind)
    assert contrast(colors["ink"], colors["bar"]) >= 4.5  # a coefficient may stand on its bar


def test_pictures_are_transparent_and_their_axes_take_the_colour_of_the_text(document):
    for svg in document.all("figure"):
        texts = [node for node in svg.all("text") if node.attributes.get("fill") not in ("black", "white")]
        assert texts
        assert {node.attributes["fill"] for node in texts} == {"currentColor"}
        assert not [node for node in svg.all("rect") if node.attributes.get("fill") == "white"]


def test_a_picture_keeps_apart_from_another_in_the_same_page():
    row = {"id": "a", "name": "a", "kind": "best", "value": 0.5, "low": 0.4, "high": 0.6}
    chart = models.intervals([row], "test", ACCURACY)
    one, other = (inline_svg(chart, name=name, title=name, alt="what it shows") for name in ("cats", "dogs"))
    assert one.replace("cats", "dogs") == other
    assert 'id="cats-title"' in one


def test_a_missing_value_leaves_its_mark_out_and_the_picture_whole():
    data = pd.DataFrame({"x": [1.0, float("nan"), 3.0], "y": [1.0, 2.0, float("nan")]})
    spec = {"mark": "point", "encoding": {axis: {"field": axis, "type": "quantitative"} for axis in "xy"}}
    svg = inline_svg((data, spec), name="gaps", title="Gaps", alt="A picture with gaps")
    assert svg.startswith("<svg")
    assert "NaN" not in svg


# True


def test_scores_are_the_soups_with_their_roles(document, soup):
    rows = cells(document, "Scores by split")
    assert [row[:2] for row in rows] == [
        ["held_out", "selects"], ["test", "reports"], ["shifts.blur", "reports"]
    ]  # fmt: skip
    for row in rows:
        score = soup.scores[row[0]]
        assert row[2] == in_percent(score.accuracy, places(score.num_examples))
        assert row[4:6] == [str(score.correct), str(score.num_examples)]
        low, high = (float(end) for end in row[3].split(" to "))
        assert low <= 100 * score.accuracy <= high


def test_the_verdict_is_that_of_every_other_place(document, soup):
    verdict = verdict_of(soup.kitchen, soup)
    assert document.all("header")[0].all("p")[1].text == verdict.sentence
    against = {(row[0], row[1]): row for row in cells(document, "Differences to other models")}
    found = verdict.best.differences["test"]
    row = against[verdict.best.name, "test"]
    assert [int(row[4]), int(row[5])] == [found.better, found.worse]
    assert verdict.looks in document.text
    assert verdict.optimism in document.text


def test_every_ingredient_stands_there_with_its_coefficient_and_one_is_the_best(document, soup):
    rows = {row[0].removesuffix(" best"): row for row in cells(document, "Ingredients")}
    assert set(rows) == set(soup.kitchen.names)
    scores = soup.kitchen.scores.of_ingredients()
    for name, row in rows.items():
        assert float(row[1]) == pytest.approx(soup.coefficients[name], rel=1e-3)
        assert row[2] == in_percent(scores[name].accuracy, places(scores[name].num_examples))
        assert soup.kitchen.weights.resolve(name).fingerprint.startswith(row[-1])
    [best] = [row[0].removesuffix(" best") for row in cells(document, "Ingredients") if row[0].endswith(" best")]
    assert best == max(scores, key=lambda name: scores[name].correct)


def test_every_decision_of_the_search_is_told(document, soup):
    rows = cells(document, "Decisions of the search")
    assert [row[1] for row in rows] == [step.ingredient for step in soup.trajectory]
    assert [row[2] in ("start", "accepted") for row in rows] == [step.accepted for step in soup.trajectory]


def test_classes_add_up_to_the_whole_split(document, soup):
    rows = cells(document, "Change by class")
    assert sum(int(row[1]) for row in rows) == soup.scores["test"].num_examples
    right = sum(round(float(row[3]) * int(row[1]) / 100) for row in rows)
    assert right == soup.scores["test"].correct


def test_it_says_when_on_what_and_with_which_versions_it_was_made(document, soup):
    [facts] = [node for node in document.all("dl") if node.attributes["class"] == "facts"]
    told = dict(zip([n.text for n in facts.all("dt")], [n.text for n in facts.all("dd")], strict=True))
    assert told["Recipe"] == soup.title
    assert told["Made of"] == f"{len(soup.mix)} of 5 ingredients"
    assert told["Chosen on"] == "held_out (120 examples)"
    assert soup.key[:12] in told["Cooked"]
    assert "cpu" in told["Evaluated on"] and "float32" in told["Evaluated on"]
    assert f"soupviz {sv.__version__}" in told["Versions"]


def test_what_was_not_measured_is_said(document):
    text = document.all("main")[0].text
    assert "was not measured: the Curves page does that" in text
    assert "Of 10 barriers between ingredients" in text
    assert "ensemble of all 5 was not scored on test" in text


def test_the_curve_and_the_barriers_are_drawn_once_they_are_known(kitchen, soup, tmp_path):
    [best] = sorted(kitchen.names, key=lambda name: -kitchen.scores.score(((name, 1.0),)).correct)[:1]
    for alpha in (0.25, 0.5):
        kitchen.scores.score(combine(((best, 1.0),), soup.mix, alpha))
    for first in range(5):
        for second in range(first):
            kitchen.scores.score(((kitchen.names[second], 0.5), (kitchen.names[first], 0.5)))
    document = read(sv.report(soup, tmp_path / "report.html"))
    captions = [node.text for node in document.all("figcaption")]
    assert any("at the 4 points that are known" in text for text in captions)
    assert any("10 of 10 pairs are measured" in text for text in captions)
    assert "was not measured" not in document.all("main")[0].text


def test_the_recipe_in_it_makes_the_soup_again_bit_for_bit(path, document, soup, tmp_path):
    [text] = [node.text for node in document.all("pre") if node.attributes.get("aria-label") == "The recipe"]
    [link] = [node.attributes for node in document.all("a") if "download" in node.attributes]
    _, _, encoded = link["href"].partition("base64,")
    assert base64.b64decode(encoded).decode() == text
    recipe = path.parent / link["download"]
    recipe.write_text(text, encoding="utf-8")
    sv.bake(recipe, tmp_path / "soup.safetensors")
    again, weights = load_file(tmp_path / "soup.safetensors"), soup.state_dict()
    assert all(again[key].equal(weights[key]) for key in weights)
    assert "python -m soupviz bake recipe.yaml --out soup.safetensors" in document.text


# What it costs


def test_a_second_report_evaluates_nothing(soup, path, tmp_path, evaluations):
    sv.report(soup, tmp_path / "again.html")
    assert evaluations == []


def test_a_report_scores_only_what_it_cannot_be_without(tmp_path, evaluations):
    """A soup of two scores neither the others on held_out, nor the best ingredient on test."""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=4))
    soup = sv.uniform(kitchen, members=["m_0", "m_1"])
    evaluations.clear()
    sv.report(soup, tmp_path / "report.html")
    assert len(evaluations) == 4 + 1


def test_a_report_can_be_cancelled_and_leaves_nothing_behind(soup, tmp_path):
    def cancel(_done: int, _total: int, what: str) -> None:
        if what == "drawing":
            raise Cancelled

    with pytest.raises(Cancelled):
        sv.report(soup, tmp_path / "report.html", progress=cancel)
    assert list(tmp_path.iterdir()) == []


# Every kind of soup and of kitchen


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "ensemble"},
        {"method": "wise_ft"},
        {"method": "ties"},
        {"method": "greedy", "objective": "loss"},
        {"method": "learned", "epochs": 2},
    ],
    ids=lambda recipe: recipe["method"],
)
def test_every_kind_of_soup_has_a_report(kitchen, tmp_path, recipe):
    soup = sv.cook(kitchen, recipe)
    document = read(sv.report(soup, tmp_path / "report.html"))
    assert document.all("h1")[0].text == soup.title
    assert len(document.all("h2")) == len(page.SECTIONS)


def test_an_ensemble_says_that_it_cannot_be_rebuilt(kitchen, tmp_path):
    document = read(sv.report(sv.cook(kitchen, {"method": "ensemble"}), tmp_path / "report.html"))
    assert "An ensemble has no weights of its own to rebuild" in document.text
    assert all(item.fingerprint in document.text for item in kitchen.ingredients)


def test_a_kitchen_with_no_test_no_base_and_one_ingredient_has_a_report(tmp_path):
    def strip(document: dict[str, Any]) -> None:
        del document["base"], document["data"]["test"]
        document["ingredients"] = ["m_0.safetensors"]

    kitchen = sv.Kitchen.load(change_yaml(small_kitchen(tmp_path), strip))
    document = read(sv.report(sv.uniform(kitchen), tmp_path / "report.html"))
    assert "every number here is optimistic. Add a test split" in document.text


def test_a_soup_that_is_the_best_ingredient_itself_changes_nothing(kitchen, tmp_path):
    scores = kitchen.scores.of_ingredients()
    soup = sv.uniform(kitchen, members=[max(scores, key=lambda name: scores[name].correct)])
    document = read(sv.report(soup, tmp_path / "report.html"))
    assert "Nothing: on test both have the same examples right." in document.text
    assert "too small to tell" not in document.text
    assert not [node for node in document if node.attributes.get("aria-label") == "Change by class"]


def test_a_soup_with_statistics_estimated_again_says_that_it_needs_its_kitchen(tmp_path):
    kitchen = sv.Kitchen.load(
        small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 4, 4), num_examples=40, num_ingredients=2, train=30)
    )
    document = read(sv.report(sv.uniform(kitchen, batchnorm="recalibrate:30"), tmp_path / "report.html"))
    assert "running statistics: recalibrate:30" in document.text
    assert "--kitchen kitchen.yaml" in document.text
    assert "again up to rounding" in document.text


def test_of_many_models_the_best_are_drawn_and_how_many_are_not_is_said(kitchen, soup, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "LONGEST", 6)
    document = read(sv.report(soup, tmp_path / "report.html"))
    assert re.search(r"\d+ lower models? (is|are) left out\.", document.text)


# Choosing the soup


def test_by_default_the_best_on_held_out_is_chosen(kitchen, soup):
    sv.uniform(kitchen, members=["m_4"])
    best = max(kitchen.store.runs(), key=lambda run: run.result["scores"]["held_out"]["correct"])
    assert chosen(kitchen).scores["held_out"].correct == best.result["scores"]["held_out"]["correct"]


def test_a_soup_is_chosen_by_number_by_name_or_by_the_start_of_its_key(kitchen, soup):
    run = kitchen.store.run(soup.key)
    for name in (str(run.id), soup.title, soup.key, soup.key[:8]):
        assert chosen(kitchen, name).key == soup.key


def test_a_soup_that_is_not_there_is_told_with_those_that_are(kitchen, soup):
    with pytest.raises(KitchenError, match=r"no soup 'nothing'; expected .*: .*greedy \(alpha = mean\)"):
        chosen(kitchen, "nothing")


def test_of_two_soups_with_one_name_the_number_is_asked_for(kitchen, soup):
    other = sv.uniform(kitchen, members=["m_2"])
    kitchen.store.name_run(other.key, soup.title)
    with pytest.raises(KitchenError, match=r"2 soups are called .* give the number of one"):
        chosen(kitchen, soup.title)
    kitchen.store.forget_run(other.key)


def test_where_nothing_was_cooked_it_says_to_cook_one_first(tmp_path):
    with pytest.raises(KitchenError, match=r"no soup was cooked here.*cook one first"):
        chosen(sv.Kitchen.load(small_kitchen(tmp_path)))


# The command line, and where it writes


def test_the_command_writes_a_report_and_says_of_what(kitchen, soup, tmp_path, capsys):
    run = kitchen.store.run(soup.key)
    found = json_of(capsys, "report", kitchen.file, "--soup", run.id, "--out", tmp_path / "r.html")
    size = (tmp_path / "r.html").stat().st_size
    assert found == {"file": str(tmp_path / "r.html"), "soup": soup.title, "bytes": size}
    assert read(tmp_path / "r.html").all("h1")[0].text == soup.title


def test_a_users_mistake_is_one_line(kitchen, tmp_path, capsys):
    status, out, err = run_command(capsys, "report", kitchen.file, "--soup", "none", "--out", tmp_path / "r.html")
    assert (status, out) == (2, "")
    assert "no soup 'none'" in err
    status, _, err = run_command(capsys, "report", kitchen.file, "--out", tmp_path / "r.txt")
    assert (status, err.strip()) == (2, f"soupviz: {tmp_path / 'r.txt'}: a report is an HTML file; name it r.html.")


def test_a_folder_that_is_missing_or_read_only_is_named(soup, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="no such folder"):
        sv.report(soup, tmp_path / "none" / "report.html")
    monkeypatch.setattr(page, "is_writable", lambda _folder: False)
    with pytest.raises(ExportError, match="read-only"):
        sv.report(soup, tmp_path / "report.html")
