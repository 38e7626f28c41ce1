"""Files are written under a temporary name and renamed; what a killed process left of one goes with the next."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from soupviz.files import replacing

KILLED = """
import sys, time
from pathlib import Path
from soupviz.files import replacing

with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(60)
"""


def begun(path: Path) -> "subprocess.Popen[str]":
    """Another process that is in the middle of writing a file."""
    command = [sys.executable, "-c", KILLED, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "soup[1].pt"
    with begun(path) as killed, begun(path) as writing:
        assert killed.stdout and writing.stdout
        left, kept = (Path(process.stdout.readline().strip()) for process in (killed, writing) if process.stdout)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert left.exists() and kept.exists()
        with replacing(path) as temporary:
            temporary.write_text("whole")
        assert path.read_text() == "whole"
        assert kept.exists()
        assert left.exists() is (os.name != "posix")
        os.kill(writing.pid, signal.SIGKILL)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "before"
