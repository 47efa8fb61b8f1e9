"""What an analysis found, and the `fisher_map.json` it becomes. Light."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.ranks import ALPHA, category_of
from sidestep_core.errors import ConfigError
from sidestep_core.files import write_atomic

FILE_NAME = "fisher_map.json"
VERSION = 2
DIGITS = 8
# names in the map's lists of modules are those of a whole checkpoint
PREFIX = "decoder."


@attrs.frozen(kw_only=True)
class Module:
    """One projection.

    Attributes:
        name: original path below the decoder, `layers.0.self_attn.q_proj`.
        score: mean squared gradient of its weight, the mean of all runs.
        deviation: standard deviation of that among the runs.
        effective_rank: singular values that hold 95 % of the weight's energy, -1 if not known.
        rank: what it gets; 0 if it is left out.
    """

    name: str
    score: float
    deviation: float
    effective_rank: int
    rank: int


@attrs.frozen(kw_only=True)
class RunSongs:
    """The songs that a run measured, by name, and in how many batches of one song."""

    songs: tuple[str, ...]
    batches: int


@attrs.frozen(kw_only=True)
class Analysis:
    """Everything an analysis found.

    Attributes:
        model: name of the model folder.
        variant: base, sft, turbo, xl-base ...
        identity: hash that tells the model from others.
        layers: decoder layers.
        timestep_mu: of the distribution of timesteps.
        timestep_sigma: of the distribution of timesteps.
        dataset_hash: what the tensors are known by.
        focus: noise levels that counted.
        limits: smallest and largest timestep.
        songs: how many there are.
        batches: most batches of a run.
        runs: what each run measured.
        base: base rank, given or found for the budget.
        rank_min: smallest rank.
        rank_max: largest rank.
        budget: parameters that may be trained, None without such a limit.
        adapter_type: whose parameters are counted.
        trainable: parameters that the ranks train with that type, None if it cannot tell.
        error: relative standard error of a projection's share of the gradient, the median of all.
        modules: all projections, in the model's order.
    """

    model: str
    variant: str
    identity: str
    layers: int
    timestep_mu: float
    timestep_sigma: float
    dataset_hash: str
    focus: str
    limits: tuple[float, float]
    songs: int
    batches: int
    runs: tuple[RunSongs, ...]
    base: int
    rank_min: int
    rank_max: int
    budget: int | None
    adapter_type: str
    trainable: int | None
    error: float
    modules: tuple[Module, ...]

    @property
    def by_score(self) -> tuple[Module, ...]:
        """All projections, the highest score first."""
        return tuple(sorted(self.modules, key=lambda module: (-module.score, module.name)))

    @property
    def ranked(self) -> tuple[Module, ...]:
        """The projections that get a rank, the highest score first."""
        return tuple(module for module in self.by_score if module.rank)


def layers_and_kinds(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the layers ("0") and the kinds ("self_attn.q_proj") of projections, in the order of their names."""
    parts = [name.split(".", 2) for name in names]
    return list(dict.fromkeys(layer for _, layer, _ in parts)), list(dict.fromkeys(kind for _, _, kind in parts))


def map_file(config: AnalyzeConfig) -> Path:
    """Return where the rank map goes.

    Raises:
        ConfigError: nothing can be written there.
    """
    path = config.output or config.dataset_dir[0]
    path = path if path.suffix == ".json" and not path.is_dir() else path / FILE_NAME
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(f"nothing can be written to '{nearest}'; choose another place with --output")
    return path


def write_map(analysis: Analysis, path: Path) -> None:
    """Write the rank map at once; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, map_text(analysis))


def map_text(analysis: Analysis) -> str:
    """Return the rank map as text; the same analysis gives the same."""
    return json.dumps(as_map(analysis), indent=1, ensure_ascii=False) + "\n"


def as_map(analysis: Analysis) -> dict[str, Any]:
    """Return the rank map in the layout of Side-Step's version 2, with what tells model and tensors from others."""
    ranked = analysis.ranked
    return {
        "version": VERSION,
        "model_variant": analysis.variant or analysis.model,
        "model_identity": analysis.identity,
        "num_hidden_layers": analysis.layers,
        "timestep_focus": analysis.focus,
        "timestep_range": list(analysis.limits),
        # 1: every sample has r = t
        "timestep_params": {"mu": analysis.timestep_mu, "sigma": analysis.timestep_sigma, "data_proportion": 1.0},
        "num_runs": len(analysis.runs),
        "batches_per_run": analysis.batches,
        "total_batches": sum(run.batches for run in analysis.runs),
        "base_rank": analysis.base,
        "rank_budget": {"min": analysis.rank_min, "max": analysis.rank_max},
        "parameter_budget": analysis.budget,
        "adapter_type": analysis.adapter_type,
        "dataset_hash": analysis.dataset_hash,
        "ranking_error": _rounded(analysis.error),
        "target_modules": sorted({_suffix(module.name) for module in ranked}),
        "rank_pattern": {module.name: module.rank for module in ranked},
        "alpha_pattern": {module.name: ALPHA * module.rank for module in ranked},
        "modules": [_module(module) for module in ranked],
        "excluded_modules": [PREFIX + module.name for module in analysis.by_score if not module.rank],
        "sample_coverage": [
            {
                "run": number,
                "selected_count": len(run.songs),
                "total_count": analysis.songs,
                "coverage_ratio": len(run.songs) / analysis.songs,
                "selected_files": list(run.songs),
            }
            for number, run in enumerate(analysis.runs)
        ],
    }


def _module(module: Module) -> dict[str, Any]:
    return {
        "name": PREFIX + module.name,
        "fisher_score": _rounded(module.score),
        "fisher_cross_run_std": _rounded(module.deviation),
        "effective_rank": module.effective_rank,
        "assigned_rank": module.rank,
    }


def _rounded(value: float) -> float | None:
    """Return a number with eight digits, however small it is; None where it is not finite."""
    return float(f"{value:.{DIGITS}g}") if abs(value) < float("inf") else None


def _suffix(name: str) -> str:
    return name[name.index(category_of(name)) :]
