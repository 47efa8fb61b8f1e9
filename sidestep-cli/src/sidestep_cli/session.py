"""What every command is given: how to show things, and the toolkit on first use."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sidestep_core.toolkit import Toolkit


class Session:
    """One run of the command line.

    Args:
        toolkit: the toolkit to use; the installed plugins and the user's settings when None.
    """

    def __init__(self, toolkit: Toolkit | None = None) -> None:
        self.plain = False
        self.yes = False
        self._toolkit = toolkit

    @functools.cached_property
    def toolkit(self) -> Toolkit:
        """The toolkit; plugins are looked for when it is first asked for."""
        from sidestep_core.toolkit import Toolkit

        return self._toolkit or Toolkit.discover()

    @property
    def moving(self) -> bool:
        """Whether bars that redraw themselves can be shown: stderr is a terminal and nobody wants plain lines."""
        return not self.plain and os.environ.get("TERM") != "dumb" and sys.stderr.isatty()


pass_session = click.make_pass_decorator(Session, ensure=True)
