"""What adapter files call modules and tensors, whoever wrote them, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from sidestep_core.errors import AdapterError
from sidestep_core.model.names import original_path

PEFT_PREFIX = "base_model.model."
DIFFUSERS_PREFIX = "transformer."
COMFYUI_PREFIX = "diffusion_model.decoder."
LYCORIS_PREFIX = "lycoris_"
CONVOLUTIONS = frozenset({"proj_in.1"})  # the decoder's only one that trainers adapt

# what stands in front of a module's path -> who writes it so; the longer of two that fit comes first
_DOTTED = {
    PEFT_PREFIX: "peft",
    COMFYUI_PREFIX: "comfyui",
    DIFFUSERS_PREFIX: "diffusers",
    "decoder.": "ace-step",
}
# the same where dots were turned into underscores
_FLAT = {LYCORIS_PREFIX: "lycoris", "lora_unet_decoder_": "kohya", "lora_unet_": "kohya"}

# our word for a tensor -> what files call it
_PARTS: Mapping[str, tuple[str, ...]] = {
    "down": ("lora_A.weight", "lora_A.default.weight", "lora_down.weight", "lora.down.weight"),
    "up": ("lora_B.weight", "lora_B.default.weight", "lora_up.weight", "lora.up.weight"),
    "magnitude": (
        "lora_magnitude_vector",
        "lora_magnitude_vector.weight",
        "lora_magnitude_vector.default.weight",
        "dora_scale",
    ),
    "alpha": ("alpha",),
    "generators": ("oft_R.weight", "oft_R.default.weight"),
    "difference": ("diff",),
    **{name: (name,) for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
    **{name: (name,) for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
}
_SUFFIXES = {f".{suffix}": part for part, suffixes in _PARTS.items() for suffix in suffixes}

# flattened names of the decoder's modules; what a group matched is put in for its number
_MODULES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"layers_(\d+)_(self|cross)_attn_(q|k|v|o)_proj", "layers.{0}.{1}_attn.{2}_proj"),
        (r"layers_(\d+)_(self|cross)_attn_to_(q|k|v)", "layers.{0}.{1}_attn.{2}_proj"),
        (r"layers_(\d+)_(self|cross)_attn_to_out_0", "layers.{0}.{1}_attn.o_proj"),
        (r"layers_(\d+)_mlp_(gate|up|down)_proj", "layers.{0}.mlp.{1}_proj"),
        (r"(time_embed|time_embed_r)_(linear_1|linear_2|time_proj)", "{0}.{1}"),
        (r"(condition_embedder)", "{0}"),
        (r"proj_in_(?:1|conv)", "proj_in.1"),
    )
]


@attrs.frozen
class Key:
    """A tensor's name in a file, understood.

    Attributes:
        module: original ACE-Step path below the decoder, `layers.0.self_attn.q_proj`.
        part: our word for the tensor (`down`, `up`, `alpha`, `lokr_w1` ...).
        layout: who names modules so: peft, diffusers, comfyui, lycoris, kohya, ace-step or custom.
    """

    module: str
    part: str
    layout: str


def read_key(key: str, prefix: str = "") -> Key:
    """Understand a tensor's name.

    Args:
        key: the name.
        prefix: a further text that may stand in front of modules' paths.

    Raises:
        AdapterError: it is none that a known program writes.
    """
    suffix = max((s for s in _SUFFIXES if key.endswith(s)), key=len, default="")
    if not suffix:
        raise AdapterError(f"{key!r} is no tensor of an adapter that can be read")
    named = key.removesuffix(suffix)
    module, layout = _flat(named) if "." not in named else _dotted(named, prefix)
    return Key(module, _SUFFIXES[suffix], layout)


def layer_order(name: str) -> list[tuple[bool, int, str]]:
    """Return the key that sorts modules by name with layers.2 before layers.10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def lycoris_name(name: str) -> str:
    """Return LyCORIS's name of a module: `lycoris_layers_0_self_attn_q_proj`."""
    return LYCORIS_PREFIX + name.replace(".", "_")


def _dotted(named: str, prefix: str) -> tuple[str, str]:
    prefixes = {prefix: "custom", **_DOTTED} if prefix else _DOTTED
    for start, layout in prefixes.items():
        if named.startswith(start) and re.fullmatch(r"[\w.]+", named.removeprefix(start)):
            return original_path(named.removeprefix(start)), layout
    raise AdapterError(f"{named!r} begins with none of {', '.join(prefixes)}")


def _flat(named: str) -> tuple[str, str]:
    for start, layout in _FLAT.items():
        if named.startswith(start):
            for pattern, name in _MODULES:
                if match := pattern.fullmatch(named.removeprefix(start)):
                    return name.format(*match.groups()), layout
    raise AdapterError(f"{named!r} is no module of ACE-Step's decoder")
