"""The decoder as training and previews use it: diffusers' modules, our forward pass."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AceStepTransformer1DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sidestep_core.model.attention import Attention, Blocks, Rotation, full_mask, rotation, sliding_mask
from sidestep_core.model.block_swap import BlockSwap
from sidestep_core.model.dims import ModelDims, spread

_CACHED_LENGTHS = 8


class _Constants(NamedTuple):
    """What depends on the length alone."""

    context: Tensor  # [1, frames, 2 * latent channels]: silence and an open mask
    rotation: Rotation
    sliding: Tensor | Blocks | None  # mask of the sliding layers when nothing is padding


class Decoder(nn.Module):
    """Predicts the flow from latents to noise (noise - latents) for text-to-music conditioning.

    Attributes:
        transformer: diffusers' module; adapters replace projections inside it.
        dims: dimensions of the model.
        null_condition: [1, 1, E], the conditioning row that stands for none.
        silence: [frames, latent channels], what the model takes as the absent source audio.
        checkpointed_layers: how many layers, evenly spread, are computed again in the backward pass.
        swap: computes the layers whose weights wait in main memory, all of which are recomputed too.
    """

    null_condition: Tensor
    silence: Tensor

    def __init__(
        self, transformer: AceStepTransformer1DModel, dims: ModelDims, *, null_condition: Tensor, silence: Tensor
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.dims = dims
        self.checkpointed_layers = 0
        self.swap = BlockSwap({}, silence.device)
        self.register_buffer("null_condition", null_condition)
        self.register_buffer("silence", silence)
        self._constants: dict[tuple[int, torch.device, torch.dtype], _Constants] = {}
        processor = Attention()
        for layer in transformer.layers:
            layer.self_attn.set_processor(processor)
            layer.cross_attn.set_processor(processor)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the frozen weights."""
        dtype: torch.dtype = self.transformer.scale_shift_table.dtype
        return dtype

    def forward(
        self,
        noisy: Tensor,
        t: Tensor,
        conditioning: Tensor,
        *,
        frames: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return the predicted flow [batch, frames, channels].

        Args:
            noisy: latents mixed with noise, [batch, frames, channels].
            t: timesteps [batch]; 1 is pure noise.
            conditioning: rows that the decoder attends to, [batch, rows, E].
            frames: bool [batch, frames], false for padding; None when all are real. What padding holds changes
                nothing; what comes out at padded frames means nothing.
            rows: the same for the rows of the conditioning.
        """
        model, length, patch = self.transformer, noisy.shape[1], self.dims.patch_size
        constants = self._constants_for(-(-length // patch), noisy.device)
        inputs, real = self._inputs(noisy, frames, constants.context)
        if rows is not None:
            conditioning = torch.where(rows[:, :, None], conditioning, 0)
        time, modulation = self._time(t)
        # [batch, positions, hidden]; laid out so once, or each projection of a larger batch would copy its input
        hidden = model.proj_in_conv(inputs.transpose(1, 2)).transpose(1, 2).contiguous()
        conditioning = model.condition_embedder(conditioning.to(self.dtype))
        sliding = constants.sliding
        if real is not None:
            sliding = sliding_mask(hidden.shape[1], self.dims.sliding_window, real, hidden.device)
        masks = {"sliding_attention": sliding, "full_attention": full_mask(real)}
        row_mask = full_mask(rows)
        recomputed = spread(self.checkpointed_layers, self.dims.num_layers)
        for i, layer in enumerate(model.layers):
            mask = masks[self.dims.layer_types[i]]
            arguments = (hidden, constants.rotation, modulation, mask, conditioning, row_mask)
            compute = layer if i not in self.swap else partial(self.swap, i, layer)
            if torch.is_grad_enabled() and (i in recomputed or i in self.swap):
                hidden = checkpoint(compute, *arguments, use_reentrant=False)
            else:
                hidden = compute(*arguments)
        shift, scale = (model.scale_shift_table + time[:, None]).chunk(2, dim=1)
        hidden = (model.norm_out(hidden) * (1 + scale) + shift).type_as(hidden)
        flow: Tensor = model.proj_out_conv(hidden.transpose(1, 2)).transpose(1, 2)
        return flow[:, :length]

    def _inputs(self, noisy: Tensor, frames: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the decoder's input, a whole number of patches, and which of these are real (None for all).

        Padding is zero in every channel, as is the frame that makes an odd length even.
        """
        length = noisy.shape[1]
        inputs = torch.cat([context[:, :length].expand(len(noisy), -1, -1), noisy.to(self.dtype)], dim=-1)
        end = context.shape[1] - length
        real = None
        if frames is not None:
            inputs = torch.where(frames[:, :, None], inputs, 0)
            real = F.pad(frames, (0, end)).unflatten(1, (-1, self.dims.patch_size)).any(dim=-1)
        return F.pad(inputs, (0, 0, 0, end)), real

    def _time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding of the timesteps [batch, hidden] and the layers' modulation [batch, 6, hidden]."""
        time, modulation = self._embed(self.transformer.time_embed, t)
        # the second embedding is of t - r, and r = t wherever the model is used
        base, base_modulation = self._embed(self.transformer.time_embed_r, torch.zeros_like(t))
        return time + base, modulation + base_modulation

    def _embed(self, module: nn.Module, t: Tensor) -> tuple[Tensor, Tensor]:
        # float32 until here: bfloat16 cannot tell neighbouring timesteps apart once they are scaled
        waves = module.time_sinusoid(t.float() * module.scale).to(self.dtype)  # type: ignore[operator]
        embedded: Tensor = module.linear_2(module.act1(module.linear_1(waves)))  # type: ignore[operator]
        modulation: Tensor = module.time_proj(module.act2(embedded))  # type: ignore[operator]
        return embedded, modulation.unflatten(1, (6, -1))

    def _constants_for(self, positions: int, device: torch.device) -> _Constants:
        key = (positions, device, self.dtype)
        found = self._constants.pop(key) if key in self._constants else self._make_constants(positions, device)
        self._constants[key] = found  # last in order: the first is the one not used for longest
        if len(self._constants) > _CACHED_LENGTHS:
            del self._constants[next(iter(self._constants))]
        return found

    def _make_constants(self, positions: int, device: torch.device) -> _Constants:
        dims, length = self.dims, positions * self.dims.patch_size
        repeats = -(-length // len(self.silence))
        silence = self.silence.repeat(repeats, 1)[:length].to(device, self.dtype)
        return _Constants(
            torch.cat([silence, torch.ones_like(silence)], dim=-1)[None],
            rotation(positions, dims.head_dim, dims.rope_theta, device, self.dtype),
            sliding_mask(positions, dims.sliding_window, None, device),
        )
