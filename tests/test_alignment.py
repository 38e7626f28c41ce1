"""Networks from other seeds: aligned to a reference, proved to be the same function, and repaired after mixing."""

import gc
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from nets import NETS, ROWS, library_net, randomised, shuffles, state_of
from torch import nn

from soupviz.errors import CompatibilityError, DataError
from soupviz.mixing.activations import measure
from soupviz.mixing.alignment import align, check_same_function, match_weights, repair
from soupviz.mixing.permuting import permutation_spec, permute
from soupviz.models.architecture import RUNNING_STATISTICS
from soupviz.models.building import logits_of
from soupviz.models.routes import call
from soupviz.models.wiring import Axis, PermutationSpec


def halfway(one, other, alpha=0.5):
    return {key: torch.lerp(one[key], other[key], alpha) if one[key].is_floating_point() else one[key] for key in one}


def agreement(one, other):
    keys = [key for key in one if one[key].is_floating_point() and not key.endswith(RUNNING_STATISTICS)]
    return sum(float((one[key].double() * other[key].double()).sum()) for key in keys)


def test_match_weights_by_hand():
    spec = permutation_spec(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(2, 2))
    reference = {
        "0.weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
        "0.bias": torch.tensor([0.0, 0.0, 2.0]),
        "2.weight": torch.tensor([[1.0, 1.0, 1.0]]),
        "2.bias": torch.tensor([0.0]),
    }
    # Inner products of the reference's units (rows) with these three: rows . rows + bias * bias + column * column.
    #   [0 + 0 + 1, 3 + 0 + 1, 0 + 0 + 2]     [1, 4, 2]
    #   [0 + 0 + 1, 0 + 0 + 1, 5 + 0 + 2]  =  [1, 1, 7]     best: 4 + 7 + 9, units 1, 2, 0 for 0, 1, 2.
    #   [0 + 8 + 1, 0 + 0 + 1, 0 + 0 + 2]     [9, 1, 2]
    tensors = {
        "0.weight": torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]]),
        "0.bias": torch.tensor([4.0, 0.0, 0.0]),
        "2.weight": torch.tensor([[1.0, 1.0, 2.0]]),
        "2.bias": torch.tensor([100.0]),
    }
    assert {group: found.tolist() for group, found in match_weights(reference, tensors, spec).items()} == {
        "0": [1, 2, 0]
    }


@pytest.mark.parametrize("seed", range(5))
def test_one_hidden_layer_is_matched_as_well_as_by_any_of_its_permutations(seed):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    spec = permutation_spec(model, torch.zeros(2, 3))
    one, other = (state_of(randomised(model, number)) for number in (seed, seed + 100))
    found = match_weights(one, other, spec)
    best = max(permutations(range(4)), key=lambda p: agreement(one, permute(other, spec, {"0": torch.tensor(p)})))
    assert tuple(found["0"].tolist()) == best


def test_blocks_and_a_group_on_both_sides_of_a_weight_are_matched_by_hand():
    spec = PermutationSpec(
        axes={"square": {0: Axis("a"), 1: Axis("a")}, "flat": {1: Axis("a", block=2)}}, sizes={"a": 2}
    )
    reference = {"square": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "flat": torch.tensor([[2.0, 4.0, 6.0, 8.0]])}
    tensors = {"square": torch.tensor([[2.0, 0.0], [0.0, 1.0]]), "flat": torch.tensor([[6.0, 8.0, 2.0, 4.0]])}
    assert match_weights(reference, tensors, spec)["a"].tolist() == [1, 0]


def test_a_step_is_not_taken_that_is_better_for_each_side_of_a_weight_alone_and_worse_for_both():
    spec = PermutationSpec(axes={"square": {0: Axis("a"), 1: Axis("a")}, "bias": {0: Axis("a")}}, sizes={"a": 2})
    reference = {"square": torch.tensor([[0.0, 1.0], [1.0, 0.0]]), "bias": torch.tensor([1.0, 0.0])}
    # One side swapped, the squares agree (2); both swapped, they do not (0), and the biases no longer do.
    tensors = {"square": torch.eye(2), "bias": torch.tensor([1.0, 0.0])}
    assert match_weights(reference, tensors, spec, max_iterations=1)["a"].tolist() == [0, 1]


def states(name):
    """A net's weights, twice: as they are, and with its units shuffled; and what is needed to use them."""
    build, batch = NETS[name]
    model = randomised(build())
    reference = state_of(model)
    spec = permutation_spec(model, batch)
    return model, batch, spec, reference, dict(permute(reference, spec, shuffles(spec.sizes, seed=3)))


@pytest.mark.parametrize("name", NETS)
def test_shuffled_units_are_brought_back_bit_for_bit_so_that_the_barrier_is_zero(name):
    model, batch, _, reference, shuffled = states(name)
    aligned = align(model, reference, shuffled, batch)
    assert all(torch.equal(aligned[key], reference[key]) for key in reference)
    middle = halfway(reference, aligned)
    check_same_function(model, reference, middle, batch)
    with pytest.raises(CompatibilityError, match="logits that differ by"):
        check_same_function(model, reference, halfway(reference, shuffled), batch)


def test_a_resnet18_is_brought_back_bit_for_bit():
    model = library_net("resnet18")
    example = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    spec = permutation_spec(model, example)
    assert len(spec.sizes) == 12  # four stages, and one inside each of eight blocks
    shuffled = permute(model.state_dict(), spec, shuffles(spec.sizes))
    aligned = align(model, model.state_dict(), shuffled, example)
    assert all(torch.equal(aligned[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", NETS)
def test_a_stranger_is_matched_no_worse_than_it_came_and_in_the_same_way_every_time(name):
    model, _, spec, reference, _ = states(name)
    stranger = state_of(randomised(model, seed=9))
    found = match_weights(reference, stranger, spec, seed=4)
    again = match_weights(reference, stranger, spec, seed=4)
    assert {group: p.tolist() for group, p in found.items()} == {group: p.tolist() for group, p in again.items()}
    matched = permute(stranger, spec, found)
    assert agreement(reference, matched) > agreement(reference, stranger)
    # No swap of two units of one group makes it better.
    for group, size in spec.sizes.items():
        for one, other in ((0, 1), (1, size - 1)):
            swapped = found[group].clone()
            swapped[[one, other]] = swapped[[other, one]]
            changed = permute(stranger, spec, found | {group: swapped})
            assert agreement(reference, changed) <= agreement(reference, matched) + 1e-9


def test_what_align_gives_is_the_same_from_the_same_seed_and_nothing_given_is_changed():
    model, batch, _, reference, _ = states("residual")
    model.train()
    stranger = state_of(randomised(NETS["residual"][0](), seed=9))
    own = state_of(model)
    copies = [{key: tensor.clone() for key, tensor in state.items()} for state in (reference, stranger)]
    one, other = (align(model, reference, stranger, batch, seed=2) for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in own.items())
    assert all(module.training for module in model.modules())
    for state, copy in zip((reference, stranger), copies, strict=True):
        assert all(torch.equal(state[key], copy[key]) for key in copy)


def test_align_keeps_the_dtype_of_the_checkpoint():
    model, batch, _, reference, shuffled = states("plain")
    aligned = align(model, reference, {key: tensor.bfloat16() for key, tensor in shuffled.items()}, batch)
    assert {tensor.dtype for tensor in aligned.values()} == {torch.bfloat16}
    assert all(torch.equal(aligned[key], reference[key].bfloat16()) for key in aligned)


class TwoNames(nn.Module):
    """One layer under two names, on which torch.func.functional_call leaves the other weights behind."""

    def __init__(self):
        super().__init__()
        self.first, self.one, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.other = self.one

    def forward(self, x):
        return self.head(self.other(self.one(self.first(x).relu()).relu()).relu())


def test_a_layer_with_two_names_is_aligned_and_the_model_keeps_its_weights():
    model = randomised(TwoNames())
    own = state_of(model)
    spec = permutation_spec(model, ROWS)
    aligned = align(model, own, permute(own, spec, shuffles(spec.sizes)), ROWS)
    assert all(torch.equal(aligned[key], own[key]) for key in own)
    assert all(torch.equal(tensor, own[key]) for key, tensor in model.state_dict().items())


class Moody(nn.Module):
    """Treats one unit apart, but not while it is traced."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.hidden(x).relu()
        return self.head(x * torch.arange(8.0) if type(x) is torch.Tensor else x)


def test_a_model_that_does_what_its_graph_does_not_show_is_refused():
    model = randomised(Moody())
    stranger = state_of(randomised(Moody(), seed=1))
    message = (
        r"^the model with permuted weights gives logits that differ by .* at most 0.0001 of it.*its graph does not"
    )
    with pytest.raises(CompatibilityError, match=message):
        align(model, model.state_dict(), stranger, ROWS)


def test_logits_that_are_not_numbers_prove_nothing():
    model, batch, _, reference, shuffled = states("plain")
    shuffled["5.bias"].fill_(torch.nan)
    with pytest.raises(CompatibilityError, match="differ by nan"):
        align(model, reference, shuffled, batch)


# Two small networks, trained from two seeds on points of three rings.


def rings(num_examples=600):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_examples) % 3
    angles = torch.rand(num_examples, generator=generator) * 2 * torch.pi
    radius = 0.5 + labels + 0.15 * torch.randn(num_examples, generator=generator)
    return torch.stack([radius * angles.cos(), radius * angles.sin()], 1), labels


INPUTS, LABELS = rings()


def ring_net():
    sizes = ((2, 16), (16, 16), (16, 16))
    return nn.Sequential(*[part for size in sizes for part in (nn.Linear(*size), nn.ReLU())], nn.Linear(16, 3))


def trained(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ring_net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(INPUTS), LABELS).backward()
        optimizer.step()
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def ends():
    """The weights of the first, and those of the second aligned to it, and as they came."""
    one, other = trained(0), trained(1)
    return one, align(ring_net(), one, other, INPUTS[:32]), other


def loss_of(tensors):
    model = ring_net()
    model.load_state_dict(tensors)
    with torch.inference_mode():
        return float(F.cross_entropy(model(INPUTS), LABELS))


def batches():
    for part in INPUTS.split(128):
        yield {"": part}


def test_alignment_lowers_the_barrier_between_two_seeds_and_repair_lowers_it_further(ends):
    one, aligned, other = ends
    chord = (loss_of(one) + loss_of(other)) / 2
    assert chord < 0.1
    before, after = (loss_of(halfway(one, end)) - chord for end in (other, aligned))
    middle = halfway(one, aligned)
    repaired = repair(ring_net(), [one, aligned], [0.5, 0.5], middle, batches)
    corrected = loss_of(repaired.tensors) - chord
    assert before > 0.5
    assert after < 0.5 * before
    assert corrected < 0.5 * after


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.25])
def test_repaired_units_have_the_ends_statistics_mixed_alike(ends, alpha):
    one, aligned, _ = ends
    repaired = repair(ring_net(), [one, aligned], [1 - alpha, alpha], halfway(one, aligned, alpha), batches)
    assert repaired.corrected == ("0", "2", "4")
    assert repaired.left == {"6": "its units are the output, or are joined to the input or the output"}
    values = []
    for tensors in (one, aligned, repaired.tensors):  # what each layer gives, in float64 and by torch's own reductions
        outputs = [INPUTS.double()]
        for layer in repaired.corrected:
            rows = outputs[-1].relu() if layer != "0" else outputs[-1]
            outputs.append(F.linear(rows, tensors[f"{layer}.weight"].double(), tensors[f"{layer}.bias"].double()))
        values.append(outputs[1:])
    for first, second, mixed in zip(*values, strict=True):
        mean = (1 - alpha) * first.mean(0) + alpha * second.mean(0)
        std = (1 - alpha) * first.std(0, unbiased=False) + alpha * second.std(0, unbiased=False)
        torch.testing.assert_close(mixed.mean(0), mean, atol=2e-5, rtol=0)
        torch.testing.assert_close(mixed.std(0, unbiased=False), std.clamp(min=0), atol=2e-5, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_repair_leaves_an_end_as_it_is_bit_for_bit(ends, alpha):
    one, aligned, _ = ends
    end = aligned if alpha else one
    repaired = repair(ring_net(), [one, aligned], [1 - alpha, alpha], end, batches)
    assert all(torch.equal(repaired.tensors[key], end[key]) for key in end)


def test_repair_changes_nothing_that_it_was_given(ends):
    one, aligned, _ = ends
    model, middle = ring_net().train(), halfway(one, aligned)
    given = [one, aligned, middle, dict(model.state_dict())]
    copies = [{key: tensor.clone() for key, tensor in state.items()} for state in given]
    repair(model, [one, aligned], [0.5, 0.5], middle, batches)
    assert all(torch.equal(state[key], copy[key]) for state, copy in zip(given, copies, strict=True) for key in copy)
    assert model.training
    assert not [module for module in model.modules() if module._forward_hooks]


def test_repair_by_hand():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    inputs = torch.tensor([[-1.0], [1.0]])  # of mean 0 and standard deviation 1

    def net(weights, biases):
        hidden = {"0.weight": torch.tensor(weights)[:, None], "0.bias": torch.tensor(biases)}
        return hidden | {"2.weight": torch.ones(1, 2), "2.bias": torch.zeros(1)}

    # The first units are opposite: their mean has standard deviation 1, not (3 + 1) / 2. The second are both
    # constant, 4 and 6, and cannot be scaled; in the mix too, whose bias is off by one.
    ends = [net([3.0, 0.0], [2.0, 4.0]), net([-1.0, 0.0], [0.0, 6.0])]
    repaired = repair(model, ends, [0.5, 0.5], net([1.0, 0.0], [5.0, 4.0]), lambda: [{"": inputs}])
    assert repaired.tensors["0.weight"].flatten().tolist() == [2.0, 0.0]
    assert repaired.tensors["0.bias"].tolist() == [1.0, 5.0]
    assert repaired.tensors["2.weight"].tolist() == [[1.0, 1.0]]
    assert repaired.corrected == ("0",)


def test_repair_corrects_every_layer_that_has_a_bias_and_names_the_others():
    model, batch, _, reference, _ = states("convolutional")
    stranger = state_of(randomised(NETS["convolutional"][0](), seed=9))
    aligned = align(model, reference, stranger, batch)
    thirds = {key: (2 * reference[key] + aligned[key]) / 3 for key in reference if reference[key].is_floating_point()}
    mixed = reference | thirds
    repaired = repair(model, [reference, reference, aligned], [1 / 3, 1 / 3, 1 / 3], mixed, lambda: [batch])
    assert repaired.corrected == ("4",)
    assert repaired.left == {
        "0": "BatchNorm follows: re-estimate its statistics",
        "7": "BatchNorm follows: re-estimate its statistics",
        "10": "its units are the output, or are joined to the input or the output",
    }
    model.load_state_dict(repaired.tensors)
    now = measure(model, ["4"], lambda: [batch])["4"]
    stds = []
    for tensors in (reference, aligned):
        model.load_state_dict(tensors)
        stds.append(measure(model, ["4"], lambda: [batch])["4"].std)
    torch.testing.assert_close(now.std, (2 * stds[0] + stds[1]) / 3, atol=1e-5, rtol=0)
    assert {key for key in mixed if not torch.equal(repaired.tensors[key], mixed[key])} == {"4.weight", "4.bias"}


def test_layers_without_bias_or_with_a_tensor_in_common_are_left_and_named():
    model = randomised(nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), TwoNames(), nn.Linear(3, 2)))
    model[2].first = nn.Linear(8, 8)
    state = model.state_dict()
    repaired = repair(model, [state, state], [0.5, 0.5], state, lambda: [{"": ROWS}])
    assert repaired.left["0"] == "it has no bias to shift"
    assert repaired.left["2.one"] == "it shares a tensor with another layer"
    assert repaired.corrected == ("2.first", "2.head")


def test_measured_moments_are_those_of_all_examples_and_positions():
    model, batch, *_ = states("volumes")
    halves = [{"": part} for part in batch[""].split(2)]
    moments = measure(model, ["0"], lambda: halves)["0"]
    outputs = model[0](batch[""]).double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(moments.mean, outputs.mean(1))
    torch.testing.assert_close(moments.std, outputs.std(1, unbiased=False))


def test_repair_without_data_says_what_is_missing(ends):
    one, aligned, _ = ends
    with pytest.raises(DataError, match="REPAIR measures activations on training examples, and there are none"):
        repair(ring_net(), [one, aligned], [0.5, 0.5], one, list)


def test_the_aligned_network_gives_the_logits_of_the_one_that_came(ends):
    _, aligned, other = ends
    outputs = []
    for tensors in (aligned, other):
        model = ring_net()
        model.load_state_dict(tensors)
        outputs.append(logits_of(call(model, {"": INPUTS})))
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=0)
    assert not torch.equal(aligned["0.weight"], other["0.weight"])


def held_bytes():
    """Of all tensors that are alive, each storage once."""
    storages = {
        found.untyped_storage().data_ptr(): found.untyped_storage().nbytes()
        for found in gc.get_objects()
        if type(found) is torch.Tensor and found.layout is torch.strided
    }
    return sum(storages.values())


def test_many_aligned_networks_take_the_memory_of_their_permutations_only():
    build, batch = NETS["convolutional"]
    model = build()
    reference, *strangers = (state_of(randomised(model, seed)) for seed in range(6))
    one = sum(tensor.nbytes for tensor in reference.values())
    gc.collect()
    before = held_bytes()
    aligned = [align(model, reference, stranger, batch) for stranger in strangers]
    gc.collect()
    assert held_bytes() - before < one
    assert all(list(network) == list(reference) for network in aligned)
    assert all(torch.equal(network[key], network[key]) for network in aligned for key in network)
