"""`sidestep plugins`: what is installed, what it offers and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from sidestep_core.errors import UnknownName
from sidestep_core.plugins import PluginRecord
from sidestep_core.specs import Spec

from sidestep_cli.output import json_option, plural, print_facts, print_json, print_table
from sidestep_cli.session import Session, pass_session

COLOURS = {"ok": "green", "blocked": "yellow", "broken": "red", "incompatible": "red"}


@click.group()
def plugins() -> None:
    """List plugins and what they offer.

    Everything that sidestep lets you choose (adapter types, optimizers, export targets ...) comes from plugins, its
    own included. One that does not load never stops the others.
    """


@plugins.command("list")
@json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """List every plugin found, working or not.

    A plugin is blocked by the setting 'disabled' or by the environment variable SIDESTEP_DISABLE_PLUGINS: names of
    plugins or distributions with commas between them, * for all that do not come with sidestep.
    """
    records = session.toolkit.records
    if as_json:
        print_json([_as_dict(record) for record in records])
        return
    rows = [
        (_styled(record.status), record.name, record.distribution, record.version, _says(record)) for record in records
    ]
    print_table(("status", "plugin", "from", "version", "offers"), rows)


@plugins.command()
@click.argument("name")
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show one plugin: what it offers, its problems and the traceback of the last one."""
    records = session.toolkit.records
    record = next((r for r in records if name in (r.name, r.distribution)), None)
    if record is None:
        raise UnknownName(f"no plugin {name!r}; there is {', '.join(r.name for r in records)}")
    if as_json:
        print_json(_as_dict(record) | {"traceback": record.traceback})
    else:
        _print_record(record)


@plugins.command()
@click.argument("module")
def check(module: str) -> int:
    """Check a plugin module you are writing: that it registers, and that everything it offers can be imported.

    MODULE is what its entry point names, such as sidestep_band.plugin; the working folder is searched as well.
    """
    from sidestep_core.plugin_check import faults, load_alone

    sys.path.insert(0, str(Path.cwd()))
    record = load_alone(module)
    found = list(faults(module, record))
    _print_record(record)
    for fault in found[len(record.problems) :]:
        click.echo(f"{_styled('broken')}  {fault}")
    click.echo(f"{module}: {plural(len(found), 'problem') if found else 'everything in order'}")
    return 1 if found else 0


def _offers(record: PluginRecord) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for spec in record.specs:
        kinds.setdefault(spec.kind, []).append(spec.name)
    return kinds


def _says(record: PluginRecord) -> str:
    offers = "; ".join(f"{kind} {', '.join(names)}" for kind, names in _offers(record).items())
    return ". ".join([*([offers] if offers else []), *record.problems])


def _styled(status: str) -> str:
    return click.style(status, fg=COLOURS[status])


def _print_record(record: PluginRecord) -> None:
    facts = [("plugin", record.name), ("from", f"{record.distribution} {record.version}".strip())]
    print_facts([*facts, ("status", record.status), *(("problem", problem) for problem in record.problems)])
    if record.specs:
        click.echo()
        rows = [(spec.kind, spec.name, _summary(spec)) for spec in record.specs]
        print_table(("kind", "name", "what it is"), rows)
    if record.traceback:
        click.echo(f"\n{record.traceback.rstrip()}")


def _summary(spec: Spec) -> str:
    absent = spec.missing()
    return f"{spec.summary} (needs {', '.join(absent)})" if absent else spec.summary


def _as_dict(record: PluginRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "status": record.status,
        "problems": record.problems,
        "offers": [
            {"kind": s.kind, "name": s.name, "summary": s.summary, "missing": list(s.missing())} for s in record.specs
        ],
    }
