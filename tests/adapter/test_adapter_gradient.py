"""Gradient-based initialisation: the best alignment that the components allow, and the measured one agrees."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from peft import get_peft_model
from torch import nn

from cdka.adapter import CdkaConfig, CdkaLayer, delta_weight, initialise_from_gradient, weight_gradients
from cdka.adapter.gradient import leading_directions
from cdka.components import Components
from cdka.errors import CdkaError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16)).double()


def adapted(**changes) -> nn.Module:
    settings = {"r1": 2, "r2": 4, "r": 3, "alpha": 8.0, "target_modules": ["0", "2"], "init_weights": "gradient"}
    return get_peft_model(network(), CdkaConfig(**{**settings, **changes}))


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    make = lambda n: torch.randn(32, n, generator=generator, dtype=torch.float64)  # noqa: E731
    return make(24), make(16)


def loss_of(model: nn.Module) -> torch.Tensor:
    x, y = inputs()
    return nn.functional.mse_loss(model(x), y)


def test_gradients_of_the_base_weights_are_those_of_full_fine_tuning():
    plain = network()
    loss_of(plain).backward()
    model = adapted()
    gradients = weight_gradients(model, lambda: loss_of(model))
    assert set(gradients) == {"base_model.model.0", "base_model.model.2"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain[int(name[-1])].weight.grad, rtol=1e-12, atol=1e-12)
    assert all(p.grad is None for p in model.parameters())
    assert not model.base_model.model[0].weight.requires_grad


def test_gradients_of_conv1d_come_as_out_by_in():
    model = nn.Sequential(transformers.pytorch_utils.Conv1D(60, 24))
    model = get_peft_model(model, CdkaConfig(r1=2, r2=4, r=1, target_modules=["0"]))
    gradients = weight_gradients(model, lambda: model(torch.randn(3, 24)).square().sum())
    assert gradients["base_model.model.0"].shape == (60, 24)


@pytest.mark.parametrize("components", [(2, 4, 3), (1, 1, 2), (3, 6, 2)])
def test_directions_are_the_leading_singular_vectors_of_the_rearranged_gradient(components):
    out, in_ = 60, 24
    r1, r2, r = components
    gradient = torch.randn(out, in_, dtype=torch.float64)
    A, share = leading_directions(gradient, Components(*components))
    # The nearest sum of r Kronecker products, by its definition (Van Loan and Pitsianis): rows are blocks of G.
    blocks = [
        gradient[p * r1 : (p + 1) * r1, j * in_ // r2 : (j + 1) * in_ // r2].flatten()
        for p in range(out // r1)
        for j in range(r2)
    ]
    R = torch.stack(blocks)
    singular = torch.linalg.svdvals(R)
    assert share == pytest.approx((singular[:r].square().sum() / singular.square().sum()).sqrt().item(), rel=1e-10)
    V = A.reshape(r, -1)
    torch.testing.assert_close(V @ V.T, torch.eye(r, dtype=V.dtype), rtol=1e-9, atol=1e-9)


def test_the_first_step_is_as_aligned_as_announced_and_better_than_a_random_start():
    model = adapted().eval()  # training refuses a start that is not finished
    gradients = weight_gradients(model, lambda: loss_of(model))
    before = loss_of(model).item()

    def first_step_alignment(name: str) -> float:
        layer = model.get_submodule(name)
        model.zero_grad()
        loss_of(model).backward()
        B = layer.cdka_B["default"]
        step = delta_weight(layer.cdka_A["default"].detach(), B.grad, 1.0)
        return nn.functional.cosine_similarity(step.flatten(), gradients[name].flatten(), dim=0).item()

    random = {name: first_step_alignment(name) for name in gradients}
    reached = initialise_from_gradient(model, gradients)
    assert loss_of(model).item() == pytest.approx(before, rel=1e-12)  # delta W still starts at zero
    for name, announced in reached.items():
        measured = first_step_alignment(name)
        assert measured == pytest.approx(announced, rel=1e-9)
        assert measured > 1.2 * random[name]
        A = model.get_submodule(name).cdka_A["default"]
        torch.testing.assert_close(A.flatten(1).norm(dim=1), torch.full((3,), (2 / 3) ** 0.5, dtype=A.dtype))


def test_the_norm_is_that_of_kaimings_rule_on_average():
    kaiming = adapted(init_weights="kaiming", r=4)
    squares = [m.cdka_A["default"].square().sum((1, 2)) for m in kaiming.modules() if isinstance(m, CdkaLayer)]
    assert torch.cat(squares).mean().item() == pytest.approx(2 / 3, rel=0.25)


def test_a_gradient_of_low_rank_still_gives_orthonormal_directions():
    gradient = torch.outer(torch.randn(6), torch.randn(48)).double()
    A, share = leading_directions(gradient, Components(1, 2, 4))
    V = A.reshape(4, -1)
    torch.testing.assert_close(V @ V.T, torch.eye(4, dtype=V.dtype), rtol=1e-6, atol=1e-6)
    assert share == pytest.approx(1.0)
    assert leading_directions(torch.zeros(6, 48), Components(1, 2, 2))[1] == 0.0


def test_missing_or_misshapen_gradients_are_named():
    model = adapted()
    gradients = weight_gradients(model, lambda: loss_of(model))
    before = copy.deepcopy(model.state_dict())
    wrong = {"base_model.model.0": gradients["base_model.model.0"].T}
    with pytest.raises(CdkaError) as caught:
        initialise_from_gradient(model, wrong)
    assert "'base_model.model.0' needs (60, 24), got (24, 60)" in str(caught.value)
    assert "'base_model.model.2' needs (16, 60), got none" in str(caught.value)
    with pytest.raises(CdkaError, match="unknown adapter 'defalt'"):
        initialise_from_gradient(model, gradients, "defalt")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
