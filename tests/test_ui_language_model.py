"""Language models and questions on every page: no traceback, no word of another task, texts as cards."""

import re
import shutil
from pathlib import Path

import pytest
from test_choices import built as questions  # noqa: F401 - a fixture
from test_pages import PAGES, ROOT, errors, fresh_server, press_all, settle, soup_and_rival, trusted  # noqa: F401 - a fixture
from test_ui_own_tasks import told_by
from test_ui_regression import page
from writers import hand_made_tokens, no_library, writers_kitchen  # noqa: F401 - a fixture

import soupviz as sv

pytestmark = pytest.mark.usefixtures("no_library")
OF_LABELS = re.compile(r"accura|\bcorrect\b|\bexample|\bclass(?!if)", re.IGNORECASE)
OF_EXAMPLES = re.compile(r"\bexample", re.IGNORECASE)


def scored(file: Path) -> Path:
    kitchen = sv.Kitchen.load(file)
    sv.greedy(kitchen, alpha=0.5, complete=True)
    kitchen.scores.of_ingredients("test")
    return file


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with hand_made_tokens():
        return scored(writers_kitchen(tmp_path_factory.mktemp("writers") / "k", num_documents=30))


@pytest.fixture
def file(writers: Path, tmp_path: Path) -> Path:
    return trusted(shutil.copytree(writers.parent, tmp_path / "k") / "kitchen.yaml")


@pytest.mark.parametrize("name", [name for name in PAGES if name != "kitchens.py"])
def test_every_page_speaks_of_documents_and_nats(name: str, file: Path) -> None:
    at = page(name, file)
    if name == "soup.py":
        press_all(at, "Cook")
    assert errors(at) == []
    told = told_by(at)
    assert not OF_LABELS.findall(told), OF_LABELS.findall(told)
    if name in ("ingredients.py", "soup.py", "compare.py", "alpha.py", "plane.py"):
        assert "loss per token" in told.lower()


def test_documents_are_shown_as_texts_with_their_nats_under_both_models(file: Path) -> None:
    shown = cards(file)
    assert re.search(r"<p>#\d+: [a-z ]+", shown)
    assert len(re.findall(r"soup \d\.\d+ nats per token, \d+ tokens", shown)) > 2
    assert "label <b>" not in shown


def cards(file: Path) -> str:
    at = soup_and_rival(file)
    return "".join(one.proto.body for one in at.get("html"))


@pytest.mark.parametrize(
    "name", ["soup.py", "compare.py", "diversity.py", "ingredients.py", "shift.py", "preflight.py"]
)
def test_pages_speak_of_questions(name: str, questions: Path, tmp_path: Path) -> None:  # noqa: F811
    file = trusted(scored(shutil.copytree(questions.parent, tmp_path / "k") / "kitchen.yaml"))
    at = page(name, file)
    assert errors(at) == []
    assert not OF_EXAMPLES.findall(told_by(at)), OF_EXAMPLES.findall(told_by(at))


def test_questions_are_shown_with_their_options_and_what_both_chose(questions: Path, tmp_path: Path) -> None:  # noqa: F811
    file = trusted(scored(shutil.copytree(questions.parent, tmp_path / "k") / "kitchen.yaml"))
    shown = cards(file)
    assert "(A) " in shown and "(B) " in shown
    assert re.search(r"label <b>[A-D]</b>", shown) and re.search(r"soup [✓✗] [A-D], \d+ %", shown)
