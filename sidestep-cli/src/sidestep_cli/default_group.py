"""A click group of which one command is meant where none is named."""

from __future__ import annotations

from typing import Any

import click


class DefaultGroup(click.Group):
    """A group that hands arguments which do not begin with one of its commands to the default one.

    Args:
        default: name of that command.
    """

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name in front where there is no other."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)
