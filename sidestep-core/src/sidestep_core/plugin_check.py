"""What every plugin module must keep, checked without installing it: for `sidestep plugins check` and the contract."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator

from sidestep_core.conversion import structure, unstructure
from sidestep_core.errors import LoadError, SidestepError
from sidestep_core.plugins import PluginRecord, Plugins
from sidestep_core.specs import Spec

HEAVY = {
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "peft",
    "lycoris",
    "accelerate",
    "safetensors",
    "librosa",
    "soundfile",
    "openai",
    "google.genai",
}


def load_alone(module: str) -> PluginRecord:
    """Return what becomes of a plugin module when it is loaded without any other.

    Raises:
        LoadError: it cannot be imported.
    """
    try:
        plugin = importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # foreign code may do anything at import, sys.exit() included
        raise LoadError(f"module {module!r} cannot be imported: {type(error).__name__}: {error}") from error
    return Plugins(entry_points=False, extra={module: plugin}).records[0]


def heavy_imports(module: str) -> list[str]:
    """Return the heavy libraries that importing a module pulls in, found out in a process of its own."""
    code = f"import sys; sys.path = {sys.path!r}; import {module}; print(*({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return sorted(done.stdout.split())


def faults(module: str, record: PluginRecord) -> Iterator[str]:
    """Yield everything that is wrong with a loaded plugin, a line each."""
    yield from record.problems
    if heavy := heavy_imports(module):
        yield f"importing it imports {', '.join(heavy)}: plugin modules must stay light"
    for spec in record.specs:
        yield from _spec_faults(spec)


def _spec_faults(spec: Spec) -> Iterator[str]:
    if not spec.missing():
        try:
            if not callable(spec.load()):
                yield f"{spec.kind} {spec.name!r}: {spec.target} is not callable"
        except LoadError as error:
            yield str(error)
    if spec.config is None:
        return
    try:
        if structure(unstructure(spec.config()), spec.config, spec.name) != spec.config():
            yield f"{spec.kind} {spec.name!r}: its defaults do not survive being written and read back"
    except (SidestepError, TypeError, ValueError) as error:
        yield f"{spec.kind} {spec.name!r}: its defaults cannot be used: {error}"
