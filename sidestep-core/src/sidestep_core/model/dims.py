"""The dimensions of a model as its config.json gives them, and the shapes that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import attrs

from sidestep_core.errors import CheckpointError

SINUSOID_SIZE = 256  # width of the timestep sinusoid, fixed in every published model
_LAYER_TYPES = ("sliding_attention", "full_attention")

_REQUIRED = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "in_channels": "in_channels",
    "latent_channels": "audio_acoustic_hidden_dim",
    "patch_size": "patch_size",
    "text_hidden_size": "text_hidden_dim",
    "lyric_layers": "num_lyric_encoder_hidden_layers",
    "timbre_layers": "num_timbre_encoder_hidden_layers",
}
# field -> (config field, what it is when absent: a number, or the field it equals)
_OPTIONAL: dict[str, tuple[str, int | str]] = {
    "sliding_window": ("sliding_window", 128),
    "condition_size": ("encoder_hidden_size", "hidden_size"),
    "condition_intermediate_size": ("encoder_intermediate_size", "intermediate_size"),
    "condition_heads": ("encoder_num_attention_heads", "num_heads"),
    "condition_kv_heads": ("encoder_num_key_value_heads", "num_kv_heads"),
    "timbre_channels": ("timbre_hidden_dim", "latent_channels"),
    "timbre_frames": ("timbre_fix_frame", 750),
}
# no dimension of a model comes near it; it keeps a hostile file from filling the memory
_LARGEST = 1 << 20


@attrs.frozen(kw_only=True)
class ModelDims:
    """Everything about a model that its weights' shapes and its forward pass depend on.

    Attributes:
        hidden_size: width of the decoder.
        intermediate_size: width inside the decoder's MLP.
        num_layers: decoder layers.
        num_heads: query heads of the decoder.
        num_kv_heads: key and value heads of the decoder.
        head_dim: width of one head, everywhere.
        in_channels: decoder input: source latents, mask and noisy latents.
        latent_channels: channels of a latent frame.
        patch_size: latent frames in one decoder position.
        layer_types: per decoder layer `sliding_attention` or `full_attention`.
        sliding_window: how many positions a sliding layer sees to each side.
        condition_size: width of the condition encoder and of a conditioning row.
        condition_intermediate_size: width inside its MLPs.
        condition_heads: its query heads.
        condition_kv_heads: its key and value heads.
        text_hidden_size: width of the text encoder.
        lyric_layers: layers of the lyric encoder.
        timbre_layers: layers of the timbre encoder.
        timbre_channels: channels of a timbre reference frame.
        timbre_frames: frames of a timbre reference.
        norm_eps: epsilon of every RMSNorm.
        rope_theta: base of the rotary position embedding.
        timestep_mu: mean of the training timesteps before the sigmoid.
        timestep_sigma: their deviation.
        is_turbo: whether the model is distilled to few steps.
        model_version: what the config calls the variant, "" where it says nothing.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    in_channels: int
    latent_channels: int
    patch_size: int
    layer_types: tuple[str, ...]
    sliding_window: int
    condition_size: int
    condition_intermediate_size: int
    condition_heads: int
    condition_kv_heads: int
    text_hidden_size: int
    lyric_layers: int
    timbre_layers: int
    timbre_channels: int
    timbre_frames: int
    norm_eps: float
    rope_theta: float
    timestep_mu: float
    timestep_sigma: float
    is_turbo: bool
    model_version: str

    @property
    def xl(self) -> bool:
        """Whether the decoder is wider than its condition encoder, as in the XL models."""
        return self.condition_size != self.hidden_size

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> ModelDims:
        """Read the fields of an original config.json; what some published files lack has ACE-Step's defaults.

        Args:
            config: the parsed file.
            where: how messages name it.

        Raises:
            CheckpointError: a dimension is missing or no positive whole number, or two of them contradict.
        """
        sizes = _sizes(config, where)
        try:
            dims = cls(
                **sizes,
                layer_types=tuple(map(str, _get(config, "layer_types", _alternating(sizes["num_layers"])))),
                norm_eps=float(_get(config, "rms_norm_eps", 1e-6)),
                rope_theta=float(_get(config, "rope_theta", 1e6)),
                timestep_mu=float(_get(config, "timestep_mu", -0.4)),
                timestep_sigma=float(_get(config, "timestep_sigma", 1.0)),
                is_turbo=bool(_get(config, "is_turbo", False)),
                model_version=str(_get(config, "model_version", "")),
            )
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where} has a field of the wrong type: {error}") from error
        for name in ("norm_eps", "rope_theta", "timestep_sigma"):
            if not 0 < getattr(dims, name) < math.inf:
                raise CheckpointError(f"{where}: {name} must be above 0, not {getattr(dims, name)!r}")
        if not math.isfinite(dims.timestep_mu):
            raise CheckpointError(f"{where}: timestep_mu must be finite, not {dims.timestep_mu!r}")
        if len(dims.layer_types) != dims.num_layers:
            raise CheckpointError(f"{where} has {dims.num_layers} layers but {len(dims.layer_types)} layer_types")
        if unknown := set(dims.layer_types) - set(_LAYER_TYPES):
            raise CheckpointError(f"{where} has the layer type {unknown.pop()!r}; known are {', '.join(_LAYER_TYPES)}")
        return dims


def projection_shapes(dims: ModelDims) -> dict[str, tuple[int, int]]:
    """Return (out, in) of every projection an adapter may sit on, by its original name below the decoder."""
    hidden, inner = dims.hidden_size, dims.intermediate_size
    queries, keys = dims.num_heads * dims.head_dim, dims.num_kv_heads * dims.head_dim
    block = {
        **{
            f"{attention}.{name}_proj": shape
            for attention in ("self_attn", "cross_attn")
            for name, shape in (
                ("q", (queries, hidden)),
                ("k", (keys, hidden)),
                ("v", (keys, hidden)),
                ("o", (hidden, queries)),
            )
        },
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {f"layers.{i}.{name}": shape for i in range(dims.num_layers) for name, shape in block.items()}


def spread(count: int, layers: int) -> frozenset[int]:
    """Return which layers a number of them stands for, evenly spread: the first of each stretch.

    Not the last of each: to recompute the model's last layer while all others are held would save nothing.
    """
    return frozenset(layer for layer in range(layers) if layer * min(count, layers) % layers < count)


def decoder_parameters(dims: ModelDims) -> int:
    """Return how many parameters the decoder has."""
    hidden = dims.hidden_size
    # per layer: three norms, the modulation table, and norms of queries and keys in both attentions
    per_layer = 3 * hidden + 6 * hidden + 4 * dims.head_dim
    time_embedding = (SINUSOID_SIZE + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * 6 * hidden
    patches = dims.patch_size * hidden * (dims.in_channels + dims.latent_channels) + hidden + dims.latent_channels
    head = 2 * hidden + hidden  # modulation table and norm of the output
    condition = (dims.condition_size + 1) * hidden
    projections = sum(math.prod(shape) for shape in projection_shapes(dims).values())
    return projections + dims.num_layers * per_layer + 2 * time_embedding + patches + head + condition


def _sizes(config: Mapping[str, Any], where: str) -> dict[str, int]:
    """Return all whole-number dimensions, checked."""
    names = _REQUIRED | {ours: theirs for ours, (theirs, _) in _OPTIONAL.items()}
    sizes = {ours: config.get(theirs) for ours, theirs in names.items()}
    if missing := [theirs for ours, theirs in _REQUIRED.items() if sizes[ours] is None]:
        raise CheckpointError(f"{where} has no {', '.join(missing)}")
    for ours, (_, default) in _OPTIONAL.items():
        if sizes[ours] is None:
            sizes[ours] = sizes[default] if isinstance(default, str) else default
    for ours, value in sizes.items():
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{where}: {names[ours]} must be a positive whole number, not {value!r}")
        if value > _LARGEST:
            raise CheckpointError(f"{where}: {names[ours]} must be at most {_LARGEST}, not {value!r}")
    return cast("dict[str, int]", sizes)


def _get(config: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return a field, or the default where it is absent or null."""
    value = config.get(key)
    return default if value is None else value


def _alternating(layers: int) -> list[str]:
    return [_LAYER_TYPES[i % 2] for i in range(layers)]
