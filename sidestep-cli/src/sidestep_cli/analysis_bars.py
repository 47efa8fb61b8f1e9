"""An analysis as moving bars: one for each run, one for the weights."""

from __future__ import annotations

from sidestep_core import events
from sidestep_core.events import Event

from sidestep_cli.analysis_screen import show_result
from sidestep_cli.preprocess_bars import PreprocessBars


class AnalysisBars(PreprocessBars):
    """A screen with a bar for each run; it is taken down before the result is printed."""

    def show(self, event: Event) -> None:
        """Move the bar of the event's stage."""
        match event:
            case events.StageStarted():
                self._complete()
                super().show(event)
            case events.WeightMeasured():
                super().show(events.SongFinished(stage=event.stage, name=event.name))
            case events.AnalysisFinished() | events.RankMapSaved():
                self._complete()
                self._bars.stop()
                show_result(event)
            case _:
                super().show(event)

    def _complete(self) -> None:
        """Let a run that ended early be at its end."""
        for task in self._bars.tasks:
            self._bars.update(task.id, total=task.completed, song="")
