"""Rank maps in training: finding `fisher_map.json`, and refusing one that was made for something else. Light."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.analysis.result import FILE_NAME, VERSION
from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import ConfigError
from sidestep_core.files import hash_text
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.folder import ModelFolder
from sidestep_core.store.index import TensorStore
from sidestep_core.targets import MAX_RANK, Target

MAPPED_RATE = 1e-4  # above it, the few large adapters of a rank map are easily overdone
_OFFICIAL = re.compile(r"acestep-v\d+-")


@attrs.frozen(kw_only=True)
class RankMap:
    """What a `fisher_map.json` says.

    Attributes:
        path: the file.
        ranks: rank and alpha of each projection that is adapted, by original name; no other projection is.
        variant: variant or folder of the model it was made for.
        identity: hash of that model; "" in maps of Side-Step.
        dataset_hash: what the tensors were known by.
        budget: parameters it was made to fit, None without such a limit.
        adapter_type: adapter type whose parameters were counted; "" in maps of Side-Step.
    """

    path: Path
    ranks: Mapping[str, tuple[int, int]] = attrs.field(repr=False)
    variant: str
    identity: str
    dataset_hash: str
    budget: int | None = None
    adapter_type: str = ""

    @property
    def hash(self) -> str:
        """What the ranks are known by."""
        return hash_text(json.dumps(self.ranks, sort_keys=True))

    def targets(self, model: ModelFolder) -> tuple[Target, ...]:
        """Return the adapted projections, in the model's order."""
        return tuple(
            Target(name=name, out_features=out, in_features=in_, rank=self.ranks[name][0], alpha=self.ranks[name][1])
            for name, (out, in_) in projection_shapes(model.dims).items()
            if name in self.ranks
        )


def find_rank_map(
    config: TargetsConfig, model: ModelFolder, identity: str, stores: Sequence[TensorStore]
) -> RankMap | None:
    """Return the rank map that is to be used: the one named, or the one in a tensor folder made for exactly these.

    Raises:
        ConfigError: there are maps, but each is damaged or was made for another model or other tensors.
    """
    if config.ignore_fisher_map:
        return None
    places = [config.fisher_map] if config.fisher_map else [store.path / FILE_NAME for store in stores]
    reasons = []
    for path in places:
        if path != config.fisher_map and not path.exists():
            continue
        found = read_rank_map(path)
        problem = misfit(found, model, identity, stores)
        if not problem:
            return found
        reasons.append(f"'{path}' {problem}")
    if not reasons:
        return None
    folders = " ".join(str(store.path) for store in stores)
    raise ConfigError(
        f"{'; '.join(reasons)}; make a new one with 'sidestep analyze --dataset-dir {folders}', "
        "or train without with --ignore-fisher-map"
    )


def misfit(found: RankMap, model: ModelFolder, identity: str, stores: Sequence[TensorStore]) -> str:
    """Return why a rank map cannot be used, "" if it can."""
    if found.identity and found.identity != identity:
        return f"was made for another model ({found.variant} {found.identity[:8]}, here {model.name} {identity[:8]})"
    if not found.identity and plain_variant(found.variant) not in (model.variant, plain_variant(model.name)):
        return f"was made for the model {found.variant!r}, not for {model.name!r}"
    if strange := sorted(found.ranks.keys() - projection_shapes(model.dims).keys()):
        return f"names {strange[0]!r}, which is no projection of {model.name!r}"
    if found.dataset_hash != dataset_hash(stores):
        return "was made for other tensors than these, or for a part of them"
    return ""


def map_notices(found: RankMap, rate: float | None, adapter: str) -> Iterator[str]:
    """Yield what to look out for in training with a rank map.

    Args:
        found: the map.
        rate: peak learning rate; None for optimizers that do not count in the usual ones.
        adapter: name of the adapter type.
    """
    if rate is not None and rate > MAPPED_RATE:
        yield f"--lr {rate:g} is high for training with a rank map; at most {MAPPED_RATE:g} is advised, such as 5e-5"
    if found.budget is not None and found.adapter_type != adapter:
        yield f"the budget of '{found.path}' was counted for {found.adapter_type}; {adapter} trains another number"


def plain_variant(name: str) -> str:
    """Return a variant without what ACE-Step's folders put in front: `base` for `acestep-v15-base`."""
    return _OFFICIAL.sub("", name, count=1)


def dataset_hash(stores: Sequence[TensorStore]) -> str:
    """Return what the songs of tensor folders are known by: the same wherever the folders are.

    For a folder of `.pt` files it is the hash that Side-Step's own maps have.
    """
    hashes = sorted(_pt_hash(store) if store.kind == "pt" else _content_hash(store) for store in stores)
    return hashes[0] if len(hashes) == 1 else hash_text(" ".join(hashes))


def read_rank_map(path: Path) -> RankMap:
    """Read a `fisher_map.json`, Side-Step's or our own.

    Raises:
        ConfigError: it is missing, damaged or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}, this program reads {VERSION}")
        return _structure(path, data)
    except FileNotFoundError as error:
        raise ConfigError(f"no rank map '{path}'; make one with 'sidestep analyze'") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ConfigError(
            f"the rank map '{path}' cannot be used ({reason}); make a new one with 'sidestep analyze', "
            "or train without with --ignore-fisher-map"
        ) from error


def _structure(path: Path, data: Mapping[str, Any]) -> RankMap:
    ranks, alphas = dict(data["rank_pattern"]), dict(data["alpha_pattern"])
    if not ranks or ranks.keys() != alphas.keys():
        raise ValueError("its ranks and alphas are not those of the same projections")
    for name in ranks:
        if not _is_count(ranks[name]) or not _is_count(alphas[name]) or ranks[name] > MAX_RANK:
            raise ValueError(f"{name} has rank {ranks[name]!r} and alpha {alphas[name]!r}")
    return RankMap(
        path=path,
        ranks={name: (ranks[name], alphas[name]) for name in ranks},
        variant=str(data.get("model_variant", "")),
        identity=str(data.get("model_identity", "")),
        dataset_hash=str(data.get("dataset_hash", "")),
        budget=data.get("parameter_budget"),
        adapter_type=str(data.get("adapter_type", "")),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _content_hash(store: TensorStore) -> str:
    return hash_text("\n".join(sorted(f"{song.latents_key} {song.conditioning_key}" for song in store.songs)))


def _pt_hash(store: TensorStore) -> str:
    listed = "|".join(f"{file.name}:{file.stat().st_size}" for file in _pt_files(store))
    # not for security: it is what Side-Step writes
    return hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest()[:12]


def _pt_files(store: TensorStore) -> Iterable[Path]:
    return sorted({*store.path.glob("*.pt"), *(store.latents_file(song) for song in store.songs)})
