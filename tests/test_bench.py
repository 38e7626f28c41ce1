"""The benchmark: both sides are timed and compared; it fails where they differ."""

import json

import numpy as np
import pytest
from kitchens import BATCHNORM, json_of, run_command, small_kitchen
from PIL import Image

from soupviz.bench import FIGURES
from soupviz.textbook import Count, Textbook


@pytest.fixture
def file(tmp_path):
    return small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=3, num_examples=60)


def test_every_figure_is_measured_on_both_sides_and_they_agree(file, capsys):
    found = json_of(capsys, "bench", file, "--rounds", 1)
    assert list(found["figures"]) == list(FIGURES)
    for values in found["figures"].values():
        assert values["textbook"] > 0
        assert values["soupviz"] > 0
        assert len(values["rounds"]["soupviz"]) == 1
    assert found["agreement"]["differences"] == []
    assert found["agreement"]["compared"] >= 3 + 1 + 2 * 3 + 21
    assert found["machine"]["precision"] == "float32"
    assert found["figures"]["sweep"]["estimated"]


def test_measuring_leaves_the_kitchens_store_alone(file, capsys):
    json_of(capsys, "bench", file, "--rounds", 1, "--only", "uniform,greedy_mean")
    assert json_of(capsys, "cache", file)["store"]["scores"] == 0


def test_a_count_that_differs_fails_the_benchmark(file, capsys, monkeypatch):
    count = Textbook.count

    def wrong(self, *arguments):
        found = count(self, *arguments)
        return Count(~found.right, np.zeros_like(found.close))

    monkeypatch.setattr(Textbook, "count", wrong)
    status, out, err = run_command(capsys, "bench", file, "--rounds", 1, "--only", "uniform", "--json")
    assert status == 1
    assert "differs: uniform: 60 examples that are not close to call" in err
    assert len(json.loads(out)["agreement"]["differences"]) == 1


def test_the_textbook_decodes_pictures_to_what_soupviz_scores(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for split in ("held_out", "test"):
        for name in ("a", "b", "c"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(6):
                pixels = generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    transform = {"resize": 8, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    data = {name: {"format": "imagefolder", "path": name, "transform": transform} for name in ("held_out", "test")}
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=2, num_examples=10, data=data)
    found = json_of(capsys, "bench", file, "--rounds", 1, "--only", "score,greedy_alpha")
    assert found["agreement"]["differences"] == []


def test_an_unknown_figure_is_refused_with_those_known(file, capsys):
    status, _, err = run_command(capsys, "bench", file, "--only", "speed")
    assert status == 2
    assert "no figure 'speed'; known are score, uniform" in err
