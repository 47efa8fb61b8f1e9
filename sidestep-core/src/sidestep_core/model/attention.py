"""Attention of the decoder: sliding layers in blocks, everything else in one piece, padding left out exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Rotation = tuple[Tensor, Tensor]


class Blocks(NamedTuple):
    """Tells `Attention` to work in blocks of `width` queries, each of which sees three blocks of keys.

    Attributes:
        width: queries in a block; no query sees further than this.
        mask: bool [batch * blocks, 1, width, 3 * width], true where a query sees a key.
    """

    width: int
    mask: Tensor


class Attention:
    """Attention processor for diffusers' ACE-Step attention modules; without state, one serves all layers."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | Blocks | None = None,
        image_rotary_emb: Rotation | None = None,
    ) -> Tensor:
        """Return [batch, positions, hidden]; the keyword names are those the module calls with."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, (attn.heads, attn.head_dim)))
        key = attn.norm_k(attn.to_k(source).unflatten(-1, (attn.kv_heads, attn.head_dim)))
        value = attn.to_v(source).unflatten(-1, (attn.kv_heads, attn.head_dim))
        if image_rotary_emb is not None:
            query, key = rotate(query, image_rotary_emb), rotate(key, image_rotary_emb)
        query, key = query.to(value.dtype), key.to(value.dtype)  # norms give float32 under autocast
        if isinstance(attention_mask, Blocks):
            mixed = _attend_blocks(query, key, value, attention_mask)
        else:
            mixed = _attend(query, key, value, attention_mask)
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed.flatten(2)))
        return out


def rotation(length: int, head_dim: int, theta: float, device: torch.device, dtype: torch.dtype) -> Rotation:
    """Return cosine and sine [length, 1, head_dim / 2] of the rotary position embedding.

    Their values are rounded to `dtype`, as in the original model, but held in float32 for the multiplication.
    """
    speeds = 1.0 / theta ** (torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), speeds)[:, None]
    return angles.cos().to(dtype).float(), angles.sin().to(dtype).float()


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn pairs (i, i + head_dim / 2) of [batch, positions, heads, head_dim] by their position's angle."""
    cos, sin = by
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def full_mask(real: Tensor | None) -> Tensor | None:
    """Return a mask [batch, 1, 1, keys] that leaves out keys that are not real; one without any real key sees all."""
    if real is None:
        return None
    return (real | ~real.any(dim=-1, keepdim=True))[:, None, None, :]


def sliding_mask(length: int, window: int, real: Tensor | None, device: torch.device) -> Tensor | Blocks | None:
    """Return what a layer needs in which each position sees `window` positions to both sides.

    None where that is all of them, a mask [batch or 1, 1, length, length] where blocks would not save work.

    Args:
        length: positions.
        window: positions seen to each side.
        real: bool [batch, length], false for padding; None when all are real.
        device: where the mask is made.
    """
    if length <= window + 1:
        return full_mask(real)
    if length > 3 * window:
        return _block_mask(length, window, real, device)
    places = torch.arange(length, device=device)
    near = (places[:, None] - places).abs() <= window
    if real is not None:
        # each position sees at least itself, so that padding far from all real ones has something to average
        near = near & real[:, None, :] | torch.eye(length, dtype=torch.bool, device=device)
    return near.expand(1, 1, length, length) if real is None else near[:, None]


def _block_mask(length: int, window: int, real: Tensor | None, device: torch.device) -> Blocks:
    if real is None:
        real = torch.ones(1, length, dtype=torch.bool, device=device)
    count = -(-length // window)
    around = F.pad(real, (window, (count + 1) * window - length)).unfold(1, 3 * window, window)
    query = torch.arange(window, device=device)[:, None]
    key = torch.arange(-window, 2 * window, device=device)
    mask = ((query - key).abs() <= window) & around[:, :, None, :] | (query == key)
    return Blocks(window, mask.flatten(0, 1)[:, None])


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend [batch, positions, heads, head_dim] to keys and values with as many or fewer heads."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    grouped = query.shape[1] != key.shape[1]
    mixed: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)
    return mixed.transpose(1, 2)


def _attend_blocks(query: Tensor, key: Tensor, value: Tensor, blocks: Blocks) -> Tensor:
    batch, length = query.shape[:2]
    width = blocks.width
    count = -(-length // width)
    end = count * width - length
    query = F.pad(query, (0, 0, 0, 0, 0, end)).unflatten(1, (count, width)).flatten(0, 1)
    mask = blocks.mask
    if len(mask) != batch * count:  # made for one sample, good for all
        mask = mask.repeat(batch, 1, 1, 1)
    mixed = _attend(query, _three_blocks(key, width, end), _three_blocks(value, width, end), mask)
    joined: Tensor = mixed.unflatten(0, (batch, count)).flatten(1, 2)
    return joined[:, :length]


def _three_blocks(x: Tensor, width: int, end: int) -> Tensor:
    """Return [batch * blocks, 3 * width, heads, head_dim]: each block of positions with both its neighbours."""
    x = F.pad(x, (0, 0, 0, 0, width, end + width)).unflatten(1, (-1, width))
    return torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], dim=2).flatten(0, 1)
