"""The command line's own plugin."""

from __future__ import annotations

from pathlib import Path

from sidestep_cli.display import LinesObserver
from sidestep_core.events import CheckpointSaved, RunFinished
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import PluginContract


class TestCliPlugin(PluginContract):
    plugin = "sidestep_cli.plugin"


def test_a_run_from_python_can_be_followed_in_lines(capsys):
    observer = LinesObserver(None, BuildContext())
    observer.observe(CheckpointSaved(step=3, epoch=1, path=Path("run/checkpoints/step_3")))
    observer.observe(RunFinished(step=4, reason="complete", loss=0.5, adapter=Path("run/final"), seconds=2.0))
    observer.close()
    printed = capsys.readouterr()
    assert printed.err == "saved step 3 in run/checkpoints/step_3\n"
    assert printed.out.splitlines()[-1] == "adapter in run/final"
