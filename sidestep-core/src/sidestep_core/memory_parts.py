"""What each part of a training step holds in memory, tensor by tensor. Everything is in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil, prod

import attrs

from sidestep_core.model.dims import ModelDims, decoder_parameters, projection_shapes
from sidestep_core.specs import Kept

FLOAT = 4
WIDTHS: Mapping[str, int] = {"bf16": 2, "fp16": 2, "fp32": FLOAT}
# frames of the silence latent, which the decoder keeps
SILENCE_FRAMES = 15_000


@attrs.frozen(kw_only=True)
class Adapted:
    """An adapted projection: the layer it is in, its name there, how wide its input is, what its adapter keeps."""

    layer: int
    name: str
    in_features: int
    kept: Kept


@attrs.frozen(kw_only=True)
class Workload:
    """Everything that a run's memory depends on.

    Attributes:
        dims: of the model.
        adapted: the adapted projections.
        trainable: parameters of the adapter.
        batch: samples in a forward pass.
        frames: latent frames of the longest sample.
        rows: conditioning rows of the longest sample.
        precision: compute type: "bf16", "fp16" or "fp32".
        accumulation: batches whose gradients make one step.
        optimizer_bytes: optimizer state for each trained parameter.
        average: whether an average of the weights is kept.
        cpu: whether it runs on the CPU, where masks of what was dropped are numbers instead of bits.
        quantize: how the frozen projections are kept: "none", "int8" or "nf4".
        waiting: layers whose frozen projections wait in main memory.
    """

    dims: ModelDims
    adapted: Sequence[Adapted]
    trainable: int
    batch: int
    frames: int
    rows: int
    precision: str
    accumulation: int = 1
    optimizer_bytes: float = 8.0
    average: bool = False
    cpu: bool = False
    quantize: str = "none"
    waiting: frozenset[int] = frozenset()

    @property
    def width(self) -> int:
        """Bytes of an element of the compute type."""
        return WIDTHS[self.precision]

    @property
    def mixed(self) -> bool:
        """Whether the frozen part computes in another type than the adapter's weights have."""
        return self.width != FLOAT

    @property
    def length(self) -> int:
        """Positions of one sample inside the decoder."""
        return ceil(self.frames / self.dims.patch_size)

    @property
    def positions(self) -> int:
        """Positions of all samples of a batch."""
        return self.batch * self.length


def low_rank(in_features: int, rank: float, mixed: bool) -> Kept:
    """Return what an adapter keeps that says nothing about it, taken for a low-rank update with its own input."""
    return Kept(input=not mixed, elements=rank + in_features * mixed)


def weights(work: Workload) -> int:
    """Return the frozen weights on the device: those outside the projections are in the compute type."""
    shapes = projection_shapes(work.dims)
    others = decoder_parameters(work.dims) - sum(prod(shape) for shape in shapes.values())
    layer = [_projection(shape, work) for name, shape in shapes.items() if name.startswith("layers.0.")]
    there = work.dims.num_layers - len(work.waiting)
    # of those that wait one is computed and one is on its way
    return others * work.width + sum(layer) * (there + min(2, len(work.waiting)))


def _projection(shape: tuple[int, int], work: Workload) -> int:
    out_features, count = shape[0], prod(shape)
    if work.quantize == "int8":
        return count + out_features * FLOAT
    if work.quantize == "nf4":
        return ceil(count / 2) + ceil(count / 64) * FLOAT
    return count * work.width


def constants(work: Workload) -> int:
    """Return what is made once: silence, the input that says what to generate, masks, what adapters make of weights."""
    dims, window = work.dims, work.dims.sliding_window
    silence = SILENCE_FRAMES * dims.latent_channels * work.width
    context = work.length * dims.patch_size * 2 * dims.latent_channels * work.width
    rotation = work.length * dims.head_dim * FLOAT
    mask = work.length * min(work.length, 3 * window) if work.length > window + 1 else 0
    return silence + context + rotation + mask + int(sum(a.kept.buffers for a in work.adapted)) * FLOAT


def kept_by_layer(work: Workload) -> Iterator[int]:
    """Yield what each decoder layer keeps for the backward pass; nothing below the first adapted one."""
    first = min((adapted.layer for adapted in work.adapted), default=0)
    for index, kind in enumerate(work.dims.layer_types):
        adapted = [a for a in work.adapted if a.layer == index]
        yield int(_frozen(work, kind) + _adapted(work, adapted)) if index >= first else 0


def checkpointed(work: Workload) -> int:
    """Return what a recomputed layer keeps: its input."""
    return work.positions * work.dims.hidden_size * work.width


def outside(work: Workload) -> int:
    """Return what is kept outside the layers to the end of a pass: noise and what is mixed of it, the conditioning."""
    dims = work.dims
    conditioning = work.batch * work.rows * (dims.hidden_size + dims.condition_size) * work.width
    return conditioning + 2 * work.positions * dims.patch_size * dims.latent_channels * FLOAT


def head(work: Workload) -> int:
    """Return what is kept between the last layer and the loss; it goes first in the backward pass."""
    dims = work.dims
    loss = 4 * dims.patch_size * dims.latent_channels * FLOAT
    return work.positions * (dims.hidden_size * (work.width + FLOAT) + loss)


def working(work: Workload) -> int:
    """Return what is there only while a layer is computed: tensors and gradients on their way, weights made anew."""
    dims = work.dims
    passing = work.positions * (2 * dims.intermediate_size + 2 * dims.hidden_size)
    made = max((work.positions * a.kept.passing + a.kept.working for a in work.adapted), default=0.0)
    if work.quantize != "none":
        made += max(prod(shape) for shape in projection_shapes(dims).values())
    return int((passing + made) * work.width)


def _frozen(work: Workload, kind: str) -> int:
    """Return what a layer keeps whatever is adapted: inputs of norms, of attention, and of the gated product."""
    dims, width = work.dims, work.width
    queries, keys = dims.num_heads * dims.head_dim, dims.num_kv_heads * dims.head_dim
    sliding = kind == "sliding_attention" and work.length > 3 * dims.sliding_window
    # each query sees three blocks of keys, which are laid out side by side
    copies = 3 if sliding else 1
    # in mixed precision a norm keeps its input twice: as it comes, and in float32
    normed = width + FLOAT if work.mixed else FLOAT
    per_position = (
        3 * dims.hidden_size * normed  # inputs of the three norms
        + 2 * queries * (normed + 2 * width)  # self and cross: query before its norm, query and output of attention
        + keys * normed  # key before its norm
        + 2 * copies * keys * width  # key and value
        + 3 * dims.intermediate_size * width  # gate, its activation, and what it is multiplied with
        + 4 * dims.num_heads * FLOAT  # statistics of attention and of the query norms
    )
    per_row = keys * (normed + 2 * width)
    return work.positions * per_position + work.batch * work.rows * per_row + _mask(work, kind)


def _mask(work: Workload, kind: str) -> int:
    """Return the mask of a sliding layer; attention keeps it in the compute type."""
    window = work.dims.sliding_window
    if kind != "sliding_attention" or work.length <= window + 1:
        return 0
    return work.positions * min(work.length, 3 * window) * work.width


def _mask_width(work: Workload, kept: Kept) -> int:
    # a bool on GPUs; on the CPU a factor in the type of what it is multiplied with
    return 1 if not work.cpu else FLOAT if kept.float_masks else work.width


def _adapted(work: Workload, adapted: Iterable[Adapted]) -> float:
    """Return what adapters keep; an input that several of them read is kept once."""
    total, shared = 0.0, set[str]()
    for each in adapted:
        block, _, name = each.name.partition(".")
        conditioned = block == "cross_attn" and name in ("k_proj", "v_proj")
        count = work.batch * work.rows if conditioned else work.positions
        total += (count * each.kept.elements + each.kept.constant) * work.width
        if not conditioned:
            # nothing is learned about the conditioning itself, so what was dropped of it need not be known
            total += count * each.kept.masks * _mask_width(work, each.kept)
            source = f"{block} {name if name == 'down_proj' else 'in'}"
            # what goes into o_proj is the output of attention, which is kept in any case
            if each.kept.input and name != "o_proj" and source not in shared:
                shared.add(source)
                total += count * each.in_features * work.width
    return total
