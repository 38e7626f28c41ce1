"""In-distribution against shift: tables of scores, the line of the individual models, heights above it."""

import io
import json

import altair
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitchens import small_kitchen
from scipy import stats
from shared import SHARED

import soupviz as sv
from soupviz.analysis.robustness import expit, fit_line, individuals, logit, mixes_of, read_scores, scores_of
from soupviz.errors import CurveError, DataError
from soupviz.pictures.robustness import scatter
from soupviz.tasks.classes.class_metrics import ACCURACY

CLIP = SHARED / "data" / "published-clip-soups"
SHIFTS = ["ImageNetV2", "ImageNetSketch", "ImageNetR", "ObjectNet", "ImageNetA"]

CSV = b"""model,kind,val,test,blur,noise
a,ingredient,0.70,0.71,0.50,0.40
b,ingredient,0.72,0.73,0.52,0.44
c,ingredient,0.74,0.72,0.54,0.42
mix,soup,0.76,0.75,0.60,0.50
"""


def csv(text: str | bytes, name: str = "scores.csv") -> tuple[str, bytes]:
    return name, text if isinstance(text, bytes) else text.encode()


def refused(*sources: tuple[str, bytes]) -> str:
    with pytest.raises(DataError) as caught:
        read_scores(list(sources))
    return str(caught.value)


# the line


def test_the_line_through_points_on_a_line_is_that_line():
    line = fit_line([0.5, 0.6, 0.8], [0.2, 0.3, 0.5])
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx((1.0, -0.3, 1.0))
    assert line.at(0.7) == pytest.approx(0.4)
    assert line.above(0.7, 0.45) == pytest.approx(0.05)
    assert line.around(0.7) == pytest.approx((0.4, 0.4))


accuracies = st.lists(
    st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)), min_size=4, max_size=30, unique_by=lambda pair: pair[0]
)


@settings(max_examples=25)
@given(accuracies)
def test_the_line_agrees_with_numpy_and_scipy(pairs):
    x, y = zip(*pairs, strict=True)
    if max(x) - min(x) < 1e-3:
        return
    for scale, change in (
        ("linear", np.asarray),
        ("logit", lambda values: np.log(np.asarray(values) / (1 - np.asarray(values)))),
    ):
        line = fit_line(x, y, scale)
        slope, intercept = np.polyfit(change(x), change(y), 1)
        assert (line.slope, line.intercept) == pytest.approx((slope, intercept), rel=1e-6, abs=1e-8)
        assert line.r_squared == pytest.approx(stats.linregress(change(x), change(y)).rvalue ** 2, abs=1e-9)


def test_the_band_is_the_prediction_interval_of_least_squares():
    random = np.random.default_rng(0)
    x = random.uniform(0.6, 0.8, 12)
    y = 0.9 * x - 0.2 + random.normal(0, 0.01, 12)
    low, high = fit_line(list(x), list(y)).around(0.75)
    design = np.column_stack([np.ones(12), x])
    beta, left, *_ = np.linalg.lstsq(design, y, rcond=None)
    at = np.array([1, 0.75])
    width = stats.t.ppf(0.975, 10) * np.sqrt(left[0] / 10 * (1 + at @ np.linalg.inv(design.T @ design) @ at))
    assert (low, high) == pytest.approx((at @ beta - width, at @ beta + width))


def test_the_logit_and_its_inverse():
    assert logit(0.5) == 0
    assert logit(0.75) == pytest.approx(np.log(3))
    assert [expit(logit(value)) for value in (0.001, 0.3, 0.999)] == pytest.approx([0.001, 0.3, 0.999])


@pytest.mark.parametrize(
    ("x", "y", "scale", "words"),
    [
        ([0.5, 0.6], [0.5, 0.6], "linear", "at least 3 individual models, got 2"),
        ([0.5, 0.5, 0.5], [0.5, 0.6, 0.7], "linear", "same value in distribution, 0.5"),
        ([0.5, 0.6, 1.0], [0.5, 0.6, 0.7], "logit", "100% has no logit"),
    ],
)
def test_a_line_that_cannot_be_is_refused(x, y, scale, words):
    with pytest.raises(CurveError, match=words):
        fit_line(x, y, scale)


# tables of scores


def test_a_table_is_understood_by_what_is_in_it():
    scores = read_scores(csv(CSV))
    assert (scores.selecting, scores.x, scores.y) == ("val", "test", ("blur", "noise"))
    points = scores.points(scores.x, scores.y).set_index("id")
    assert points.loc["mix", ["kind", "x"]].tolist() == ["soup", 0.75]
    assert points.loc["mix", "y"] == pytest.approx(0.55)
    # The best is chosen on the split that selected, not on the one that reports.
    assert points["kind"].to_dict() == {"a": "ingredient", "b": "ingredient", "c": "best", "mix": "soup"}
    assert individuals(points.reset_index())["id"].tolist() == ["a", "b", "c"]


def test_percent_and_fractions_give_the_same_scores_and_it_is_said_which_was_assumed():
    table = pd.read_csv(io.BytesIO(CSV))
    table[["val", "test", "blur", "noise"]] *= 100
    percent = read_scores(csv(table.to_csv(index=False)))
    fractions = read_scores(csv(CSV))
    assert np.allclose(percent.values, fractions.values)
    assert percent.notes[0] == "Scores are read as percent, as some are above 1."
    assert fractions.notes[0] == "Scores are read as fractions, as none is above 1."


def test_csv_and_jsonl_give_the_same_scores():
    table = pd.read_csv(io.BytesIO(CSV))
    lines = table.to_json(orient="records", lines=True).encode()
    found, expected = read_scores(("scores.jsonl", lines)), read_scores(csv(CSV))
    assert found.values.equals(expected.values)
    assert [model.kind for model in found.models] == [model.kind for model in expected.models]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_and_a_byte_order_mark_are_read(delimiter):
    text = b"\xef\xbb\xbf" + CSV.replace(b",", delimiter.encode())
    assert read_scores(csv(text)).values.equals(read_scores(csv(CSV)).values)


def test_rows_and_files_named_as_soups_are_soups():
    rows = '{"name": "%s", "test": 0.5, "blur": 0.4}\n'
    sources = [
        ("individual.jsonl", (rows % "a" + rows % "zero-shot" + rows % "my soup" + rows % "ensemble of 3").encode()),
        ("uniform.jsonl", (rows % "u").encode()),
        ("greedy_run.jsonl", (rows % "g").encode()),
    ]
    kinds = {model.name: model.kind for model in read_scores(sources).models}
    assert kinds == {
        "a": "ingredient", "zero-shot": "base", "my soup": "soup", "ensemble of 3": "ensemble",
        "u": "soup", "g": "soup",
    }  # fmt: skip


def test_what_is_a_soup_can_be_corrected():
    points = read_scores(csv(CSV)).points("test", ["blur"], {"a": "soup", "mix": "ingredient"})
    assert dict(zip(points["id"], points["kind"], strict=True)) == {
        "a": "soup", "b": "ingredient", "c": "ingredient", "mix": "best",
    }  # fmt: skip


def test_hyperparameters_and_losses_are_no_accuracies_but_are_kept_with_the_model():
    scores = read_scores(csv("model,lr,epochs,test_loss,test,blur\na,1e-5,10,0.9,0.7,0.5\nb,3e-5,5,1.2,0.8,0.6\n"))
    assert list(scores.values) == ["test", "blur"]
    assert scores.models[0].facts == {"lr": "1e-5", "epochs": "10", "test_loss": "0.9"}
    assert "Not taken for scores: lr, epochs, test_loss." in scores.notes


def test_a_model_without_a_score_is_not_drawn():
    scores = read_scores(csv(CSV.replace(b"0.72,0.73,0.52,0.44", b"0.72,0.73,,0.44")))
    assert "b" not in set(scores.points("test", ["blur", "noise"])["id"])
    assert "b" in set(scores.points("test", ["noise"])["id"])


def test_facts_name_the_initialisation():
    facts = ("facts.json", json.dumps({"a": {"info": "LP initialization"}, "b": {"lr": 0.1}}).encode())
    models = {model.name: model for model in read_scores([csv(CSV.replace(b",kind", b",note")), facts]).models}
    assert models["b"].facts is not None and models["b"].facts["lr"] == 0.1
    scores = read_scores([csv("model,test,blur\na,0.5,0.4\nb,0.6,0.5\n"), facts])
    assert [model.kind for model in scores.models] == ["base", "ingredient"]
    assert scores.notes[-1] == "a is drawn as base: facts.json says “LP initialization”."


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (csv("model,test,blur\na,0.7,0.5\nb,70,0.5\n"), "scores.csv, line 3, column 'test' has 70, which is percent"),
        (csv("model,test,blur\na,0.7,50\nb,0.7,60\n"), "column 'blur' has 50, which is percent"),
        (csv("model,test,blur\na,0.7,0.5\nb,0.7\n"), "scores.csv, line 3: expected 3 cells as in the header, got 2"),
        (csv("model,test,blur\na,0.7,0.5\nb,0.7,0.5\nc,0.7,oops\n"), "line 4, column 'blur': expected a number"),
        (
            csv("model,test,blur\na,0.7,0.5\na,0.7,0.5\n"),
            "line 3, column 'model': 'a' stands in scores.csv, line 2 too",
        ),
        (csv("model,test,blur\n,0.7,0.5\n"), "line 2, column 'model': expected the model's name, got nothing"),
        (csv("model,test\na,0.7\n"), "at least two columns of scores"),
        (csv("test,blur\n0.7,0.5\n0.7,0.6\n"), "no column names the models"),
        (csv("model,test,test\na,0.7,0.5\n"), "two columns are named 'test'"),
        (csv("model,,test\na,0.7,0.5\n"), "column 2 has no name"),
        (csv("model,kind,test,blur\na,thing,0.7,0.5\n"), "line 2, column 'kind': expected one of"),
        (csv(""), "no row of scores"),
        (csv(b"model,test\n\xff\xfe"), "expected UTF-8 text, got byte 0xff at 11"),
        (csv('model,test,blur\n"a,0.7,0.5\n'), "this is not CSV"),
        (("s.jsonl", b'{"model": "a"\n'), "s.jsonl, line 1: this is not JSON"),
        (("s.jsonl", b"[1, 2]\n"), "line 1: expected a JSON object, got list"),
        (("s.jsonl", b'{"model": "a", "test": {"top1": 0.5}}\n'), "line 1, column 'test': expected a number or a text"),
        (("s.xlsx", b"PK"), "got a file that ends in '.xlsx'"),
        (("s.json", b"[]"), "an object of its facts by name"),
        (("s.json", b"{"), "s.json, line 1: this is not JSON"),
    ],
)
def test_a_table_that_is_none_is_refused_by_file_line_and_column(source, words):
    assert words in refused(source)


def test_a_folder_gives_its_tables_and_one_without_is_refused(tmp_path):
    with pytest.raises(DataError, match="no table of scores in this folder"):
        read_scores(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        read_scores(tmp_path / "nowhere.csv")
    (tmp_path / "scores.csv").write_bytes(CSV)
    (tmp_path / "notes.txt").write_text("not a table")
    assert len(read_scores(tmp_path).models) == 4


# the published figure


@pytest.fixture(scope="module")
def clip():
    if not CLIP.is_dir():
        pytest.skip("needs ../shared/data/published-clip-soups, which is not here")
    return read_scores(CLIP)


def test_the_published_models_are_on_imagenet_and_not_on_the_part_of_train_that_selected(clip):
    assert (clip.x, clip.selecting, list(clip.y)) == ("ImageNet", "ImageNet2p", SHIFTS)
    assert "ImageNet2p is taken for the held-out split that selected, so x is ImageNet." in clip.notes
    points = clip.points(clip.x, clip.y).set_index("id")
    assert points["kind"].value_counts().to_dict() == {"ingredient": 70, "soup": 2, "base": 1, "best": 1}
    assert points.index[points["kind"] == "base"].tolist() == ["model_0"]


def test_the_published_figures_are_those_of_the_files(clip):
    """The paper's table has 47.83, 51.45 and 50.75 for the shifts; the authors' files have 0.11 to 0.14 points more."""
    points = clip.points(clip.x, clip.y).set_index("id")
    best = points["kind"].eq("best").idxmax()
    percent = (100 * points.loc[[best, "uniform_soup", "greedy_soup"], ["x", "y"]]).round(2)
    assert percent.to_numpy().tolist() == [[80.39, 47.97], [79.97, 51.58], [81.03, 50.86]]
    raw = pd.read_json(CLIP / "greedy.jsonl", lines=True)
    assert points.loc["greedy_soup", "y"] == pytest.approx(raw[SHIFTS].mean(axis=1)[0])


def test_both_published_soups_are_above_the_line_and_above_every_single_model_under_shift(clip):
    points = clip.points(clip.x, clip.y)
    singles = individuals(points)
    assert len(singles) == 71
    for scale in ("linear", "logit"):
        line = fit_line(singles["x"].tolist(), singles["y"].tolist(), scale)
        for _, soup in points[points["kind"] == "soup"].iterrows():
            assert line.above(soup["x"], soup["y"]) > 0.01
            assert soup["y"] > singles["y"].max()


def test_without_the_facts_the_initialisation_counts_as_a_model(clip):
    scores = read_scores([CLIP / f"{name}.jsonl" for name in ("individual", "uniform", "greedy")])
    assert len(individuals(scores.points(scores.x, scores.y))) == 72


# kitchens


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    opened = sv.Kitchen.load(small_kitchen(tmp_path_factory.mktemp("k"), num_examples=60, shifts=("blur", "noise")))
    sv.uniform(opened)
    for split in opened.splits.reporting:
        opened.splits.load(split)
    return opened


def test_a_kitchens_points_are_its_known_scores_and_nothing_is_computed(kitchen, evaluations):
    runs = kitchen.store.runs()
    scores = scores_of(kitchen, mixes_of(kitchen, runs))
    assert evaluations == []
    assert (scores.x, scores.y) == ("test", ("shifts.blur", "shifts.noise"))
    assert [model.kind for model in scores.models] == ["base", *["ingredient"] * 4, "soup", "ensemble"]
    row = scores.values.loc[runs[0].key]
    for split in kitchen.splits.reporting:
        assert row[split] == runs[0].result["scores"][split]["accuracy"]
    assert scores.points("test", scores.y)["id"].tolist() == [runs[0].key]


def test_what_is_scored_appears(kitchen):
    for split in kitchen.splits.reporting:
        kitchen.scores.of_ingredients(split)
    scores = scores_of(kitchen, mixes_of(kitchen, []))
    points = scores.points("test", scores.y).set_index("id")
    expected = np.mean([kitchen.scores.known((("m_1", 1.0),), split).accuracy for split in scores.y])
    assert points.loc["m_1", "y"] == pytest.approx(expected)


def test_a_kitchen_without_shifts_says_where_to_put_them(tmp_path):
    opened = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=20))
    with pytest.raises(CurveError, match="add `shifts:` under `data:`"):
        scores_of(opened, mixes_of(opened, []))


# the picture


@pytest.mark.parametrize("scale", ["linear", "logit"])
@pytest.mark.parametrize("chosen", [[], ["mix"]])
def test_the_picture_is_vega_lite_and_has_every_model_once(scale, chosen):
    points = read_scores(csv(CSV)).points("test", ["blur", "noise"])
    singles = individuals(points)
    line = fit_line(singles["x"].tolist(), singles["y"].tolist(), scale)
    data, spec = scatter(points, line, ("accuracy on test", "accuracy on 2 shifts"), ACCURACY, chosen, scale=scale)
    altair.Chart.from_dict(spec | {"data": {"values": data.to_dict("records")}})
    drawn = data.dropna(subset=["id"]).set_index("id")
    assert sorted(drawn.index) == sorted(points["id"])
    assert drawn.index[-1] == "mix", "soups are drawn last, above the others"
    assert drawn.loc["mix", "across"] == pytest.approx(75)
    assert drawn.index[drawn["chosen"].astype(bool)].tolist() == chosen
    ends = data.dropna(subset=["line"]).iloc[[0, -1]]
    at = [100 * line.at(0.71), 100 * line.at(0.75)]
    there = ends["line"] if scale == "linear" else [100 * expit(value) for value in ends["line"]]
    assert list(there) == pytest.approx(at)


def test_a_picture_without_a_line_is_drawn_too():
    points = read_scores(csv(CSV)).points("test", ["blur"])
    data, spec = scatter(points.head(1), None, ("x", "y"), ACCURACY)
    altair.Chart.from_dict(spec | {"data": {"values": data.to_dict("records")}})
    assert len(data) == 1
