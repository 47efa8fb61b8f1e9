"""Which projections of the decoder get an adapter: names and shapes, computed without loading a model."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import AdapterError

ATTENTION_BLOCKS = ("self_attn", "cross_attn")
MLP_MODULES = ("gate_proj", "up_proj", "down_proj")


@attrs.frozen(kw_only=True)
class Target:
    """One projection to adapt.

    Attributes:
        name: original ACE-Step path below the decoder, `layers.0.self_attn.q_proj`.
        out_features: rows of its weight.
        in_features: columns of its weight.
        rank: this module's own rank, where it differs from the adapter's.
        alpha: this module's own alpha, where it differs.
    """

    name: str
    out_features: int
    in_features: int
    rank: int | None = None
    alpha: int | None = None


def target_suffixes(config: TargetsConfig) -> tuple[str, ...]:
    """Return what a module's name must end with to be adapted (`self_attn.q_proj`, or bare `gate_proj`)."""

    def qualify(names: tuple[str, ...], block: str) -> list[str]:
        return [name if "." in name else f"{block}.{name}" for name in names]

    if config.attention == "self":
        suffixes = qualify(config.target_modules, "self_attn")
    elif config.attention == "cross":
        suffixes = qualify(config.target_modules, "cross_attn")
    elif config.self_target_modules or config.cross_target_modules:
        suffixes = qualify(config.self_target_modules or config.target_modules, "self_attn")
        suffixes += qualify(config.cross_target_modules or config.target_modules, "cross_attn")
    else:
        suffixes = list(config.target_modules)
    if config.target_mlp:
        suffixes += MLP_MODULES
    return tuple(dict.fromkeys(suffixes))


def choose_targets(projections: Mapping[str, tuple[int, int]], config: TargetsConfig) -> tuple[Target, ...]:
    """Return the projections that the settings select, in the model's order.

    Args:
        projections: original name -> (out_features, in_features) of every projection an adapter may sit on.
        config: what to adapt.

    Raises:
        AdapterError: a name matches no projection.
    """
    suffixes = target_suffixes(config)
    chosen = tuple(
        Target(name=name, out_features=out, in_features=in_)
        for name, (out, in_) in projections.items()
        if any(name == s or name.endswith(f".{s}") for s in suffixes)
    )
    unused = [s for s in suffixes if not any(t.name == s or t.name.endswith(f".{s}") for t in chosen)]
    if unused:
        known = sorted({name.split(".", 2)[-1] for name in projections})
        raise AdapterError(f"no projection named {', '.join(map(repr, unused))}; there is {', '.join(known)}")
    if not chosen:
        raise AdapterError("nothing to adapt: --target-modules is empty and --no-target-mlp leaves out the MLP")
    return chosen
