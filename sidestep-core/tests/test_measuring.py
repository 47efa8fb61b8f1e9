"""Measuring songs: what is decoded, what is written, and what one bad file costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sidestep_core import hookimpl
from sidestep_core.configs import MeasureConfig
from sidestep_core.describing.provenance import SourceKind, read_sources, sources_path, write_fields
from sidestep_core.errors import Cancelled, ConfigError, DatasetError, LoadError
from sidestep_core.events import MeasureFinished, SongMeasured, SongRejected, StageStarted
from sidestep_core.requests import Choice
from sidestep_core.sidecars import parse, read_sidecar
from sidestep_core.specs import AnalyzerType
from sidestep_core.synthetic import write_songs
from sidestep_core.toolkit import Toolkit

# the analysers live in a module of their own, which processes that are started anew can import
ANALYZERS = '''
import os
from pathlib import Path
from sidestep_core.errors import AudioError
from sidestep_core.interfaces import Measured

LEVELS = {"bpm": "high", "key": "medium", "signature": "low"}
VALUES = {"bpm": "120", "key": "A minor", "signature": "3/4"}


class Noting:
    """Measures the same of every song and notes each call in a file."""

    def __init__(self, config, context):
        self.device = context.device
        with open("built.log", "a") as log:
            log.write(f"{os.getpid()} {self.device}\\n")

    def analyze(self, audio, wanted):
        with open("analyzed.log", "a") as log:
            log.write(f"{os.getpid()} {','.join(sorted(wanted))} {audio.shape[0]} {audio.dtype}\\n")
        return {
            name: Measured(value=value, confidence=LEVELS[name], probability=0.5, others=("other",))
            for name, value in VALUES.items()
        }


class Failing(Noting):
    def analyze(self, audio, wanted):
        raise AudioError("nothing that could be measured")
'''
EVERYTHING = frozenset({"bpm", "key", "signature"})


class Plugin:
    """Offers the analysers of the module above."""

    sidestep_api = 1

    @staticmethod
    @hookimpl
    def sidestep_analyzers() -> list[AnalyzerType]:
        """Return them."""
        shared = {"summary": "For tests", "supplies": EVERYTHING}
        return [
            AnalyzerType(name="noting", target="noting_analyzers:Noting", in_processes=False, **shared),
            AnalyzerType(name="many", target="noting_analyzers:Noting", **shared),
            AnalyzerType(name="failing", target="noting_analyzers:Failing", in_processes=False, **shared),
            AnalyzerType(name="absent", target="noting_analyzers:Noting", needs=("no-such-thing",), **shared),
        ]


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two short songs without sidecars, and make the analysers importable."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "noting_analyzers.py").write_text(ANALYZERS)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "songs"
    write_songs(folder, seconds=(1.0, 1.0))
    for sidecar in folder.rglob("*.txt"):
        sidecar.unlink()
    return folder


@pytest.fixture
def measure(songs: Path) -> Callable[..., list[Any]]:
    """Return a function that measures the songs and gives the events."""
    toolkit = Toolkit(plugins={"noting": Plugin}, entry_points=False)

    def call(analyzer: str = "noting", *, cancelled: Callable[[], bool] = lambda: False, **settings: Any) -> list[Any]:
        config = MeasureConfig(**({"input": songs} | settings))
        return list(toolkit.measure(config, Choice(name=analyzer), cancelled=cancelled))

    return call


Measure = Callable[..., list[Any]]


def lines(name: str) -> list[str]:
    return Path(name).read_text().splitlines() if Path(name).exists() else []


def audio_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac"))


def test_what_is_certain_enough_is_written(measure: Measure, songs: Path) -> None:
    events = measure()
    sidecar = read_sidecar(audio_in(songs)[0])
    assert sidecar is not None
    assert (sidecar.bpm, sidecar.key, sidecar.signature) == ("120", "A minor", "")
    measured = [event for event in events if isinstance(event, SongMeasured)]
    assert {(event.written, event.doubtful) for event in measured} == {(("bpm", "key"), ("signature",))}
    assert measured[0].found["signature"].others == ("other",)


def test_events_begin_with_the_stage_and_end_with_the_sum(measure: Measure, songs: Path) -> None:
    first, *_, last = measure()
    count = len(audio_in(songs))
    assert first == StageStarted(stage="measure", total=count)
    assert last == MeasureFinished(written=count, complete=0, doubtful=count, rejected=())


@pytest.mark.parametrize(("level", "written"), [("high", ("bpm",)), ("low", ("bpm", "key", "signature"))])
def test_the_least_confidence_can_be_chosen(measure: Measure, level: str, written: tuple[str, ...]) -> None:
    assert {event.written for event in measure(confidence=level) if isinstance(event, SongMeasured)} == {written}


def test_a_song_that_is_described_completely_is_not_even_decoded(measure: Measure, songs: Path) -> None:
    for path in audio_in(songs):
        path.write_bytes(b"not audio at all")
        path.with_suffix(".txt").write_text("bpm: 90\nkey: C major\nsignature: 4/4\n")
    *_, last = measure()
    assert (last.complete, last.rejected) == (len(audio_in(songs)), ())
    assert lines("analyzed.log") == []


def test_only_missing_fields_are_asked_for(measure: Measure, songs: Path) -> None:
    for path in audio_in(songs):
        path.with_suffix(".txt").write_text("bpm: 90\nsignature: 4/4\n")
    measure()
    assert {line.split()[1] for line in lines("analyzed.log")} == {"key"}


@pytest.mark.parametrize("nothing", ["N/A", "unknown", "none"])
def test_a_value_that_says_it_is_not_known_is_missing(measure: Measure, songs: Path, nothing: str) -> None:
    song = audio_in(songs)[0]
    song.with_suffix(".txt").write_text(f"caption: x\nbpm: {nothing}\n")
    measure()
    assert parse(song.with_suffix(".txt").read_text()).bpm == "120"


def test_what_somebody_wrote_stays_unless_all_is_to_be_overwritten(measure: Measure, songs: Path) -> None:
    song = audio_in(songs)[0]
    song.with_suffix(".txt").write_text("caption: mine\nbpm: 90\nlyrics:\nla la\n")
    measure()
    assert parse(song.with_suffix(".txt").read_text()).bpm == "90"
    measure(policy="overwrite_all")
    after = parse(song.with_suffix(".txt").read_text())
    assert (after.bpm, after.caption, after.lyrics) == ("120", "mine", "la la")


def test_overwriting_keeps_what_is_not_certain_now(measure: Measure, songs: Path) -> None:
    song = audio_in(songs)[0]
    song.with_suffix(".txt").write_text("signature: 5/4\n")
    measure(policy="overwrite_all")
    assert parse(song.with_suffix(".txt").read_text()).signature == "5/4"


def test_where_values_come_from_is_noted_with_their_confidence(measure: Measure, songs: Path) -> None:
    measure()
    sources = read_sources(audio_in(songs)[0])
    assert {name: (s.source, s.kind, s.confidence) for name, s in sources.items()} == {
        "bpm": ("noting", "measured", "high"),
        "key": ("noting", "measured", "medium"),
    }


def test_what_was_measured_is_not_measured_again(measure: Measure, songs: Path) -> None:
    measure(confidence="low")
    Path("analyzed.log").unlink()
    *_, last = measure()
    assert (last.complete, lines("analyzed.log")) == (len(audio_in(songs)), [])


@pytest.mark.parametrize("kind", ["provider", "guess"])
def test_a_measurement_takes_the_place_of_what_a_provider_said(measure: Measure, songs: Path, kind: SourceKind) -> None:
    song = audio_in(songs)[0]
    write_fields(song, {"bpm": "90", "caption": "calm"}, source="somebody", kind=kind)
    measure()
    after = parse(song.with_suffix(".txt").read_text())
    assert (after.bpm, after.caption) == ("120", "calm")
    sources = read_sources(song)
    assert (sources["bpm"].kind, sources["caption"].kind) == ("measured", kind)


def test_a_measurement_that_agrees_with_a_provider_is_the_source_from_then_on(measure: Measure, songs: Path) -> None:
    song = audio_in(songs)[0]
    write_fields(song, {"bpm": "120"}, source="somebody", kind="provider")
    events = measure()
    assert read_sources(song)["bpm"].source == "noting"
    assert ("key",) in {event.written for event in events if isinstance(event, SongMeasured)}


def test_what_a_provider_said_stays_where_the_measurement_is_in_doubt(measure: Measure, songs: Path) -> None:
    song = audio_in(songs)[0]
    write_fields(song, {"signature": "6/8"}, source="somebody", kind="provider")
    measure()
    assert parse(song.with_suffix(".txt").read_text()).signature == "6/8"
    assert read_sources(song)["signature"].source == "somebody"


@pytest.mark.parametrize("kind", ["provider", "guess"])
def test_no_provider_overwrites_a_measurement(measure: Measure, songs: Path, kind: SourceKind) -> None:
    song = audio_in(songs)[0]
    measure()
    write_fields(song, {"bpm": "90"}, source="somebody", kind=kind, policy="overwrite_all")
    assert parse(song.with_suffix(".txt").read_text()).bpm == "120"


def test_a_measured_value_that_somebody_corrected_is_theirs(measure: Measure, songs: Path) -> None:
    song = audio_in(songs)[0]
    measure()
    sidecar = song.with_suffix(".txt")
    sidecar.write_text(sidecar.read_text().replace("bpm: 120", "bpm: 60"))
    measure()
    assert parse(sidecar.read_text()).bpm == "60"


def test_a_damaged_record_of_sources_costs_its_song_and_is_left_alone(measure: Measure, songs: Path) -> None:
    song = audio_in(songs)[0]
    sources_path(song).write_text("{")
    *_, last = measure()
    assert [rejected.name for rejected in last.rejected] == [song.name]
    assert "no record of sources" in last.rejected[0].reason
    assert sources_path(song).read_text() == "{"


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(measure: Measure, songs: Path) -> None:
    *_, last = measure(dry_run=True)
    assert last.written == len(audio_in(songs))
    assert last.dry_run
    assert list(songs.rglob("*.txt")) == []
    assert list(songs.rglob("*.json")) == []


def test_a_bad_file_costs_itself_alone(measure: Measure, songs: Path) -> None:
    count = len(audio_in(songs))
    (songs / "bad.wav").write_bytes(b"RIFF and no more")
    *_, last = measure()
    assert [song.name for song in last.rejected] == ["bad.wav"]
    assert last.written == count


def test_a_sidecar_that_cannot_be_read_costs_its_song_and_is_left_alone(measure: Measure, songs: Path) -> None:
    song = audio_in(songs)[0]
    song.with_suffix(".txt").write_bytes(b"caption: \xff\xfe")
    events = measure()
    rejected = [event for event in events if isinstance(event, SongRejected)]
    assert [event.name for event in rejected] == [song.name]
    assert song.with_suffix(".txt").read_bytes() == b"caption: \xff\xfe"


def test_what_the_analyser_refuses_is_a_reject_with_its_reason(measure: Measure) -> None:
    *_, last = measure("failing")
    assert last.written == 0
    assert {song.reason for song in last.rejected} == {"nothing that could be measured"}


def test_an_analyser_that_holds_a_model_is_made_once_with_the_device(measure: Measure) -> None:
    measure(device="cpu")
    assert [line.split()[1] for line in lines("built.log")] == ["cpu"]


def test_other_analysers_work_in_other_processes(measure: Measure, songs: Path) -> None:
    import os

    *_, last = measure("many", workers=2)
    assert last.written == len(audio_in(songs))
    assert str(os.getpid()) not in {line.split()[0] for line in lines("analyzed.log")}


def test_an_analyser_hears_each_song_once_in_stereo(measure: Measure, songs: Path) -> None:
    measure()
    heard = [line.split()[2:] for line in lines("analyzed.log")]
    assert heard == [["2", str(np.dtype(np.float32))]] * len(audio_in(songs))


def test_a_stop_keeps_what_is_written(measure: Measure, songs: Path) -> None:
    with pytest.raises(Cancelled, match=f"stopped after 1 of {len(audio_in(songs))} songs"):
        measure(cancelled=lambda: True)
    assert len(list(songs.rglob("*.txt"))) == 1


def test_what_is_missing_for_an_analyser_is_said_before_any_work(measure: Measure) -> None:
    with pytest.raises(LoadError, match="analyzer 'absent' needs no-such-thing"):
        measure("absent")


def test_without_a_folder_or_songs_there_is_one_clear_line(measure: Measure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no songs: give --input, a folder"):
        measure(input=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no audio in"):
        measure(input=tmp_path / "empty")
