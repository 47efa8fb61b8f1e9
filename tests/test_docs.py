"""Documentation in step with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core import hookspecs
from sidestep_core.plugins import Plugins
from sidestep_core.presets import list_presets

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]


def test_the_reference_pages_are_in_step():
    result = subprocess.run(
        [sys.executable, ROOT / ".ci/reference.py", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", [n for n in vars(hookspecs) if n.startswith("sidestep_")])
def test_every_hook_is_documented_and_dated(name):
    text = (ROOT / "docs/reference/hooks.md").read_text("utf-8")
    assert f"## {name}" in text
    assert "versionadded" in (getattr(hookspecs, name).__doc__ or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_every_page_is_in_the_navigation():
    listed = (ROOT / ".mkdocs.yml").read_text("utf-8")
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert [p for p in pages if p not in listed] == []


def test_every_command_shown_exists():
    from sidestep_cli.main import SECTIONS

    known = {name for section in SECTIONS.values() for name in section}
    command = re.compile(r"(?:^|`)sidestep ([a-z][a-z-]*)(?=[ `\n])", re.MULTILINE)
    shown = {word for page in PAGES for word in command.findall(page.read_text("utf-8"))}
    assert shown - known == set()


def test_every_shipped_preset_loads(monkeypatch, tmp_path):
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path))
    presets = list_presets(Plugins(disabled=["*"]))
    assert {p.name for p in presets} >= {"recommended", "quick_test", "vram_8gb", "vram_24gb_plus"}
    assert all(p.description for p in presets)
