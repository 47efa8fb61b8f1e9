"""ComfyUI's reading of an adapter file for ACE-Step 1.5, written anew from its published rules.

The rules, as they stand in the public repository Comfy-Org/ComfyUI in August 2026:

- A module of the decoder is found under any of its names: `base_model.model.<path>` (pull request 12252),
  `lycoris_<path with underscores>` (pull request 12665), and the names that every model has there,
  `diffusion_model.decoder.<path>` and `lora_unet_decoder_<path with underscores>`.
- `alpha` beside a module is divided by the rank: the rows of the lower LoRA matrix, of LoHA's `hada_w1_b`, of LoKR's
  split factor. Without alpha the factor is 1.
- Where both factors of LoKR are whole, older versions ignore alpha and later ones divide it by the ratio of the
  factors' rows, rounded down (reported in issue 15114). Both readings must give the same here.
- `diff` is added as it is and must have exactly the weight's shape.
- `dora_scale` is read in ways that changed and are disputed (issue 12938, pull requests 13011 and 15458): a file must
  not have it.
- Tensors under any other name are left aside with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

READER = "ComfyUI's published rules"
_LORA = (("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight"))
_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
Read = Callable[[str], Tensor]


class ComfyuiHost:
    """An adapter file as ComfyUI loads it onto a decoder.

    Args:
        modules: original names of the decoder's modules.
        file: the file.
        prefix: what else may stand before a name, for loaders that map names of their own.
    """

    def __init__(self, modules: Iterable[str], file: Path, prefix: str = "") -> None:
        self._file = file
        with safe_open(file, framework="pt") as opened:
            keys = set(opened.keys())
        self._patches: dict[str, dict[str, str]] = {}  # module -> what its tensors are called -> their key
        for module in modules:
            for name in _names(module, prefix):
                parts = {key.removeprefix(f"{name}."): key for key in keys if key.startswith(f"{name}.")}
                if used := {part: key for part, key in parts.items() if part in _parts(parts)}:
                    self._patches[module] = used
        self.names: Collection[str] = self._patches.keys()
        self.unused: Collection[str] = keys - {key for patch in self._patches.values() for key in patch.values()}

    def delta(self, name: str, weight: Tensor) -> Tensor:
        """Return what is added to a weight."""
        patch = self._patches[name]
        with safe_open(self._file, framework="pt") as opened:
            tensors = {part: opened.get_tensor(key) for part, key in patch.items()}
        if "diff" in tensors:
            difference: Tensor = tensors["diff"].double().flatten(1)
            return difference
        if "alpha" not in tensors:
            raise ValueError("alpha is missing: programs differ in what they then take for it")
        alpha = tensors["alpha"].item()
        wide = {part: tensor.double() for part, tensor in tensors.items()}
        return _product(wide, alpha).reshape(len(weight), -1)


def _names(module: str, prefix: str) -> list[str]:
    flat = module.replace(".", "_")
    names = [f"base_model.model.{module}", f"lycoris_{flat}", f"diffusion_model.decoder.{module}"]
    return [*names, f"lora_unet_decoder_{flat}", *([f"{prefix}.{module}"] if prefix else [])]


def _parts(there: Collection[str]) -> Collection[str]:
    """Return which of a module's tensors are used: those of the form that it is in."""
    if "diff" in there:
        return ("diff",)
    for pair in _LORA:
        if set(pair) <= set(there):
            return (*pair, "alpha")
    if set(_LOHA) <= set(there):
        return (*_LOHA, "alpha")
    factors = [_factor(there, name) for name in ("lokr_w1", "lokr_w2")]
    return (*factors[0], *factors[1], "alpha") if all(factors) else ()


def _factor(there: Collection[str], name: str) -> tuple[str, ...]:
    pair = (f"{name}_a", f"{name}_b")
    return (name,) if name in there else pair if set(pair) <= set(there) else ()


def _product(tensors: Mapping[str, Tensor], alpha: float) -> Tensor:
    for down, up in _LORA:
        if up in tensors:
            return tensors[up] @ tensors[down] * (alpha / len(tensors[down]))
    if "hada_w1_a" in tensors:
        first, second = (tensors[f"hada_w{i}_a"] @ tensors[f"hada_w{i}_b"] for i in (1, 2))
        return first * second * (alpha / len(tensors["hada_w1_b"]))
    return _kronecker(tensors, alpha)


def _kronecker(tensors: Mapping[str, Tensor], alpha: float) -> Tensor:
    factors, rank = [], 0
    for name in ("lokr_w1", "lokr_w2"):
        if name in tensors:
            factors.append(tensors[name].flatten(1))
        else:
            factors.append(tensors[f"{name}_a"] @ tensors[f"{name}_b"])
            rank = len(tensors[f"{name}_b"])
    product = torch.kron(*factors)
    if rank:
        return product * (alpha / rank)
    ratio = len(factors[1]) // len(factors[0])
    if ratio == 0 or alpha / ratio != 1:
        raise ValueError(f"alpha {alpha:g} of whole factors means something else in each version of ComfyUI")
    return product
