"""A soup as a run of an experiment tracker, read back from the files that each library writes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kitchens import json_of, run_command, small_kitchen

import soupviz as sv
from soupviz.errors import TrackingError
from soupviz.tracking.logging import TRACKERS, parse_tracker
from soupviz.tracking.to_mlflow import _named
from soupviz.tracking.tracked import Tracked, tracked


@pytest.fixture(scope="module")
def soup(tmp_path_factory: pytest.TempPathFactory) -> sv.Soup:
    file = small_kitchen(tmp_path_factory.mktemp("kitchen"), num_ingredients=4, num_examples=80)
    return sv.greedy(sv.Kitchen.load(file), alpha=0.5)


@pytest.fixture
def told(soup: sv.Soup, tmp_path: Path) -> Tracked:
    return tracked(soup, tmp_path / "files")


def values_of(steps: Any, name: str) -> list[float]:
    return [step[name] for step in steps if name in step]


def test_a_soup_is_told_as_parameters_metrics_by_split_and_steps(soup, told):
    assert told.project == "small"
    assert told.parameters["recipe/method"] == "greedy"
    assert told.parameters["recipe/objective"] == "accuracy"
    found = {name: told.parameters[f"coefficient/{name}"] for name in soup.kitchen.names}
    assert found == soup.coefficients
    for split, score in soup.scores.items():
        assert told.metrics[f"{split}/accuracy"] == float(score.value)
        assert told.metrics[f"{split}/loss"] == score.shown("loss")
    assert len(told.steps) == len(soup.trajectory)
    assert values_of(told.steps, "search/best_value") == [step.best_value for step in soup.trajectory]
    assert values_of(told.steps, "search/accepted") == [float(step.accepted) for step in soup.trajectory]
    assert [file.name for file in told.files] == ["report.html", "recipe.yaml"]
    assert "fingerprint" in told.files[1].read_text(encoding="utf-8")


def test_the_verdict_is_told_with_its_split(told):
    assert "test/verdict_difference" in told.metrics and told.sentence


def test_the_curve_is_the_one_that_is_given_or_what_is_known_of_the_line_to_the_soup(soup, tmp_path):
    best = tracked(soup, tmp_path / "a").curve
    assert {round(point["curve/alpha"], 9) for point in best} >= {0.0, 1.0}
    curve = sv.interpolate(soup.kitchen, "m_0", soup, points=3)
    points = tracked(soup, tmp_path / "b", curve=curve, report=False).curve
    assert values_of(points, "curve/alpha") == [0.0, 0.5, 1.0]
    assert values_of(points, "curve/accuracy") == curve["accuracy"].tolist()


def test_without_a_report_nothing_is_scored(soup, tmp_path, evaluations):
    files = tracked(soup, tmp_path / "files", report=False).files
    assert [file.name for file in files] == ["recipe.yaml"]
    assert not evaluations


def test_an_ensemble_is_told_without_weights_or_a_line(soup, tmp_path):
    together = sv.cook(soup.kitchen, {"method": "ensemble"})
    told = tracked(together, tmp_path / "files")
    assert told.metrics["test/accuracy"] == float(together.scores["test"].value)
    assert not told.curve and "recipe/method" in told.parameters


def test_names_that_mlflow_does_not_take_are_written_otherwise_and_stay_apart():
    assert dict(_named([("a=1", 1), ("a,1", 2), ("test/accuracy", 3)])) == {"a_1": 1, "a_1_2": 2, "test/accuracy": 3}


@pytest.mark.parametrize("text", ["tensorboards", "", "neptune=x"])
def test_a_tracker_that_is_not_known_is_told_with_those_that_are(text):
    with pytest.raises(TrackingError, match="mlflow, wandb, tensorboard, trackio"):
        parse_tracker(text)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_line_before_anything_is_cooked(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("soupviz.tracking.logging.find_spec", lambda _name: None)
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=20)
    status, _, err = run_command(capsys, "soup", file, "--recipe", "uniform", "--log-to", name)
    assert (status, err) == (
        2,
        f"soupviz: logging to {name} needs {name}, which is not installed: pip install {name}\n",
    )
    assert not sv.Kitchen.load(file).store.runs()


def needs(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs {name}")


def elsewhere(soup: sv.Soup, *options: object, **environment: str) -> dict[str, Any]:
    """The command line in a process of its own: trackers leave threads, and read the environment once."""
    command = [
        sys.executable,
        "-m",
        "soupviz",
        "soup",
        soup.kitchen.file,
        "--recipe",
        "greedy",
        "--alpha",
        "0.5",
        "--json",
    ]
    done = subprocess.run(
        [*map(str, command), *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.extras
def test_mlflow_has_the_soup_as_a_run(soup, tmp_path):
    needs("mlflow")
    needs("sqlalchemy")
    [where] = sv.log(soup, f"mlflow={tmp_path / 'ml'}", project="mine", name="first")
    client = importlib.import_module("mlflow").MlflowClient(f"sqlite:///{tmp_path / 'ml' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_id in where and run.info.status == "FINISHED" and run.info.run_name == "first"
    assert run.data.params["recipe/method"] == "greedy"
    assert run.data.params["coefficient/m_0"] == str(soup.coefficients["m_0"])
    assert run.data.metrics["test/accuracy"] == float(soup.scores["test"].value)
    history = client.get_metric_history(run.info.run_id, "search/best_value")
    assert [one.value for one in sorted(history, key=lambda one: one.step)] == [s.best_value for s in soup.trajectory]
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"report.html", "recipe.yaml"}
    assert (tmp_path / "ml" / "artifacts").is_dir()


@pytest.mark.extras
def test_tensorboard_has_the_soup_as_scalars_and_texts(soup, tmp_path, capsys):
    needs("tensorboard")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    asked = ("soup", soup.kitchen.file, "--recipe", "greedy", "--alpha", "0.5", "--log-to", f"tensorboard={tmp_path}")
    [where] = json_of(capsys, *asked)["logged"]
    folder = Path(where.removeprefix("tensorboard: "))
    found = events.EventAccumulator(str(folder))
    found.Reload()
    assert found.Scalars("test/accuracy")[0].value == pytest.approx(float(soup.scores["test"].value))
    assert [one.value for one in found.Scalars("search/best_value")] == pytest.approx(
        [step.best_value for step in soup.trajectory]
    )
    assert {"verdict/text_summary", "recipe/text_summary"} <= set(found.Tags()["tensors"])
    assert {"report.html", "recipe.yaml"} <= {path.name for path in folder.iterdir()}
    [again] = sv.log(soup, f"tensorboard={tmp_path}", report=False)
    assert again == f"{where}-2"


@pytest.mark.extras
def test_wandb_has_the_soup_as_an_offline_run(soup, tmp_path):
    needs("wandb")
    [where] = elsewhere(soup, "--log-to", f"wandb={tmp_path}", WANDB_SILENT="true")["logged"]
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    assert where == f"wandb: {run}"
    records = wandb_records(next(run.glob("*.wandb")))
    config = {
        update.key or update.nested_key[0]: update.value_json for one in records for update in one.run.config.update
    }
    assert json.loads(config["recipe/method"]) == "greedy"
    rows = [
        {tuple(i.nested_key) or i.key: json.loads(i.value_json) for i in one.history.item}
        for one in records
        if one.history.item
    ]
    values = [row[key] for row in rows for key in row if "search/best_value" in (key, *key)]
    assert values == [step.best_value for step in soup.trajectory]
    summary = {i.key or i.nested_key[0]: i.value_json for one in records for i in one.summary.update}
    assert json.loads(summary["test/accuracy"]) == float(soup.scores["test"].value)
    files = {entry.path for one in records for entry in one.request.log_artifact.artifact.manifest.contents}
    files |= {entry.path for one in records for entry in one.artifact.manifest.contents}
    assert files == {"report.html", "recipe.yaml"}


def wandb_records(file: Path) -> list[Any]:
    """What an offline run's file holds: records in LevelDB's log format, after a header of 7 bytes."""
    Record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record  # noqa: N806 - a class
    data, place, found, parts = file.read_bytes(), 7, [], b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


@pytest.mark.extras
def test_trackio_has_the_soup_as_a_run(soup, tmp_path):
    needs("trackio")
    [where] = elsewhere(soup, "--log-to", f"trackio={tmp_path}")["logged"]
    assert str(tmp_path) in where
    code = (
        "import json, trackio\n"
        "[run] = trackio.Api().runs('small')\n"
        "print(json.dumps([run.config, trackio.SQLiteStorage.get_logs('small', run.name)], default=str))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TRACKIO_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    config, logs = json.loads(done.stdout.splitlines()[-1])
    assert config["recipe/method"] == "greedy"
    assert values_of(logs, "test/accuracy") == [float(soup.scores["test"].value)]
    assert values_of(logs, "search/best_value") == [step.best_value for step in soup.trajectory]


@pytest.mark.extras
def test_what_a_library_refuses_is_one_line(soup):
    needs("mlflow")
    with pytest.raises(TrackingError, match=r"mlflow=nowhere://x: cannot be written to"):
        sv.log(soup, "mlflow=nowhere://x", report=False)
