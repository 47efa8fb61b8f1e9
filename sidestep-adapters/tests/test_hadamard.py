"""The Hadamard product of LoHA: both of its forms are the plain one, in outputs, gradients and memory."""

import pytest
import torch
import torch.nn.functional as F
from sidestep_adapters.hadamard import hadamard_linear


def made(rank, out_features=24, in_features=40):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shapes = [(out_features, rank), (rank, in_features)] * 2
    factors = [random(*shape).requires_grad_() for shape in shapes]
    return random(2, 5, in_features).requires_grad_(), random(out_features, in_features), factors


def plainly(x, weight, up1, down1, up2, down2):
    return F.linear(x, weight + (up1 @ down1) * (up2 @ down2))


@pytest.mark.parametrize("rank", [1, 2, 3, 8])
def test_outputs_and_gradients_are_the_plain_ones(rank):
    x, weight, factors = made(rank)
    results = []
    for compute in (hadamard_linear, plainly):
        output = compute(x, weight, *factors)
        results.append([output, *torch.autograd.grad(output.sin().sum(), [x, *factors])])
    assert all(torch.allclose(found, expected) for found, expected in zip(*results, strict=True))


@pytest.mark.parametrize("rank", [1, 4])
def test_gradients_are_those_of_finite_differences(rank):
    x, weight, factors = made(rank, out_features=9, in_features=7)
    assert torch.autograd.gradcheck(lambda *args: hadamard_linear(args[0], weight, *args[1:]), (x, *factors))


@pytest.mark.parametrize("rank", [2, 8])
def test_no_matrix_of_the_weights_size_is_kept_for_the_backward_pass(rank):
    x, weight, factors = made(rank, out_features=48, in_features=80)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        hadamard_linear(x, weight, *factors)
    assert kept
    assert all(t.data_ptr() == weight.data_ptr() or t.numel() < weight.numel() / 2 for t in kept)


def test_inputs_that_need_no_gradient_get_none():
    x, weight, factors = made(8)
    x = x.detach()
    hadamard_linear(x, weight, *factors).sum().backward()
    assert x.grad is None
    assert all(factor.grad is not None for factor in factors)


def test_bf16_keeps_updates_that_a_sum_with_the_weight_would_lose():
    weight = torch.ones(24, 40, dtype=torch.bfloat16)
    x = torch.ones(1, 40, dtype=torch.bfloat16)
    x[:, ::2] = -1  # so that the frozen part of the output is zero
    factors = [0.01 * factor.detach().bfloat16() for factor in made(8)[2]]
    update = (factors[0] @ factors[1]) * (factors[2] @ factors[3])
    assert (weight + update).equal(weight)
    assert torch.allclose(hadamard_linear(x, weight, *factors), x @ update.T, rtol=0.02, atol=1e-9)
