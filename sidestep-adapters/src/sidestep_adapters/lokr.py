"""LoKR with LyCORIS's weights: the update is a Kronecker product, applied as two small products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lycoris.modules.lokr import LokrModule
from sidestep_core.formats.keys import lycoris_name
from sidestep_core.formats.lycoris import whole_alpha
from sidestep_core.model.quantize import parts, weight_of
from sidestep_core.targets import Target
from torch import Tensor, nn

from sidestep_adapters.configs import LokrConfig
from sidestep_adapters.lycoris_files import lycoris_file
from sidestep_adapters.projections import Layer, ProjectionAdapter, compute_dtype
from sidestep_adapters.sizes import lokr_shape, rank_and_alpha


class LokrAdapter(ProjectionAdapter[LokrConfig]):
    """LoKR."""

    def wrap(self, linear: nn.Linear, target: Target) -> nn.Module:
        """Put LyCORIS's factors beside the projection; the update starts at zero."""
        config = self.config
        rank, alpha = rank_and_alpha(config, target)
        whole = lokr_shape(config, linear.out_features, linear.in_features, rank).whole
        update = LokrModule(
            lycoris_name(target.name),
            linear,
            lora_dim=rank,
            alpha=alpha,
            use_scalar=config.use_scalar,
            decompose_both=config.decompose_both,
            factor=config.factor,
            weight_decompose=config.weight_decompose,
            full_matrix=whole,
            # with whole factors every reader takes the scale for 1, LyCORIS's trainer would not
            rs_lora=config.rs_lora and not whole,
            unbalanced_factorization=config.unbalanced_factorization,
            bypass_mode=False,
        )
        return LokrLinear(linear, update)

    def tensors(self, layer: Any) -> Mapping[str, Tensor]:
        """Return LyCORIS's parameters."""
        return dict(layer.update.named_parameters())

    def delta(self, layer: Any) -> Tensor:
        """Return the Kronecker product, and what rescaling the rows makes of it."""
        update = layer.update
        difference: Tensor = update.get_weight(update.shape) * update.scalar
        if update.wd:
            weight = self.frozen(layer)
            difference = update.apply_weight_decompose(weight + difference) - weight
        return difference

    def files(self, layers: Mapping[str, Any], metadata: Mapping[str, str]) -> Mapping[str, bytes]:
        """Return LyCORIS's file."""
        modules = {name: _state(layer.update) for name, layer in layers.items()}
        return lycoris_file("lokr", self.config, modules, metadata)


def _state(update: LokrModule) -> dict[str, Tensor]:
    """Return LyCORIS's tensors, with an alpha that does nothing in any program where the scale is 1."""
    state: dict[str, Tensor] = update.custom_state_dict()
    if update.use_w1 and update.use_w2:
        state["alpha"] = torch.tensor(float(whole_alpha(len(update.lokr_w1), len(update.lokr_w2))))
    return state


class LokrLinear(Layer):
    """`W x + scale * kron(first, second) x`, and with weight decomposition each output times a trained factor."""

    squares: Tensor

    def __init__(self, base_layer: nn.Linear, update: LokrModule) -> None:
        super().__init__(base_layer)
        self.update = update
        if update.wd:
            squares = base_layer.weight.float().square().sum(dim=1)
            self.register_buffer("squares", squares, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted projection of `x` [..., in]."""
        base = self.product(x)
        dtype = compute_dtype(x)
        first, second = self._factors()
        hidden = x.unflatten(-1, (first.shape[1], -1))  # [..., columns of first, columns of second]
        for factor in second[::-1]:
            hidden = F.linear(hidden, factor.to(dtype))
        changed = base + (first.to(dtype) @ hidden).flatten(-2)
        if not self.update.wd:
            return self.biased(changed)
        norms = self._norms()
        factors = self.update.dora_scale[:, 0] / (norms + torch.finfo(norms.dtype).eps)
        return self.biased((changed * factors).to(base.dtype))

    def _norms(self) -> Tensor:
        """Return the length [out] of each row of `W + kron(first, second)`, without making that matrix.

        Unlike DoRA's, it has gradients: LyCORIS counts it as part of the function.
        """
        with torch.autocast(self.squares.device.type, enabled=False):
            first, halves = self._factors()
            second = halves[0] if len(halves) == 1 else halves[0] @ halves[1]
            # row (i, k) of the product is first[i] x second[k], column (j, l) of it belongs to j of first
            base = self.base_layer
            inner: Tensor = _Inner.apply(second, len(first), base, *parts(base))  # type: ignore[no-untyped-call]
            cross = (inner * first[:, None]).sum(dim=-1)  # [i, k, j] -> [i, k]
            own = first.square().sum(dim=1)[:, None] * second.square().sum(dim=1)
            norms: Tensor = (self.squares + (2 * cross + own).flatten()).sqrt()
            return norms

    def _factors(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the first factor with the scale in it, and the second as it is: whole, or two whose product it is."""
        update = self.update
        first: Tensor = update.lokr_w1 if update.use_w1 else update.lokr_w1_a @ update.lokr_w1_b
        second = (update.lokr_w2,) if update.use_w2 else (update.lokr_w2_a, update.lokr_w2_b)
        return first * (update.scale * update.scalar), second


class _Inner(torch.autograd.Function):
    """Blocks of the frozen weight's rows times the second factor's: [first rows, second rows, first columns].

    The weight is made again in the backward pass where it is not there as it is.
    """

    @staticmethod
    def forward(ctx: Any, second: Tensor, rows: int, linear: nn.Linear, *held: Tensor) -> Tensor:
        ctx.save_for_backward(*held)
        ctx.linear, ctx.rows, ctx.shape = linear, rows, second.shape
        blocks = _blocks(linear, held, rows, second.shape)
        return (blocks @ second.to(blocks.dtype)[:, :, None]).squeeze(-1).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        held = ctx.saved_tensors  # to be read once
        blocks = _blocks(ctx.linear, held, ctx.rows, ctx.shape)
        gradient = gradients[0].to(blocks.dtype)[:, :, None]  # [first rows, second rows, 1, first columns]
        to_second = (gradient @ blocks).squeeze(2).sum(dim=0).float()
        return to_second, *[None] * (2 + len(held))


def _blocks(linear: nn.Linear, held: Sequence[Tensor], rows: int, second: torch.Size) -> Tensor:
    """Return the frozen weight as [first rows, second rows, first columns, second columns]."""
    return weight_of(linear, held).view(rows, second[0], -1, second[1])
