"""Writing a report: what is known of a soup, in one HTML file."""

import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from soupviz.analysis import barriers, decisions, wording
from soupviz.analysis.examples import ClassChange, class_changes, class_names, examples_of, most_changed, tested
from soupviz.analysis.regime import explained
from soupviz.analysis.verdicts import Verdict, Yardstick, verdict_of
from soupviz.errors import ExportError
from soupviz.extras import needed
from soupviz.files import is_writable, replacing
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.pictures import palette
from soupviz.pictures.examples import SHOWN
from soupviz.reports import contents, figures, rebuilding, rows
from soupviz.reports.contents import Compared
from soupviz.reports.words import words_of
from soupviz.soups.planning import known
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT
from soupviz.tasks.wording import places, shown
from soupviz.types import Progress, part_of, quiet
from soupviz.version import __version__

SUFFIXES = (".html", ".htm")

NO_SEARCH = "{} decides nothing step by step: there is no search to show."

ByClass = tuple[list[ClassChange], list[ClassChange]]
"""What changed class by class: all classes, and those that are drawn."""

SECTIONS = {
    "what": "What this soup is", "verdict": "Is it better?", "scores": "Scores", "ingredients": "Ingredients",
    "search": "How it was found", "why": "Between the ingredients", "classes": "What changed, class by class",
    "limits": "What these numbers cannot say", "recipe": "How to make it again",
}  # fmt: skip


def report(soup: Soup, path: str | Path, *, progress: Progress = quiet) -> Path:
    """Write a soup's report: one HTML file with its pictures, which needs neither a network nor soupviz.

    The ingredients' scores on held_out, and those of the soup and of the best ingredient on every split, are computed
    where they are missing; whatever else the kitchen knows is taken as it is, and what it does not know is said.

    Returns:
        The file.
    Raises:
        ExportError: a file that is not called .html, or a folder that is missing or read-only.
        Cancelled: from the progress callback.
    """
    target = Path(path)
    check_target(target)
    compared = contents.gather(soup, part_of(progress, 0, 2))
    text = html(soup, compared, target.parent, part_of(progress, 1, 2))
    try:
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"{target}: cannot be written ({error}). Choose another folder, or free some space."
        ) from None
    return target


def check_target(target: Path) -> None:
    """Whether a report can be written there.

    Raises:
        ExportError: it is not called .html, its folder is missing or read-only, or a package that makes it is missing.
    """
    with needed("a report", ExportError):
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    if target.suffix not in SUFFIXES:
        raise ExportError(f"{target}: a report is an HTML file; name it {target.stem or 'report'}.html.")
    if not target.parent.is_dir():
        raise ExportError(f"{target.parent}: no such folder; make it, or choose another.")
    if not is_writable(target.parent):
        raise ExportError(f"{target.parent}: the folder is read-only; choose another.")


def html(soup: Soup, compared: Compared, folder: Path, progress: Progress = quiet) -> str:
    """The report's text; the recipe in it names files relative to the folder."""
    progress(0, 3, "judging")
    verdict = verdict_of(soup.kitchen, soup)
    progress(1, 3, "drawing")
    by_class = _class_changes(compared, soup, verdict.reports_on)
    drawn = _figures(soup, compared, verdict, by_class)
    found = _tables(soup, compared, verdict, by_class) | {"figures": drawn, "unknown": _unknown(soup, verdict, drawn)}
    progress(2, 3, "writing")
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_resource("report.html.jinja"))
    return template.render(
        found,
        css=_resource("report.css"),
        star=palette.SHAPES["soup"],
        version=__version__,
        title=compared.soup.name,
        kitchen=soup.kitchen.name,
        contents=SECTIONS,
        facts=contents.facts(soup),
        verdict=_verdict(soup, verdict),
        cards=_cards(soup, verdict),
        words=words_of(soup, compared, verdict.reports_on),
        rebuild=rebuilding.instructions(soup, folder),
        written=contents.moment(time.time()),
    )


def _resource(name: str) -> str:
    return files("soupviz.reports").joinpath(name).read_text(encoding="utf-8")


def _verdict(soup: Soup, verdict: Verdict) -> dict[str, Any]:
    seen = verdict.best.differences if verdict.best else {}
    sizes = dict(zip(seen, verdict.sizes, strict=False))  # of the best ingredient itself there are none
    told = [sizes[verdict.reports_on]] if verdict.reports_on in sizes else []
    told += [verdict.elsewhere] if verdict.elsewhere else []
    return {
        "sentence": verdict.sentence,
        "sentences": [*told, verdict.optimism],
        "rows": rows.differences(soup.kitchen.objective, verdict),
    }


def _cards(soup: Soup, verdict: Verdict) -> list[dict[str, Any]]:
    """The numbers that one looks for first."""
    cards, task, metric = [], soup.kitchen.task, soup.kitchen.objective
    for split in dict.fromkeys((verdict.reports_on, HELD_OUT)):
        one = verdict.values[split]
        number = wording.units(task, one.num_units) if one.right is None else f"{one.right:,} of {one.num_units:,}"
        more = [f"95 %: {wording.between(metric, one.low, one.high)}", number]
        more.append("selected it" if one.selects else "did not select it")
        cards.append({"title": f"On {split}", "value": shown(metric, one.value, places(one.num_units)), "more": more})
    named: list[tuple[str, Yardstick | None]] = [
        ("Best ingredient", verdict.best), ("Ensemble", verdict.ensemble), ("Uniform soup", verdict.uniform)
    ]  # fmt: skip
    for title, yardstick in named:
        if yardstick is not None and (there := yardstick.values.get(verdict.reports_on)):
            passes = [f"{yardstick.passes} forward passes"] if yardstick.passes > 1 else []
            more = [yardstick.name, f"on {verdict.reports_on}", *passes]
            cards.append({"title": title, "value": shown(metric, there.value, places(there.num_units)), "more": more})
    return cards


def _tables(soup: Soup, compared: Compared, verdict: Verdict, by_class: ByClass) -> dict[str, Any]:
    split = verdict.reports_on
    kitchen = soup.kitchen
    task, metric = kitchen.task, kitchen.objective
    changed, most = by_class
    names = class_names(kitchen, kitchen.splits.load(split)) if task.has_classes else []
    unchanged = f"Nothing: on {split} both have the same {task.unit}s right."
    if not task.has_classes:
        reason = task.without_classes
        unchanged = f"{reason[0].upper()}{reason[1:]}, so that nothing can be said class by class."
    log = decisions.log(kitchen, soup.recipe, soup.trajectory)
    splits = [name for name in kitchen.splits.reporting if _is_known(compared, name)]
    return {
        "soup": compared.soup,
        "best": compared.best.name,
        "reporting": split,
        "scores": rows.scores(task, metric, verdict, compared),
        "splits": splits,
        "weighted": soup.coefficients is not None,
        "ingredients": rows.ingredients(soup, compared, splits),
        "made_of": "" if soup.coefficients is not None else f"The soup is {soup.made_of}.",
        "decisions": rows.decisions(log, metric),
        "reasons": soup.recipe.goal not in ("", kitchen.objective.name),
        "search_note": explained(kitchen, soup.recipe, log) if log else NO_SEARCH.format(soup.title),
        "classes": rows.classes(most, names),
        "classes_left_out": len(changed) - len(most),
        "no_changes": "" if most else unchanged,
        "limits": _limits(soup, compared, verdict),
    }


def _is_known(compared: Compared, split: str) -> bool:
    """Whether a split tells more of the ingredients than of the best one alone, which the table of scores has."""
    return sum(split in model.scores for model in compared.ingredients) > len(compared.ingredients) / 2


def _class_changes(compared: Compared, soup: Soup, split: str) -> ByClass:
    """Every class, and those that changed most, with their tests; none of the latter where nothing changed."""
    kitchen = soup.kitchen
    if not kitchen.task.has_classes:
        return [], []
    new, old = (known(kitchen, model.mix, split, model.aggregation) for model in (compared.soup, compared.best))
    assert new is not None and old is not None  # both were scored when the report was begun
    labels = kitchen.splits.load(split).labels.numpy()
    both = examples_of(new), examples_of(old), labels
    changed = class_changes(*both)
    differs = any(one.fixed or one.broken for one in changed)
    return changed, tested(most_changed(changed, SHOWN), *both) if differs else []


def _figures(soup: Soup, compared: Compared, verdict: Verdict, by_class: ByClass) -> Mapping[str, Any]:
    kitchen = soup.kitchen
    split = verdict.reports_on
    changed, most = by_class
    names = class_names(kitchen, kitchen.splits.load(split)) if changed else []
    return {
        "models": figures.all_models(soup, compared, verdict),
        "trajectory": figures.trajectory(soup),
        "curve": figures.curve(soup, compared.best),
        "classes": figures.changes(changed, most, names, split, compared.best.name) if changed else None,
        "barriers": figures.barrier_matrix(kitchen, _of_weights(soup)),
        "cosines": figures.cosine_matrix(kitchen),
    }


def _of_weights(soup: Soup) -> str:
    """What became of running statistics; an ensemble has each member's own."""
    return "average" if soup.recipe.aggregation in OUTPUTS else soup.recipe.aggregation


def _unknown(soup: Soup, verdict: Verdict, drawn: Mapping[str, Any]) -> list[str]:
    """What was not measured, and what measures it."""
    kitchen, where = soup.kitchen, f"{soup.kitchen.file.name}"
    found = []
    if (
        drawn["curve"] is None
        and verdict.best
        and soup.mix != verdict.best.mix
        and soup.recipe.aggregation not in OUTPUTS
    ):
        found.append(f"The line from {verdict.best.name} to the soup was not measured: the Curves page does that.")
    if drawn["barriers"] is None and (total := len(barriers.pairs_of(kitchen))):
        pairs = len(figures.known_pairs(kitchen, _of_weights(soup)))
        found.append(
            f"Of {total} barriers between ingredients {pairs or 'none'} {'is' if pairs == 1 else 'are'} known: the "
            f"Preflight page, or python -m soupviz inspect {where}, measures them."
        )
    if drawn["cosines"] is None and len(kitchen.names) > 1:
        found.append("The angles between the ingredients' updates were not computed: the Preflight page does that.")
    return found


def _limits(soup: Soup, compared: Compared, verdict: Verdict) -> list[str]:
    """What an honest referee would hold against the numbers."""
    chosen = " and ".join(soup.selected_on)
    task, metric = soup.kitchen.task, soup.kitchen.objective
    found = [
        f"{chosen} chose this soup, and the best ingredient too: what they have there is optimistic. "
        f"Judge the soup by {verdict.reports_on}."
        if verdict.reports_on not in soup.selected_on
        else f"{chosen} chose this soup and is all there is: every number here is optimistic. Add a "
        + ("test split." if verdict.reports_on == HELD_OUT else "split that had no part in the choice."),
        verdict.looks,
        f"Intervals tell how sure the numbers are for {task.unit}s like these. They do not tell what other fine-tuning "
        "runs, or data from elsewhere, would give.",
    ]
    for yardstick in (verdict.ensemble, verdict.uniform):
        if yardstick is not None and verdict.reports_on not in yardstick.values:
            found.append(f"The {yardstick.name} was not scored on {verdict.reports_on}: it is no yardstick here.")
    scores = compared.soup.scores.values()
    if None in [score.num_close for score in scores] and (reason := task.without("close")):
        found.append(
            f"How many {task.unit}s another batch size or machine may count differently, as two answers are too close "
            f"to tell apart, is not known{reason}."
        )
    if close := sum(score.num_close or 0 for score in scores):
        found.append(
            f"For {close:,} of {wording.units(task, sum(score.num_units for score in scores))} the two best answers "
            "are so close that another batch size or machine may count them differently."
        )
    if broken := sum(score.num_nonfinite for score in scores):
        counts = "they count as wrong" if metric.judges_nonfinite else "it is below every soup that has fewer of them"
        found.append(f"{wording.units(task, broken)} have outputs that are not finite; {counts}.")
    if soup.clamped:
        found.append(f"{soup.clamped:,} running variances of the mix were negative and are set to 0.")
    return found
