"""Options of older command lines that have nothing left to do: they are taken, so that scripts run, and it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# flag: (whether it is a yes-no pair, why it has no effect)
TRAINING: Mapping[str, tuple[bool, str]] = {
    "--offload-encoder": (True, "only the decoder is loaded"),
    "--persistent-workers": (True, "loader processes stay for the whole run"),
    "--chunk-decay-every": (False, "windows are spread evenly over a song without counting"),
    "--crop-mode": (False, "--chunk-duration and --max-latent-length say it"),
    "--shift": (False, "it belongs to generating, not to training"),
    "--num-inference-steps": (False, "it belongs to generating, not to training"),
}


def retired_options(retired: Mapping[str, tuple[bool, str]]) -> Callable[[Decorated], Decorated]:
    """Return a decorator that gives a command hidden options without effect."""

    def decorate(command: Decorated) -> Decorated:
        for flag, (pair, reason) in retired.items():
            declared = f"{flag}/{flag.replace('--', '--no-', 1)}" if pair else flag
            click.option(declared, hidden=True, expose_value=False, default=None, callback=_say(flag, reason))(command)
        return command

    return decorate


def _say(flag: str, reason: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def say(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            click.echo(f"{flag} has no effect any more: {reason}", err=True)

    return say
