"""Files from elsewhere, on fsspec's own file system in memory: fetched once, noticed when they change, never told."""

import json
import os
from pathlib import Path
from shutil import rmtree

import fsspec
import pytest
import torch
from elsewhere import moved
from fsspec.implementations.memory import MemoryFileSystem
from kitchens import MLP, build_model, change_yaml, json_of, run_command, small_kitchen
from runs import lightning_run
from safetensors.torch import load_file, save
from torch.distributed import checkpoint as distributed

import soupviz as sv
from soupviz.addresses import address_of, is_remote, mirror, place_of, redacted, spelled
from soupviz.data.elsewhere import fetched
from soupviz.errors import CheckpointError, DataError, KitchenError, RemoteError, SoupError
from soupviz.kitchen import Kitchen
from soupviz.remote import listing, room, watching
from soupviz.remote.calling import Calls
from soupviz.remote.fetching import fetch
from soupviz.remote.trees import settings_at
from soupviz.soups.provenance import read_record
from soupviz.spec import SplitSpec
from soupviz.types import quiet
from soupviz.weights.ingredients import fingerprint
from soupviz.yaml_file import read_kitchen_file

ROOT = "memory://bucket/small"


@pytest.fixture
def kitchen(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> Path:
    """A kitchen.yaml here, whose checkpoints and data lie in memory."""
    return moved(small_kitchen(tmp_path / "whole", ingredients=["m_*.safetensors"]), ROOT, tmp_path / "here")


def at(address: str) -> listing.Found:
    with Calls() as calls:
        found = listing.at(address, calls)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/a/b.pt", "https://host:8000/x/é y.pt", "memory://a/b%20c.pt", "s3://b/a//c", "s3://b/../x.pt"],
)
def test_an_address_is_told_by_its_place_in_the_cache(address: str) -> None:
    assert address_of(place_of(address, mirror())) == address


def test_a_place_in_the_cache_lies_in_the_mirror_whatever_the_address() -> None:
    assert place_of("s3://bucket/../../../etc/passwd", mirror()).resolve().is_relative_to(mirror().resolve())


def test_paths_and_patterns_here_are_no_addresses() -> None:
    assert not any(map(is_remote, ("ft_*.safetensors", "/data/a.pt", "C:/a.pt", "file:///a.pt", "torchvision:CIFAR10")))


def test_a_message_tells_addresses_and_no_secret() -> None:
    kept = place_of("s3://bucket/a.pt", mirror())
    assert str(SoupError(f"{kept}: is empty.")) == "s3://bucket/a.pt: is empty."
    assert "secret" not in redacted("http://secret@host/a.pt") and "@main" in redacted("hf://group/model@main/a")
    assert "secret" not in redacted("s3://key:secret@bucket/a.pt and https://host/a.pt?X-Amz-Signature=secret")
    assert spelled("nothing elsewhere") == "nothing elsewhere"


def test_a_kitchen_whose_files_lie_elsewhere_is_the_same_kitchen(kitchen: Path, tmp_path: Path) -> None:
    there, here = Kitchen.load(kitchen), Kitchen.load(tmp_path / "whole")
    assert there.names == here.names
    assert [one.fingerprint for one in there.ingredients] == [one.fingerprint for one in here.ingredients]
    assert there.base is not None and here.base is not None and there.base.fingerprint == here.base.fingerprint
    assert list(there.score()["accuracy"]) == list(here.score()["accuracy"])


def test_what_was_fetched_is_not_fetched_again(kitchen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Kitchen.load(kitchen).score()
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", lambda *_, **__: pytest.fail("fetched again"))
    Kitchen.load(kitchen).score()


def test_a_pattern_passes_over_an_exported_soup_by_its_header_alone(
    kitchen: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Kitchen.load(tmp_path / "whole")
    file = sv.export(sv.uniform(opened), tmp_path / "soup.safetensors")[0]
    memory.pipe_file(f"{ROOT}/m_soup.safetensors", Path(file).read_bytes())
    monkeypatch.setattr("soupviz.remote.viewing.TEXT", 0)
    monkeypatch.setattr("soupviz.remote.viewing.HEAD", 512)
    again = Kitchen.load(kitchen)
    assert again.names == opened.names
    assert any("m_soup" in note for note in again.notes)
    assert not place_of(f"{ROOT}/m_soup.safetensors", mirror()).exists()


def test_a_folder_of_several_files_is_its_checkpoint_and_what_a_training_wrote_beside_it(
    kitchen: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soupviz.remote.viewing.TEXT", 1000)
    for index in range(2):
        memory.copy(f"{ROOT}/m_{index}.safetensors", f"{ROOT}/run/checkpoint-{index}/model.safetensors")
        memory.pipe_file(f"{ROOT}/run/checkpoint-{index}/optimizer.pt", b"x" * 5000)
        memory.pipe_file(f"{ROOT}/run/checkpoint-{index}/model.json", b'{"lr": 0.125}')
    change_yaml(kitchen, lambda document: document.update(ingredients=[f"{ROOT}/run/checkpoint-*"]))
    opened = Kitchen.load(kitchen)
    assert opened.names == ["checkpoint-0", "checkpoint-1"]
    assert [one.metadata["lr"] for one in opened.ingredients] == [0.125, 0.125]
    assert not place_of(f"{ROOT}/run/checkpoint-0/optimizer.pt", mirror()).exists()


def test_a_changed_file_under_a_name_is_noticed_without_fetching_it(
    kitchen: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.0)
    opened = Kitchen.load(kitchen)
    before = opened.ingredients[0].fingerprint
    opened.score()
    memory.copy(f"{ROOT}/m_1.safetensors", f"{ROOT}/m_0.safetensors")
    with pytest.raises(CheckpointError, match=rf"{ROOT}/m_0.safetensors has changed"):
        opened.scores.of_ingredients("test")
    again = Kitchen.load(kitchen)
    assert again.ingredients[0].fingerprint == again.ingredients[1].fingerprint != before


def test_nobody_is_asked_twice_within_a_minute_whether_a_file_changed(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Kitchen.load(kitchen)
    opened.splits.load("held_out")
    monkeypatch.setattr(listing, "at", lambda *_: pytest.fail("asked again"))
    opened.score()


def test_a_search_goes_on_where_nobody_can_be_asked(kitchen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.0)
    opened = Kitchen.load(kitchen)
    opened.splits.load("held_out")

    def refuse(*_: object) -> None:
        raise RemoteError("no network")

    monkeypatch.setattr(listing, "at", refuse)
    assert len(opened.score()) == 4


def test_a_file_that_went_is_not_read_from_the_cache(kitchen: Path, memory: fsspec.AbstractFileSystem) -> None:
    Kitchen.load(kitchen)
    memory.rm(f"{ROOT}/m_2.safetensors")
    assert Kitchen.load(kitchen).names == ["m_0", "m_1", "m_3"]


def test_soup_and_bake_write_to_an_address_and_read_from_it(
    kitchen: Path, memory: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = f"{ROOT}/soups/greedy.safetensors"
    status, _, err = run_command(capsys, "soup", kitchen, "--recipe", "greedy", "--out", out)
    assert (status, f"wrote {out}" in err) == (0, True)
    written = sorted(name.rpartition("/")[2] for name in memory.find("/bucket/small/soups"))
    assert written == ["README.md", "greedy.safetensors", "recipe.yaml"]
    record = read_record(out)
    assert record == read_record(f"{ROOT}/soups/recipe.yaml")
    assert {one.file for one in record.ingredients.values()} == {f"{ROOT}/m_{index}.safetensors" for index in range(4)}
    for source in (out, f"{ROOT}/soups/recipe.yaml"):
        status, told, _ = run_command(capsys, "bake", source, "--out", tmp_path / "again.safetensors")
        assert (status, "the same weights as were exported" in told) == (0, True)
    status, *_ = run_command(capsys, "bake", tmp_path / "again.safetensors", "--out", f"{ROOT}/soups/again.pt")
    assert status == 0
    assert read_record(f"{ROOT}/soups/again.pt").fingerprint == record.fingerprint


def test_what_others_wrote_beside_a_soup_elsewhere_is_left_alone(
    kitchen: Path, memory: fsspec.AbstractFileSystem
) -> None:
    memory.pipe_file(f"{ROOT}/soups/README.md", b"# All our soups\n")
    soup = sv.uniform(Kitchen.load(kitchen))
    written = sv.export(soup, f"{ROOT}/soups/all.safetensors")
    assert written[2] == f"{ROOT}/soups/all.README.md"
    assert memory.cat_file(f"{ROOT}/soups/README.md") == b"# All our soups\n"
    assert sv.export(soup, f"{ROOT}/soups/all.safetensors") == written


def test_what_is_no_soup_elsewhere_is_not_overwritten_by_one(kitchen: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/bucket/small/mine.safetensors", b"mine")
    with pytest.raises(SoupError, match=r"mine\.safetensors: is there already"):
        sv.export(sv.uniform(Kitchen.load(kitchen)), f"{ROOT}/mine.safetensors")
    assert memory.cat("/bucket/small/mine.safetensors") == b"mine"


def test_an_ingredient_elsewhere_is_not_overwritten_by_a_soup(kitchen: Path) -> None:
    with pytest.raises(SoupError, match="checkpoint of ingredient 'm_0'"):
        sv.export(sv.uniform(Kitchen.load(kitchen)), f"{ROOT}/m_0.safetensors")


def test_weights_that_cannot_be_put_are_kept_here(kitchen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soup = sv.uniform(Kitchen.load(kitchen))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", refuse)
    with pytest.raises(RemoteError, match="is kept in") as told:
        sv.export(soup, f"{ROOT}/soups/all.safetensors")
    folder = Path(str(told.value).rpartition("kept in ")[2].rstrip("."))
    assert (folder / "all.safetensors").is_file()


@pytest.mark.parametrize(
    "address", ["s3://key:secret@bucket/a.pt", "https://host/a.pt?token=secret", "http://secret@h/a"]
)
def test_an_address_with_a_secret_is_refused_and_not_told(kitchen: Path, address: str) -> None:
    change_yaml(kitchen, lambda document: document.update(ingredients=[address]))
    with pytest.raises(RemoteError, match="credentials are taken from") as told:
        Kitchen.load(kitchen)
    assert "secret" not in str(told.value)
    assert (
        not (kitchen.parent / ".soupviz" / "store.sqlite").exists()
        or b"secret" not in (kitchen.parent / ".soupviz" / "store.sqlite").read_bytes()
    )


def test_code_is_not_fetched(kitchen: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file(f"{ROOT}/model.py", (kitchen.parent / "model.py").read_bytes())
    change_yaml(kitchen, lambda document: document["model"].update(factory=f"{ROOT}/model.py:build"))
    with pytest.raises(SoupError, match="code is not fetched"):
        Kitchen.load(kitchen)


@pytest.mark.parametrize(
    "split", [{"format": "python", "path": f"{ROOT}/d.py:f"}, {"format": "torchvision:MNIST", "path": ROOT}]
)
def test_data_that_would_run_code_is_not_fetched(kitchen: Path, split: dict[str, str]) -> None:
    change_yaml(kitchen, lambda document: document["data"].update(held_out=split))
    with pytest.raises(SoupError, match="copy"):
        Kitchen.load(kitchen).score()


def test_a_name_without_a_file_says_where(kitchen: Path) -> None:
    change_yaml(kitchen, lambda document: document.update(ingredients=[f"{ROOT}/gone.safetensors"]))
    with pytest.raises(RemoteError, match=f"{ROOT}/gone.safetensors: nothing is there"):
        Kitchen.load(kitchen)
    change_yaml(kitchen, lambda document: document.update(ingredients=[f"{ROOT}/gone_*.safetensors"]))
    with pytest.raises(KitchenError, match=rf"{ROOT}/gone_\*.safetensors matches no checkpoint"):
        Kitchen.load(kitchen)


def test_a_scheme_that_nobody_knows_is_refused(kitchen: Path) -> None:
    change_yaml(kitchen, lambda document: document.update(ingredients=["nowhere://a/b.pt"]))
    with pytest.raises(RemoteError, match="nowhere://"):
        Kitchen.load(kitchen)


def test_a_refused_checkpoint_is_told_by_its_address(kitchen: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file(f"{ROOT}/m_0.safetensors", b"")
    with pytest.raises(SoupError, match=f"{ROOT}/m_0.safetensors: the file is empty"):
        Kitchen.load(kitchen)
    [refused] = Kitchen.load(kitchen, skip_incompatible=True).refused
    assert refused.file == f"{ROOT}/m_0.safetensors"
    assert refused.reason.startswith(f"{ROOT}/m_0.safetensors: ")


def test_a_pickle_that_needs_code_is_converted_by_its_address(
    kitchen: Path, memory: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = build_model(MLP)
    model.load_state_dict(load_file(tmp_path / "whole" / "m_1.safetensors"))
    torch.save(model, tmp_path / "m.pt")
    memory.pipe_file(f"{ROOT}/m.pt", (tmp_path / "m.pt").read_bytes())
    change_yaml(kitchen, lambda document: document.update(ingredients=[f"{ROOT}/m.pt", f"{ROOT}/m_1.safetensors"]))
    status, _, err = run_command(capsys, "score", kitchen)
    command = err.strip().rpartition("soupviz convert ")[2]
    assert (status, command) == (2, f"{ROOT}/m.pt --trust")
    status, *_ = run_command(capsys, "convert", *command.split())
    assert status == 0
    opened = Kitchen.load(kitchen)
    assert [one.fingerprint for one in opened.ingredients] == [fingerprint(model.state_dict())] * 2


def test_a_kitchen_file_itself_lies_here(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run_command(capsys, "score", f"{ROOT}/kitchen.yaml")
    assert (status, "lies here" in err) == (2, True)


def test_files_that_do_not_fit_into_the_budget_are_refused_by_their_sizes(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/bucket/a", b"x" * 10_000)
    monkeypatch.setenv("SOUPVIZ_REMOTE_GB", "0.000005")
    with pytest.raises(RemoteError, match="SOUPVIZ_REMOTE_GB"):
        fetch([at("memory://bucket/a")])


def test_for_a_new_file_the_one_that_was_used_longest_ago_goes(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"memory://bucket/{name}" for name in "abc"]
    for name in names:
        memory.pipe_file(name.removeprefix("memory:/"), b"x" * 10_000)
    monkeypatch.setenv("SOUPVIZ_REMOTE_GB", "0.000025")
    monkeypatch.setattr(room, "SPARED", -1)
    first, second = (fetch([at(name)])[0] for name in names[:2])
    fetch([at(names[0])])
    third = fetch([at(names[2])])[0]
    assert [place.exists() for place in (first, second, third)] == [True, False, True]
    monkeypatch.setattr(room, "SPARED", 3600)
    with pytest.raises(RemoteError, match="GB are to be fetched"):
        fetch([at(names[1])])


def test_the_cache_command_tells_and_clears_what_was_fetched(kitchen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Kitchen.load(kitchen)
    assert room.held() > 0
    status, out, _ = run_command(capsys, "cache")
    assert (status, "remote" in out) == (0, True)
    run_command(capsys, "cache", "--clear")
    assert room.held() == 0
    assert Kitchen.load(kitchen).names == ["m_0", "m_1", "m_2", "m_3"]


def test_a_run_elsewhere_is_recognised_and_its_kitchen_names_addresses(
    memory: fsspec.AbstractFileSystem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    empty_cache: Path,
) -> None:
    lightning_run(tmp_path / "made")
    for file in (path for path in (tmp_path / "made").rglob("*") if path.is_file()):
        memory.pipe_file(f"memory://bucket/{file.relative_to(tmp_path / 'made').as_posix()}", file.read_bytes())
    (tmp_path / "here").mkdir()
    (tmp_path / "made" / "model.py").rename(tmp_path / "here" / "model.py")
    monkeypatch.chdir(tmp_path / "here")
    places = ("memory://bucket/version_0", "--data", "memory://bucket/val.npz")
    told = json_of(capsys, "new", *places, "--factory", "model.py:build")
    assert told["check"]["correct"] is not None and told["kitchen"] == str(tmp_path / "here" / "kitchen.yaml")
    spec = read_kitchen_file(tmp_path / "here" / "kitchen.yaml")
    assert str(spec.ingredients[0] if isinstance(spec.ingredients, tuple) else spec.ingredients).startswith(places[0])
    assert spec.data.held_out.path == places[2]
    rmtree(empty_cache / "remote")  # as on another machine
    opened = Kitchen.load(tmp_path / "here")
    assert len(opened.names) == 2 and opened.ingredients[0].metadata["lr"] == 0.001


def test_a_tokenizer_s_or_a_model_s_folder_comes_without_the_weights_in_it(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors", "optimizer.pt", "modeling.py", "sub/other.json"):
        memory.pipe_file(f"memory://bucket/checkpoint/{name}", b"{}")
    folder = settings_at("memory://bucket/checkpoint", Path())
    assert sorted(path.name for path in folder.rglob("*")) == ["config.json", "tokenizer.json"]


def test_the_recordings_that_a_table_names_come_with_it(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("a.wav", "sub/b.wav", "c.wav"):
        memory.pipe_file(f"memory://bucket/speech/{name}", name.encode())
    memory.pipe_file("memory://bucket/speech/table.csv", b"file,label\na.wav,x\nsub/b.wav,y\n")
    spec = SplitSpec(format="audio", path="memory://bucket/speech/table.csv")
    local = Path(str(fetched("held_out", spec, Path(), quiet).path))
    assert sorted(path.name for path in local.parent.rglob("*.wav")) == ["a.wav", "b.wav"]
    memory.pipe_file("memory://bucket/speech/table.csv", b"file,label\n../../secret.wav,x\n")
    with pytest.raises(DataError, match="beside or below the table"):
        fetched("held_out", spec, Path(), quiet)


def test_the_folder_of_a_data_yaml_comes_with_it(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("data.yaml", "images/val/a.png", "labels/val/a.txt"):
        memory.pipe_file(f"memory://bucket/boxes/{name}", b"x")
    local = Path(
        str(fetched("held_out", SplitSpec(format="yolo", path="memory://bucket/boxes/data.yaml"), Path(), quiet).path)
    )
    assert local.name == "data.yaml" and (local.parent / "labels" / "val" / "a.txt").is_file()


def test_examples_that_are_gone_elsewhere_are_gone_here(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        memory.pipe_file(f"memory://bucket/val/{name}", b"x")
    spec = SplitSpec(format="imagefolder", path="memory://bucket/val")
    fetched("held_out", spec, Path(), quiet)
    memory.rm("memory://bucket/val/cat/2.png")
    local = Path(str(fetched("held_out", spec, Path(), quiet).path))
    assert sorted(path.relative_to(local).as_posix() for path in local.rglob("*.png")) == ["cat/1.png", "dog/1.png"]


def test_a_sharded_checkpoint_comes_with_its_shards_and_is_baked_from_there(
    kitchen: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    tensors = load_file(tmp_path / "whole" / "m_1.safetensors")
    keys = sorted(tensors)
    halves = {"model-1-of-2.safetensors": keys[:2], "model-2-of-2.safetensors": keys[2:]}
    for name, half in halves.items():
        memory.pipe_file(f"{ROOT}/sharded/{name}", save({key: tensors[key] for key in half}))
    index = {"weight_map": {key: name for name, half in halves.items() for key in half}}
    memory.pipe_file(f"{ROOT}/sharded/model.safetensors.index.json", json.dumps(index).encode())
    named = {"whole": f"{ROOT}/m_1.safetensors", "folder": f"{ROOT}/sharded"}
    named["index"] = f"{ROOT}/sharded/model.safetensors.index.json"
    change_yaml(kitchen, lambda document: document.update(ingredients=named))
    opened = Kitchen.load(kitchen)
    assert len({one.fingerprint for one in opened.ingredients}) == 1
    soup = sv.uniform(opened, ["index"])
    sv.export(soup, tmp_path / "soup.safetensors")
    sv.bake(tmp_path / "soup.safetensors", tmp_path / "again.safetensors")


def test_a_soup_at_an_address_is_an_end_of_a_curve(kitchen: Path) -> None:
    opened = Kitchen.load(kitchen)
    sv.export(sv.uniform(opened), f"{ROOT}/soups/all.safetensors")
    curve = sv.interpolate(opened, "m_0", f"{ROOT}/soups/all.safetensors", points=3)
    assert len(curve) == 3


@pytest.mark.filterwarnings("ignore:torch.distributed")
def test_the_folder_of_a_distributed_checkpoint_comes_whole(
    kitchen: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    tensors = load_file(tmp_path / "whole" / "m_1.safetensors")
    distributed.save(tensors, checkpoint_id=str(tmp_path / "step-1"))
    for file in (tmp_path / "step-1").iterdir():
        memory.pipe_file(f"{ROOT}/run/step-1/{file.name}", file.read_bytes())
    change_yaml(
        kitchen, lambda document: document.update(ingredients=[f"{ROOT}/run/step-*", f"{ROOT}/m_1.safetensors"])
    )
    opened = Kitchen.load(kitchen)
    assert len(opened.names) == 2 and len({one.fingerprint for one in opened.ingredients}) == 1
    sv.export(sv.uniform(opened, opened.names[:1]), tmp_path / "soup.safetensors")
    sv.bake(tmp_path / "soup.safetensors", tmp_path / "again.safetensors")


def test_a_soup_in_shards_is_put_with_its_index_last(
    kitchen: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[str] = []
    send = MemoryFileSystem.put_file
    monkeypatch.setattr(
        MemoryFileSystem, "put_file", lambda self, file, path, **o: (put.append(path), send(self, file, path, **o))[1]
    )
    soup = sv.uniform(Kitchen.load(kitchen))
    written = sv.export(soup, f"{ROOT}/soups/all.safetensors", shard_size=400)
    assert written[0] == f"{ROOT}/soups/all.safetensors.index.json" and len(written) > 4
    assert put[-1].endswith("index.json")
    assert read_record(str(written[0])).fingerprint is not None


@pytest.mark.parametrize("name", ["all-00001-of-", "README.md", "all.safetensors.index.json"])
def test_no_index_elsewhere_names_the_shards_of_two_soups(
    kitchen: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    opened, address = Kitchen.load(kitchen), f"{ROOT}/soups/all.safetensors"
    first = sv.export(sv.uniform(opened), address, shard_size=400)
    assert any(name in str(file) for file in first)
    send = MemoryFileSystem.put_file

    def refuse(self: MemoryFileSystem, file: str, path: str, **options: object) -> None:
        if name in path:
            raise PermissionError
        send(self, file, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "put_file", refuse)
        with pytest.raises(RemoteError, match=r"removed there: the earlier all.safetensors.index.json"):
            sv.export(sv.uniform(opened, ["m_0"]), address, shard_size=400)
    assert not memory.exists(f"{address}.index.json")
    again = sv.export(sv.uniform(opened, ["m_0"]), address, shard_size=400)
    assert read_record(str(again[0])).coefficients == {"m_0": 1.0}


@pytest.mark.parametrize("shard_size", [None, 400])
def test_a_soup_elsewhere_stays_as_it_is_where_the_weights_of_another_cannot_be_put(
    kitchen: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, shard_size: int | None
) -> None:
    opened, address = Kitchen.load(kitchen), f"{ROOT}/soups/all.safetensors"
    sv.export(sv.uniform(opened), address, shard_size=200 if shard_size else None)
    before = {path: memory.cat_file(path) for path in memory.find("/bucket/small/soups")}
    send = MemoryFileSystem.put_file

    def refuse(self: MemoryFileSystem, file: str, path: str, **options: object) -> None:
        if path.endswith(".safetensors"):
            raise PermissionError
        send(self, file, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    with pytest.raises(RemoteError):
        sv.export(sv.uniform(opened, ["m_0"]), address, shard_size=shard_size)
    assert {path: memory.cat_file(path) for path in memory.find("/bucket/small/soups")} == before


@pytest.mark.parametrize(("first", "then"), [(None, 400), (400, None), (200, 400)])
def test_a_soup_takes_the_place_of_one_in_another_form_elsewhere_too(
    kitchen: Path, memory: fsspec.AbstractFileSystem, first: int | None, then: int | None
) -> None:
    opened = Kitchen.load(kitchen)
    sv.export(sv.uniform(opened), f"{ROOT}/soups/all.safetensors", shard_size=first)
    written = sv.export(sv.uniform(opened, ["m_0"]), f"{ROOT}/soups/all.safetensors", shard_size=then)
    there = {f"memory:/{path}" for path in memory.glob("/bucket/small/soups/all*")}
    assert there == {str(place) for place in written if "/all" in str(place)}


def test_a_soups_other_form_elsewhere_that_is_an_ingredient_is_spared(
    kitchen: Path, memory: fsspec.AbstractFileSystem
) -> None:
    first, *_ = sv.export(sv.uniform(Kitchen.load(kitchen)), f"{ROOT}/soups/all.safetensors")
    change_yaml(kitchen, lambda document: document["ingredients"].append(str(first)))
    before = dict.fromkeys(memory.glob("/bucket/small/soups/*"))
    with pytest.raises(SoupError, match="is the checkpoint of ingredient"):
        sv.export(sv.uniform(Kitchen.load(kitchen)), f"{ROOT}/soups/all.safetensors", shard_size=400)
    assert dict.fromkeys(memory.glob("/bucket/small/soups/*")) == before


def test_what_a_killed_process_left_goes_a_day_later(kitchen: Path, empty_cache: Path) -> None:
    left, fresh = (empty_cache / "remote" / "views" / name for name in ("left", "fresh"))
    for folder in (left, fresh):
        folder.mkdir(parents=True)
    os.utime(left, (0, 0))
    Kitchen.load(kitchen)
    assert [path.name for path in left.parent.iterdir()] == ["fresh"]
