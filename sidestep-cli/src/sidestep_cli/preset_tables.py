"""Tables of presets: from a command line, and from files of others, checked as a run would check them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidestep_core.presets import Preset, read_preset

from sidestep_cli.commands.train import SLOTS, train
from sidestep_cli.config_file import read_table
from sidestep_cli.parts import Resolved, Slot
from sidestep_cli.session import Session


def given_tables(settings: Resolved, slots: Sequence[Slot]) -> dict[str, dict[str, Any]]:
    """Return what was said as a preset has it; a slot is left out where its default was left alone."""
    tables = {name: dict(settings.given[name]) for name in settings.groups if settings.given[name]}
    for slot in slots:
        chosen = [choice.name for choice in settings.slots[slot.name]]
        own = {name: dict(settings.given[f"{slot.name}.{name}" if slot.more else slot.name]) for name in chosen}
        if chosen == [slot.default] and not any(own.values()):
            continue
        tables[slot.name] = own if slot.more else {"type": chosen[0], **own[chosen[0]]}
    return tables


def read_foreign(file: Path, session: Session) -> Preset:
    """Read a preset of sidestep (.toml) or Side-Step (.json), and check every setting of it.

    Raises:
        ConfigError: it cannot be read, or holds what no run takes.
    """
    if file.suffix.lower() == ".toml":
        preset = read_preset(file, "user")
        _tables(["--preset", str(file)], session)
        return preset
    about = read_table(file)
    return Preset(
        name="_".join(str(about.get("name") or file.stem).split()),
        origin="user",
        description=str(about.get("description") or ""),
        tables=_tables(["--config", str(file)], session),
    )


def _tables(words: list[str], session: Session) -> dict[str, dict[str, Any]]:
    with train.make_context("train", words, obj=session) as context:
        return given_tables(train.resolved(context), SLOTS)
