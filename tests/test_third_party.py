"""Real distributions in a throwaway site folder: good, broken, blocked, incompatible and colliding plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

GOOD = """
    from sidestep_core import hookimpl
    from sidestep_core.specs import ExporterType
    sidestep_api = 1

    @hookimpl
    def sidestep_exporters():
        return [ExporterType(name={name!r}, summary="Made up", target="{module}:Wave")]

    class Wave:
        def __init__(self, config, context):
            pass
"""


class Site:
    """A site folder that a Python process is pointed at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, distribution: str, code: str, *, entry_points: str = "", **fields: str) -> None:
        """Put in what installing a pure wheel would: a module and its metadata."""
        module = distribution.replace("-", "_")
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code).format(module=module, **fields), "utf-8")
        info = self.folder / f"{module}-0.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.5\n", "utf-8")
        entries = entry_points or f"[sidestep]\n{module.removeprefix('sidestep_')} = {module}\n"
        (info / "entry_points.txt").write_text(entries, "utf-8")

    def run(self, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "100", **variables}
        environment["SIDESTEP_CONFIG_DIR"] = str(self.folder / "config")
        command = [sys.executable, "-m", "sidestep_cli", *args]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder)

    def records(self, **variables: str) -> dict[str, dict[str, object]]:
        result = self.run("plugins", "list", "--json", **variables)
        assert result.returncode == 0, result.stderr
        return {record["name"]: record for record in json.loads(result.stdout)}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_third_party_plugin_is_listed_with_its_distribution(site):
    site.install("sidestep-wave", GOOD, name="wave")
    record = site.records()["wave"]
    assert (record["status"], record["distribution"], record["version"]) == ("ok", "sidestep-wave", "0.5")


@pytest.mark.parametrize(
    ("code", "status", "problem"),
    [
        ("import sys; sys.exit('bye')", "broken", "SystemExit: bye"),
        ("import no_such_library", "broken", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1/0", "broken", "ZeroDivisionError: division by zero"),
        ("sidestep_api = 7", "incompatible", "written for plugin API 7, this is 1"),
        ("", "incompatible", "written for plugin API None, this is 1"),
        ("def broken(:", "broken", "SyntaxError"),
    ],
)
def test_a_bad_plugin_is_listed_with_its_reason_and_takes_nothing_down(site, code, status, problem):
    site.install("sidestep-bad", code)
    site.install("sidestep-wave", GOOD, name="wave")
    records = site.records()
    assert records["bad"]["status"] == status
    assert problem in records["bad"]["problems"][0]
    assert records["wave"]["status"] == "ok"
    assert [records[name]["status"] for name in ("core", "adapters", "exporters", "captioners", "cli")] == ["ok"] * 5


def test_a_blocked_plugin_is_not_imported(site):
    site.install("sidestep-marker", "open('imported', 'w').close()\nsidestep_api = 1")
    assert site.records(SIDESTEP_DISABLE_PLUGINS="sidestep-marker")["marker"]["status"] == "blocked"
    assert not (site.folder / "imported").exists()


def test_safe_mode_blocks_every_third_party_plugin(site):
    site.install("sidestep-wave", GOOD, name="wave")
    records = site.records(SIDESTEP_DISABLE_PLUGINS="*")
    assert records["wave"]["status"] == "blocked"
    assert records["core"]["status"] == "ok"


def test_a_plugin_can_be_blocked_in_the_settings(site):
    site.install("sidestep-wave", GOOD, name="wave")
    assert site.run("settings", "set", "disabled", "wave").returncode == 0
    assert site.records()["wave"]["status"] == "blocked"


def test_a_first_party_name_cannot_be_taken_over(site):
    site.install("sidestep-impostor", GOOD, name="native")
    records = site.records()
    assert "exporter 'native' is also offered by exporters" in records["impostor"]["problems"]
    wanted = site.run("export", "nowhere", "--target", "native")
    assert "nowhere" in wanted.stderr


def test_a_name_that_two_plugins_offer_must_be_qualified(site):
    site.install("sidestep-one", GOOD, name="wave")
    site.install("sidestep-two", GOOD, name="wave")
    (site.folder / "adapter").mkdir()
    result = site.run("export", "adapter", "--target", "wave")
    assert result.returncode == 2
    assert "one:wave or two:wave" in result.stderr


def test_the_traceback_of_a_broken_plugin_can_be_seen(site):
    site.install("sidestep-bad", "1/0")
    result = site.run("plugins", "show", "bad")
    assert "ZeroDivisionError" in result.stdout
    assert "sidestep_bad.py" in result.stdout


def test_a_third_party_command_is_listed_without_being_imported(site):
    code = "open('imported', 'w').close()\nimport click\nhello = click.Command('hello', callback=lambda: print('hi'))"
    site.install("sidestep-hello", code, entry_points="[sidestep.commands]\nhello = sidestep_hello:hello\n")
    listed = site.run("--help")
    assert "hello" in listed.stdout
    assert "sidestep-hello" in listed.stdout
    assert not (site.folder / "imported").exists()
    assert site.run("hello").stdout == "hi\n"


def test_a_third_party_command_that_cannot_be_loaded_costs_one_line(site):
    site.install("sidestep-hello", "1/0", entry_points="[sidestep.commands]\nhello = sidestep_hello:hello\n")
    result = site.run("hello")
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "sidestep-hello" in result.stderr


def test_an_author_can_check_a_module(site):
    site.install("sidestep-wave", GOOD, name="wave")
    assert site.run("plugins", "check", "sidestep_wave").returncode == 0
    (site.folder / "heavy.py").write_text("import torch\nsidestep_api = 1\n", "utf-8")
    result = site.run("plugins", "check", "heavy")
    assert result.returncode == 1
    assert "torch" in result.stdout + result.stderr
