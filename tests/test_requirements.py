"""What is required of a soup: exit codes for scripts, from the verdict that is there anyway."""

import shutil

import pytest
from kitchens import change_yaml, json_of, run_command, small_kitchen

import soupviz as sv
from soupviz.analysis.requirements import check_requirements, checked, parse_requirement
from soupviz.errors import RecipeError


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """Noise around the model that labels the data: its mean is better than each of it."""
    return small_kitchen(tmp_path_factory.mktemp("kitchen"), num_ingredients=6, num_examples=400, scale=0.15)


def held(file, text, recipe=None):
    kitchen = sv.Kitchen.load(file)
    soup = sv.cook(kitchen, recipe or {"method": "uniform"})
    return checked(soup, [parse_requirement(text)])


def test_a_soup_that_is_better_ends_with_0_and_tells_the_verdict(kitchen, capsys):
    found = json_of(capsys, "soup", kitchen, "--recipe", "uniform", "--require", "better")
    verdict = found["verdict"]
    assert (verdict["is_met"], verdict["judgement"], verdict["reports_on"]) == (True, "better", "test")
    assert verdict["difference"] > 0 and verdict["p_value"] < 0.05
    assert verdict["required"] == [{"requirement": "better", "is_met": True, "sentence": verdict["sentence"]}]
    status, out, _ = run_command(capsys, "soup", kitchen, "--recipe", "uniform", "--require", "better")
    assert status == 0
    assert " ".join(verdict["sentence"].split()[:4]) in out


def test_a_soup_that_is_not_better_ends_with_1_one_line_and_no_file(kitchen, capsys, tmp_path):
    best = max((row["value"], -i, name) for i, (name, row) in enumerate(scored(kitchen, capsys).items()))[2]
    file = tmp_path / "soup.safetensors"
    asked = ("soup", kitchen, "--recipe", "uniform", "--members", best, "--require", "better", "--out", file)
    status, _, err = run_command(capsys, *asked)
    assert status == 1
    assert [line for line in err.splitlines() if line.startswith("soupviz: not met: better: ")] == err.splitlines()[-1:]
    assert best in err.splitlines()[-1]
    assert not file.exists()
    status, out, _ = run_command(capsys, *asked, "--json")
    assert status == 1
    assert '"is_met": false' in out


def scored(kitchen, capsys):
    return json_of(capsys, "score", kitchen)["ingredients"]


def test_the_best_ingredient_is_looked_for_among_all_of_them(kitchen):
    """Those that the recipe did not look at are scored too."""
    verdict = held(kitchen, "better", {"method": "uniform", "members": ("m_4", "m_5")}).verdict
    assert verdict.best is not None
    scores = sv.Kitchen.load(kitchen).score()
    assert verdict.best.name == scores.loc[scores["accuracy"].idxmax(), "ingredient"]


@pytest.mark.parametrize(
    ("text", "is_met"),
    [("accuracy>=0.4", True), ("accuracy >= 0.999", False), ("loss<10", True), ("loss<=0.001", False), ("ece>0", True)],
)
def test_a_metric_is_held_against_a_number_on_the_split_that_reports(kitchen, text, is_met):
    found = held(kitchen, text)
    (one,) = found.findings
    assert one.is_met is is_met
    assert one.sentence.endswith(" on test.")
    assert bool(found.missed) is not is_met


def test_several_requirements_are_all_to_be_met(kitchen, capsys):
    asked = ("soup", kitchen, "--recipe", "uniform", "--require", "better", "--require", "accuracy>=0.999")
    status, _, err = run_command(capsys, *asked)
    assert status == 1
    assert "not met: accuracy>=0.999: accuracy is 0." in err.splitlines()[-1]


@pytest.mark.parametrize("text", ["best", "accuracy", "accuracy>=much", "accuracy=0.9", "accuracy>=nan", ""])
def test_a_requirement_that_is_none_says_what_is_expected(text):
    with pytest.raises(RecipeError, match=r"better.*accuracy>=0\.9"):
        parse_requirement(text)


def test_a_metric_that_the_task_lacks_is_told_with_those_it_has(kitchen, capsys):
    status, _, err = run_command(capsys, "soup", kitchen, "--recipe", "uniform", "--require", "wer<0.1")
    assert status == 2
    assert "'wer'" in err and "accuracy, loss" in err


def test_without_a_test_split_nothing_can_report(tmp_path, capsys):
    file = change_yaml(small_kitchen(tmp_path, num_examples=50), lambda document: document["data"].pop("test"))
    with pytest.raises(RecipeError, match="no test split"):
        check_requirements(sv.Kitchen.load(file), [parse_requirement("better")])
    status, _, err = run_command(capsys, "soup", file, "--recipe", "uniform", "--require", "better")
    assert (status, len(err.splitlines())) == (2, 1)


def test_a_test_split_with_examples_that_selected_reports_on_nothing(tmp_path):
    file = small_kitchen(tmp_path, num_examples=60)
    shutil.copy(tmp_path / "held_out.safetensors", tmp_path / "test.safetensors")
    found = held(file, "better", {"method": "greedy"})
    assert "had a part in choosing" in found.missed
