"""Where a command works: a path behind it, or behind --input, as older command lines have it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def input_path(name: str, *, file_okay: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command a path that must exist, as its parameter `name`.

    Args:
        name: parameter of the function; in the help in capitals.
        file_okay: whether it may be a file.
    """
    kind = click.Path(exists=True, file_okay=file_okay, path_type=Path)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def call(*args: Any, **values: Any) -> Any:
            given = {path for key in ("behind", "named") if (path := values.pop(key)) is not None}
            if len(given) != 1:
                raise click.UsageError(f"{'give' if not given else 'more than one'} {name.upper()}")
            return command(*args, **values, **{name: given.pop()})

        option = click.option("-i", "--input", "named", type=kind, hidden=True)
        return click.argument("behind", metavar=name.upper(), required=False, type=kind)(option(call))

    return decorate
