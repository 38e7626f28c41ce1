import pytest
import torch
from kitchens import BATCHNORM, MLP, TIED, build_model, perturbed
from torch import Tensor, nn

from soupviz.models.functional import call_with, evaluating, logits_with, placed


def test_the_model_is_in_evaluation_mode_within_and_every_module_as_it_was_after():
    model = build_model(BATCHNORM).train()
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.children()] == [True, False, True, True, True, True]
    assert model.training


def test_the_mode_is_restored_after_an_error():
    model = build_model(MLP).train()
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(("source", "shape"), [(MLP, (6,)), (TIED, (6,)), (BATCHNORM, (3, 5, 5))])
def test_logits_are_those_of_a_model_that_has_loaded_the_weights(source, shape):
    model, other = build_model(source), build_model(source)
    tensors = perturbed(model.state_dict(), 0.3, seed=1)
    other.load_state_dict(tensors)
    inputs = torch.randn(4, *shape)
    parameters, buffers = placed(model, tensors.items())
    with torch.no_grad():
        assert torch.equal(logits_with(model, parameters | buffers, {"": inputs}), other(inputs))
        assert not torch.equal(model(inputs), other(inputs))


def test_named_inputs_are_given_by_name():
    class Minus(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.scale * (left - right)

    batch = {"right": torch.tensor([[1.0]]), "left": torch.tensor([[3.0]])}
    assert call_with(Minus(), {"scale": torch.tensor([10.0])}, batch).tolist() == [[20.0]]


def test_placed_separates_parameters_from_buffers_and_takes_the_models_dtypes():
    model = build_model(BATCHNORM)
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in model.state_dict().items()}
    parameters, buffers = placed(model, half.items())
    assert list(parameters) == [key for key, _ in model.named_parameters()]
    assert list(buffers) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert {tensor.dtype for tensor in parameters.values()} == {torch.float32}
    assert buffers["1.num_batches_tracked"].dtype == torch.int64


def test_placed_takes_a_tied_tensor_once_and_buffers_as_copies():
    tied, batchnorm = build_model(TIED), build_model(BATCHNORM)
    assert "second.weight" not in placed(tied, tied.state_dict().items())[0]
    state = batchnorm.state_dict()
    placed(batchnorm, state.items())[1]["1.running_mean"].fill_(7.0)
    assert not state["1.running_mean"].eq(7.0).any()
