from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupviz.weights.names import as_values, counters_in, names_in, natural_key, short_names
from soupviz.weights.vocabulary import says_average


def test_numbers_in_names_sort_as_numbers():
    names = ["ft_10", "ft_2", "ft_1", "a", "ft", "ft_2b"]
    assert sorted(names, key=natural_key) == ["a", "ft", "ft_1", "ft_2", "ft_2b", "ft_10"]


def test_decimals_and_small_numbers_sort_as_numbers():
    names = ["lr0.5", "lr0.05", "lr0.10", "lr1e-3", "lr1e-4"]
    assert sorted(names, key=natural_key) == ["lr1e-4", "lr1e-3", "lr0.05", "lr0.10", "lr0.5"]


@given(st.lists(st.text("aé²1٣_.e-", max_size=6), unique=True))
def test_any_names_have_one_order(names):
    assert sorted(names, key=natural_key) == sorted(dict.fromkeys(names[::-1]), key=natural_key)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["k/a.pt", "k/b.pt"], ["a", "b"]),
        (["k/x/model.pt", "k/y/model.pt"], ["x", "y"]),
        (["r/a/model.safetensors"], ["model"]),
        (["k/x/model.pt", "k/y/model.pt", "k/z.pt"], ["x/model", "y/model", "z"]),
        (["k/a.pt", "k/a.safetensors"], ["a.pt", "a.safetensors"]),
        (["k/lr_0.01.pt", "k/lr_0.02.pt"], ["lr_0.01", "lr_0.02"]),
        (["k/lr0.1/m.pt", "k/lr0.2/m.pt"], ["lr0.1", "lr0.2"]),
        (["x/model.safetensors.index.json", "y/model.safetensors.index.json"], ["x", "y"]),
        (["v_0/checkpoints/last.ckpt", "v_1/checkpoints/last.ckpt"], ["v_0", "v_1"]),
        (["checkpoint-1.pth.tar", "checkpoint-2.pth.tar"], ["checkpoint-1", "checkpoint-2"]),
        (["a/x/model.pt", "b/x/model.pt", "b/y/model.pt"], ["a/x", "b/x", "y"]),
        (["k/only.pt"], ["only"]),
        (["a.pt", "b/a.pt"], ["a", "b/a"]),
    ],
)
def test_a_name_is_the_shortest_unique_path_ending_without_what_all_share(paths, names):
    assert short_names([Path(path) for path in paths]) == names


path_parts = st.sampled_from(["a", "b", "a.pt", "b.pt", "a.bin", "c", ".pt"])


@given(st.lists(st.lists(path_parts, min_size=1, max_size=4).map("/".join), unique=True))
def test_names_of_distinct_paths_are_distinct_and_none_is_empty(paths):
    names = short_names([Path(path) for path in paths])
    assert len(set(names)) == len(paths)
    assert all(names)


def test_thousands_sort_as_the_numbers_that_they_are():
    names = ["step-1.5M", "step-10k", "step-500", "step-9k", "step-900k"]
    assert sorted(names, key=natural_key) == ["step-500", "step-9k", "step-10k", "step-900k", "step-1.5M"]


def test_a_folder_keeps_the_dots_in_its_name(tmp_path):
    for name in ("lr0.pt", "lr1.pt"):
        (tmp_path / name).mkdir()
    assert short_names([tmp_path / "lr0.pt", tmp_path / "lr1.pt"]) == ["lr0.pt", "lr1.pt"]


@pytest.mark.parametrize(
    ("name", "counters"),
    [
        ("epoch=3-step=120", {"epoch": 3, "step": 120}),
        ("checkpoint-500", {"checkpoint": 500}),
        ("322epoch", {"epoch": 322}),
        ("run2/checkpoint-1500/model", {"checkpoint": 1500}),
        ("step_000300", {"step": 300}),
        ("iter_80000", {"iter": 80000}),
        ("12-epochs", {"epoch": 12}),
        ("best_epoch12_step", {"epoch": 12}),
        ("epoch=1.5", {"epoch": 1.5}),
        ("step1e5", {"step": 1e5}),
        ("step-10k", {"step": 10_000}),
        ("iter_1.5M", {"iter": 1_500_000}),
        ("2k_steps", {"step": 2_000}),
        ("step_5kb", {"step": 5}),
        ("ft_2", {}),
        ("deep_3", {}),
        ("stepped", {}),
    ],
)
def test_steps_are_found_on_either_side_of_the_number(name, counters):
    assert counters_in(name) == counters


@pytest.mark.parametrize(
    ("name", "says"),
    [("m0_ema", True), ("modelEMA", True), ("m.ema", True), ("polyak-3", True), ("schema_2", False),
     ("exp_avg_sq", False),
     ("swa", True), ("ave_5best", True), ("model.avg.pt", True), ("averaged_model", True), ("wave_3", False),
     ("swan", False), ("checkpoint-3", False)],
)  # fmt: skip
def test_a_name_that_says_average_is_seen(name, says):
    assert says_average(name) is says


@given(st.lists(st.sampled_from(["a", "b", "lr=0.1,wd=0", "x,y,z", "c d"]), unique=True))
def test_names_with_commas_survive_a_link(names):
    assert set(names_in(as_values(names), {"a", "b", "lr=0.1,wd=0", "x,y,z", "c d"})) == set(names)


def test_a_text_that_is_a_name_is_that_one_and_another_is_several():
    assert names_in(["a,b"], {"a", "b"}) == ["a", "b"]
    assert names_in(["a,b", " a , "], {"a", "b", "a,b"}) == ["a,b", "a"]
