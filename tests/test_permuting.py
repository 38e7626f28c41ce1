"""Units in another order: the same function; and networks whose units cannot be followed are refused."""

import re

import pytest
import torch
import torch.nn.functional as F
from kitchens import TIED, build_model
from nets import IMAGES, NETS, ROWS, TOKENS, library_net, plain, randomised, shuffles, state_of
from torch import nn

from soupviz.errors import CompatibilityError
from soupviz.mixing.permuting import permutation_spec, permute
from soupviz.models.building import logits_of
from soupviz.models.routes import call
from soupviz.models.wiring import Axis, PermutationSpec

PICTURES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_layers_units_lie_along_its_rows_and_the_next_layers_columns():
    spec = permutation_spec(plain(), ROWS)
    assert spec == PermutationSpec(
        axes={
            "0.weight": {0: Axis("0")},
            "0.bias": {0: Axis("0")},
            "3.weight": {0: Axis("3"), 1: Axis("0")},
            "3.bias": {0: Axis("3")},
            "5.weight": {1: Axis("3")},
        },
        sizes={"0": 16, "3": 12},
    )


def test_a_flattened_channel_is_a_block_of_columns_and_batchnorm_goes_with_its_channels():
    build, batch = NETS["convolutional"]
    axes = permutation_spec(build(), batch).axes
    assert axes["7.weight"] == {0: Axis("7"), 1: Axis("4", block=4)}
    norm = {f"1.{name}": axes[f"1.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
    assert set(map(repr, norm.values())) == {repr({0: Axis("0")})}
    assert "1.num_batches_tracked" not in axes


def test_what_additions_and_products_join_is_one_group():
    build, batch = NETS["residual"]
    spec = permutation_spec(build(), batch)
    # The stem's six channels run through the first block; ten through the second and third; and one inside each.
    assert spec.sizes == {"stem": 6, "blocks.0.conv1": 6, "blocks.1.conv1": 10, "blocks.1.conv2": 10} | {
        "blocks.2.conv1": 10
    }
    assert spec.axes["blocks.0.conv2.weight"] == {0: Axis("stem"), 1: Axis("blocks.0.conv1")}
    assert spec.axes["blocks.1.shortcut.weight"] == {0: Axis("blocks.1.conv2"), 1: Axis("stem")}
    build, batch = NETS["depthwise"]
    spec = permutation_spec(build(), batch)
    assert spec.sizes == {"expand": 9, "squeeze": 4}
    assert spec.axes["depthwise.weight"] == spec.axes["scale"] == {0: Axis("expand")}


def test_permute_by_hand():
    spec = permutation_spec(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(2, 2))
    tensors = {
        "0.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "0.bias": torch.tensor([7.0, 8.0, 9.0]),
        "2.weight": torch.tensor([[10.0, 20.0, 30.0]]),
        "2.bias": torch.tensor([11.0]),
    }
    permuted = permute(tensors, spec, {"0": torch.tensor([2, 0, 1])})
    assert {key: tensor.tolist() for key, tensor in permuted.items()} == {
        "0.weight": [[5.0, 6.0], [1.0, 2.0], [3.0, 4.0]],
        "0.bias": [9.0, 7.0, 8.0],
        "2.weight": [[30.0, 10.0, 20.0]],
        "2.bias": [11.0],
    }


def test_permute_moves_blocks_whole():
    spec = PermutationSpec(axes={"weight": {1: Axis("channels", block=2)}}, sizes={"channels": 2})
    permuted = permute({"weight": torch.tensor([[1, 2, 3, 4]])}, spec, {"channels": torch.tensor([1, 0])})
    assert permuted["weight"].tolist() == [[3, 4, 1, 2]]


def logits(model, tensors, batch):
    model.load_state_dict(tensors)
    with torch.inference_mode():
        return logits_of(call(model, batch))


@pytest.mark.parametrize("name", [*NETS, "mobilenet_v3_small"])
def test_a_permuted_network_computes_the_same_function(name):
    build, batch = NETS[name] if name in NETS else (lambda: library_net(name), {"": PICTURES})
    model = randomised(build()).double()
    batch = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in batch.items()}
    tensors = state_of(model)
    before = {key: tensor.clone() for key, tensor in tensors.items()}
    spec = permutation_spec(model, batch)
    permuted = permute(tensors, spec, shuffles(spec.sizes))
    expected = logits(model, tensors, batch)
    assert float((logits(model, permuted, batch) - expected).abs().max()) <= 1e-12 * float(expected.abs().max())
    # Every tensor that the specification names was changed, and none of those that were given.
    assert {key for key in tensors if not torch.equal(tensors[key], permuted[key])} == spec.axes.keys()
    assert all(torch.equal(tensors[key], before[key]) for key in tensors)
    assert {key: tensor.dtype for key, tensor in permuted.items()} == {key: t.dtype for key, t in tensors.items()}
    assert not {tensor.data_ptr() for tensor in permuted.values()} & {tensor.data_ptr() for tensor in tensors.values()}


@pytest.mark.parametrize("name", NETS)
def test_the_comparison_of_functions_sees_one_tensor_that_was_left_behind(name):
    build, batch = NETS[name]
    model = randomised(build())
    tensors = state_of(model)
    spec = permutation_spec(model, batch)
    permuted = permute(tensors, spec, shuffles(spec.sizes))
    expected = logits(model, tensors, batch)
    for key in spec.axes:
        difference = logits(model, dict(permuted) | {key: tensors[key]}, batch) - expected
        assert float(difference.abs().max()) > 1e-4 * float(expected.abs().max()), key


@pytest.mark.parametrize("name", NETS)
def test_the_inverse_permutation_brings_every_number_back(name):
    build, batch = NETS[name]
    tensors = randomised(build()).state_dict()
    spec = permutation_spec(build(), batch)
    there = shuffles(spec.sizes)
    back = {group: permutation.argsort() for group, permutation in there.items()}
    again = permute(permute(tensors, spec, there), spec, back)
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("name", NETS)
def test_the_model_and_its_mode_are_left_as_they_were(name):
    build, batch = NETS[name]
    model = randomised(build()).train()
    before = state_of(model)
    permutation_spec(model, batch)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_tensor_and_a_batch_under_no_name_are_the_same_example():
    assert permutation_spec(plain(), ROWS) == permutation_spec(plain(), {"": ROWS})


class FromInput(nn.Module):
    """A residual connection from the input, and one into the output."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(3, 8)
        self.fourth = nn.Linear(8, 3)

    def forward(self, x):
        x = self.second((x + self.first(x)).relu())
        return x + self.fourth(self.third(x).relu())


def test_units_that_meet_the_input_or_the_output_keep_their_places():
    spec = permutation_spec(FromInput(), ROWS)
    assert spec.sizes == {"third": 8}
    assert spec.axes == {"third.weight": {0: Axis("third")}, "third.bias": {0: Axis("third")}} | {
        "fourth.weight": {1: Axis("third")}
    }


class TiedWords(nn.Module):
    """Two layers that are one tensor: their units have one order."""

    def __init__(self):
        super().__init__()
        self.first, self.one, self.other, self.head = (nn.Linear(*size) for size in ((6, 8), (8, 8), (8, 8), (8, 3)))
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.head(self.other(self.one(self.first(x).relu()).relu()).relu())


def test_tied_weights_are_permuted_alike():
    model = randomised(TiedWords())
    spec = permutation_spec(model, ROWS)
    assert spec.sizes == {"first": 8}
    assert spec.axes["one.weight"] == spec.axes["other.weight"] == {0: Axis("first"), 1: Axis("first")}
    assert {"one.bias", "other.bias"} <= spec.axes.keys()
    permuted = permute(model.state_dict(), spec, shuffles(spec.sizes))
    assert torch.equal(permuted["one.weight"], permuted["other.weight"])


def test_a_tie_to_a_layer_whose_columns_are_inputs_leaves_nothing_to_permute():
    with pytest.raises(CompatibilityError, match="no hidden units whose order is free"):
        permutation_spec(build_model(TIED), ROWS)


class Refused(nn.Module):
    """Two layers with something between them that cannot be followed."""

    def __init__(self, between, units=8, features=6, **modules):
        super().__init__()
        self.first, self.last = nn.Linear(features, 8), nn.Linear(units, 3)
        self.table = nn.Parameter(torch.randn(8, 8))
        for name, module in modules.items():
            setattr(self, name, module)
        self.between = between

    def forward(self, x):
        return self.last(self.between(self, self.first(x)))


def shuffled(_, x):
    return x.reshape(x.shape[0], 2, 4).transpose(1, 2).reshape(x.shape[0], 8)


REFUSED = {
    "cat": (Refused(lambda _, x: torch.cat([x, x], 1), 16), ROWS, r"'cat' takes the units of 'first'"),
    "chunk": (Refused(lambda _, x: x.chunk(2, 1)[0], 4), ROWS, r"'chunk' takes the units of 'first'"),
    "slice": (Refused(lambda _, x: x[:, :4], 4), ROWS, r"'getitem' takes the units of 'first'"),
    "shuffle": (Refused(shuffled), ROWS, r"'reshape' splits the units of 'first'"),
    "tokens": (Refused(lambda _, x: x.flatten(1), 40), TOKENS, r"'flatten' splits the units of 'first'"),
    "cumsum": (Refused(lambda _, x: x.cumsum(1)), ROWS, r"'cumsum' takes the units of 'first'"),
    "matmul": (Refused(lambda net, x: x @ net.table), ROWS, r"'matmul' takes the units of 'first'"),
    "linear": (Refused(lambda net, x: F.linear(x, net.table)), ROWS, r"'linear' takes the units of 'first'"),
    "attention": (
        Refused(lambda net, x: net.attention(x, x, x)[0].mean(1), attention=nn.MultiheadAttention(8, 2)),
        TOKENS, r"'attention' is a layer of type MultiheadAttention, whose units are not followed",
    ),
    "groups": (
        Refused(lambda net, x: net.grouped(x.unsqueeze(-1)).flatten(1), grouped=nn.Conv1d(8, 8, 1, groups=2)),
        ROWS, r"'grouped' is a convolution in 2 groups, which is neither groups=1 nor depthwise",
    ),
    "groupnorm": (
        Refused(lambda net, x: net.norm(x), norm=nn.GroupNorm(4, 8)), ROWS,
        r"'norm' is a GroupNorm of 4 groups, which a permutation would mix up",
    ),
    "prelu": (Refused(lambda net, x: net.act(x), act=nn.PReLU(8)), ROWS, r"'act' is a layer of type PReLU"),
    "positions": (
        Refused(lambda net, x: net.conv(x.unsqueeze(1)).flatten(1), conv=nn.Conv1d(1, 1, 1)), ROWS,
        r"'conv' takes the units of 'first' for positions",
    ),
    "pooled": (Refused(lambda _, x: F.avg_pool1d(x, 2), 4), TOKENS, r"'avg_pool1d' takes the units of 'first' for"),
    "branch": (Refused(lambda _, x: x if x.sum() > 0 else -x), ROWS, r"cannot be traced \(TraceError"),
    "none": (nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), IMAGES, r"it has no hidden units whose order is free"),
}  # fmt: skip


def test_a_model_whose_arguments_torch_cannot_see_says_so_and_nothing_of_pythons_code():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=10, **sizes))
    with pytest.raises(CompatibilityError, match=r"cannot be aligned: .*behind a decorator.*Mix without") as raised:
        permutation_spec(model, {"input_ids": torch.ones(2, 4, dtype=torch.long)})
    assert "co_varnames" not in str(raised.value)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_node_and_reason(name):
    model, example, reason = REFUSED[name]
    with pytest.raises(CompatibilityError, match=f"^the model cannot be aligned: .*{reason}.*ithout alignment"):
        permutation_spec(model, example)


VIT = {"image_size": 32, "patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
SWIN = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": [4, 4]}


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("shufflenet_v2_x0_5", {}, "'cat' takes the units of 'stage2.0.branch1.2'"),
        ("VisionTransformer", VIT, "'cat' takes the units of 'conv_proj'"),
        ("SwinTransformer", SWIN, "takes the units of 'features.1.0.attn.relative_position_bias_table'"),
        (
            "regnet_y_400mf",
            {},
            "'trunk_output_block1_block1_0_f_b_0' (trunk_output.block1.block1-0.f.b.0) is a convolu",
        ),
    ],
)
def test_library_models_that_cannot_be_followed_say_why(name, options, reason):
    with pytest.raises(CompatibilityError, match=re.escape(reason)) as raised:
        permutation_spec(library_net(name, **options), PICTURES)
    assert "Units are followed through Linear, Embedding, Conv1d to Conv3d" in str(raised.value)


def test_what_is_not_followed_does_no_harm_where_units_keep_their_places():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.hidden(torch.cat([x, x], 1)[:, :6]).relu()).softmax(1)

    assert permutation_spec(Late(), ROWS).sizes == {"hidden": 8}


@pytest.mark.parametrize(
    "permutations",
    [{}, {"0": torch.arange(3)}, {"0": torch.tensor([0, 0, 1, 2])}, {"0": torch.tensor([1, 2, 3, 4])}],
)
def test_what_is_no_permutation_of_the_units_is_refused(permutations):
    spec = PermutationSpec(axes={"0.bias": {0: Axis("0")}}, sizes={"0": 4})
    with pytest.raises(CompatibilityError, match="group '0' has 4 units; expected a permutation of 0 to 3 for it"):
        permute({"0.bias": torch.arange(4.0)}, spec, permutations)
