"""Plugin core, data, model and training engine of sidestep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidestep_core.hookspecs import hookimpl
from sidestep_core.options import config, option

if TYPE_CHECKING:
    from sidestep_core.toolkit import Toolkit

__all__ = ["Toolkit", "config", "hookimpl", "option"]


def __getattr__(name: str) -> Any:
    if name == "Toolkit":
        from sidestep_core.toolkit import Toolkit

        return Toolkit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
