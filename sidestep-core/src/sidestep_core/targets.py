"""Which projections of the decoder get an adapter: names and shapes, computed without loading a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import attrs

from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import AdapterError

ATTENTION_BLOCKS = ("self_attn", "cross_attn")
MLP_MODULES = ("gate_proj", "up_proj", "down_proj")
MAX_RANK = 1024
_RANK = re.compile(r"(?P<pattern>[^=]+)=(?P<rank>[0-9]{1,9})(/(?P<alpha>[0-9]{1,9}))?")


@attrs.frozen(kw_only=True)
class Target:
    """One projection to adapt.

    Attributes:
        name: original ACE-Step path below the decoder, `layers.0.self_attn.q_proj`.
        out_features: rows of its weight.
        in_features: columns of its weight.
        rank: this module's own rank, where it differs from the adapter's.
        alpha: this module's own alpha, where it does not follow from its rank and the adapter's ratio of the two.
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


def choose_targets(
    projections: Mapping[str, tuple[int, int]], config: TargetsConfig, mapped: Sequence[Target] | None = None
) -> tuple[Target, ...]:
    """Return the projections that the settings select, in the model's order, with ranks of their own if they have.

    Args:
        projections: original name -> (out_features, in_features) of every projection an adapter may sit on.
        config: what to adapt.
        mapped: those of a rank map, with the ranks it gives; no others are selected. None without a map.

    Raises:
        AdapterError: a name or pattern matches no projection, none is left, or a rank cannot be read.
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
    return _with_ranks(_filtered(_of_map(chosen, mapped), config), config.module_ranks)


def _of_map(targets: tuple[Target, ...], mapped: Sequence[Target] | None) -> tuple[Target, ...]:
    """Return the targets that a rank map has, as it has them."""
    if mapped is None:
        return targets
    by_name = {target.name: target for target in mapped}
    left = tuple(by_name[target.name] for target in targets if target.name in by_name)
    if not left:
        raise AdapterError(
            f"nothing to adapt: none of the {len(targets)} chosen projections is among the {len(by_name)} of the rank "
            "map; choose others, or leave the map out with --ignore-fisher-map"
        )
    return left


def _filtered(targets: tuple[Target, ...], config: TargetsConfig) -> tuple[Target, ...]:
    """Apply the include and exclude patterns."""
    _check_patterns("--include-modules", config.include_modules, targets)
    if config.include_modules:
        targets = tuple(target for target in targets if _matches(target, config.include_modules))
    _check_patterns("--exclude-modules", config.exclude_modules, targets)
    left = tuple(target for target in targets if not _matches(target, config.exclude_modules))
    if not left:
        raise AdapterError(f"nothing to adapt: --exclude-modules leaves out all {len(targets)} chosen projections")
    return left


def _with_ranks(targets: tuple[Target, ...], entries: Iterable[str]) -> tuple[Target, ...]:
    """Give targets the ranks and alphas that `PATTERN=RANK[/ALPHA]` entries name for them."""
    for entry in entries:
        read = _RANK.fullmatch(entry)
        if read is None:
            raise AdapterError(f"--module-ranks {entry!r} must read PATTERN=RANK or PATTERN=RANK/ALPHA")
        rank, alpha = int(read["rank"]), None if read["alpha"] is None else int(read["alpha"])
        if not 1 <= rank <= MAX_RANK or alpha == 0:
            raise AdapterError(f"--module-ranks {entry!r}: a rank is 1 to {MAX_RANK}, an alpha at least 1")
        _check_patterns("--module-ranks", [read["pattern"]], targets)
        targets = tuple(
            attrs.evolve(target, rank=rank, alpha=alpha) if _matches(target, [read["pattern"]]) else target
            for target in targets
        )
    return targets


def _matches(target: Target, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(target.name, pattern) for pattern in patterns)


def _check_patterns(flag: str, patterns: Iterable[str], targets: tuple[Target, ...]) -> None:
    for pattern in patterns:
        if not any(_matches(target, [pattern]) for target in targets):
            raise AdapterError(
                f"{flag} {pattern!r} matches none of the {len(targets)} chosen projections; patterns are compared "
                f"with full names such as {targets[0].name!r}"
            )
