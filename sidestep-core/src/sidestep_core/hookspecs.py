"""The hooks a plugin may implement. All but the last two return specs and do no work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from sidestep_core import specs

PROJECT = "sidestep"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def sidestep_adapters() -> Iterable[specs.AdapterType]:
    """Return the adapter types this plugin offers.

    Called once when plugins are collected. An error here marks the plugin broken and loses this hook's specs only.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_timestep_samplers() -> Iterable[specs.TimestepSamplerType]:
    """Return the ways this plugin offers to draw training timesteps. Called as `sidestep_adapters` is.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_lr_controllers() -> Iterable[specs.LRControllerType]:
    """Return the learning-rate controllers this plugin offers. Called as `sidestep_adapters` is.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_optimizers() -> Iterable[specs.OptimizerType]:
    """Return the optimizers this plugin offers. Called as `sidestep_adapters` is.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_providers() -> Iterable[specs.ProviderType]:
    """Return the caption, lyrics and metadata providers this plugin offers. Called as `sidestep_adapters` is.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_exporters() -> Iterable[specs.ExporterType]:
    """Return the formats this plugin can export an adapter to. Called as `sidestep_adapters` is.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_observers() -> Iterable[specs.ObserverType]:
    """Return the observers this plugin offers; a run uses those that were chosen for it, never all installed ones.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_analyzers() -> Iterable[specs.AnalyzerType]:
    """Return the offline audio analyses this plugin offers. Called as `sidestep_adapters` is.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_separators() -> Iterable[specs.SeparatorType]:
    """Return the ways this plugin offers to take songs apart into vocals and instruments.

    Called as `sidestep_adapters` is.

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def sidestep_presets() -> Iterable[Path | Traversable]:
    """Return TOML preset files, named by their stem. Called when presets are listed or looked up.

    .. versionadded:: 0.1
    """
    return ()


@hookspec(firstresult=True)
def sidestep_secret(service: str) -> str | None:
    """Return the secret of a service such as "gemini", or None to let the next plugin try.

    Called when a secret is needed. The core's own implementation comes last: environment, then keyring.

    .. versionadded:: 0.1
    """
