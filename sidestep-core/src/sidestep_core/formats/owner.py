"""Which model an adapter belongs to, told from what it says about itself, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sidestep_core.model.layout import ModelFolder, identity


def find_owner(models: Sequence[ModelFolder], metadata: Mapping[str, str]) -> ModelFolder | None:
    """Return the model that an adapter was trained on, if it is among some."""
    wanted = metadata.get("base_identity")
    named = sorted(models, key=lambda model: model.name != metadata.get("base_model"))
    return next((model for model in named if wanted and identity(model) == wanted), None)


def owner_fault(model: ModelFolder, metadata: Mapping[str, str]) -> str:
    """Return what is wrong with using a model for an adapter, or ""."""
    wanted = metadata.get("base_identity")
    if not wanted or identity(model) == wanted:
        return ""
    name = metadata.get("base_model", "another model")
    other = "another version of it" if name == model.name else f"{model.name!r}"
    return f"the adapter was trained on {name!r}, this is {other}"
