from types import SimpleNamespace

import pytest
import torch
from kitchens import BATCHNORM, MLP, TIED, build_model, change_yaml, small_kitchen
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import soupviz as sv
from soupviz.errors import ExportError, RecipeError
from soupviz.recipes.overtime import in_time
from soupviz.weights.training import SWARecorder, unwrapped


def nudge(model: nn.Module, seed: int) -> None:
    """What a step of an optimizer does to weights, and a forward pass to statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        model.train()(torch.randn(4, 3, 8, 8, generator=generator))


def train(model: nn.Module, recorder: SWARecorder, num_steps: int) -> list[dict[str, torch.Tensor]]:
    """The state after each step, step 1 first."""
    states = []
    for seed in range(num_steps):
        nudge(unwrapped(model), seed)
        states.append({key: tensor.clone() for key, tensor in unwrapped(model).state_dict().items()})
        recorder.step()
    return states


def metadata_of(path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


# Checkpoints


def test_a_checkpoint_is_written_at_each_multiple_of_every_and_holds_that_steps_weights(tmp_path):
    model = build_model(BATCHNORM)
    states = train(model, SWARecorder(model, tmp_path / "new" / "run", every=2), 5)
    files = sorted((tmp_path / "new" / "run").iterdir())
    assert [file.name for file in files] == ["step_000002.safetensors", "step_000004.safetensors"]
    for file, step in zip(files, (2, 4), strict=True):
        build_model(BATCHNORM).load_state_dict(load_file(file), strict=True)
        assert all(torch.equal(tensor, states[step - 1][key]) for key, tensor in load_file(file).items())


@pytest.mark.parametrize(
    ("every", "start", "numbers", "recorded"),
    [
        (100, 0, range(301), [100, 200, 300]),
        (100, 200, range(301), [200, 300]),
        (100, 150, range(301), [200, 300]),
        (1, 0, [1, 2, 3], [1, 2, 3]),
        (1, 2, [1, 2, 3], [2, 3]),
        (100, 0, [60, 120, 180, 240], [120, 240]),
        (100, 0, [391, 782], [391, 782]),
        (2, 0, [1, 1, 2, 2, 3, 4], [2, 4]),
        (100, 0, [1000, 1050, 1100], [1000, 1100]),
        (100, 500, [1, 2, 3], []),
    ],
)
def test_which_steps_are_recorded(tmp_path, every, start, numbers, recorded):
    recorder = SWARecorder(nn.Linear(1, 1), tmp_path, every, start)
    files = [recorder.step(number) for number in numbers]
    assert [int(file.stem.removeprefix("step_")) for file in files if file] == recorded


def test_steps_are_counted_on_from_the_last_number_given(tmp_path):
    recorder = SWARecorder(nn.Linear(1, 1), tmp_path, every=10)
    assert recorder.step(8) is None
    assert recorder.step() is None
    assert recorder.step() == tmp_path / "step_000010.safetensors"


def test_facts_stand_in_the_metadata_as_text_beside_the_step(tmp_path):
    recorder = SWARecorder(nn.Linear(1, 1), tmp_path, every=3)
    file = recorder.step(3, loss=torch.tensor(0.5), lr=3e-5, note="warm", epoch=1)
    expected = {"format": "pt", "step": "3", "loss": "0.5", "lr": "3e-05", "note": "warm", "epoch": "1"}
    assert metadata_of(file) == expected


@pytest.fixture
def recorded(tmp_path) -> sv.Kitchen:
    """A kitchen of the three checkpoints that a run of a BatchNorm network left, its averages beside them."""
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=1)
    model = build_model(BATCHNORM)
    recorder = SWARecorder(model, tmp_path / "run", every=2, ema_decay=0.9)
    train(model, recorder, 7)
    recorder.finish()
    return sv.Kitchen.load(change_yaml(file, lambda keys: keys.update(ingredients=["run/step_*.safetensors"])))


def test_the_step_is_found_by_the_recipes_over_time_and_only_checkpoints_match_the_glob(recorded):
    facts = {name: dict(recorded.weights.resolve(name).metadata) for name in recorded.names}
    pool = SimpleNamespace(names=recorded.names, facts=lambda name: {"step": facts[name]["step"]})
    assert in_time(pool) == [(2.0, "step_000002"), (4.0, "step_000004"), (6.0, "step_000006")]


# Averages


def test_swa_of_the_files_equals_the_running_average(recorded):
    mixed = sv.cook(recorded, {"method": "swa"}).state_dict()
    running = load_file(recorded.folder / "run" / "swa.safetensors")
    assert running.keys() == mixed.keys()
    for key, tensor in mixed.items():
        torch.testing.assert_close(tensor, running[key])


def test_swa_by_hand_is_the_mean_of_the_checkpoints_from_start_on(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    recorder = SWARecorder(model, tmp_path, every=2, start=3)
    for value in (10.0, 20.0, 30.0, 1.0, 50.0, 4.0, 70.0):
        nn.init.constant_(model.weight, value)
        recorder.step()
    [file] = recorder.finish()
    assert load_file(file)["weight"].item() == 2.5
    assert metadata_of(file) == {
        "format": "pt",
        "weights": "ema",
        "from_step": "4",
        "to_step": "6",
        "averaged": "2",
        "every": "2",
    }


def test_ema_by_hand_takes_every_step_from_start_on(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    recorder = SWARecorder(model, tmp_path, every=100, start=2, swa=False, ema_decay=0.75)
    for value in (1000.0, 8.0, 4.0, 0.0):
        nn.init.constant_(model.weight, value)
        recorder.step()
    [file] = recorder.finish()
    assert load_file(file)["weight"].item() == 0.75 * (0.75 * 8 + 0.25 * 4)
    facts = {"from_step": "2", "to_step": "4", "averaged": "3", "ema_decay": "0.75"}
    expected = {"format": "pt", "weights": "ema", **facts}
    assert metadata_of(file) == expected


@pytest.mark.parametrize("decay", [None, 0.9])
def test_the_averages_are_those_of_torch(tmp_path, decay):
    """Running statistics are averaged, counters are the latest; torch's own averages round counters down."""
    model = build_model(BATCHNORM)
    mean = None if decay is None else get_ema_multi_avg_fn(decay)
    reference = AveragedModel(model, multi_avg_fn=mean, use_buffers=True)
    recorder = SWARecorder(model, tmp_path, every=1, ema_decay=decay)
    for seed in range(5):
        nudge(model, seed)
        reference.update_parameters(model)
        recorder.step()
    written = load_file(recorder.finish()[-1])
    for key, tensor in reference.module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            assert written[key] == 5
        else:
            torch.testing.assert_close(written[key], tensor)


def test_a_run_that_ends_before_start_has_no_averages(tmp_path):
    model = nn.Linear(1, 1)
    recorder = SWARecorder(model, tmp_path, every=1, start=10, ema_decay=0.5)
    train(model, recorder, 3)
    assert recorder.finish() == []
    assert list(tmp_path.iterdir()) == []


def test_recording_leaves_the_model_as_it_is(tmp_path):
    model = build_model(BATCHNORM).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    recorder = SWARecorder(model, tmp_path, every=1, ema_decay=0.5)
    recorder.step()
    recorder.step()
    recorder.finish()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)


# What models are made of


def test_tied_tensors_are_written_under_each_name_and_stay_equal_in_the_averages(tmp_path):
    model = build_model(TIED)
    recorder = SWARecorder(model, tmp_path, every=1, ema_decay=0.5)
    train(model, recorder, 3)
    for file in [*recorder.finish(), tmp_path / "step_000003.safetensors"]:
        tensors = load_file(file)
        build_model(TIED).load_state_dict(tensors, strict=True)
        assert torch.equal(tensors["first.weight"], tensors["second.weight"])


class Wrapper(nn.Module):
    """As those of other libraries."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


WRAPPERS = {
    "data-parallel": nn.DataParallel,
    "compiled": torch.compile,
    "both": lambda model: torch.compile(nn.DataParallel(model)),
    "another library": Wrapper,
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_the_prefixes_of_wrappers_are_not_in_the_files(tmp_path, wrap):
    wrapped = wrap(build_model(MLP))
    recorder = SWARecorder(wrapped, tmp_path, every=1, ema_decay=0.5)
    train(wrapped, recorder, 2)
    for file in [*recorder.finish(), tmp_path / "step_000002.safetensors"]:
        build_model(MLP).load_state_dict(load_file(file), strict=True)


def test_a_compiled_part_of_a_model_is_written_without_its_prefix(tmp_path):
    model = build_model(MLP)
    model[0] = torch.compile(model[0])
    recorder = SWARecorder(model, tmp_path, every=1)
    build_model(MLP).load_state_dict(load_file(recorder.step()), strict=True)
    build_model(MLP).load_state_dict(load_file(recorder.finish()[0]), strict=True)


def test_a_model_that_holds_more_than_a_part_named_module_is_no_wrapper():
    more = Wrapper(nn.Linear(1, 1))
    more.scale = nn.Parameter(torch.ones(1))
    assert unwrapped(more) is more
    several = Wrapper(nn.Linear(1, 1))
    several.head = nn.Linear(1, 1)
    assert unwrapped(several) is several


def test_tensors_that_lie_scattered_in_memory_and_state_that_is_no_tensor_are_no_hindrance(tmp_path):
    class Extra(nn.Conv2d):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 1}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    model = Extra(3, 4, 3).to(memory_format=torch.channels_last).to(torch.bfloat16)
    recorder = SWARecorder(model, tmp_path, every=1)
    found = load_file(recorder.step())
    assert found.keys() == {"weight", "bias"}
    assert torch.equal(found["weight"], model.weight)
    assert load_file(recorder.finish()[0])["weight"].dtype == torch.bfloat16


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0 and start is 0; expected at least 1 and at least 0 steps"),
        ({"every": 1, "start": -1}, "every is 1 and start is -1; expected at least 1"),
        ({"every": 1, "ema_decay": 1.0}, r"ema_decay is 1.0; expected at least 0 and less than 1, such as 0.999"),
        ({"every": 1, "ema_decay": -0.1}, "ema_decay is -0.1"),
        ({"every": 1, "ema_decay": float("nan")}, "ema_decay is nan"),
    ],
)
def test_options_out_of_range_are_refused_before_a_folder_is_made(tmp_path, options, message):
    with pytest.raises(RecipeError, match=message):
        SWARecorder(nn.Linear(1, 1), tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []


def test_steps_that_go_back_are_refused(tmp_path):
    recorder = SWARecorder(nn.Linear(1, 1), tmp_path, every=10)
    recorder.step(7)
    with pytest.raises(RecipeError, match="step 6 came after step 7; expected the steps of one run, in order"):
        recorder.step(6)


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"run: cannot be made \(Not a directory\); choose another folder"):
        SWARecorder(nn.Linear(1, 1), tmp_path / "file" / "run", every=1)


def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr("soupviz.weights.training.is_writable", lambda _folder: False)
    with pytest.raises(ExportError, match="the folder is read-only; choose another"):
        SWARecorder(nn.Linear(1, 1), tmp_path, every=1)


def test_a_write_that_fails_leaves_no_file_and_the_average_as_it_was(tmp_path, monkeypatch):
    model = nn.Linear(1, 1, bias=False)
    recorder = SWARecorder(model, tmp_path, every=1)

    def full(_tensors, path, **_options) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("soupviz.weights.training.save_file", full)
        with pytest.raises(ExportError, match=r"step_000001.safetensors: cannot be written \(No space left on device"):
            recorder.step()
    assert list(tmp_path.iterdir()) == []
    nn.init.constant_(model.weight, 3.0)
    recorder.step()
    assert load_file(recorder.finish()[0])["weight"].item() == 3.0
