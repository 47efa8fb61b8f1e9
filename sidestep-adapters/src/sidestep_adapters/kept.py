"""What each adapter type keeps for the backward pass, without torch: memory is estimated from these."""

from __future__ import annotations

from sidestep_core.specs import Kept

from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.sizes import block_size, lokr_shape


def kept_by_lora(config: LoraConfig, out_features: int, in_features: int, rank: int | None, mixed: bool) -> Kept:
    """Return A's input, unless it is the projection's own, and what A gives."""
    own, pissa = rank or config.rank, config.init_weights == "pissa"
    width = own * (2 if pissa else 1)
    # peft casts the input to float32, and autocast casts it back
    copied = mixed or config.dropout > 0
    joined = mixed or pissa  # casts of A and B, or both with their start
    return Kept(
        input=not copied,
        elements=width + in_features * copied,
        masks=in_features * (config.dropout > 0),
        float_masks=True,
        constant=width * (out_features + in_features) * joined,
        buffers=own * (out_features + in_features) * pissa,
    )


def kept_by_dora(config: DoraConfig, out_features: int, in_features: int, rank: int | None, mixed: bool) -> Kept:
    """Return A's input, what A gives, and the output before its rows are rescaled."""
    width, dropped = rank or config.rank, config.dropout > 0
    return Kept(
        input=not dropped,
        elements=width + in_features * dropped + out_features,
        masks=in_features * dropped,
        constant=width * (out_features + in_features) * mixed + 4 * out_features,
        buffers=out_features,
    )


def kept_by_lokr(config: LokrConfig, out_features: int, in_features: int, rank: int | None, mixed: bool) -> Kept:
    """Return what the second factor gives, and the halves of it; with weight decomposition the output too."""
    width = rank or config.rank
    shape = lokr_shape(config, out_features, in_features, width)
    between = shape.first[1] * (shape.second[0] + width * shape.split_second)
    if not config.weight_decompose:
        return Kept(elements=between)
    return Kept(elements=between + out_features, constant=3 * out_features * shape.first[1], buffers=out_features)


def kept_by_loha(config: LohaConfig, out_features: int, in_features: int, rank: int | None, mixed: bool) -> Kept:
    """Return the casts of its matrices; products as large as the weight are there only while they are used."""
    width = rank or config.rank
    sizes = out_features + in_features
    if 3 * width * width * sizes <= out_features * in_features:
        return Kept(elements=width * width, constant=2 * width * width * sizes)
    casts = 2 * width * sizes if mixed else width * out_features
    return Kept(constant=casts, working=4 * out_features * in_features)


def kept_by_oft(config: OftConfig, out_features: int, in_features: int, rank: int | None, mixed: bool) -> Kept:
    """Return powers of the generators and, where it is cast, the input in blocks."""
    size = block_size(config, in_features, rank)
    return Kept(
        input=not mixed,
        elements=in_features * mixed,
        constant=(7 if mixed else 4) * in_features * size,
        passing=4 * in_features * mixed,  # peft casts the input to float32 and back
        buffers=2 * size * (size - 1),  # where a triangle's elements are, in int64
    )
