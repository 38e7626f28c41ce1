"""The menu: every recipe that fits, each with its cost; what does not fit is named."""

import pytest
from kitchens import change_yaml, json_of, run_command, small_kitchen

import soupviz as sv
from soupviz.menu import DEFAULTS, cook_menu
from soupviz.recipes import MENU


@pytest.fixture
def file(tmp_path):
    return small_kitchen(tmp_path)


def test_every_recipe_is_on_the_menu():
    assert {values["method"] for values in DEFAULTS} == set(MENU)


def test_what_fits_is_cooked_once_and_ordered_by_held_out(file):
    kitchen = sv.Kitchen.load(file)
    ready: list[sv.Soup] = []
    menu = cook_menu(kitchen, on_soup=ready.append)
    assert sorted(soup.title for soup in ready) == sorted(soup.title for soup in menu.soups)
    assert len(menu.soups) + len(menu.left_out) == len(DEFAULTS)
    counts = [soup.scores["held_out"].correct for soup in menu.soups]
    assert counts == sorted(counts, reverse=True)
    assert {soup.recipe.method for soup in menu.soups} == set(MENU) - {"swa", "ema", "lawa"}
    again = cook_menu(sv.Kitchen.load(file))
    assert [soup.as_dict() for soup in again.soups] == [soup.as_dict() for soup in menu.soups]


def test_what_does_not_fit_is_named_with_the_reason(file, capsys):
    found = json_of(capsys, "menu", file, "--budget", 10)
    assert "does not say of which step it is" in found["left_out"]["SWA (from 0)"]
    assert found["left_out"]["Bayesian (TPE, 50 trials)"] == "takes up to 58 scores, the budget is 10"
    assert all(soup["evaluations"] <= 10 for soup in found["soups"])
    status, out, err = run_command(capsys, "menu", file, "--budget", 10)
    assert status == 0
    assert "left out: Bayesian" in err
    assert "average" in out


def test_the_json_has_the_contracts_keys(file, capsys):
    for soup in json_of(capsys, "menu", file, "--budget", 8)["soups"]:
        assert soup.keys() >= {"name", "recipe", "coefficients", "scores", "ece", "evaluations", "seconds"}
        assert 0 <= soup["ece"] <= 1
        assert soup["scores"]["test"]["ece"] == soup["ece"]


def test_checkpoints_of_one_run_are_averaged_over_time(tmp_path):
    file = small_kitchen(tmp_path)
    steps = {f"epoch_{index}": f"m_{index}.safetensors" for index in range(3)}
    change_yaml(file, lambda document: document.update(ingredients=steps))
    menu = cook_menu(sv.Kitchen.load(file))
    assert {"swa", "ema", "lawa"} <= {soup.recipe.method for soup in menu.soups}


def test_a_soup_tells_what_it_cost(file):
    kitchen = sv.Kitchen.load(file)
    number = len(kitchen.names)
    assert sv.uniform(kitchen).evaluations == 2  # held_out and test
    soup = sv.greedy(kitchen, alpha=0.3)
    assert soup.evaluations == 2 * number - 1 + 1  # ingredients and candidates; test
    assert soup.seconds > 0
