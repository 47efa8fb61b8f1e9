"""Sliding-window attention in blocks against a dense mask, padding, and the rotary embedding."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.ace_step_transformer import AceStepAttention, AceStepAttnProcessor2_0
from sidestep_core.model.attention import Attention, Blocks, full_mask, rotate, rotation, sliding_mask
from torch import Tensor

WINDOW = 8
CPU = torch.device("cpu")


def make_attention(*, cross: bool = False, seed: int = 0) -> AceStepAttention:
    torch.manual_seed(seed)
    attention = AceStepAttention(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=8, is_cross_attention=cross
    )
    attention.set_processor(Attention())
    return attention.requires_grad_(True)


def dense(length: int, real: Tensor | None = None) -> Tensor:
    """The mask as its definition has it: [batch or 1, 1, length, length]."""
    near = torch.tensor([[abs(i - j) <= WINDOW for j in range(length)] for i in range(length)])
    if real is None:
        return near[None, None]
    return (near & real[:, None, :] | torch.eye(length, dtype=torch.bool))[:, None]


def run(attention: AceStepAttention, x: Tensor, mask: object, weight: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output and gradients of input and parameters."""
    x = x.clone().requires_grad_(True)
    turn = rotation(x.shape[1], 8, 1e4, CPU, torch.float32)
    out = attention(x, attention_mask=mask, image_rotary_emb=turn)
    gradients = torch.autograd.grad((out * weight).sum(), [x, *attention.parameters()])
    return out.detach(), list(gradients)


def close(a: Tensor, b: Tensor) -> bool:
    return (a - b).abs().max().item() <= 2e-6 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 10, 16, 17, 23, 24, 25, 26, 31, 32, 33, 40, 57, 100])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_sliding_layer_equals_the_dense_mask_with_its_gradients(length, batch):
    attention, x, weight = make_attention(), torch.randn(batch, length, 24), torch.randn(batch, length, 24)
    out, gradients = run(attention, x, sliding_mask(length, WINDOW, None, CPU), weight)
    expected, expected_gradients = run(attention, x, dense(length), weight)
    assert close(out, expected)
    assert all(close(a, b) for a, b in zip(gradients, expected_gradients, strict=True))


@pytest.mark.parametrize("length", [7, 9, 20, 25, 41, 64])
def test_a_sliding_layer_with_padding_equals_the_dense_mask_with_its_gradients(length):
    real = torch.arange(length) < torch.tensor([[length], [length // 2], [1]])
    attention, x = make_attention(), torch.randn(3, length, 24)
    weight = torch.randn(3, length, 24) * real[:, :, None]
    out, gradients = run(attention, x, sliding_mask(length, WINDOW, real, CPU), weight)
    expected, expected_gradients = run(attention, x, dense(length, real), weight)
    assert close(out[real], expected[real])
    assert all(close(a, b) for a, b in zip(gradients, expected_gradients, strict=True))


@pytest.mark.parametrize("length", [5, 20, 64])
def test_padding_gives_finite_numbers_everywhere(length):
    real = torch.zeros(2, length, dtype=torch.bool)
    real[0, :2] = True  # the second sample is padding from end to end
    out, gradients = run(
        make_attention(), torch.randn(2, length, 24), sliding_mask(length, WINDOW, real, CPU), torch.ones(2, length, 24)
    )
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("length", [20, 64])
def test_a_padded_key_changes_no_bit_of_a_real_output(length):
    attention, x = make_attention(), torch.randn(2, length, 24)
    real = torch.arange(length) < torch.tensor([[length], [length // 3]])
    mask = sliding_mask(length, WINDOW, real, CPU)
    with torch.no_grad():
        out = attention(x, attention_mask=mask)
        other = attention(torch.where(real[:, :, None], x, 1e6), attention_mask=mask)
    assert torch.equal(out[real], other[real])


def test_a_window_that_reaches_everything_needs_no_mask():
    assert sliding_mask(WINDOW + 1, WINDOW, None, CPU) is None


def test_blocks_are_used_where_they_save_work():
    assert isinstance(sliding_mask(3 * WINDOW, WINDOW, None, CPU), Tensor)
    assert isinstance(sliding_mask(3 * WINDOW + 1, WINDOW, None, CPU), Blocks)


def test_the_mask_of_blocks_grows_linearly():
    sizes = [sliding_mask(length, WINDOW, None, CPU).mask.numel() for length in (10 * WINDOW, 20 * WINDOW)]
    assert sizes[1] == 2 * sizes[0]


def test_one_mask_without_padding_serves_every_batch_size():
    attention, mask = make_attention(), sliding_mask(40, WINDOW, None, CPU)
    x = torch.randn(2, 40, 24)
    both = attention(x, attention_mask=mask)
    assert close(both[1:], attention(x[1:], attention_mask=mask))


def test_without_a_real_key_a_full_mask_shows_all():
    mask = full_mask(torch.tensor([[True, False, True], [False, False, False]]))
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[True, False, True], [True, True, True]]
    assert full_mask(None) is None


def test_cross_attention_equals_diffusers_own():
    attention, x, rows = make_attention(cross=True), torch.randn(2, 11, 24), torch.randn(2, 5, 24)
    ours = attention(x, encoder_hidden_states=rows)
    attention.set_processor(AceStepAttnProcessor2_0())
    assert close(ours, attention(x, encoder_hidden_states=rows))


def test_self_attention_equals_diffusers_own():
    attention, x = make_attention(), torch.randn(2, 11, 24)
    cos, sin = rotation(11, 8, 1e4, CPU, torch.float32)
    ours = attention(x, image_rotary_emb=(cos, sin))
    attention.set_processor(AceStepAttnProcessor2_0())
    whole = tuple(torch.cat([half, half], dim=-1)[:, 0] for half in (cos, sin))
    assert close(ours, attention(x, image_rotary_emb=whole))


def test_a_rotation_depends_on_the_distance_alone():
    turn = rotation(50, 8, 1e4, CPU, torch.float32)
    query, key = torch.randn(8).expand(1, 50, 1, 8), torch.randn(8).expand(1, 50, 1, 8)
    scores = rotate(query, turn)[0, :, 0] @ rotate(key, turn)[0, :, 0].T
    assert torch.allclose(scores.diagonal(7), scores[0, 7].expand(43), atol=1e-5)


def test_a_rotation_keeps_type_and_length():
    x = torch.randn(2, 5, 3, 8, dtype=torch.bfloat16)
    turned = rotate(x, rotation(5, 8, 1e4, CPU, torch.bfloat16))
    assert turned.dtype == torch.bfloat16
    assert torch.allclose(turned.float().norm(dim=-1), x.float().norm(dim=-1), rtol=0.02)
