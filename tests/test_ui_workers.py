"""The sidebar: who scores, and what workers do while they do."""

import threading
import time
from types import SimpleNamespace

import pytest
from kitchens import small_kitchen
from panels import settled
from streamlit.testing.v1 import AppTest
from workers import without_processes

import soupviz as sv
from soupviz.recipes import Greedy
from soupviz.scoring.executors.usage import Share, Usage
from soupviz.ui import computing, work, workers


def a_sidebar() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.ui import sidebar, work, workers

    file = st.session_state["file"]
    if work.opened_kitchen(file) is None:
        work._opened()[str(file)] = Kitchen.load(file)
    st.session_state["kitchen"] = str(file)
    place = st.container()
    workers.choose(work.opened_kitchen(file))
    sidebar.draw_running(place)


@pytest.fixture
def app(tmp_path, monkeypatch):
    without_processes(monkeypatch)
    found = AppTest.from_function(a_sidebar, default_timeout=60)
    found.session_state["file"] = small_kitchen(tmp_path / "k", num_ingredients=3, num_examples=60)
    yield found.run()
    for job in work.jobs().active():
        work.jobs().cancel(job)
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


class Held:
    """Stands for a search: who makes its scores, each time it is begun, and it goes on until it is let go."""

    def __init__(self):
        self.made_by, self.go = [], threading.Event()

    def __call__(self, kitchen, *_args, progress, **_parameters):
        self.made_by.append(kitchen.scores.made_by["executor"])
        while not self.go.wait(0.005):
            progress(1, 2, "half of it")
        return SimpleNamespace(key="of the soup")

    def until_begun(self, times):
        deadline = time.monotonic() + 20
        while len(self.made_by) < times:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("what", ["sweep", "complete"])
def test_what_is_computed_ahead_is_begun_anew_with_the_workers_that_were_chosen_and_ends(app, monkeypatch, what, times):
    held, recipe = Held(), Greedy(alpha=0.1)
    monkeypatch.setattr(computing, "sweep", held)
    monkeypatch.setattr(computing, "cook", held)
    submit = {"sweep": lambda kitchen: computing.sweep_job(kitchen, recipe, [0.5])}
    job = submit.get(what, lambda kitchen: computing.complete_job(kitchen, recipe))(opened(app))
    held.until_begun(1)
    app.selectbox[0].select("processes").run()
    for number in range(1, times):
        held.until_begun(number + 1)
        app.number_input[0].set_value(number + 2).run()
    held.until_begun(times + 1)
    assert job.is_active
    held.go.set()
    settled(app)
    assert job.state == "finished"
    assert [made["workers"] for made in held.made_by] == [1, 2, *range(3, times + 2)]
    assert work.jobs().find(job.key) is job


def test_what_waits_to_be_computed_ahead_begins_with_the_workers_that_were_chosen(app, monkeypatch):
    asked, ahead = Held(), Held()
    monkeypatch.setattr(computing, "cook", asked)
    monkeypatch.setattr(computing, "sweep", ahead)
    computing.cook_job(opened(app), Greedy(alpha=0.1))
    asked.until_begun(1)
    waiting = computing.sweep_job(opened(app), Greedy(alpha=0.1), [0.5])
    app.selectbox[0].select("processes").run()
    ahead.go.set()
    work.jobs().cancel(work.jobs().active()[0])
    settled(app)
    assert waiting.state == "finished"
    assert [made["name"] for made in ahead.made_by] == ["processes"]


def test_while_a_job_runs_each_worker_has_its_bar_and_what_was_begun_before_others_were_chosen_says_so(
    app, monkeypatch
):
    held = Held()
    monkeypatch.setattr(computing, "cook", held)
    computing.cook_job(opened(app), Greedy(alpha=0.1))
    held.until_begun(1)
    app.selectbox[0].select("processes").run()
    assert not app.get("progress")  # those workers do nothing yet: this process has the job
    assert "goes on with this process" in app.caption[-1].value
    work.jobs().cancel(work.jobs().active()[0])
    settled(app)
    assert "goes on" not in app.caption[-1].value
    computing.cook_job(opened(app), Greedy(alpha=0.1))
    held.until_begun(2)
    app.run()
    app.run()
    assert len(app.get("progress")) == 2
    app.selectbox[0].select("inline").run()
    app.run()
    assert len(app.get("progress")) == 2  # they have the job still
    assert "goes on with 2 workers of this machine" in app.caption[-1].value


def test_each_job_that_one_began_has_its_cancel_beside_it_whatever_page_is_open(app, monkeypatch):
    held = Held()
    monkeypatch.setattr(computing, "cook", held)
    running = computing.cook_job(opened(app), Greedy(alpha=0.1))
    waiting = computing.cook_job(opened(app), Greedy(alpha=0.2))
    others = computing.cook_job(opened(app), Greedy(alpha=0.3))
    others.person = "somebody else"
    app.run()
    first, second = app.button
    second.click().run()
    assert (running.state, waiting.state) == ("running", "cancelled")
    first.click().run()
    held.until_begun(2)
    app.run()
    assert (running.state, others.state, len(app.button)) == ("cancelled", "running", 0)


def test_who_scores_is_chosen_above_what_runs_which_would_move_it(app):
    def whole() -> None:
        import streamlit as st

        from soupviz.ui import sidebar

        st.session_state["kitchen"] = str(st.session_state["file"])
        sidebar.draw_running(sidebar.draw())

    drawn = AppTest.from_function(whole, default_timeout=60)
    drawn.session_state["file"] = app.session_state["file"]
    drawn.run()
    assert not drawn.exception
    told = [getattr(one, "label", None) or getattr(one, "value", "") for one in drawn.sidebar]
    asked, runs, how = (
        next(place for place, one in enumerate(told) if one.startswith(start))
        for start in ("Scored by", "Nothing runs.", "Device: ")
    )
    assert asked < runs < how
    assert len(told[how].splitlines()) == 2


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


def test_a_worker_that_died_is_said_to_start_again_until_it_has(tmp_path, monkeypatch):
    died = []

    def fate(worker, _block):
        died.append(worker)
        return len(died) == 3

    without_processes(monkeypatch, fate=fate)
    kitchen = sv.Kitchen.load(
        small_kitchen(tmp_path, num_ingredients=3, num_examples=60), executor="processes", workers=2
    )
    seen = []

    def look(*_told):
        seen.extend(workers._place(share) for share in kitchen.scores.usage().shares)

    kitchen.scores.score_all([(((name, 1.0),), "held_out", "average") for name in kitchen.names], look)
    look()
    assert "starting again" in seen
    assert f"place {died[2]}, started 2 times" in seen[-2:]
