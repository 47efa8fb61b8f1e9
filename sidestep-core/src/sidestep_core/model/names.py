"""Names of parameters and modules: ACE-Step's original ones and those of the diffusers classes, both ways."""

from __future__ import annotations

NULL_CONDITION = "null_condition_emb"

# diffusers component -> prefix of its parameters in an original checkpoint
PREFIXES = {
    "transformer": "decoder.",
    "condition_encoder": "encoder.",
    "audio_tokenizer": "tokenizer.",
    "audio_token_detokenizer": "detokenizer.",
}
# a part of a dotted name, original -> diffusers, in every component
_ATTENTION = {
    "q_proj": "to_q",
    "k_proj": "to_k",
    "v_proj": "to_v",
    "o_proj": "to_out.0",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
# the same for the decoder's first and last layer
_PATCHES = {"proj_in.1.": "proj_in_conv.", "proj_out.1.": "proj_out_conv."}


def to_diffusers(key: str) -> tuple[str, str]:
    """Return the diffusers component and the name in it of an original parameter.

    Raises:
        KeyError: no component has parameters of that name.
    """
    if key == NULL_CONDITION:
        return "condition_encoder", key
    for part, prefix in PREFIXES.items():
        if key.startswith(prefix):
            return part, _rename_patches(part, module_path(key.removeprefix(prefix)), _PATCHES)
    raise KeyError(key)


def to_original(part: str, key: str) -> str:
    """Return the original name of a parameter of a diffusers component; the reverse of `to_diffusers`."""
    if part == "condition_encoder" and key == NULL_CONDITION:
        return key
    key = _rename_patches(part, key, {new: old for old, new in _PATCHES.items()})
    return PREFIXES[part] + original_path(key)


def module_path(name: str) -> str:
    """Return where a projection is in the diffusers module: `layers.0.mlp.up_proj`, but `layers.0.self_attn.to_q`.

    Works for any dotted name below the decoder, a parameter's too.
    """
    return ".".join(_ATTENTION.get(word, word) for word in name.split("."))


def original_path(path: str) -> str:
    """Return the original name of a place in the diffusers module; the reverse of `module_path`."""
    back = {new: old for old, new in _ATTENTION.items()}
    return ".".join(back.get(word, word) for word in path.replace("to_out.0", "o_proj").split("."))


def _rename_patches(part: str, key: str, table: dict[str, str]) -> str:
    if part == "transformer":
        for old, new in table.items():
            if key.startswith(old):
                return new + key.removeprefix(old)
    return key
