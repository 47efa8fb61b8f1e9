"""Write the reference pages from the declarations they describe; with --check, fail when a page is out of step."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from sidestep_cli.commands.train import GROUPS
from sidestep_cli.main import cli
from sidestep_core import configs, hookspecs, settings
from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.bench.settings import BenchConfig
from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.options import Option, options_of
from sidestep_core.plugins import Plugins
from sidestep_core.separating import StemsConfig
from sidestep_core.toolkit import Toolkit

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTICE = "<!-- made by .ci/reference.py: change the declarations, then run `python3 dev.py docs` -->\n\n"
WIDTH = 80


def command_page() -> str:
    """Return the help of every command."""
    parts = ["# Commands\n"]
    for path, command in _commands(cli, "sidestep"):
        context = click.Context(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH)
        parts.append(f"## {path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _commands(child, f"{path} {name}")


def settings_page() -> str:
    """Return a table for every group of settings and every component."""
    parts = [
        "# Settings\n",
        "Settings of a run stand in tables of a preset, named as in the headings; a component's table has its `type`. "
        "On the command line each is the flag beside it.\n",
    ]
    groups = [group for group in GROUPS if not group.unlocked_by]
    parts += [f"## [{group.name}]\n\n{_table(group.settings())}" for group in groups]
    for kind, registry in Plugins(disabled=["*"]).registries.items():
        if not len(registry):
            continue
        parts.append(f"## {kind.replace('-', ' ').capitalize()}s\n")
        for spec in registry.values():
            parts.append(f"### {spec.name}\n\n{spec.summary}.\n")
            if spec.config is not None and list(options_of(spec.config)):
                parts.append(_table(options_of(spec.config)))
    parts.append(f"## preprocess\n\n{_table(options_of(configs.PreprocessConfig))}")
    parts.append(f"## analyze\n\n{_table(options_of(AnalyzeConfig))}")
    parts.append(f"## captions\n\n{_table(options_of(CaptionsConfig))}")
    parts.append(f"## stems\n\n{_table(options_of(StemsConfig))}")
    parts.append(f"## bench\n\n{_table(options_of(BenchConfig))}")
    parts.append(f"## dataset check\n\n{_table(options_of(configs.CheckConfig))}")
    parts.append("## User settings\n\nKept in one file; `sidestep settings path` says where.\n")
    parts += [f"### [{name}]\n\n{_table(options_of(table), flags=False)}" for name, table in settings.TABLES.items()]
    return "\n".join(parts)


def _table(settings: Iterable[Option], *, flags: bool = True) -> str:
    columns = ("setting", *(("flag",) if flags else ()), "type", "default", "meaning")
    rows = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for option in settings:
        named = " ".join(f"`{flag}`" for flag in (*option.flags, *([option.short] if option.short else [])))
        cells = (f"`{option.name}`", *((named,) if flags else ()), _type(option), _default(option), option.help)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _type(option: Option) -> str:
    name = (
        ", ".join(option.choices)
        if option.choices
        else {"Path": "path", "str": "text"}.get(option.type.__name__, option.type.__name__)
    )
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in (("≥", option.at_least), (">", option.above), ("≤", option.at_most), ("<", option.below))
        if bound is not None
    ]
    return " ".join([name, *bounds, *(["several"] if option.many else [])])


def _default(option: Option) -> str:
    if option.required:
        return "required"
    if option.default is None or option.default == ():
        return "–"
    value = " ".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "–"


def hooks_page() -> str:
    """Return every hook with its documentation."""
    parts = ["# Hooks\n", "A plugin implements the hooks it needs; see [writing a plugin](../plugins/writing.md).\n"]
    for name, function in vars(hookspecs).items():
        if name.startswith("sidestep_"):
            text = inspect.getdoc(function) or ""
            text = text.replace(".. versionadded:: ", "Since ")
            parts.append(f"## {name}\n\n```python\n{name}{inspect.signature(function)}\n```\n\n{text}\n")
    return "\n".join(parts)


def python_page() -> str:
    """Return the toolkit's methods with their documentation."""
    parts = ["# Python\n", f"## Toolkit\n\n```text\n{inspect.getdoc(Toolkit)}\n```\n"]
    for name, member in vars(Toolkit).items():
        if name.startswith("_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        shown = name if isinstance(member, property) else f"{name}{_signature(function)}"
        parts.append(f"### {name}\n\n```python\n{shown}\n```\n\n```text\n{inspect.getdoc(function)}\n```\n")
    return "\n".join(parts)


def _signature(function: Callable[..., object]) -> str:
    """Return a signature in which a function that is a default goes by its name, not its address."""
    return re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", str(inspect.signature(function)))


MAKERS: dict[str, Callable[[], str]] = {
    "cli.md": command_page,
    "settings.md": settings_page,
    "hooks.md": hooks_page,
    "python.md": python_page,
}


def main() -> int:
    """Write the pages, or with --check name those that are out of step."""
    os.environ["SIDESTEP_DISABLE_PLUGINS"] = "*"
    pages = {PAGES / name: NOTICE + make() for name, make in MAKERS.items()}
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
        print("\n".join(f"docs/reference/{name} is out of step: run python3 dev.py docs" for name in stale))
        return 1 if stale else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
