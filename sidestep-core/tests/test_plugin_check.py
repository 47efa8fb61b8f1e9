"""What an author is told about a plugin module before it is installed."""

from __future__ import annotations

import pytest
from sidestep_core.errors import LoadError
from sidestep_core.plugin_check import faults, heavy_imports, load_alone

HEADER = """
from sidestep_core import config, hookimpl, option
from sidestep_core.specs import AdapterType
sidestep_api = 1


class Thing:
    pass
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a plugin module and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, body: str) -> str:
        (tmp_path / f"{name}.py").write_text(HEADER + body, encoding="utf-8")
        return name

    return make


def found(module: str) -> list[str]:
    return list(faults(module, load_alone(module)))


def offering(target: str, more: str = "") -> str:
    made = f'AdapterType(name="thing", summary="A thing", target="{target}"{more})'
    return f"@hookimpl\ndef sidestep_adapters():\n    return [{made}]\n"


def test_a_good_plugin_has_none(write):
    assert found(write("checked_good", offering("checked_good:Thing"))) == []


def test_a_heavy_import_is_named(write):
    assert found(write("checked_weighty", "import numpy\n")) == [
        "importing it imports numpy: plugin modules must stay light"
    ]


def test_a_target_that_is_not_there_is_named(write):
    (fault,) = found(write("checked_lost", offering("checked_lost:Gone")))
    assert "cannot be loaded from checked_lost:Gone" in fault


def test_a_target_that_cannot_be_called_is_named(write):
    assert found(write("checked_fixed", offering("checked_fixed:sidestep_api"))) == [
        "adapter 'thing': checked_fixed:sidestep_api is not callable"
    ]


def test_a_target_whose_library_is_absent_is_no_fault(write):
    assert found(write("checked_absent", offering("no_such_library:Thing", ', needs=("no-such-library",)'))) == []


def test_a_config_without_defaults_is_named(write):
    settings = '@config\nclass Settings:\n    """Needs one."""\n    size: int = option(help="Size.")\n\n\n'
    (fault,) = found(write("checked_needy", settings + offering("checked_needy:Thing", ", config=Settings")))
    assert "its defaults cannot be used" in fault


def test_a_forgotten_mark_is_named(write):
    body = "def sidestep_adapters():\n    return []\n"
    assert found(write("checked_forgetful", body)) == ["sidestep_adapters is not marked with @hookimpl: not called"]


def test_a_module_that_does_not_import_is_an_error(write):
    with pytest.raises(LoadError, match="cannot be imported: ZeroDivisionError"):
        load_alone(write("checked_failing", "1 / 0\n"))


def test_imports_are_looked_at_in_a_process_of_their_own():
    assert heavy_imports("json") == []


@pytest.mark.parametrize("error", ["SystemExit(0)", "SystemExit('bye')", "BaseException"])
def test_a_module_that_ends_the_process_is_an_error(write, error):
    with pytest.raises(LoadError, match="cannot be imported"):
        load_alone(write("ending", f"raise {error}"))
