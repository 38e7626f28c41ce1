"""The demo of transcription: melodies that are made up."""

from kitchens import run_command

import soupviz as sv
from soupviz.demo.tones import tones_kitchen


def test_the_demo_is_of_melodies_that_are_said_to_be_made_up(tmp_path, capsys):
    file = tones_kitchen(tmp_path / "tones")
    kitchen = sv.Kitchen.load(file)
    assert "made up" in kitchen.name
    assert (kitchen.task.name, kitchen.objective.name) == ("transcription", "wer")
    held_out = kitchen.splits.load("held_out")
    assert held_out.padding and held_out.grouped.number == 12
    base = kitchen.scores.score((("base", 1.0),)).value
    scores = kitchen.scores.of_ingredients()
    assert min(score.value for score in scores.values()) < base
    soup = sv.greedy(kitchen)
    assert soup.scores["held_out"].value <= min(score.value for score in scores.values())


def test_a_demo_that_is_none_is_refused(tmp_path, capsys):
    status, _, told = run_command(capsys, "demo", tmp_path, "--task", "poetry")
    assert status == 2 and "speech" in told
