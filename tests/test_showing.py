"""The command `dashboard`: Streamlit on the router, as one process with the command that started it."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from kitchens import run_command

from soupviz.cli import showing

ROOT = Path(__file__).parents[1]
PATIENCE = 60


def a_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(folder: Path, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """The command on a folder, started elsewhere than in the checkout."""
    command = [sys.executable, "-m", "soupviz", "dashboard", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SOUPVIZ_CACHE": str(folder / "cache")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)
            process.stdout.close()


def is_answered(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as found:
            return bool(found.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "send"), [(signal.SIGINT, os.kill), (signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)]
)
def test_it_answers_on_the_port_until_it_is_told_to_end_and_nothing_is_left(tmp_path, number, send):
    """A terminal's Ctrl-C reaches the whole group of processes, and Streamlit twice."""
    port = a_port()
    with running(tmp_path, ".", "--port", port, "--headless", "--json") as process:
        told = json.loads(process.stdout.readline())  # comes once it answers
        assert told == {"url": f"http://localhost:{port}", "port": port, "folders": [str(tmp_path.resolve())]}
        assert is_answered(port)
        foreign = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(foreign, timeout=5)
        send(process.pid, number)
        assert process.wait(15) == 128 + number
        assert process.stdout.read() == ""
        deadline = time.monotonic() + 5
        while is_answered(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not is_answered(port)


def test_a_folder_that_is_none_is_one_line_and_exit_2(tmp_path, capsys):
    (tmp_path / "kitchen.yaml").touch()
    for name, told in (("nowhere", "no such folder"), ("kitchen.yaml", "is a file")):
        status, out, err = run_command(capsys, "dashboard", tmp_path, tmp_path / name)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert str(tmp_path / name) in err and told in err


def test_a_port_that_is_taken_is_said_and_another_is_found(tmp_path, capsys, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = run_command(capsys, "dashboard", tmp_path, "--port", port)
        assert (status, err.count("\n")) == (2, 1)
        assert f"port {port} is taken" in err
        monkeypatch.setattr(showing, "FIRST_PORT", port)
        found = []
        monkeypatch.setattr(showing, "_run", lambda command, _started: found.append(command) or 3)
        assert run_command(capsys, "dashboard", tmp_path, "--headless")[0] == 3  # the exit code is Streamlit's
    [command] = found
    assert f"--server.port={port}" not in command
    assert {"--server.address=127.0.0.1", "--browser.gatherUsageStats=false", "--server.headless=true"} <= set(command)
    assert command[-2:] == ["--", str(tmp_path.resolve())]


def test_without_streamlit_the_remedy_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(showing.importlib.util, "find_spec", lambda _name: None)
    status, _, err = run_command(capsys, "dashboard", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "streamlit, which is not installed: pip install" in err


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def test_no_proxy_is_asked_whether_it_answers(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        looks = iter([None] * 50)  # a child that lives for as many looks
        child = SimpleNamespace(poll=lambda: next(looks, 0))
        assert showing._answers(child, server.server_address[1])
        server.shutdown()


def test_a_program_that_a_signal_ended_has_a_shells_exit_code():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert showing._run([sys.executable, "-c", code], lambda _child: None) == 128 + signal.SIGKILL
