"""The model's graph: BatchNorm folded, and the prefix that all soups have in common."""

import functools

import pytest
import torch
import torchvision
from kitchens import BATCHNORM, MLP, build_model
from torch import nn

from soupviz.models.graph import Cut, Traced, cut, trace
from soupviz.models.routes import Routes

IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
MODELS = ["resnet18", "shufflenet_v2_x0_5", "vit_b_16", "swin_t", "convnext_tiny"]


def example(number: int) -> dict[str, torch.Tensor]:
    return {"": IMAGES[:number]}


def library_model(name: str) -> nn.Module:
    options = {"image_size": 64} if name.startswith("vit") else {}
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, num_classes=7, **options).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    if name.startswith("vit"):
        model.heads.head.weight.normal_()  # made zero by torchvision
    return model


def traced(model: nn.Module) -> Traced:
    found = trace(model)
    assert isinstance(found, Traced), found
    for fold in found.folds:
        fold.update()
    return found


def near(output: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((output - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_the_graph_gives_the_models_logits_whole_and_cut_anywhere(name):
    model = library_model(name)
    found = traced(model)
    expected = model(IMAGES)
    assert near(found.module(IMAGES), expected)
    keys = list(model.state_dict())
    layers = []
    for share in (0.3, 0.6, 0.95):
        parts = cut(found, set(keys[: int(len(keys) * share)]), example)
        assert isinstance(parts, Cut)
        boundary = parts.prefix(IMAGES)
        assert all(len(tensor) == len(IMAGES) for tensor in boundary)
        assert near(parts.suffix(*boundary), expected)
        layers.append(parts.num_layers)
    assert layers == sorted(layers)
    assert 0 < layers[0] < layers[-1] < parts.num_all


def test_every_batchnorm_behind_a_convolution_is_folded_and_follows_the_weights():
    model = library_model("resnet18")
    found = traced(model)
    assert len(found.folds) == 20
    with torch.no_grad():
        model.layer1[0].bn1.weight.mul_(3.0)
        model.layer1[0].bn1.running_mean.add_(1.0)
    for fold in found.folds:
        fold.update()
    assert near(found.module(IMAGES), model(IMAGES))


class Shared(nn.Module):
    """A convolution that is used twice: it cannot be folded into one of its two BatchNorms."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])

    def forward(self, x):
        for norm in self.norms:
            x = norm(self.convolution(x))
        return x.mean(dim=(2, 3))


@torch.inference_mode()
def test_a_layer_that_is_used_twice_is_not_folded():
    model = Shared().eval()
    found = traced(model)
    assert found.folds == ()
    assert near(found.module(IMAGES), model(IMAGES))


class Windows(nn.Module):
    """Its middle has four rows an example: activations there cannot be kept example by example."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(2, 2), nn.Linear(4, 3)

    def forward(self, x):
        rows = self.first(x).reshape(x.shape[0] * 2, 2)
        return self.third(self.second(rows).reshape(x.shape[0], 4))


@torch.inference_mode()
def test_a_cut_lies_where_there_is_one_row_per_example():
    model = Windows().eval()
    inputs = torch.randn(6, 4)
    parts = cut(traced(model), {"first.weight", "first.bias"}, lambda number: {"": inputs[:number]})
    assert parts is not None
    boundary = parts.prefix(inputs)
    assert {tuple(tensor.shape) for tensor in boundary} <= {(6, 4)}
    assert near(parts.suffix(*boundary), model(inputs))


def test_nothing_is_cut_where_the_first_layer_differs():
    model = build_model(BATCHNORM)
    keys = set(list(model.state_dict())[2:])
    assert cut(traced(model), keys, lambda number: {"": torch.randn(number, 3, 8, 8)}) is None


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


def test_a_model_that_cannot_be_traced_says_so_and_runs_as_it_is():
    model = Branches().eval()
    paths = Routes(model)
    paths.inspect(lambda number: {"": torch.randn(number, 6)})
    meaning, _, reason = paths.note.partition(". ")
    assert "scores are right" in meaning  # what it means for a user comes before what it means for torch
    assert "trace" not in meaning.lower()
    assert reason.startswith("Its code cannot be traced: TraceError: ")
    assert paths.whole is model
    assert not paths.has_cut


def hiding(forward):
    @functools.wraps(forward)
    def called(*args, **kwargs):
        return forward(*args, **kwargs)

    return called


class Decorated(nn.Module):
    """As the models of transformers are: a decorator before a forward that takes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    @hiding
    def forward(self, x, mask=None, positions=None, **_):
        return self.layer(x)


def test_a_forward_behind_a_decorator_is_told_in_words_that_are_not_pythons():
    reason = trace(Decorated())
    assert isinstance(reason, str)
    assert "decorator" in reason and "co_varnames" not in reason


def test_a_forward_that_takes_anything_or_is_decorated_and_not_both_is_traced():
    class Open(Decorated):
        def forward(self, x, **_):
            return self.layer(x)

    class Plain(Decorated):
        @hiding
        def forward(self, x):
            return self.layer(x)

    assert isinstance(trace(Open()), Traced)
    assert isinstance(trace(Plain()), Traced)


class Moody(nn.Module):
    """Behaves in another way while it is traced, so that its graph is not what it computes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) if isinstance(x, torch.Tensor) else -self.layer(x)


def test_a_graph_that_differs_from_the_model_is_not_used():
    model = Moody().eval()
    paths = Routes(model)
    paths.inspect(lambda number: {"": torch.randn(number, 6)})
    assert "differs from the model" in paths.note
    assert paths.whole is model


def test_the_note_tells_what_is_shared():
    model = build_model(MLP)
    paths = Routes(model)
    paths.share({key for key in model.state_dict() if key.startswith("0.")})
    inputs = torch.randn(3, 6)
    paths.inspect(lambda number: {"": inputs[:number]})
    assert "1 of 2 layers are the same in all ingredients" in paths.note
    assert paths.has_cut
