"""Files that lm-eval writes with --log_samples: read by model and task, and compared document by document."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, errors, fresh_server  # noqa: F401 - a fixture

from soupviz.analysis.robustness import read_scores
from soupviz.analysis.samples import read_samples, sample_files
from soupviz.analysis.standings import standings
from soupviz.errors import DataError
from soupviz.tasks.significance import holm
from soupviz.ui import samples as page
from soupviz.ui.shift import scores as shift

DATE = "2026-11-28T10-21-33.123456"
EARLIER = "2026-11-27T10-21-33.123456"
MODELS = ("runs__ft_a", "runs__ft_b", "runs__ft_c", "runs__soup")


def line(document: int, filtered: str = "none", **metrics) -> dict:
    """A document as the harness logs it."""
    return {
        "doc_id": document, "doc": {"query": f"question {document}"}, "target": "1",
        "arguments": {"gen_args_0": {"arg_0": "context", "arg_1": " option"}},
        "resps": [[["-4.2", "False"]], [["-3.1", "False"]]], "filtered_resps": [["-4.2", "False"], ["-3.1", "False"]],
        "filter": filtered, "metrics": list(metrics), "doc_hash": f"hash {document}", "prompt_hash": "p",
        "target_hash": "t", **metrics,
    }  # fmt: skip


def write(folder: Path, model: str, task: str, lines: list[dict], date: str = DATE) -> Path:
    path = folder / model / f"samples_{task}_{date}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four models on three tasks, as `--output_path results` has them."""
    random = np.random.default_rng(0)
    for place, model in enumerate(MODELS):
        right = random.random((2, 200)) < 0.4 + 0.1 * place
        rows = [line(index, acc=float(right[0, index]), acc_norm=float(right[1, index])) for index in range(200)]
        write(tmp_path / "results", model, "hellaswag", rows)
        solved = random.random(50) < 0.3 + 0.1 * place
        rows = [
            line(index, kind, exact_match=float(solved[index] or kind == "flexible-extract"))
            for kind in ("strict-match", "flexible-extract")
            for index in range(50)
        ]
        write(tmp_path / "results", model, "gsm8k", rows)
        losses = [line(index, loss=2.0 - 0.1 * place + float(random.random()), ppl=[1.5, 3]) for index in range(60)]
        write(tmp_path / "results", model, "nll", losses)
        told = {"higher_is_better": {"nll": {"loss": False, "ppl": None}, "hellaswag": {"acc": True}}}
        (tmp_path / "results" / model / f"results_{DATE}.json").write_text(json.dumps(told))
    return tmp_path / "results"


def column(folder: Path, name: str):
    return {one.name: one for one in read_samples(sample_files(folder)).columns}[name]


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as told:
        read_samples(sample_files(folder))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_models_are_named_by_their_folders_and_columns_by_task_metric_and_filter(results):
    found = read_samples(sample_files(results))
    assert list(found.models) == ["ft_a", "ft_b", "ft_c", "soup"]
    assert [one.name for one in found.columns] == [
        "gsm8k exact_match (strict-match)", "gsm8k exact_match (flexible-extract)",
        "hellaswag acc", "hellaswag acc_norm", "nll loss",
    ]  # fmt: skip
    assert any("nll: ppl" in note for note in found.notes)


def test_a_folder_of_one_task_with_several_filters_has_each_document_once_in_each(results):
    strict, flexible = (column(results, f"gsm8k exact_match ({kind})") for kind in ("strict-match", "flexible-extract"))
    assert {len(one) for one in strict.outcomes.values()} == {50}
    assert flexible.value("ft_a") == 1.0 > strict.value("ft_a")


def test_means_are_those_of_the_lines_and_shares_are_exact(results):
    lines = (results / "runs__ft_b" / f"samples_hellaswag_{DATE}.jsonl").read_text().splitlines()
    rows = [json.loads(one) for one in lines]
    found = column(results, "hellaswag acc")
    assert found.value("ft_b") == sum(row["acc"] for row in rows) / 200
    assert found.metric.is_share and found.metric.unit == "%"


def test_two_models_are_compared_on_the_same_documents_by_mcnemar(results):
    found = column(results, "hellaswag acc")
    rows = {one.model: one for one in standings(found, "ft_a")}
    old, counts = found.outcomes["ft_a"]["value"], {}
    for model in ("ft_b", "ft_c", "soup"):
        new = found.outcomes[model]["value"]
        counts[model] = int((new & ~old).sum()), int((~new & old).sum())
    alone = [stats.binomtest(better, better + worse).pvalue for better, worse in counts.values()]
    for (model, (better, worse)), p in zip(counts.items(), holm(alone), strict=True):
        compared = rows[model].compared
        assert (compared.better, compared.worse) == (better, worse)
        assert compared.p_value == pytest.approx(p)
        assert compared.difference == (better - worse) / 200
    assert rows["soup"].compared.judgement == "better" and rows["ft_a"].compared is None
    assert next(iter(rows)) == "soup"


def test_of_a_metric_that_falls_less_is_better_as_the_results_say(results):
    found = column(results, "nll loss")
    assert not found.metric.higher_is_better and not found.metric.is_share
    rows = standings(found, "ft_a")
    assert [one.value for one in rows] == sorted(one.value for one in rows)
    assert rows[0].model == "soup" and rows[0].compared.judgement == "better" and rows[0].compared.difference < 0


def test_documents_are_matched_by_their_number_in_any_order(results):
    path = results / "runs__ft_b" / f"samples_hellaswag_{DATE}.jsonl"
    before = standings(column(results, "hellaswag acc"), "ft_a")
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    assert standings(column(results, "hellaswag acc"), "ft_a") == before


def test_the_newest_file_of_a_model_and_task_counts_and_that_is_told(results):
    write(results, MODELS[0], "hellaswag", [line(0, acc=1.0)], date=EARLIER)
    found = read_samples(sample_files(results))
    assert len(next(one for one in found.columns if one.name == "hellaswag acc").outcomes["ft_a"]) == 200
    assert any("1 older" in note for note in found.notes)


def test_other_prompts_are_told(results):
    rows = [line(index, loss=2.0) | {"prompt_hash": "another"} for index in range(60)]
    write(results, MODELS[0], "nll", rows)
    assert any("nll: the prompts differ" in note for note in read_samples(sample_files(results)).notes)


def test_models_on_other_documents_are_refused_with_their_numbers(results):
    write(results, MODELS[1], "hellaswag", [line(index, acc=1.0, acc_norm=1.0) for index in range(150)])
    told = refused(results)
    assert "hellaswag: ft_a has 200 documents and ft_b 150; document 150" in told and "--limit" in told


def test_another_document_of_the_same_number_is_refused(results):
    write(results, MODELS[1], "nll", [line(index, loss=1.0) | {"doc_hash": "other"} for index in range(60)])
    assert "nll: document 0 of ft_a is another one than of ft_b" in refused(results)


def test_a_task_without_a_common_metric_is_refused_with_what_each_has(results):
    write(results, MODELS[1], "nll", [line(index, bits=1.0) for index in range(60)])
    told = refused(results)
    assert "ft_a has loss" in told and "ft_b has bits" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1: this is not JSON"),
        ("[1]\n", "line 1 has no doc_id"),
        (json.dumps({"doc_id": 0, "acc": [1, 2]}), "no document with the value of a metric"),
        (2 * (json.dumps({"doc_id": 0, "acc": 1.0}) + "\n"), "line 2 has document 0 again"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(results, text, told):
    (results / MODELS[1] / f"samples_nll_{DATE}.jsonl").write_text(text)
    assert told in refused(results)


# Shift


def test_a_folder_of_models_is_a_table_of_scores_under_shift(results):
    found = read_scores(results)
    assert found.x_columns[0] == "gsm8k exact_match (strict-match)" and "nll loss" not in found.x_columns
    assert {model.name: model.kind for model in found.models}["soup"] == "soup"
    assert len(found.points(found.x, found.y)) == 4
    assert (found.x, found.y) == ("gsm8k exact_match (strict-match)", ("hellaswag acc_norm",))  # one of each task


def test_uploaded_samples_do_not_say_which_model_they_are_of(results):
    path = results / MODELS[0] / f"samples_nll_{DATE}.jsonl"
    with pytest.raises(DataError, match="folder"):
        read_scores([(path.name, path.read_bytes())])


def opened(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **query: str) -> AppTest:
    monkeypatch.setattr("soupviz.ui.workspace.allowed", lambda path: Path(path))
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = "nowhere/kitchen.yaml"
    at.switch_page(f"pages/{name}")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception[0].stack_trace
    return at


def test_the_shift_page_draws_them_without_a_kitchen(results, monkeypatch):
    at = opened("shift.py", results, monkeypatch, source=shift.TABLE, table=str(results))
    assert errors(at) == []
    assert len(at.dataframe[0].value) == 4


def test_the_compare_page_compares_them_without_a_kitchen(results, monkeypatch):
    at = opened("compare.py", results, monkeypatch, models_of=page.LOGGED, samples=str(results))
    assert errors(at) == []
    overview, table = at.dataframe[0].value, at.dataframe[1].value
    assert list(overview["model"]) == ["ft_a", "ft_b", "ft_c", "soup"]
    assert set(table["verdict"]) & {"the yardstick"}
    assert "on the same documents" in as_read(" ".join(one.value for one in at.caption))


def test_a_folder_without_samples_says_what_is_expected(tmp_path, monkeypatch):
    at = opened("compare.py", tmp_path, monkeypatch, models_of=page.LOGGED, samples=str(tmp_path))
    assert "samples_TASK_DATE.jsonl" in as_read(errors(at)[0])
