"""A real server, and people who talk to it as browsers do, without a browser."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect

from benchmarks.process import anonymous

ROOT = Path(__file__).parents[2]
WHOLE_PAGE = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_WITH_COMPILE_ERROR)
"""How a run of a page ends, and not one of a part of it, or one that another takes the place of."""

PATIENCE = 120.0
"""Seconds after which a page that was asked for does not come any more."""


class Server:
    """The dashboard as it is started in a terminal, of one folder; ends with its block.

    Args:
        module: what runs the app, as `python -m`. port: to answer at; default: one that is free. log: where what it
            says goes.
    """

    def __init__(self, folder: Path, *, module: str = "streamlit", port: int = 0, log: Path | None = None):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            self.port = free.getsockname()[1]
        options = [f"--server.port={self.port}", "--server.headless=true", "--server.fileWatcherType=none"]
        command = [sys.executable, "-m", module, "run", "app.py", *options, "--", str(folder)]
        with (log or Path(os.devnull)).open("ab") as said:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_stcore/health", timeout=1):
                return self
            time.sleep(0.1)
        raise TimeoutError("the server does not answer")

    def __exit__(self, *_failure: object) -> None:
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.wait()

    @property
    def memory(self) -> float:
        """Bytes that no file holds."""
        return anonymous(self._process.pid)


class Person:
    """One session: what a page shows last, and what it asks its browser to ask again by itself."""

    def __init__(self, server: Server, **query: str):
        self._always = self._query = query
        self._lock = threading.Lock()
        self._script = ""
        self._page = ""
        self._done = threading.Event()
        self._repeats: dict[str, list[float]] = {}
        self._buttons: dict[str, str] = {}
        self.problems: list[str] = []
        origin = f"http://127.0.0.1:{server.port}"
        self._socket = connect(
            f"ws://127.0.0.1:{server.port}/_stcore/stream",
            subprotocols=["streamlit"],
            max_size=None,
            origin=origin,
            ping_interval=None,
        )  # type: ignore[arg-type]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def open(self, page: str, **query: str) -> float:
        """Seconds until a page is there whole."""
        is_other = page != self._page
        self._page, self._repeats, self._buttons = page, {}, {}
        self._query = self._always | query
        return self._ask(page_name=page if is_other else "")

    def click(self, label: str) -> float:
        """The seconds of the run that a button of the page begins, once it is there."""
        self.wait_for(label)
        return self._ask(pressed=self._buttons[label])

    def wait_for(self, label: str) -> None:
        """Look at the page until it has a button of this name."""
        self.wait(PATIENCE, lambda: label in self._buttons)
        if label not in self._buttons:
            raise TimeoutError(f"{self._page} has no {label!r}, but {sorted(self._buttons)}; {self.problems}")

    def wait(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """Look at the page, whose parts ask again by themselves."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not over():
            for fragment, (interval, last) in list(self._repeats.items()):
                if time.monotonic() - last >= interval:
                    self._repeats[fragment][1] = time.monotonic()
                    self._send(fragment=fragment)
            time.sleep(0.05)

    def _ask(self, **asked: Any) -> float:
        started = time.monotonic()
        self._done.clear()
        self._send(**asked)
        if not self._done.wait(PATIENCE):
            self.problems.append(f"{self._page}: nothing after {PATIENCE:.0f} s")
        return time.monotonic() - started

    def _send(self, *, page_name: str = "", pressed: str = "", fragment: str = "") -> None:
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string = urlencode(self._query)
        asked.page_name = page_name
        asked.page_script_hash = "" if page_name else self._script
        asked.fragment_id = fragment
        asked.is_auto_rerun = bool(fragment)
        if pressed:
            asked.widget_states.widgets.append(WidgetState(id=pressed, trigger_value=True))
        with self._lock:
            self._socket.send(message.SerializeToString())

    def _listen(self) -> None:
        try:
            self._hear()
        except Exception as error:  # or nobody would know
            self.problems.append(f"{self._page}: {error!r}")
            raise

    def _hear(self) -> None:
        for content in self._socket:
            heard = ForwardMsg()
            heard.ParseFromString(content)
            match heard.WhichOneof("type"):
                case "navigation":
                    self._script = heard.navigation.page_script_hash
                case "auto_rerun":
                    self._repeats[heard.auto_rerun.fragment_id] = [heard.auto_rerun.interval, time.monotonic()]
                case "delta" if heard.delta.WhichOneof("type") == "new_element":
                    self._see(heard.delta.new_element)
                case "script_finished" if heard.script_finished in WHOLE_PAGE:
                    self._done.set()

    def _see(self, element: Any) -> None:
        match element.WhichOneof("type"):
            case "exception":
                self.problems.append(f"{self._page}: {element.exception.message}")
            case "alert" if element.alert.format == element.alert.ERROR:
                self.problems.append(f"{self._page}: {element.alert.body}")
            case "button":
                self._buttons[element.button.label] = element.button.id
