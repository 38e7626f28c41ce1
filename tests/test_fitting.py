"""What PyTorch's own loading accepts, once wrappers and prefixes are off, is what the model then holds."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kitchens import BATCHNORM, MLP, TIED, build_model, perturbed
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from soupviz.errors import CompatibilityError
from soupviz.models.architecture import Architecture
from soupviz.weights.checkpoints import Checkpoint, read
from soupviz.weights.fitting import fit, fit_body
from soupviz.weights.ingredients import fingerprint
from soupviz.weights.layouts import SPELLINGS, readings_of
from soupviz.weights.states import Candidate
from soupviz.weights.vocabulary import says_average


def architecture_of(build) -> Architecture:
    return Architecture(build(), build)


def of_source(source: str) -> Architecture:
    return architecture_of(lambda: build_model(source))


def checkpoint(*candidates, **named) -> Checkpoint:
    found = [Candidate("", candidate) for candidate in candidates]
    found += [Candidate(place, tensors, says_average(place)) for place, tensors in named.items()]
    return Checkpoint(Path("m.pt"), tuple(found))


def prefixed(prefix: str, tensors) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def weights(architecture: Architecture, seed: int = 1) -> dict[str, torch.Tensor]:
    return perturbed(architecture.state, 0.1, seed)


MODELS = {"mlp": MLP, "batchnorm": BATCHNORM, "tied": TIED}
ARCHITECTURES = {name: of_source(source) for name, source in MODELS.items()}
MLP_ARCHITECTURE = ARCHITECTURES["mlp"]


# Layouts


def test_a_model_whose_own_keys_begin_with_a_usual_prefix_keeps_them():
    architecture = architecture_of(lambda: nn.ModuleDict({"model": nn.Linear(2, 2)}))
    given_ = weights(architecture)
    assert list(fit(checkpoint(given_), architecture).tensors) == ["model.weight", "model.bias"]
    assert list(fit(checkpoint(prefixed("model.", given_)), architecture).tensors) == ["model.weight", "model.bias"]


prefixes = st.sampled_from(
    ["", "module.", "model.", "net.", "encoder.net.", "module.module.", "_orig_mod.", "a.b.c.d."]
)
wrappers = st.sampled_from(["", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"])
left_overs = st.sampled_from(["", "criterion.weight", "val_acc.tp", "teacher_temperature"])
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


@settings(max_examples=60)
@given(st.sampled_from(sorted(MODELS)), prefixes, wrappers, left_overs, dtypes, st.integers(0, 3), st.data())
def test_whatever_is_wrapped_opens_to_the_same_fingerprint(model, prefix, wrapper, left_over, dtype, seed, data):
    architecture = ARCHITECTURES[model]
    plain = {k: t.to(dtype) if t.is_floating_point() else t for k, t in weights(architecture, seed).items()}
    expected = fingerprint(fit(checkpoint(plain), architecture).tensors)
    wrapped = dict(plain)
    for key in list(wrapped):
        module, _, name = key.rpartition(".")
        if wrapper and module:
            wrapped[f"{module}.{wrapper}.{name}"] = wrapped.pop(key)
    for key in data.draw(st.sampled_from([[], sorted(architecture.ties)])):
        wrapped = {name: tensor for name, tensor in wrapped.items() if name.replace(f".{wrapper}", "") != key}
    wrapped = prefixed(prefix, wrapped)
    if left_over and prefix:
        wrapped[left_over] = torch.ones(4)
    found = fit(checkpoint(state_dict=wrapped), architecture)
    assert fingerprint(found.tensors) == expected
    assert list(found.tensors) == list(architecture.state)
    assert found.left_over == ((left_over,) if left_over and prefix else ())


@settings(max_examples=40)
@given(st.sampled_from(sorted(MODELS)), prefixes, st.integers(0, 3), st.data())
def test_whatever_is_damaged_is_refused_by_key(model, prefix, seed, data):
    architecture = ARCHITECTURES[model]
    whole = weights(architecture, seed)
    untied = [key for key in whole if key not in architecture.ties and key not in architecture.ties.values()]
    learned = [key for key in untied if not key.endswith("num_batches_tracked")]
    key = data.draw(st.sampled_from(learned))
    damage = data.draw(st.sampled_from(["lost", "shape", "more"]))
    if damage == "lost":
        del whole[key]
    elif damage == "shape":
        whole[key] = torch.cat([whole[key], whole[key]])
    else:
        whole[key + "_more"] = torch.ones(2)
    named = key + ("_more" if damage == "more" else "")
    with pytest.raises(CompatibilityError, match=named.replace(".", r"\.")):
        fit(checkpoint(prefixed(prefix, whole)), architecture)


def test_the_models_of_averaged_model_are_counted_and_its_counter_is_no_weight():
    model = build_model(MLP)
    averaged = AveragedModel(model)
    for _ in range(3):
        averaged.update_parameters(model)
    found = fit(checkpoint(averaged.state_dict()), MLP_ARCHITECTURE)
    assert fingerprint(found.tensors) == fingerprint(model.state_dict())
    assert (found.averaged, found.left_over) == (3, ("n_averaged",))


def test_two_copies_of_the_model_side_by_side_are_refused_with_both_places():
    both = prefixed("student.", weights(MLP_ARCHITECTURE, 1)) | prefixed("teacher.", weights(MLP_ARCHITECTURE, 2))
    with pytest.raises(CompatibilityError, match=r"twice, under 'student\.' and under 'teacher\.'"):
        fit(checkpoint(both), MLP_ARCHITECTURE)


# What PyTorch accepts


def test_counters_may_be_missing_or_of_shape_1():
    architecture = ARCHITECTURES["batchnorm"]
    whole = weights(architecture)
    without = {key: tensor for key, tensor in whole.items() if not key.endswith("num_batches_tracked")}
    assert fit(checkpoint(without), architecture).tensors["1.num_batches_tracked"].item() == 0
    long = {key: t.reshape(1) if key.endswith("num_batches_tracked") else t for key, t in whole.items()}
    assert fingerprint(fit(checkpoint(long), architecture).tensors) == fingerprint(whole)


def test_missing_counters_are_not_those_of_the_file_before():
    architecture = ARCHITECTURES["batchnorm"]
    fit(checkpoint(weights(architecture) | {"1.num_batches_tracked": torch.tensor(7)}), architecture)
    without = {key: t for key, t in weights(architecture).items() if not key.endswith("num_batches_tracked")}
    assert fit(checkpoint(without), architecture).tensors["1.num_batches_tracked"].item() == 0


def test_a_parametrised_weight_norm_takes_the_names_of_the_old_hook():
    architecture = architecture_of(lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2))))
    whole = weights(architecture)
    named = {"original0": "weight_g", "original1": "weight_v"}
    old = {key.replace("parametrizations.weight.", ""): tensor for key, tensor in whole.items()}
    old = {".".join(named.get(part, part) for part in key.split(".")): tensor for key, tensor in old.items()}
    assert set(old) == {"0.bias", "0.weight_g", "0.weight_v"}
    assert fingerprint(fit(checkpoint(old), architecture).tensors) == fingerprint(whole)


class Renaming(nn.Module):
    """Its own loading code renames what old files call `old`, and copies instead of assigning."""

    def __init__(self):
        super().__init__()
        self.new = nn.Parameter(torch.zeros(2))

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        if f"{prefix}old" in state_dict:
            with torch.no_grad():
                self.new.copy_(2 * state_dict.pop(f"{prefix}old"))
        else:
            super()._load_from_state_dict(state_dict, prefix, *rest)


def test_what_loading_code_of_the_models_own_makes_of_a_file_is_the_ingredient():
    architecture = architecture_of(Renaming)
    assert fit(checkpoint({"old": torch.ones(2)}), architecture).tensors["new"].tolist() == [2.0, 2.0]
    assert fit(checkpoint({"new": torch.ones(2)}), architecture).tensors["new"].tolist() == [1.0, 1.0]


class Versioned(nn.Module):
    """Doubles what files of before its version 2 hold."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def _load_from_state_dict(self, state_dict, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state_dict[f"{prefix}weight"] = 2 * state_dict[f"{prefix}weight"]
        super()._load_from_state_dict(state_dict, prefix, metadata, *rest)


@pytest.mark.parametrize(("version", "expected"), [(2, 1.0), (1, 2.0), (None, 2.0)])
@pytest.mark.parametrize("prefix", ["", "net."])
def test_the_version_that_a_file_kept_reaches_the_models_loading_code(version, expected, prefix):
    architecture = architecture_of(lambda: nn.Sequential(Versioned()))
    tensors = OrderedDict({f"{prefix}0.weight": torch.ones(2)})
    versions = {"": {"version": 1}, f"{prefix}0": {"version": version}} if version else None
    candidate = Candidate("", tensors, versions=versions)
    found = fit(Checkpoint(Path("m.pt"), (candidate,)), architecture)
    assert found.tensors["0.weight"].tolist() == [expected, expected]


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        assert state == {"version": 1}


def test_extra_states_are_no_weights_whether_a_file_has_them_or_not():
    architecture = architecture_of(lambda: nn.Sequential(Extra(2, 2)))
    assert list(architecture.state) == ["0.weight", "0.bias"]
    assert list(fit(checkpoint(weights(architecture)), architecture).tensors) == ["0.weight", "0.bias"]


def test_loading_maps_the_files_tensors_and_copies_none():
    whole = weights(MLP_ARCHITECTURE)
    found = fit(checkpoint(prefixed("module.", whole)), MLP_ARCHITECTURE)
    assert {tensor.data_ptr() for tensor in found.tensors.values()} == {tensor.data_ptr() for tensor in whole.values()}


# What is left over


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.eye(3).to_sparse(), r"a sparse tensor.*to_dense"),
        (torch.empty(2, device="meta"), "a tensor without values"),
    ],
    ids=["sparse", "meta"],
)
def test_tensors_that_are_no_arrays_of_numbers_are_refused_where_they_are_needed_and_else_named(tmp_path, tensor, kind):
    whole = weights(MLP_ARCHITECTURE)
    torch.save(prefixed("net.", whole) | {"adjacency": tensor}, tmp_path / "m.pt")
    assert fit(read(tmp_path / "m.pt"), MLP_ARCHITECTURE).left_over == ("adjacency",)
    torch.save(prefixed("net.", whole | {"0.weight": tensor}), tmp_path / "m.pt")
    with pytest.raises(CompatibilityError, match=rf"has net\.0\.weight as {kind}"):
        fit(read(tmp_path / "m.pt"), MLP_ARCHITECTURE)


def test_extra_states_left_over_are_no_constants():
    found = fit(checkpoint(weights(MLP_ARCHITECTURE) | {"0._extra_state": torch.tensor(3)}), MLP_ARCHITECTURE)
    assert (dict(found.constants), found.left_over) == ({}, ("0._extra_state",))


def test_integer_buffers_that_the_model_lacks_are_set_aside_and_other_tensors_refused():
    ids = {"position_ids": torch.arange(3), "causal": torch.ones(2, dtype=torch.bool)}
    found = fit(checkpoint(weights(MLP_ARCHITECTURE) | ids), MLP_ARCHITECTURE)
    assert set(found.constants) == set(ids) == set(found.left_over)
    with pytest.raises(CompatibilityError, match=r"^has adapter\.weight, which the model lacks$"):
        fit(checkpoint(weights(MLP_ARCHITECTURE) | {"adapter.weight": torch.ones(2)}), MLP_ARCHITECTURE)


def test_what_the_models_own_class_ignores_is_ignored():
    class Ignoring(nn.Linear):
        _keys_to_ignore_on_load_unexpected = (r"inv_freq$",)

    architecture = architecture_of(lambda: Ignoring(2, 2))
    found = fit(checkpoint(weights(architecture) | {"rotary.inv_freq": torch.ones(2)}), architecture)
    assert found.left_over == ("rotary.inv_freq",)


@pytest.mark.parametrize("key", ["0._fsdp_wrapped_module._flat_param", "_flat_param", "flat_param"])
def test_flattened_shards_are_refused_with_what_gathers_them(key):
    with pytest.raises(CompatibilityError, match=r"flattened FSDP weights.*get_model_state_dict"):
        fit(checkpoint({key: torch.ones(9)}), MLP_ARCHITECTURE)


# Raw and averaged weights


@pytest.mark.parametrize("prefix", ["ema.", "model_ema.module.", "ema_model.", "modelEMA.", "polyak.net."])
def test_an_average_among_the_keys_is_the_other_of_two(prefix):
    raw, average = weights(MLP_ARCHITECTURE, 1), weights(MLP_ARCHITECTURE, 2)
    both = checkpoint(raw | prefixed(prefix, average) | {f"{prefix}n_averaged": torch.tensor(5)})
    for wanted, expected in (("raw", raw), ("ema", average)):
        found = fit(both, MLP_ARCHITECTURE, wanted)
        assert fingerprint(found.tensors) == fingerprint(expected)
        assert (found.weights, found.has_twin) == (wanted, True)


def test_an_average_beside_the_models_prefix_is_the_other_of_two():
    """As latent diffusion writes it: the model under `model.`, its average's keys without dots beside that."""
    raw, average = weights(MLP_ARCHITECTURE, 1), weights(MLP_ARCHITECTURE, 2)
    twin = {f"model_ema.{key.replace('.', '')}": tensor for key, tensor in average.items()}
    counters = {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(5, dtype=torch.int32)}
    both = checkpoint(prefixed("model.", raw) | twin | counters)
    for wanted, expected in (("raw", raw), ("ema", average)):
        found = fit(both, MLP_ARCHITECTURE, wanted)
        assert fingerprint(found.tensors) == fingerprint(expected)
        assert (found.has_twin, found.left_over) == (True, ())


def test_a_module_of_the_model_that_is_called_an_average_is_its_own():
    architecture = architecture_of(lambda: nn.ModuleDict({"net": nn.Linear(2, 2), "ema_net": nn.Linear(2, 2)}))
    whole = weights(architecture)
    found = fit(checkpoint(whole), architecture)
    assert fingerprint(found.tensors) == fingerprint(whole)
    assert (found.weights, found.has_twin) == ("raw", False)


class Narrow(nn.Linear):
    """Its own loading knows no argument of PyTorch's but `strict`, and says nothing."""

    def load_state_dict(self, state_dict, strict=True):
        super().load_state_dict(state_dict, strict)


def test_loading_code_of_the_models_own_need_not_know_every_argument():
    architecture = architecture_of(lambda: Narrow(2, 2))
    whole = weights(architecture)
    assert fingerprint(fit(checkpoint(whole), architecture).tensors) == fingerprint(whole)
    with pytest.raises(CompatibilityError, match="bias"):
        fit(checkpoint({"weight": whole["weight"]}), architecture)


@pytest.mark.parametrize(
    "names", [("lora_A.default", "lora_B.default"), ("lora_in", "lora_out"), ("lora_down", "lora_up"),
              ("lora.down", "lora.up"), ("lora_left", "lora_right")],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_factors_beside_the_layers_that_they_change_are_refused_with_the_remedy(prefix, names):
    whole = weights(MLP_ARCHITECTURE)
    wrapped = {key.replace("0.weight", "0.base_layer.weight") if prefix else key: t for key, t in whole.items()}
    factors = {f"0.{names[0]}.weight": torch.ones(1, 6), f"0.{names[1]}.weight": torch.ones(16, 1)}
    with pytest.raises(CompatibilityError, match=rf"holds LoRA factors \(.*{names[0]}.*merge_and_unload"):
        fit(checkpoint(prefixed(prefix, wrapped | factors)), MLP_ARCHITECTURE)


@pytest.mark.parametrize(
    ("start", "spell", "more"),
    [("ema_", lambda key: key.replace(".", "_"), {}),
     ("model_ema.", lambda key: key.replace(".", ""), {"model_ema.decay": torch.tensor(0.9)}),
     ("shadow_", lambda key: key.replace(".", "_"), {}), ("netEMA.", lambda key: key, {})],
    ids=["mmcv", "LitEma", "shadow", "parameters alone"],
)  # fmt: skip
def test_an_average_whose_keys_have_lost_their_dots_is_the_other_of_two(start, spell, more):
    architecture = ARCHITECTURES["batchnorm"]
    raw, average = weights(architecture, 1), weights(architecture, 2)
    learned = [key for key in raw if not key.startswith("1.running") and not key.endswith("num_batches_tracked")]
    both = checkpoint(raw | {start + spell(key): average[key] for key in learned} | more)
    assert fingerprint(fit(both, architecture).tensors) == fingerprint(raw)
    found = fit(both, architecture, "ema")
    assert (found.weights, found.has_twin) == ("ema", True)
    assert all(torch.equal(found.tensors[key], (average if key in learned else raw)[key]) for key in raw)


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("kind", ["list", "dictionary"])
def test_an_average_of_the_parameters_alone_has_the_buffers_of_the_raw_weights(tmp_path, model, kind):
    architecture = ARCHITECTURES[model]
    raw, average = weights(architecture, 1), weights(architecture, 2)
    learned = {key: average[key] for key in architecture.parameters}
    shadow = {"shadow_params": list(learned.values())} if kind == "list" else {"shadow": learned}
    torch.save({"model": raw, "ema": {"decay": 0.9, **shadow}}, tmp_path / "m.pt")
    found = fit(read(tmp_path / "m.pt"), architecture, "ema")
    assert (found.weights, found.has_twin, found.unread) == ("ema", True, ())
    tied = {key: average[first] for key, first in architecture.ties.items()}
    assert fingerprint(found.tensors) == fingerprint(raw | learned | tied)


def test_an_average_that_does_not_fit_is_named():
    found = fit(checkpoint(model=weights(MLP_ARCHITECTURE), ema={"w": torch.ones(1000)}), MLP_ARCHITECTURE)
    assert (found.weights, found.has_twin, found.unread) == ("raw", False, ("ema",))
    found = fit(checkpoint(model=weights(MLP_ARCHITECTURE), ema={"decay": torch.ones(1)}), MLP_ARCHITECTURE)
    assert found.unread == ()


def test_of_a_file_with_one_of_them_that_one_is_read_and_called_what_it_is():
    average = weights(MLP_ARCHITECTURE)
    found = fit(checkpoint(state_dict_ema=average), MLP_ARCHITECTURE, "raw")
    assert (found.weights, found.has_twin, found.place) == ("ema", False, "state_dict_ema")
    found = fit(checkpoint(state_dict=average), MLP_ARCHITECTURE, "ema")
    assert (found.weights, found.has_twin) == ("raw", False)


def test_weights_of_another_model_beside_are_passed_over():
    other = {"a": torch.ones(1)}
    found = fit(checkpoint(other, discriminator=other, generator=weights(MLP_ARCHITECTURE)), MLP_ARCHITECTURE)
    assert (found.place, found.others) == ("generator", ())


def test_further_places_whose_weights_fit_are_told():
    found = fit(checkpoint(model=weights(MLP_ARCHITECTURE), best=weights(MLP_ARCHITECTURE, 2)), MLP_ARCHITECTURE)
    assert (found.place, found.others) == ("model", ("best",))


# What does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.bias"), r"^lacks 0\.bias$"),
        (lambda state: state.update({"0.scale": torch.ones(1)}), r"^has 0\.scale, which the model lacks$"),
        (
            lambda state: state.update({"0.bias": torch.ones(3)}),
            r"^has 0\.bias of shape \(3,\); expected \(16,\), as in the model$",
        ),
        (
            lambda state: (state.clear(), state.update({"x": torch.ones(1)})),
            r"is of another architecture: none of the model's 4 keys is in it; it has 'x', the model '0\.weight'",
        ),
    ],
)
def test_what_does_not_fit_is_named_by_key(change, message):
    state = weights(MLP_ARCHITECTURE)
    change(state)
    with pytest.raises(CompatibilityError, match=message):
        fit(checkpoint(state), MLP_ARCHITECTURE)


# A base with another head, and files without a model


def test_a_base_with_another_head_is_read_with_its_own():
    body = weights(MLP_ARCHITECTURE)
    other = body | {"2.weight": torch.ones(10, 16), "2.bias": torch.ones(10)}
    found = fit_body(checkpoint(prefixed("module.", other)), MLP_ARCHITECTURE)
    assert fingerprint(found.tensors) == fingerprint(other)
    with pytest.raises(CompatibilityError, match="another architecture"):
        fit_body(checkpoint({"x": torch.ones(1)}), MLP_ARCHITECTURE)


@pytest.mark.parametrize("prefix", ["", "net.", "module._orig_mod."])
def test_without_a_model_some_reading_is_what_it_would_hold(prefix):
    whole = weights(MLP_ARCHITECTURE)
    content = prefixed(prefix, whole) | ({"criterion.weight": torch.ones(1)} if prefix else {})
    held = fingerprint(fit(checkpoint(model=content), MLP_ARCHITECTURE).tensors)
    [candidate] = checkpoint(model=content).candidates
    readings = [one for wrappers in SPELLINGS for one in readings_of(candidate, None, wrappers)]
    assert held in [fingerprint(one.tensors) for one in readings]
