"""Every page, run without a browser: with the demo kitchen, with an empty one and with broken ones."""

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
import streamlit as st
from kitchens import BATCHNORM, change_yaml, small_kitchen
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest, app_test
from test_bad_input import image_kitchen

import soupviz
from soupviz.errors import Cancelled, SoupError
from soupviz.kitchen import Kitchen
from soupviz.ui import computing, work, workspace
from soupviz.ui.jobs import AHEAD, Job
from soupviz.yaml_file import read_kitchen_file

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "pages").glob("*.py"))
OPENING = [name for name in PAGES if name != "kitchens.py"]
"""Pages that open a kitchen; the page of kitchens is what helps when none can be opened."""

PATIENCE = 90.0


class Routed(PagesManager):
    """Where AppTest sees a folder `pages` it runs the files without app.py; a server goes through app.py, and so this.

    AppTest sets the attribute by which that is decided anew in each run: here on this class, where nobody reads it.
    """


@pytest.fixture(autouse=True)
def fresh_server(tmp_path: Path, cache_with_demo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A dashboard started with the test's folder, on a cache and with a demo of the test's own.

    What it still computes is stopped when the test ends.
    """
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path)])
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(app_test, "PagesManager", Routed)
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    st.cache_resource.clear()
    yield
    wait(stop_everything)
    st.cache_resource.clear()


def stop_everything() -> bool:
    for job in work.jobs().active():
        work.jobs().cancel(job)
    return not work.jobs().active()


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, [job.title for job in work.jobs().active()]
        time.sleep(0.02)


def settle(at: AppTest) -> AppTest:
    """Run the page until nothing that it asked for is still computed: here nobody refreshes it."""
    for _ in range(12):
        before = asked()
        wait(lambda: not any(job.is_active for job in [*asked(), *reading()]))
        at.run()
        if asked() == before and not any(job.is_active for job in before):
            return at
    raise AssertionError(f"the page asks for more and more: {[job.title for job in asked()]}")


def press_all(at: AppTest, label: str) -> None:
    """Press the buttons whose labels begin so, and wait for what each of them starts."""
    for button in [one for one in at.button if one.label.startswith(label)]:
        button.click()
        settle(at.run())


def reading() -> list[Job]:
    """What reads the splits beside held_out."""
    return [job for job in work.jobs()._all if job.key.startswith("read ")]


def asked() -> list[Job]:
    """What pages asked for so far, without what is computed ahead."""
    return [job for job in work.jobs()._all if job.priority < AHEAD]


def page(name: str, kitchen: Path | None = None) -> AppTest:
    """A page as it is when all is computed: of the demo kitchen, or of another."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = "demo" if kitchen is None else str(kitchen)
    at.run()
    if name != "ingredients.py":
        at.switch_page(f"pages/{name}")
    settle(at)
    assert not at.exception, at.exception[0].stack_trace
    return at


def soup_and_rival(file: Path) -> AppTest:
    """Diversity with a soup and its rival scored, the units that the soup answers worst first."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(file)
    at.query_params["view"] = "A soup and its rival"
    at.query_params["ranking"] = "the soup's largest error first"
    at.switch_page("pages/diversity.py")
    settle(at.run())
    press_all(at, "Score both")
    assert not at.exception and errors(at) == []
    return at


def trusted(file: Path) -> Path:
    """The same kitchen, its code trusted."""
    workspace.trust(workspace.request(file, read_kitchen_file(file)))
    return file


def errors(at: AppTest) -> list[str]:
    return [as_read(error.value) for error in at.error]


def as_read(markdown: str) -> str:
    """What a reader sees of a text whose punctuation is escaped, or that is set as code."""
    return re.sub(r"\\([!-/:-@\[-`{-~])|`", r"\1", markdown)


def message_of(kitchen: Path) -> str:
    """What the core says of a kitchen that cannot be opened."""
    with pytest.raises(SoupError) as caught:
        Kitchen.load(kitchen, skip_incompatible=True).splits.load("held_out")
    return str(caught.value)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_the_demo_without_an_error_and_its_sidebar_shows_the_kitchen(name: str) -> None:
    at = page(name)
    assert not at.exception, at.exception[0].stack_trace
    assert errors(at) == []
    assert len(at.title) == 1
    assert at.main.markdown, "a page says in one sentence what it answers"
    assert at.sidebar.selectbox[0].options[0] == "Demo: handwritten digits"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_a_kitchen_of_ones_own(name: str, tmp_path: Path) -> None:
    assert errors(page(name, trusted(small_kitchen(tmp_path / "small", num_examples=40)))) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_a_kitchen_of_one_ingredient_and_one_split(name: str, tmp_path: Path) -> None:
    held_out = {"format": "arrays", "path": "held_out.safetensors"}
    file = small_kitchen(tmp_path / "s", num_ingredients=1, num_examples=40, base=None, data={"held_out": held_out})
    assert errors(page(name, trusted(file))) == []


def test_a_kitchen_that_runs_code_is_opened_when_the_user_says_so(tmp_path: Path) -> None:
    at = page("ingredients.py", small_kitchen(tmp_path / "small", num_examples=40))
    assert "model.py:build" in at.warning[0].value
    next(button for button in at.button if "trust" in button.label).click()
    settle(at)
    assert not at.exception
    assert not any("trust" in button.label for button in at.button)


@pytest.mark.parametrize("name", OPENING)
def test_code_does_not_run_before_it_is_trusted(name: str, tmp_path: Path) -> None:
    file = small_kitchen(tmp_path / "small", num_examples=40)
    (file.parent / "model.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef build():\n    raise SystemExit\n", encoding="utf-8"
    )
    at = page(name, file)
    assert not at.exception
    assert len(at.warning) == 1
    assert not (tmp_path / "ran").exists()


def unknown_key(file: Path) -> Path:
    return change_yaml(file, lambda document: document.update(ingrediens=["*.pt"]))


def not_yaml(file: Path) -> Path:
    file.write_text("name: [", encoding="utf-8")
    return file


def no_checkpoints(file: Path) -> Path:
    return trusted(change_yaml(file, lambda document: document.update(ingredients=["nothing_*.pt"])))


def all_refused(file: Path) -> Path:
    for checkpoint in file.parent.glob("m_*.safetensors"):
        checkpoint.write_bytes(b"")
    return trusted(file)


def missing_data(file: Path) -> Path:
    (file.parent / "held_out.safetensors").unlink()
    return trusted(file)


def missing_file(file: Path) -> Path:
    file.unlink()
    return file


HARMS = [unknown_key, not_yaml, no_checkpoints, all_refused, missing_data, missing_file]
HARMED = [*(("ingredients.py", harm) for harm in HARMS), *zip(OPENING, cycle(HARMS), strict=False)]
"""Every harm on one page, and every page with a harm: where a page opens its kitchen is the same for all."""


@pytest.mark.parametrize(("name", "harm"), dict.fromkeys(HARMED))
def test_a_page_shows_the_cores_message_for_a_kitchen_that_cannot_be_opened(
    name: str, harm: Callable[[Path], Path], tmp_path: Path
) -> None:
    file = harm(small_kitchen(tmp_path / "small", num_examples=40))
    at = page(name, file)
    assert errors(at) == [message_of(file)]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", [name for name in PAGES if name not in OPENING])
def test_the_page_of_kitchens_opens_although_the_kitchen_cannot(
    name: str, harm: Callable[[Path], Path], tmp_path: Path
) -> None:
    at = page(name, harm(small_kitchen(tmp_path / "small", num_examples=40)))
    assert not at.exception, at.exception[0].stack_trace


def test_kitchens_in_folders_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    files = [trusted(small_kitchen(tmp_path / parent / "same", num_examples=40)) for parent in ("a", "b")]
    for file in files:
        at = page("ingredients.py", file)
        box = at.sidebar.selectbox[0]
        assert box.value == file
        assert len(set(box.options)) == len(box.options)
        assert at.query_params["kitchen"] in (str(file), [str(file)])


def test_a_kitchen_outside_the_folders_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path / "root")])
    at = page("ingredients.py", small_kitchen(tmp_path / "small", num_examples=40))
    assert not at.exception
    assert len(at.error) == 1
    assert "lies outside the folders" in errors(at)[0]


def test_a_refused_checkpoint_is_listed_and_the_others_go_on(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path / "small", num_examples=40)
    (file.parent / "m_1.safetensors").write_bytes(b"not a checkpoint")
    at = page("ingredients.py", trusted(file))
    shown = [
        as_read(element.value) for kind in (at.warning, at.error, at.markdown, at.caption, at.info) for element in kind
    ]
    shown += [frame.value.to_string() for frame in at.dataframe]
    assert any("m_1.safetensors" in text for text in map(str, shown))


def batchnorm_kitchen(folder: Path) -> Path:
    return trusted(small_kitchen(folder, source=BATCHNORM, shape=(3, 8, 8), num_examples=40))


def press(at: AppTest, label: str) -> AppTest:
    """Click the button whose label contains a text, and wait for what it starts."""
    next(button for button in at.button if label in button.label).click()
    return settle(at)


def test_compare_scores_a_soup_with_its_own_batchnorm_aggregation(tmp_path: Path) -> None:
    file = batchnorm_kitchen(tmp_path / "small")
    tests: dict[str, object] = {}
    change_yaml(file, lambda document: tests.update(test=document["data"].pop("test")))
    mixture = soupviz.uniform(Kitchen.load(file), ["m_0", "m_1"], batchnorm="first").mix
    change_yaml(file, lambda document: document["data"].update(tests))
    at = press(page("compare.py", file), "models on test")
    assert not [button for button in at.button if "models on test" in button.label]
    opened = Kitchen.load(file)
    assert opened.scores.known(mixture, "test", "first") is not None
    assert opened.scores.known(mixture, "test", "average") is None


def test_forgetting_empties_the_store_and_only_after_a_second_click(tmp_path: Path) -> None:
    file = batchnorm_kitchen(tmp_path / "small")
    soupviz.uniform(Kitchen.load(file))
    page("ingredients.py", file)
    at = page("kitchens.py", file)
    store = Kitchen.load(file).store
    assert store.size()["runs"] == 1
    press(at, "Forget them")
    assert (store.size()["scores"], store.size()["runs"]) == (0, 0)


def test_compare_opens_what_was_clicked_a_soup_or_a_checkpoint(tmp_path: Path) -> None:
    file = batchnorm_kitchen(tmp_path / "small")
    kitchen = Kitchen.load(file)
    soup = soupviz.uniform(kitchen)
    at = press(page("compare.py", file), "models on test")
    assert at.header[0].value == soup.title
    at.session_state["picked"] = kitchen.names[1]  # as a click on its row leaves it
    settle(at)
    assert [heading.value for heading in at.header] == [kitchen.names[1]]
    assert kitchen.ingredients[1].fingerprint in at.table[0].value.to_string()
    at.session_state["picked"] = "of another kitchen"
    assert settle(at).header[0].value == soup.title


def test_a_path_to_a_soup_has_the_soups_batchnorm_aggregation_until_told_otherwise(tmp_path: Path) -> None:
    file = batchnorm_kitchen(tmp_path / "small")
    soup = soupviz.uniform(Kitchen.load(file), batchnorm="first")
    at = page("alpha.py", file)
    assert at.selectbox(key="batchnorm").value == "average"
    at.selectbox(key="b").select(soup.title)
    settle(at)
    assert at.selectbox(key="batchnorm").value == "first"
    assert not at.warning
    at.selectbox(key="batchnorm").select("average")
    settle(at)
    assert at.selectbox(key="batchnorm").value == "average"
    assert soup.title in at.warning[0].value


def test_soups_of_two_aggregations_cannot_both_be_ends_unaltered(tmp_path: Path) -> None:
    file = batchnorm_kitchen(tmp_path / "small")
    kitchen = Kitchen.load(file)
    soupviz.uniform(kitchen, batchnorm="first")
    soupviz.uniform(kitchen, ["m_0", "m_1"])
    at = page("alpha.py", file)
    at.selectbox(key="a").select("average of 2")
    at.selectbox(key="b").select("average, BatchNorm first")
    settle(at)
    assert at.selectbox(key="batchnorm").value == "first"
    assert [warning.value.split("”")[0] for warning in at.warning] == ["“average of 2"]


def with_a_corrupt_image(folder: Path, split: str) -> Path:
    """A kitchen on images of which one of a split is cut off."""
    file = trusted(image_kitchen(folder))
    image = folder / "data" / split / "bee" / "1.jpg"
    image.write_bytes(image.read_bytes()[:300])
    return file


def told_to_be_left_out(split: str, caption: str) -> bool:
    return as_read(caption).startswith(f"data.{split}: 1 of 6 images") and "left out" in caption


def test_a_kitchen_with_a_corrupt_image_opens_without_it_when_the_user_says_so(tmp_path: Path) -> None:
    file = with_a_corrupt_image(tmp_path / "small", "held_out")
    at = page("ingredients.py", file)
    assert "1 of 6 images cannot be decoded" in errors(at)[0]
    press(at, "Leave them out and go on")
    assert errors(at) == []
    assert any(told_to_be_left_out("held_out", caption.value) for caption in at.caption)
    press(at, "Look for new files")
    assert errors(at) == [], "what the user said holds while the server runs"


@pytest.mark.parametrize(("name", "label"), [("ingredients.py", "Score the test split"), ("soup.py", "Cook")])
def test_a_job_that_meets_a_corrupt_test_image_can_go_on_without_it(name: str, label: str, tmp_path: Path) -> None:
    file = with_a_corrupt_image(tmp_path / "small", "test")
    at = press(page(name, file), label)
    assert "data.test: 1 of 6 images cannot be decoded" in errors(at)[0]
    press(at, "Leave them out and go on")
    assert errors(at) == []
    press(at, label)
    assert errors(at) == []
    assert any(told_to_be_left_out("test", caption.value) for caption in page("ingredients.py", file).caption)


def test_the_sidebar_tells_a_job_that_the_page_has_just_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, go = page("soup.py", trusted(small_kitchen(tmp_path / "small", num_examples=30))), threading.Event()

    def cook(*_: object, **__: object) -> None:
        go.wait(PATIENCE)
        raise Cancelled

    monkeypatch.setattr(computing, "cook", cook)
    try:
        next(button for button in at.button if button.label == "Cook").click()
        at.run()
        told = [one.value for one in at.sidebar.caption]
        assert "Nothing runs." not in told and any(one.startswith("greedy") for one in told)
    finally:
        go.set()


def test_what_reading_the_data_told_is_shown_on_the_page_of_ingredients(tmp_path):
    file = image_kitchen(tmp_path / "kitchen", classes=("Bee", "ant"))
    (tmp_path / "kitchen" / "data" / "held_out" / "ant" / "notes.doc").write_text("x")
    captions = [caption.value for caption in page("ingredients.py", trusted(file)).caption]
    assert any("passed over" in told and "notes" in told for told in captions)
    assert any("order of the classes" in told and "best ingredient" in told for told in captions)
