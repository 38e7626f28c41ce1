"""The dashboard as a visitor has it, run without a browser: through app.py, by what stands on its pages."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest, app_test

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class Routed(PagesManager):
    """Where AppTest sees a folder `pages` it would run the files without app.py, through which a server goes."""


def start(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A dashboard started with a folder, which forgets nothing of an earlier one but what it holds in memory."""
    patch.setattr("sys.argv", ["app.py", str(folder)])
    patch.chdir(ROOT)
    patch.setattr(app_test, "PagesManager", Routed)
    patch.setattr(PagesManager, "uses_pages_directory", False)
    st.cache_resource.clear()


def page(name: str, kitchen: Path) -> AppTest:
    """A page of a kitchen, whose code the visitor trusts."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    at.query_params["kitchen"] = str(kitchen)
    at.run()
    for _ in range(3):
        trusting = [button for button in at.button if "trust" in button.label]
        if trusting:
            trusting[0].click().run()
    if name:
        at.switch_page(f"pages/{name}.py").run()
    return at


def until(at: AppTest, done: Callable[[AppTest], bool]) -> AppTest:
    """Look again until the page shows what is waited for: here nobody refreshes it."""
    deadline = time.monotonic() + PATIENCE
    while not done(at):
        assert not at.exception, at.exception[0].stack_trace
        assert not at.error, [error.value for error in at.error]
        assert time.monotonic() < deadline, [str(getattr(element, "value", element)) for element in at.main]
        time.sleep(0.05)
        at.run()
    return at


def shown(element) -> str:
    """What a reader sees of a text: without the signs that keep names from being read as Markdown."""
    return re.sub(r"\\(.)", r"\1", element.value)


def labelled(elements, label: str):
    """The one element of that label."""
    [found] = [element for element in elements if element.label == label]
    return found
