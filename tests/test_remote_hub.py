"""Checkpoints in a repository of the hub, read by huggingface_hub's own file system from a hub on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hub import Hub, hub_on_loopback
from kitchens import change_yaml, run_command, small_kitchen

import soupviz as sv
from soupviz.kitchen import Kitchen
from soupviz.soups.provenance import read_record

pytestmark = pytest.mark.extras


@pytest.fixture
def hub(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub")
    with hub_on_loopback() as there:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, there.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", there.address)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        fsspec.get_filesystem_class("hf").clear_instance_cache()
        yield there
        fsspec.get_filesystem_class("hf").clear_instance_cache()


def named(kitchen: Path, *addresses: str) -> Path:
    def change(document: dict[str, Any]) -> None:
        document["ingredients"] = list(addresses)

    change_yaml(kitchen, change)
    return kitchen


def test_checkpoints_of_a_repository_are_ingredients_by_pattern_and_fetched_once(hub: Hub, tmp_path: Path) -> None:
    whole = small_kitchen(tmp_path / "whole", num_ingredients=2)
    here = Kitchen.load(whole)
    for at in range(2):
        hub.revisions["main"][f"run-{at}/model.safetensors"] = (whole.parent / f"m_{at}.safetensors").read_bytes()
    there = Kitchen.load(named(whole, "hf://group/model@main/run-*/model.safetensors"))
    assert [item.fingerprint for item in there.ingredients] == [item.fingerprint for item in here.ingredients]
    assert hub.contents() == ["main/run-0/model.safetensors", "main/run-1/model.safetensors"]
    hub.asked.clear()
    Kitchen.load(whole)
    assert hub.contents() == []
    exported, *_ = sv.export(sv.uniform(there), tmp_path / "soup.safetensors")
    files = {origin.file for origin in read_record(exported).ingredients.values()}
    assert files == {f"hf://group/model@main/run-{at}/model.safetensors" for at in range(2)}
    sv.bake(exported, tmp_path / "again.safetensors")


def test_revisions_are_ingredients_and_the_same_content_is_fetched_once(hub: Hub, tmp_path: Path) -> None:
    whole = small_kitchen(tmp_path / "whole", num_ingredients=2)
    for at, revision in enumerate(("run-0", "run-1", "main")):
        content = (whole.parent / f"m_{min(at, 1)}.safetensors").read_bytes()
        hub.revisions[revision] = {"model.safetensors": content}
    opened = Kitchen.load(named(whole, *(f"hf://group/model@{one}" for one in ("run-0", "run-1", "main"))))
    assert opened.names == ["model@run-0", "model@run-1", "model@main"]
    assert opened.aside  # a copy of run-1
    assert hub.contents() == ["run-0/model.safetensors", "run-1/model.safetensors"]
    record = read_record(sv.export(sv.uniform(opened), tmp_path / "soup.safetensors")[0])
    assert record.ingredients["model@run-0"].file == "hf://group/model@run-0/model.safetensors"


def test_a_file_that_was_pushed_anew_is_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    whole = small_kitchen(tmp_path / "whole", num_ingredients=2)
    hub.revisions["main"] = {
        f"run-{at}.safetensors": (whole.parent / f"m_{at}.safetensors").read_bytes() for at in range(2)
    }
    before = Kitchen.load(named(whole, "hf://group/model@main/run-*.safetensors")).ingredients
    hub.revisions["main"]["run-0.safetensors"] = (whole.parent / "base.safetensors").read_bytes()
    after = Kitchen.load(whole).ingredients
    assert before[0].fingerprint != after[0].fingerprint and before[1].fingerprint == after[1].fingerprint


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("hf://group/other@main/model.safetensors", "nothing is there"),
        ("hf://group/model@nowhere/model.safetensors", "nothing is there"),
        ("hf://group/model@main/model.safetensors", "nothing is there"),
    ],
)
def test_what_the_hub_does_not_have_is_told_in_one_line(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, told: str
) -> None:
    kitchen = named(small_kitchen(tmp_path / "whole", num_ingredients=2), address)
    status, _, err = run_command(capsys, "score", kitchen)
    assert status == 2 and f"{address}: {told}" in err and len(err.strip().splitlines()) == 1


def test_a_hub_that_refuses_is_told_with_where_its_token_is_looked_for(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuses = True
    kitchen = named(small_kitchen(tmp_path / "whole", num_ingredients=2), "hf://group/model@main/model.safetensors")
    status, _, err = run_command(capsys, "score", kitchen)
    assert status == 2 and "access is refused (403)" in err and "HF_TOKEN" in err
