"""The journey of a kitchen whose files lie in a bucket, on a real S3 server on this machine; and the hub's layout."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from elsewhere import moved, serving
from kitchens import change_yaml, json_of, run_command, small_kitchen

import soupviz as sv
from soupviz.errors import CheckpointError, RemoteError
from soupviz.kitchen import Kitchen
from soupviz.remote import putting, room, systems, watching
from soupviz.soups.provenance import read_record

pytestmark = pytest.mark.extras

SECRET = "a-secret-that-nobody-tells"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A real S3 server on loopback."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(server: str, empty_cache: Path) -> Any:
    """The file system of the server, with an empty bucket."""
    system = fsspec.filesystem("s3", use_listings_cache=False)
    if system.exists("bucket"):
        system.rm("bucket", recursive=True)
    system.mkdir("bucket")
    return system


@pytest.fixture
def kitchen(s3: Any, tmp_path: Path) -> Path:
    whole = small_kitchen(tmp_path / "whole", ingredients=["m_*.safetensors"], shifts=["far"], train=60)
    return moved(whole, "s3://bucket/small", tmp_path / "here")


def test_a_kitchen_in_a_bucket_goes_the_whole_journey(
    kitchen: Path, s3: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Scored, cooked, written to the bucket, and baked from there: the same decisions and bits as of files here."""
    scores = json_of(capsys, "score", kitchen)["ingredients"]
    assert scores == json_of(capsys, "score", tmp_path / "whole")["ingredients"]
    out = "s3://bucket/soups/greedy.safetensors"
    there = json_of(capsys, "soup", kitchen, "--recipe", "greedy", "--out", out)
    here = json_of(capsys, "soup", tmp_path / "whole", "--recipe", "greedy", "--out", tmp_path / "greedy.safetensors")
    for key in ("coefficients", "trajectory", "scores"):
        assert there[key] == here[key]
    assert there["files"] == [out, "s3://bucket/soups/recipe.yaml", "s3://bucket/soups/README.md"]
    assert s3.cat_file("bucket/soups/greedy.safetensors")[-64:] == (tmp_path / "greedy.safetensors").read_bytes()[-64:]
    baked = json_of(capsys, "bake", "s3://bucket/soups/recipe.yaml", "--out", tmp_path / "again.safetensors")
    assert baked["is_checked"]
    assert baked["fingerprint"] == read_record(tmp_path / "greedy.safetensors").fingerprint
    points = json_of(capsys, "interpolate", kitchen, "m_0", "m_1", "--points", 3)["points"]
    assert len(points) == 3


def test_credentials_are_kept_and_told_nowhere(
    kitchen: Path, capsys: pytest.CaptureFixture[str], empty_cache: Path
) -> None:
    status, out, err = run_command(capsys, "soup", kitchen, "--recipe", "uniform", "--out", "s3://bucket/soups/u.pt")
    assert status == 0
    assert SECRET not in out + err
    for folder in (kitchen.parent, empty_cache):
        for file in folder.rglob("*"):
            assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_an_object_that_was_overwritten_is_noticed(kitchen: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.0)
    opened = Kitchen.load(kitchen)
    opened.score()
    s3.pipe_file("bucket/small/m_2.safetensors", s3.cat_file("bucket/small/m_3.safetensors"))
    with pytest.raises(CheckpointError, match=r"s3://bucket/small/m_2\.safetensors has changed"):
        opened.scores.of_ingredients("test")


def test_a_bucket_that_is_not_there_is_told_in_one_line(kitchen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_yaml(kitchen, lambda document: document.update(base="s3://nobodys/base.safetensors"))
    status, _, err = run_command(capsys, "score", kitchen)
    assert (status, "s3://nobodys/base.safetensors: nothing is there" in err) == (2, True)
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("s3://nobodys/x/soup.safetensors", "nothing can be written there, as s3://nobodys does not exist"),
        ("gone/soup.safetensors", "no such folder"),
    ],
)
def test_a_soup_is_not_cooked_for_a_place_that_is_not_there(
    kitchen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, told: str
) -> None:
    change_yaml(kitchen, lambda document: document.update(base="s3://bucket/gone.safetensors"))  # it cannot be opened
    place = out if out.startswith("s3:") else tmp_path / out
    status, _, err = run_command(capsys, "soup", kitchen, "--recipe", "uniform", "--out", place)
    assert (status, told in err) == (2, True)
    assert len(err.strip().splitlines()) == 1 and "kept in" not in err


def test_a_bucket_that_goes_before_a_soup_is_there_is_told_as_one_that_takes_none(
    kitchen: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(putting, "_check_bucket", lambda _address: None)
    soup = sv.uniform(Kitchen.load(kitchen))
    with pytest.raises(RemoteError) as told:
        sv.export(soup, "s3://nobodys/x/soup.safetensors")
    assert str(told.value).startswith("s3://nobodys/x: nothing can be written there, as s3://nobodys does not exist")
    folder = Path(str(told.value).rpartition(" is kept in ")[2].removesuffix("."))
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "recipe.yaml", "soup.safetensors"]


def test_a_bucket_that_may_not_be_looked_at_may_take_files(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as web:
        web.refuses_all = True
        monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
        s3.clear_instance_cache()
        putting.check_target("s3://bucket/soup.safetensors")
    s3.clear_instance_cache()


def test_who_may_not_write_is_told_to_get_the_right_to_write() -> None:
    told = str(systems.refusal("s3://bucket/soups", PermissionError(), "write"))
    assert "access is refused (403)" in told and "the right to write" in told
    assert "came so far" not in str(systems.refusal("s3://bucket/soups", EOFError(), "write"))


@pytest.mark.parametrize("address", ["sftp://host/soups", "hf://team/soups", "memory://one/soups"])
def test_where_no_bucket_is_named_a_host_is_not_said_to_be_missing(address: str) -> None:
    told = str(systems.refusal(address, FileNotFoundError(2, "No such file"), "write"))
    host = "/".join(address.split("/")[:3])
    assert f"{host} does not exist" not in told and "a folder that it lies in does not exist" in told


def test_a_bucket_that_does_not_answer_is_not_waited_for(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(putting, "ASKED_FOR", 0.0)
    monkeypatch.setattr(putting, "opened", lambda _address: (SimpleNamespace(invalidate_cache=lambda: sleep(5)), ""))
    started = monotonic()
    putting.check_target("s3://bucket/soup.safetensors")
    assert monotonic() - started < 2


def test_a_bucket_that_refuses_is_told_in_one_line_with_where_and_a_remedy(
    kitchen: Path, s3: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as web:
        web.refuses_all = True
        monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
        s3.clear_instance_cache()
        status, _, err = run_command(capsys, "score", kitchen)
    s3.clear_instance_cache()
    assert status == 2
    assert "s3://bucket/small/" in err and "access is refused (403)" in err and "AWS_PROFILE" in err
    assert SECRET not in err and len(err.strip().splitlines()) == 1


def test_a_process_of_its_own_reads_the_same_bucket_from_the_same_cache(kitchen: Path, tmp_path: Path) -> None:
    Kitchen.load(kitchen)
    before = room.held()
    command = [sys.executable, "-m", "soupviz", "score", str(kitchen), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert room.held() > before  # held_out came


def test_a_snapshot_folder_of_the_hub_s_cache_is_opened_and_baked_by_its_own_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files are links to blobs that have no suffix; a sharded checkpoint's index is known by its name."""
    whole = small_kitchen(tmp_path / "whole", num_ingredients=2)
    repository = tmp_path / "models--group--model"
    (repository / "blobs").mkdir(parents=True)
    for index in range(2):
        snapshot = repository / "snapshots" / f"revision-{index}"
        snapshot.mkdir(parents=True)
        (whole.parent / f"m_{index}.safetensors").rename(repository / "blobs" / f"{index:064x}")
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{index:064x}")
    change_yaml(whole, lambda document: document.update(ingredients=[f"{repository}/snapshots/*"]))
    out = tmp_path / "soup.safetensors"
    soup = json_of(capsys, "soup", whole, "--recipe", "uniform", "--out", out)
    assert list(soup["coefficients"]) == ["revision-0", "revision-1"]
    files = [one.file for one in read_record(out).ingredients.values()]
    assert files == [f"models--group--model/snapshots/revision-{index}/model.safetensors" for index in range(2)]
    assert json_of(capsys, "bake", out, "--out", tmp_path / "again.safetensors")["is_checked"]


def test_a_web_server_takes_no_soup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("aiohttp", reason="needs aiohttp")
    kitchen = small_kitchen(tmp_path / "whole")
    status, _, err = run_command(capsys, "soup", kitchen, "--recipe", "uniform", "--out", "https://host/soup.pt")
    assert (status, "takes no files" in err) == (2, True)


def test_what_a_scheme_needs_is_named_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = change_yaml(small_kitchen(tmp_path / "whole"), lambda document: document.update(base="gs://bucket/a.pt"))
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        RemoteError, match="gs:// needs fsspec and gcsfs, which are not installed: pip install fsspec gcsfs"
    ):
        Kitchen.load(kitchen)
