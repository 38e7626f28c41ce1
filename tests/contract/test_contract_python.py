"""The Python surface: `import soupviz as sv`."""

import math
from pathlib import Path

import pytest
import torch
from surface import NUM_EXAMPLES, fingerprint, net, tensors_of, tiny, told

import soupviz as sv

NAMES = {
    "Kitchen", "SWARecorder", "Soup", "SoupError", "bake", "cook", "cook_menu", "export", "greedy", "interpolate",
    "recognise", "report", "sweep", "uniform", "__version__",
}  # fmt: skip


@pytest.fixture(scope="module")
def opened(kitchen: Path) -> "sv.Kitchen":
    return sv.Kitchen.load(kitchen)


def test_the_package_hands_on_its_names():
    assert NAMES <= set(sv.__all__)
    assert all(getattr(sv, name) is not None for name in NAMES)


def test_load_takes_a_path_or_a_text_and_a_folder_or_the_file(kitchen):
    for place in (kitchen, str(kitchen), kitchen.parent):
        assert sv.Kitchen.load(place).name == "tiny"


def test_score_is_a_data_frame_with_one_row_per_ingredient(opened, kitchen):
    table = opened.score()
    assert table["ingredient"].tolist() == ["a", "b", "c", "d"]
    scores = told("score", kitchen)["ingredients"]
    for column in ("accuracy", "correct", "num_examples", "loss"):
        assert table[column].tolist() == [score[column] for score in scores.values()]
    assert opened.score("test")["loss"].tolist() != table["loss"].tolist()


def test_uniform_is_the_mean_of_its_members(opened):
    soup = sv.uniform(opened, members=["a", "b"])
    assert {name: weight for name, weight in soup.coefficients.items() if weight} == {"a": 0.5, "b": 0.5}
    a, b = (tensors_of(opened.file.parent / f"{name}.safetensors") for name in ("a", "b"))
    for key, tensor in soup.state_dict().items():
        assert torch.equal(tensor, 0.5 * a[key] + 0.5 * b[key])
    net().load_state_dict(soup.state_dict(), strict=True)


@pytest.mark.parametrize("alpha", [0.1, "mean"])
def test_greedy_gives_coefficients_a_trajectory_and_scores_by_split(opened, kitchen, alpha):
    soup = sv.greedy(opened, alpha=alpha)
    found = told("soup", kitchen, "--recipe", "greedy", "--alpha", alpha)
    assert dict(soup.coefficients) == found["coefficients"]
    assert list(soup.scores) == ["held_out", "test", "shifts.far"]
    assert soup.scores["test"].accuracy == found["scores"]["test"]["accuracy"]
    for step, told_of in zip(soup.trajectory, found["trajectory"], strict=True):
        assert (step.step, step.ingredient, step.accepted) == tuple(
            told_of[key] for key in ("step", "ingredient", "accepted")
        )


def test_interpolate_is_a_data_frame_of_alpha_accuracy_and_loss(opened, kitchen):
    curve = sv.interpolate(opened, "a", "b", points=21)
    assert len(curve) == 21
    assert curve["alpha"].tolist() == [round(step / 20, 12) for step in range(21)]
    points = told("interpolate", kitchen, "a", "b")["points"]
    assert curve["accuracy"].tolist() == [point["accuracy"] for point in points]
    assert curve["loss"].tolist() == [point["loss"] for point in points]


def test_a_curve_has_a_column_value(opened):
    assert "value" in sv.interpolate(opened, "a", "b", points=2)


def test_a_soup_is_an_end_of_a_curve(opened):
    soup = sv.greedy(opened, alpha=0.1)
    curve = sv.interpolate(opened, "base", soup, points=3)
    assert curve["accuracy"].tolist()[-1] == soup.scores["held_out"].accuracy


def test_export_writes_the_soup_with_recipe_and_card_and_bake_makes_it_again(opened, tmp_path):
    soup = sv.greedy(opened, alpha="mean")
    files = sv.export(soup, tmp_path / "soup.safetensors")
    assert [file.name for file in files] == ["soup.safetensors", "recipe.yaml", "README.md"]
    assert fingerprint(tensors_of(files[0])) == fingerprint(soup.state_dict())
    [again, *_] = sv.bake(files[0], tmp_path / "again.pt")
    assert fingerprint(tensors_of(Path(again))) == fingerprint(soup.state_dict())


def test_cook_takes_any_recipe_as_plain_data(opened):
    soup = sv.cook(opened, {"method": "uniform", "members": ["a", "b"]})
    assert soup.coefficients == sv.uniform(opened, members=["a", "b"]).coefficients


def test_cook_takes_a_recipe_by_its_name(opened):
    assert sv.cook(opened, "greedy").recipe == sv.cook(opened, {"method": "greedy"}).recipe
    told = []
    for unknown in ("greddy", {"method": "greddy"}):
        with pytest.raises(sv.SoupError, match="greddy") as found:
            sv.cook(opened, unknown)
        told.append(str(found.value))
    assert told[0] == told[1]


def test_a_mistake_is_a_soup_error_which_is_a_value_error(opened, tmp_path):
    assert issubclass(sv.SoupError, ValueError)
    for mistake in (
        lambda: sv.Kitchen.load(tmp_path / "nowhere"),
        lambda: sv.uniform(opened, members=["nobody"]),
        lambda: sv.greedy(opened, alpha=2.0),
        lambda: sv.interpolate(opened, "a", "nobody"),
        lambda: sv.interpolate(opened, "a", "b", points=1),
        lambda: opened.score("nowhere"),
        lambda: sv.export(sv.uniform(opened), tmp_path / "soup.onnx"),
        lambda: sv.bake(tmp_path / "nothing.safetensors", tmp_path / "x.pt"),
    ):
        with pytest.raises(sv.SoupError):
            mistake()


def test_swa_recorder_writes_a_runs_averages_from_a_training_loop(tmp_path):
    folder = tmp_path / "run"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = net()
        recorder = sv.SWARecorder(model, folder, every=2, ema_decay=0.5)
        seen = []
        for step in range(1, 7):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += torch.randn(parameter.shape)
            recorder.step(loss=1 / step)
            if step % 2 == 0:
                seen.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
        recorder.finish()
    written = sorted(file.name for file in folder.glob("step_*.safetensors"))
    assert len(written) == 3
    last = tensors_of(folder / written[-1])
    swa = tensors_of(folder / "swa.safetensors")
    assert (folder / "ema.safetensors").is_file()
    for key, tensor in swa.items():
        assert torch.equal(last[key], seen[-1][key])
        assert torch.allclose(tensor, torch.stack([state[key] for state in seen]).mean(0), atol=1e-6)


def test_a_kitchens_numbers_are_plain_fractions_and_nats(tmp_path):
    """Of one linear layer that answers the same to everything: half of two is right, and the loss is log 3."""
    file = tiny(tmp_path, names=("a",), change=lambda _name, state: {key: 0 * value for key, value in state.items()})
    [row] = sv.Kitchen.load(file).score().to_dict("records")
    assert row["num_examples"] == NUM_EXAMPLES
    assert row["loss"] == pytest.approx(math.log(3), abs=1e-6)
