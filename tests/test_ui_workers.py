"""The sidebar: who scores, and what workers do while they do."""

import pytest
from kitchens import small_kitchen
from panels import settled
from streamlit.testing.v1 import AppTest
from workers import without_processes

import soupviz as sv
from soupviz.scoring.executors.usage import Share, Usage
from soupviz.ui import computing, work, workers


def a_sidebar() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.ui import work, workers

    file = st.session_state["file"]
    if work.opened_kitchen(file) is None:
        work._opened()[str(file)] = Kitchen.load(file)
    workers.choose(work.opened_kitchen(file))


@pytest.fixture
def app(tmp_path, monkeypatch):
    without_processes(monkeypatch)
    found = AppTest.from_function(a_sidebar, default_timeout=60)
    found.session_state["file"] = small_kitchen(tmp_path / "k", num_ingredients=3, num_examples=60)
    yield found.run()
    work.close_kitchens()
    work._chosen_workers().clear()


def opened(app: AppTest) -> sv.Kitchen:
    kitchen = work.opened_kitchen(app.session_state["file"])
    assert kitchen is not None
    return kitchen


def test_who_scores_is_chosen_and_stays_chosen(app):
    assert app.selectbox[0].value == "inline"
    assert not app.number_input
    before = opened(app)
    app.selectbox[0].select("processes").run()
    assert opened(app).scores.executor.num_workers == app.number_input[0].value >= 2
    app.number_input[0].set_value(3).run()
    assert opened(app).scores.made_by == {"executor": {"name": "processes", "workers": 3}}
    assert opened(app).store is before.store
    same = opened(app)
    app.run()
    assert opened(app) is same


def test_another_sessions_choice_is_not_undone(app):
    other = AppTest.from_function(a_sidebar, default_timeout=60)
    other.session_state["file"] = app.session_state["file"]
    other.run()
    other.selectbox[0].select("processes").run()
    app.run()
    assert app.selectbox[0].value == "processes"
    other.run()
    assert opened(app).scores.executor.name == "processes"


def test_one_process_scores_again_where_that_is_chosen(app):
    app.selectbox[0].select("processes").run()
    app.selectbox[0].select("inline").run()
    assert opened(app).scores.made_by == {"executor": {"name": "inline", "workers": 1}}


def test_jobs_run_on_the_workers_that_were_chosen(app):
    app.selectbox[0].select("processes").run()
    kitchen = opened(app)
    computing.score_job(kitchen, "held_out")
    settled(app)
    assert sum(share.num_units for share in kitchen.scores.usage().shares) == 60 * 4 + 60


def bars() -> None:
    import streamlit as st

    from soupviz.ui import workers

    workers.draw(st.session_state["opened"])


@pytest.mark.parametrize("number", [2, workers.FEW + 1])
def test_each_worker_has_a_bar_of_how_much_it_computed_since_the_last_look(number):
    class Scores:
        looks = [  # noqa: RUF012
            Usage(10.0, tuple(Share("host, cpu", busy=1.0) for _ in range(number))),
            Usage(12.0, tuple(Share("host, cpu", busy=1.0 + place / number) for place in range(number))),
        ]

        def usage(self) -> Usage:
            return self.looks.pop(0)

        executor = "the same"

    class Opened:
        scores = Scores()

    app = AppTest.from_function(bars, default_timeout=60)
    app.session_state["opened"] = Opened()
    app.run()
    app.run()
    assert not app.exception
    shares = [place / number / 2 for place in range(number)]
    if number <= workers.FEW:
        drawn = app.get("progress")
        assert [bar.proto.value for bar in drawn] == [round(100 * share) for share in shares]
        assert "Worker 2 (host, cpu): 25%" in [bar.proto.text for bar in drawn]
    else:
        assert app.dataframe[0].value["computes"].tolist() == pytest.approx(shares)


def test_a_run_says_what_its_workers_did():
    used = Usage(10.0, (Share("a", busy=9.0), Share("b", busy=8.5)))
    assert workers.told(used) == "2 workers computed 90%, 85% of 10.0 s."
    assert workers.told(Usage(10.0)) == ""
