"""A click group that imports a subcommand only when it is run or asked for help."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class LazyCommand(NamedTuple):
    """Where a command lives (`module:attribute`) and the line shown for it."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group of commands named by strings, shown under headings, and of commands that other packages bring.

    Args:
        sections: heading -> command name -> where it lives.
        entry_point_group: entry points that name further commands; listed without being imported.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, LazyCommand]],
        entry_point_group: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.entry_point_group = entry_point_group

    @property
    def lazy(self) -> dict[str, LazyCommand]:
        """The group's own commands by name."""
        return {name: command for section in self.sections.values() for name, command in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, own commands first."""
        return [*self.lazy, *self._foreign()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command; one of another package that fails to import is an error of one line."""
        own = self.lazy.get(name)
        if own is not None:
            module, _, attribute = own.target.partition(":")
            return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
        foreign = self._foreign().get(name)
        return None if foreign is None else _load(foreign)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the listing; nothing is imported for it."""
        rows = {title: [(n, c.help) for n, c in commands.items()] for title, commands in self.sections.items()}
        if foreign := self._foreign():
            rows["From other packages"] = [(name, f"From {_distribution(e)}.") for name, e in foreign.items()]
        width = max(len(name) for name in self.list_commands(ctx))
        for title, section in rows.items():
            with formatter.section(title):
                # one width for all sections: the columns line up
                formatter.write_dl([(name.ljust(width), help_) for name, help_ in section])

    def _foreign(self) -> dict[str, importlib.metadata.EntryPoint]:
        found = importlib.metadata.entry_points(group=self.entry_point_group)
        return {e.name: e for e in sorted(found, key=lambda e: (e.name, _distribution(e))) if e.name not in self.lazy}


def _distribution(entry_point: importlib.metadata.EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist is not None else "an unknown package"


def _load(entry_point: importlib.metadata.EntryPoint) -> click.Command:
    where = f"command {entry_point.name!r} of {_distribution(entry_point)}"
    try:
        command = entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # foreign code may do anything at import, sys.exit() included
        raise click.ClickException(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(command, click.Command):
        raise click.ClickException(f"{where} is no click command but {command!r}")
    return command
