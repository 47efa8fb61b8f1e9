"""Registers what the command line shows as something that any run may use."""

from __future__ import annotations

from sidestep_core import hookimpl
from sidestep_core.specs import ObserverType

sidestep_api = 1


@hookimpl
def sidestep_observers() -> list[ObserverType]:
    """Offer the command line's plain display to runs that are started from Python."""
    return [
        ObserverType(
            name="lines",
            summary="Prints a line for each report, as the command does where there is no terminal",
            target="sidestep_cli.display:LinesObserver",
        )
    ]
