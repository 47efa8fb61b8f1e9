"""How much memory a run takes, in closed form: what each layer keeps for the backward pass, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil

import attrs

from sidestep_core.model.dims import ModelDims, decoder_parameters
from sidestep_core.targets import Target

FLOAT = 4
WIDTHS: Mapping[str, int] = {"bf16": 2, "fp16": 2, "fp32": FLOAT}
# the mask of what was dropped is a bool on GPUs and float32 on the CPU
DROPOUT_BYTES: Mapping[str, int] = {"cpu": FLOAT, "gpu": 1}
# runtime, kernels and what the allocator cannot use
OVERHEAD = 500 * 2**20


@attrs.frozen(kw_only=True)
class MemoryEstimate:
    """Bytes that a run takes.

    Attributes:
        weights: frozen decoder.
        adapter: trained weights, their gradients, the optimizer's state, and casts of the weights.
        layers: what each decoder layer keeps for the backward pass, in the model's order.
        checkpoint: what a layer keeps instead when it is recomputed.
        rest: what is kept outside the layers, and gradients on their way.
        overhead: fixed.
    """

    weights: int
    adapter: int
    layers: tuple[int, ...]
    checkpoint: int
    rest: int
    overhead: int = OVERHEAD

    def total(self, recomputed: int = 0) -> int:
        """Return the peak with a number of layers recomputed in the backward pass."""
        heaviest = max(self.layers)
        # a layer's tensors are there again while it is recomputed
        kept = sum(self.layers) * (len(self.layers) - recomputed) // len(self.layers)
        again = recomputed * self.checkpoint + (heaviest if recomputed else 0)
        return self.weights + self.adapter + kept + again + self.rest + self.overhead

    def layers_to_checkpoint(self, budget: int) -> int:
        """Return the smallest number of recomputed layers that fits into a budget; all of them if none does."""
        counts = range(len(self.layers) + 1)
        return next((count for count in counts if self.total(count) <= budget), len(self.layers))


@attrs.frozen(kw_only=True)
class _Sizes:
    """Tensor sizes of one batch: positions and conditioning rows of all samples, bytes of a compute element."""

    dims: ModelDims
    positions: int
    per_sample: int
    rows: int
    width: int

    @property
    def mixed(self) -> bool:
        return self.width != FLOAT


def estimate_memory(
    dims: ModelDims,
    targets: Sequence[Target],
    *,
    trainable: int,
    batch: int,
    frames: int,
    rows: int,
    precision: str,
    optimizer_bytes: float = 8.0,
    dropout_bytes: int = 0,
) -> MemoryEstimate:
    """Work out what a run takes.

    Args:
        dims: of the model.
        targets: adapted projections.
        trainable: parameters of the adapter.
        batch: samples in a forward pass.
        frames: latent frames of the longest sample.
        rows: conditioning rows of the longest sample.
        precision: "bf16", "fp16" or "fp32".
        optimizer_bytes: optimizer state, and an average of the weights if one is kept, for each trained parameter.
        dropout_bytes: what is kept for each input of the adapter that dropout may drop: 0 without dropout, else
            `DROPOUT_BYTES` of the device.
    """
    width = WIDTHS[precision]
    per_sample = ceil(frames / dims.patch_size)
    sizes = _Sizes(dims=dims, positions=batch * per_sample, per_sample=per_sample, rows=batch * rows, width=width)
    casts = trainable * width if sizes.mixed else 0
    middle = trainable / max(1, sum(t.out_features + t.in_features for t in targets))
    first = min((_layer_of(target) for target in targets), default=0)
    layers = []
    for index, kind in enumerate(dims.layer_types):
        adapted = [target for target in targets if _layer_of(target) == index]
        kept = _frozen(sizes, kind) + _adapted(sizes, adapted, middle, dropout_bytes)
        # nothing below the first adapted layer has a gradient
        layers.append(int(kept) if index >= first else 0)
    stream = sizes.positions * dims.hidden_size
    return MemoryEstimate(
        weights=decoder_parameters(dims) * width,
        adapter=int(trainable * (2 * FLOAT + optimizer_bytes)) + casts,
        layers=tuple(layers),
        checkpoint=stream * width,
        rest=_rest(sizes),
    )


def _frozen(sizes: _Sizes, kind: str) -> int:
    """Return what a layer keeps whatever is adapted: inputs of norms, of attention, and of the gated product."""
    dims, width = sizes.dims, sizes.width
    queries, keys = dims.num_heads * dims.head_dim, dims.num_kv_heads * dims.head_dim
    sliding = kind == "sliding_attention" and sizes.per_sample > 3 * dims.sliding_window
    # each query sees three blocks of keys, which are laid out side by side
    copies = 3 if sliding else 1
    # in mixed precision a norm keeps its input twice: as it comes, and in float32
    normed = width + FLOAT if sizes.mixed else FLOAT
    per_position = (
        3 * dims.hidden_size * normed  # inputs of the three norms
        + 2 * queries * (normed + 2 * width)  # self and cross: query before its norm, query and output of attention
        + keys * normed  # key before its norm
        + 2 * copies * keys * width  # key and value
        + 3 * dims.intermediate_size * width  # gate, its activation, and what it is multiplied with
        + 4 * dims.num_heads * FLOAT  # statistics of attention and of the query norms
    )
    per_row = keys * (normed + 2 * width)
    return sizes.positions * per_position + sizes.rows * per_row + _mask(sizes, kind)


def _mask(sizes: _Sizes, kind: str) -> int:
    """Return the mask of a sliding layer; attention keeps it in the compute dtype."""
    window, length = sizes.dims.sliding_window, sizes.per_sample
    if kind != "sliding_attention" or length <= window + 1:
        return 0
    return sizes.positions * min(length, 3 * window) * sizes.width


def _adapted(sizes: _Sizes, targets: Iterable[Target], middle: float, dropout_bytes: int) -> float:
    """Return what adapters keep: their inputs, shared where nothing forces a copy, and what is between their halves."""
    kept, shared = 0.0, set[str]()
    for target in targets:
        block, _, name = target.name.split(".", 2)[2].partition(".")
        conditioned = block == "cross_attn" and name in ("k_proj", "v_proj")
        count = sizes.rows if conditioned else sizes.positions
        kept += count * middle * sizes.width
        if sizes.mixed or dropout_bytes:
            # nothing is learned about the conditioning itself, so what was dropped of it need not be known
            kept += count * target.in_features * (sizes.width + (0 if conditioned else dropout_bytes))
        elif not conditioned:
            source = f"{block} {name if name in ('o_proj', 'down_proj') else 'in'}"
            kept += 0 if source in shared else count * target.in_features * sizes.width
            shared.add(source)
    return kept


def _rest(sizes: _Sizes) -> int:
    """Return what is kept outside the layers and, in the backward pass, gradients inside one of them."""
    dims = sizes.dims
    frames = sizes.positions * dims.patch_size
    outside = sizes.positions * dims.hidden_size * (sizes.width + FLOAT) + 6 * frames * dims.latent_channels * FLOAT
    passing = sizes.positions * (2 * dims.intermediate_size + 2 * dims.hidden_size) * sizes.width
    return outside + passing


def _layer_of(target: Target) -> int:
    return int(target.name.split(".", 2)[1])
