"""One browser session that does what people do, at random, and sees what is wrong."""

import random
import re
from collections.abc import Callable
from typing import Any

MAIN = "[data-testid=stMain]"
CLICKED = {
    "button": f"{MAIN} [data-testid=stButton] button:enabled, {MAIN} [data-testid=stPopover] button:enabled",
    "choice": f"{MAIN} [data-testid=stButtonGroup] button:enabled",
    "tick": f"{MAIN} [data-testid=stCheckbox] label",
    "expander": f"{MAIN} [data-testid=stExpander] summary",
    "chart": f"{MAIN} [data-testid=stVegaLiteChart] canvas, {MAIN} [data-testid=stVegaLiteChart] svg",
    "download": f"{MAIN} [data-testid=stDownloadButton] button:enabled",
    "cancel": "[data-testid=stSidebar] [data-testid=stButton] button:enabled",
}
"""What is clicked, by kind."""

LINKS = ".st-key-places a, .st-key-views a"
NETWORK = re.compile(r"Failed to load resource|WebSocket|net::ERR|Client Error|fetch|NetworkError|status code|ECONN")
"""What a browser says where nobody answers."""

BUG = re.compile(r"a bug in soupviz|Traceback|object at 0x|(Attribute|Key|Type|Index|Name|Assertion|Runtime)Error")
"""What no message of the user's has in it."""

TRIES = 4
"""What is tried, until something can be done."""

SHORT = 3_000
"""Milliseconds that a click waits for its place to come to rest."""

WEIGHTS = {"page": 3, "button": 5, "choice": 3, "tick": 2, "expander": 1, "chart": 2, "download": 1, "cancel": 1,
           "slider": 3, "select": 4, "reload": 1, "back": 1, "look": 4}  # fmt: skip
"""How often each is done."""


class NothingThereError(Exception):
    """Of a kind that was to be clicked."""


class Walker:
    """A browser session that walks at random.

    is_up: whether the server should answer; what comes while it is down is its being down.
    """

    def __init__(self, browser: Any, address: str, query: str, seed: int, is_up: Callable[[], bool]):
        self.chance, self.address, self.query, self.is_up = random.Random(seed), address, query, is_up
        self.name = f"browser {seed}"
        self.problems: list[str] = []
        self.said: set[str] = set()
        self.steps: dict[str, int] = {}
        self.seen: set[str] = set()
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(SHORT)
        self.tab.on("pageerror", lambda error: self._wrong(f"the page's script: {error}"))
        self.tab.on("console", self._heard)

    def _wrong(self, what: str) -> None:
        if self.is_up() and not NETWORK.search(what):
            self.problems.append(f"{self.name}, at {self.tab.url.removeprefix(self.address)}: {what[:600]}")

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self._wrong(f"the console: {message.text}")

    def open(self, seconds: float) -> bool:
        """Whether the page where it is, or at first the first one, is there in time."""
        address = self.tab.url if self.tab.url.startswith(self.address) else f"{self.address}/{self.query}"
        return self._try(lambda: self.tab.goto(address, timeout=1000 * seconds)) and self._try(
            lambda: self.tab.locator(f"{MAIN} h1").first.wait_for(timeout=1000 * seconds)
        )

    def step(self) -> None:
        """Do one thing, and look at what is there."""
        for _ in range(TRIES):
            kind = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            if self._try(lambda kind=kind: self._do(kind)):
                self.steps[kind] = self.steps.get(kind, 0) + 1
                break
        self._try(lambda: self.tab.wait_for_timeout(self.chance.choice([100, 300, 1_000, 3_000])))
        self._try(self.look)

    def _try(self, do: Callable[[], Any]) -> bool:
        """Whether it could be done: what is clicked may be gone, covered, or not there any more."""
        from playwright.sync_api import Error

        try:
            do()
        except (Error, NothingThereError):
            return False
        return True

    def _do(self, kind: str) -> None:
        if kind in CLICKED:
            self._one(CLICKED[kind]).click(timeout=SHORT)
        elif kind == "page":
            self._one(LINKS).click(timeout=SHORT)
        elif kind == "slider":
            self._one(f"{MAIN} [data-testid=stSlider] [role=slider], {MAIN} [data-testid=stSlider] input").focus()
            for _ in range(self.chance.randint(1, 4)):
                self.tab.keyboard.press(self.chance.choice(["ArrowLeft", "ArrowRight"]))
        elif kind == "select":
            self._one(f"{MAIN} [data-testid=stSelectbox] input, {MAIN} [data-testid=stMultiSelect] input").click()
            self.tab.locator("[role=option]").first.wait_for()
            self._one("[role=option]").click(timeout=SHORT)
        elif kind == "reload":
            self.tab.reload(timeout=30_000)
        elif kind == "back":
            self.tab.go_back(timeout=30_000)

    def _one(self, selector: str) -> Any:
        """One of what is there, at random.

        Raises:
            NothingThereError: nothing is.
        """
        found = self.tab.locator(selector)
        if not (number := found.count()):
            raise NothingThereError
        return found.nth(self.chance.randrange(number))

    def look(self) -> None:
        """See what the page shows: no exception, and no error that is not the user's to mend."""
        self.seen.update(one.inner_text(timeout=SHORT) for one in self.tab.locator(f"{MAIN} h1").all())
        for one in self.tab.locator(".stException").all():
            self._wrong(f"an exception: {one.inner_text(timeout=SHORT)}")
        for one in self.tab.locator("[data-testid=stAlertContentError]").all():
            self.said.add(text := " ".join(one.inner_text(timeout=SHORT).split()))
            if BUG.search(text):
                self._wrong(f"an error: {text}")

    def close(self) -> None:
        self._try(self.context.close)
