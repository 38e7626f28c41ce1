"""A sweep's table joined to the ingredients by name or by path; what fits none, or two, is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from kitchens import change_yaml, json_of, run_command, save, small_kitchen
from safetensors.torch import load_file

import soupviz as sv
from soupviz.errors import KitchenError
from soupviz.yaml_file import read_kitchen_file


@pytest.fixture
def kitchen(tmp_path: Path) -> Path:
    return small_kitchen(tmp_path / "k", num_ingredients=3, num_examples=40)


def opened(file: Path, table: str, text: str, **more: str) -> sv.Kitchen:
    (file.parent / table).write_text(text, encoding="utf-8")
    change_yaml(file, lambda document: document.update(sweep={"file": table, **more} if more else table))
    return sv.Kitchen.load(file)


def facts(kitchen: sv.Kitchen) -> dict[str, dict[str, Any]]:
    return {item.name: dict(item.metadata) for item in kitchen.ingredients}


WANDB = """"Name","State","Runtime","lr","val/acc","Tags"
"m_0","finished","120","0.001","0.01",""
"m_1","finished","118","0.0003","0.74","best"
"m_2","crashed","","0.01","",""
"other","finished","100","0.1","0.2",""
"""


def test_the_export_of_wandb_gives_each_ingredient_its_row(kitchen):
    found = opened(kitchen, "wandb.csv", WANDB)
    assert facts(found)["m_0"] == {"State": "finished", "Runtime": 120, "lr": 0.001, "val/acc": 0.01}
    assert facts(found)["m_1"]["Tags"] == "best"
    assert facts(found)["m_2"] == {"State": "crashed", "lr": 0.01}
    told = [note for note in found.notes if note.startswith("sweep")]
    assert told == [
        "sweep wandb.csv: 3 of 3 ingredients have a row in it.",
        "sweep wandb.csv: 1 rows are of no ingredient (line 5).",
    ]


def test_what_was_joined_stands_where_logged_values_stand(kitchen, capsys):
    opened(kitchen, "wandb.csv", WANDB)
    assert sv.Kitchen.load(kitchen).score()["lr"].tolist() == [0.001, 0.0003, 0.01]
    status, _, err = run_command(capsys, "score", kitchen)
    assert status == 0
    assert "note: sweep wandb.csv: 3 of 3 ingredients have a row in it." in err
    assert "logged 0.010 (val/acc)" in err  # ours is another


def test_the_export_of_mlflow_is_joined_by_the_number_of_the_run(tmp_path):
    file = small_kitchen(tmp_path / "k", num_ingredients=2, num_examples=20)
    places = {}
    for index, number in enumerate(("aaaa1111", "bbbb2222")):
        folder = file.parent / "mlruns" / "0" / number / "artifacts"
        folder.mkdir(parents=True)
        file.with_name(f"m_{index}.safetensors").rename(folder / "model.safetensors")
        places[f"m_{index}"] = f"mlruns/0/{number}/artifacts/model.safetensors"
    change_yaml(file, lambda document: document.update(ingredients=places))
    text = (
        "run_id,artifact_uri,params.lr,metrics.acc,tags.mlflow.runName\n"
        "aaaa1111,/elsewhere/mlruns/0/aaaa1111/artifacts,0.1,0.7,x\nbbbb2222,/elsewhere/mlruns/0/bbbb2222/artifacts,0.2,0.8,y\n"
    )
    found = facts(opened(file, "mlflow.csv", text))
    assert found == {"m_0": {"lr": 0.1, "acc": 0.7}, "m_1": {"lr": 0.2, "acc": 0.8}}


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet"])
def test_other_kinds_of_table_are_read_too(kitchen, suffix):
    rows = [{"name": f"m_{index}", "lr": 0.1 * (index + 1), "epochs": 5 + index} for index in range(3)]
    table = kitchen.parent / f"sweep{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
        import pandas as pd

        pd.DataFrame(rows).to_parquet(table)
    elif suffix == ".tsv":
        table.write_text(
            "\n".join("\t".join(map(str, row)) for row in [list(rows[0]), *(row.values() for row in rows)])
        )
    else:
        nested = [
            {"name": row["name"], "config": {"lr": row["lr"]}, "summary": {"epochs": row["epochs"]}} for row in rows
        ]
        table.write_text("\n".join(map(json.dumps, nested)))
    change_yaml(kitchen, lambda document: document.update(sweep=table.name))
    found = facts(sv.Kitchen.load(kitchen))
    assert found["m_1"] == {"lr": pytest.approx(0.2), "epochs": 6}


def test_paths_are_compared_from_their_end(tmp_path):
    file = small_kitchen(tmp_path / "k", num_ingredients=2, num_examples=20)
    for index in range(2):
        folder = file.parent / "runs" / f"lr{index}"
        folder.mkdir(parents=True)
        file.with_name(f"m_{index}.safetensors").rename(folder / "model.safetensors")
    change_yaml(file, lambda document: document.update(ingredients=["runs/*/model.safetensors"]))
    text = "checkpoint,lr\n/cluster/runs/lr0/model.safetensors,1\nruns/lr1,2\n"
    assert facts(opened(file, "sweep.csv", text)) == {"lr0": {"lr": 1}, "lr1": {"lr": 2}}


def test_a_row_that_could_be_of_two_is_told_and_not_taken(kitchen):
    found = opened(kitchen, "sweep.csv", "name,path,lr\nm_0,m_1.safetensors,1\nm_2,m_2.safetensors,2\n")
    assert facts(found) == {"m_0": {}, "m_1": {}, "m_2": {"lr": 2}}
    assert "sweep sweep.csv, line 2: could be of m_0, m_1; it is not taken." in found.notes
    assert "sweep sweep.csv: no row is of m_0, m_1." in found.notes


def test_an_ingredient_with_two_rows_gets_none_of_them(kitchen):
    found = opened(kitchen, "sweep.csv", "name,lr\nm_0,1\nm_1,2\nm_0,3\n")
    assert facts(found) == {"m_0": {}, "m_1": {"lr": 2}, "m_2": {}}
    assert "sweep sweep.csv: the lines 2, 4 are all of m_0; none is taken." in found.notes


def test_several_checkpoints_of_one_run_are_not_told_apart_by_its_name(tmp_path):
    file = small_kitchen(tmp_path / "k", num_ingredients=1, num_examples=20)
    state = load_file(file.with_name("m_0.safetensors"))
    (file.parent / "run_a").mkdir()
    for epoch in (1, 2):
        save(
            {key: tensor + epoch for key, tensor in state.items()}, file.parent / "run_a" / f"epoch{epoch}.safetensors"
        )
    change_yaml(file, lambda document: document.update(ingredients=["run_a/*.safetensors"]))
    found = opened(file, "sweep.csv", "name,lr\nrun_a,1\n")
    assert any("could be of epoch1, epoch2" in note for note in found.notes)
    assert "lr" not in facts(found)["epoch1"]


def test_what_lies_beside_a_checkpoint_is_nearer_to_it(kitchen):
    (kitchen.parent / "m_0.yaml").write_text("lr: 5\n")
    assert facts(opened(kitchen, "sweep.csv", "name,lr,wd\nm_0,1,7\n"))["m_0"] == {"lr": 5, "wd": 7}


def test_the_column_can_be_named(kitchen):
    found = opened(kitchen, "sweep.csv", "trial,lr\nm_0,1\nm_1,2\n", column="trial")
    assert facts(found)["m_1"] == {"lr": 2}


@pytest.mark.parametrize(
    ("table", "text", "more", "told"),
    [
        ("sweep.csv", "trial,lr\nm_0,1\n", {}, "no column that names"),
        ("sweep.csv", "name,lr\nm_0,1\n", {"column": "trial"}, "'trial'.*name, lr"),
        ("sweep.txt", "name,lr\n", {}, "no column that names"),
    ],
)
def test_a_table_without_names_is_refused(kitchen, table, text, more, told):
    with pytest.raises(KitchenError, match=told):
        opened(kitchen, table, text, **more)


def test_a_table_that_is_not_there_is_told(kitchen):
    change_yaml(kitchen, lambda document: document.update(sweep="none.csv"))
    with pytest.raises(KitchenError, match=r"none\.csv: no such file"):
        sv.Kitchen.load(kitchen)


def test_new_writes_the_table_into_the_kitchen(kitchen, tmp_path, capsys):
    run, data = tmp_path / "run", tmp_path / "data"
    for folder, names in ((run, ("m_0", "m_1", "m_2")), (data, ("held_out", "test"))):
        folder.mkdir()
        for name in names:
            kitchen.with_name(f"{name}.safetensors").rename(folder / f"{name}.safetensors")
    kitchen.with_name("model.py").rename(run / "model.py")
    (tmp_path / "sweep.csv").write_text("name,lr\nm_0,0.1\nm_1,0.2\n")
    asked = ("new", run, "--factory", "model.py:build", "--data", data, "--sweep", tmp_path / "sweep.csv")
    found = json_of(capsys, *asked)
    assert {"key": "sweep", "value": "../sweep.csv", "source": "you said so"} in found["facts"]
    assert read_kitchen_file(run / "kitchen.yaml").sweep.file == "../sweep.csv"
    assert facts(sv.Kitchen.load(run))["m_1"]["lr"] == 0.2


def test_workers_do_not_need_the_table(kitchen, monkeypatch):
    found = opened(kitchen, "sweep.csv", "name,lr\nm_0,1\n")
    (kitchen.parent / "sweep.csv").unlink()
    assert found.reopening.spec.sweep.file == "sweep.csv"
    assert found.reopening._opened("cpu", found.store, None) is not None
