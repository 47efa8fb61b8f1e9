"""The data doctor's whole round over a folder with everything in it that goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
import soundfile
from sidestep_core.configs import CheckConfig, PreprocessConfig
from sidestep_core.dataset import find_songs
from sidestep_core.doctor.check import check
from sidestep_core.doctor.report import KINDS, DatasetChecked
from sidestep_core.errors import Cancelled, CheckpointError, ConfigError, DatasetError
from sidestep_core.events import Event, SongFinished, StageStarted
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.tokenizer import load_tokenizer
from sidestep_core.preprocess.plan import make_entries, make_job, set_prompts, set_samples
from sidestep_core.settings import Settings
from sidestep_core.sidecars import Sidecar, write_sidecar
from sidestep_core.synthetic import write_songs
from sidestep_core.toolkit import Toolkit

GERMAN = "Der Regen fällt auf unser Dach und ich denke noch an dich, mein Herz, in dieser langen Nacht\n"
RATE = 44_100


def never() -> bool:
    return False


def checked(config: CheckConfig, count: Callable[[str], int] | None = None) -> tuple[list[Event], DatasetChecked]:
    events = list(check(config, count=count, cancelled=never))
    report = events[-1]
    assert isinstance(report, DatasetChecked)
    return events, report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a good song lies beside one of each kind that is not."""
    root = tmp_path_factory.mktemp("songs")
    good, _ = write_songs(root, seconds=[11.0, 0.2])
    wave, rate = soundfile.read(good)
    (root / "02-waltz.flac").unlink()
    (root / "02-waltz.txt").unlink()
    (root / "again").mkdir()
    soundfile.write(root / "again" / good.name, wave, rate)
    soundfile.write(root / "quieter.mp3", 0.4 * wave, rate)
    soundfile.write(root / "silent.wav", np.zeros((RATE, 2)), RATE)
    (root / "broken.mp3").write_bytes(b"no audio" * 50)
    random = np.random.default_rng(1).normal(size=(2 * RATE, 2))
    soundfile.write(root / "clipped.wav", np.clip(random, -1, 1), RATE)
    soundfile.write(root / "quiet.wav", np.concatenate([0.1 * random[:RATE], 1e-6 * random]), RATE)
    write_sidecar(root / "clipped.wav", Sidecar(caption="c", language="en", lyrics=GERMAN * 100))
    write_sidecar(root / "quiet.wav", Sidecar(caption="pads " * 400, repeat="often"))
    (root / "quieter.txt").write_bytes(b"caption: caf\xe9")
    return root


@pytest.fixture(scope="module")
def report(folder: Path) -> DatasetChecked:
    return checked(CheckConfig(audio_dir=folder, workers=1))[1]


def test_everything_that_is_wrong_is_found_and_nothing_else(report: DatasetChecked) -> None:
    assert [(finding.song, finding.kind) for finding in report.findings] == [
        ("again/01-synthwave.wav", "duplicate"),
        ("again/01-synthwave.wav", "no caption"),
        ("broken.mp3", "unreadable"),
        ("clipped.wav", "clipped"),
        ("clipped.wav", "cut lyrics"),
        ("clipped.wav", "language"),
        ("quiet.wav", "quiet"),
        ("quiet.wav", "sidecar"),
        ("quiet.wav", "cut prompt"),
        ("quieter.mp3", "duplicate"),
        ("quieter.mp3", "sidecar"),
        ("quieter.mp3", "no caption"),
        ("silent.wav", "silent"),
    ]


def test_what_preprocessing_would_drop_is_marked(report: DatasetChecked) -> None:
    dropped = [(finding.song, finding.kind) for finding in report.findings if finding.dropped]
    assert dropped == [
        ("broken.mp3", "unreadable"),
        ("clipped.wav", "cut lyrics"),
        ("quiet.wav", "sidecar"),
        ("quiet.wav", "cut prompt"),
        ("quieter.mp3", "sidecar"),
        ("silent.wav", "silent"),
    ]
    assert report.dropped == len(dropped)


def test_duplicates_are_told_by_samples_or_by_ear(report: DatasetChecked) -> None:
    reasons = [finding.reason for finding in report.findings if finding.kind == "duplicate"]
    assert reasons[0] == "the same samples as '01-synthwave.wav'"
    assert reasons[1].startswith("the same recording as '01-synthwave.wav' (")


def test_songs_that_can_be_used_come_with_their_lengths(report: DatasetChecked) -> None:
    assert [(song.name, round(song.seconds, 1)) for song in report.songs] == [
        ("01-synthwave.wav", 11.0),
        ("again/01-synthwave.wav", 11.0),
        ("clipped.wav", 2.0),
        ("quiet.wav", 3.0),
        ("quieter.mp3", pytest.approx(11.0, abs=0.1)),
    ]
    assert [song.language for song in report.songs] == ["", "", "de", "", ""]


def test_every_kind_has_a_place_in_the_order() -> None:
    assert len(KINDS) == len(set(KINDS))


def test_each_song_is_told_as_it_is_heard(folder: Path) -> None:
    events, _ = checked(CheckConfig(audio_dir=folder / "again", workers=1))
    assert events[0] == StageStarted(stage="listen", total=1)
    assert isinstance(events[1], SongFinished)
    assert (events[1].name, events[1].audio_seconds) == ("01-synthwave.wav", 11.0)


def test_the_prompts_are_those_that_preprocessing_makes(folder: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    good = tmp_path / "songs"
    write_songs(good, seconds=[1.4, 2.6, 1.0])
    words = {"custom_tag": "zed", "tag_position": "append", "genre_ratio": 50, "max_duration": 1.2}
    _, report = checked(CheckConfig(audio_dir=good, workers=1, **words))  # type: ignore[arg-type]
    config = PreprocessConfig(audio_dir=good, tensor_output=tmp_path / "out", **words)  # type: ignore[arg-type]
    job = make_job(config, resolve_model(tiny_checkpoint, "base"), device="cpu", dtype="fp32", cancelled=never)
    entries = make_entries(find_songs(config), config)
    for entry, song in zip(entries, report.songs, strict=True):
        set_samples(entry, round(song.seconds * 48_000), 25)
        set_prompts(job, entry)
    assert [song.prompt for song in report.songs] == [entry.prompt for entry in entries]
    assert "zed" in report.songs[0].prompt


def test_tokens_are_counted_with_the_tokenizer_of_the_checkpoint(tmp_path: Path, tiny_checkpoint: Path) -> None:
    songs = tmp_path / "songs"
    (path,) = write_songs(songs, seconds=[0.5])
    write_sidecar(path, Sidecar(caption="c", lyrics="[Verse]\n" + "la la\n" * 3000))
    config = CheckConfig(audio_dir=songs, checkpoint_dir=tiny_checkpoint, workers=1)
    *_, report = Toolkit(plugins=[]).check(config)
    assert isinstance(report, DatasetChecked)
    (finding,) = report.findings
    tokens = len(load_tokenizer(resolve_model(tiny_checkpoint, None))(report.songs[0].lyrics)["input_ids"])
    assert finding.reason == f"{tokens:,} tokens, of which 2,048 are used"


def test_a_checkpoint_that_is_named_must_be_there(tmp_path: Path) -> None:
    write_songs(tmp_path / "songs", seconds=[0.5])
    with pytest.raises(CheckpointError):
        list(Toolkit(plugins=[]).check(CheckConfig(audio_dir=tmp_path / "songs", checkpoint_dir=tmp_path / "gone")))


def test_without_a_checkpoint_lengths_are_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (path,) = write_songs(tmp_path / "songs", seconds=[0.5])
    write_sidecar(path, Sidecar(caption="c", lyrics="[Verse]\n" + "la la\n" * 3000))
    toolkit = Toolkit(plugins=[], settings=Settings(tmp_path / "none.toml"))
    *_, report = toolkit.check(CheckConfig(audio_dir=tmp_path / "songs", workers=1))
    assert isinstance(report, DatasetChecked)
    assert "estimated by length" in report.findings[0].reason


def test_a_dataset_file_is_checked_and_its_lost_entries_are_findings(folder: Path, tmp_path: Path) -> None:
    samples = [{"audio_path": str(folder / "again" / "01-synthwave.wav"), "caption": "c"}, {"filename": "gone.wav"}]
    (tmp_path / "d.json").write_text(json.dumps(samples))
    _, report = checked(CheckConfig(dataset_json=tmp_path / "d.json", workers=1))
    (finding,) = report.findings
    assert (finding.kind, finding.dropped, len(report.songs)) == ("unreadable", True, 1)
    assert finding.reason.startswith("samples[1]: no file 'gone.wav'")


def test_a_set_of_which_nothing_can_be_used_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    _, report = checked(CheckConfig(audio_dir=tmp_path, workers=1))
    assert (report.songs, [finding.kind for finding in report.findings]) == ((), ["unreadable"])


def test_a_stop_is_heeded_between_songs(folder: Path) -> None:
    with pytest.raises(Cancelled):
        list(check(CheckConfig(audio_dir=folder, workers=1), count=None, cancelled=lambda: True))


@pytest.mark.parametrize(
    ("config", "error"),
    [(CheckConfig(), ConfigError), (CheckConfig(audio_dir=Path("nowhere")), DatasetError)],
)
def test_a_set_that_is_not_there_is_refused(config: CheckConfig, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(check(config, count=None, cancelled=never))


def test_nothing_is_written(folder: Path, report: DatasetChecked) -> None:
    assert not any(path.suffix in (".json", ".bak", ".tmp") for path in folder.rglob("*"))


def test_findings_are_plain_values(report: DatasetChecked) -> None:
    assert json.loads(json.dumps(attrs.asdict(report)))["findings"][0]["song"] == "again/01-synthwave.wav"


def test_workers_import_no_model_library() -> None:
    code = "import sys, sidestep_core.doctor.listen; print('torch' in sys.modules, 'transformers' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"


class Missing:
    """Finds that one library is not installed."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Refuse the library."""
        if name == "py3langid":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_without_the_library_languages_are_not_guessed_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in ("sidestep_core.language_guess", "py3langid", "py3langid.langid"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    (path,) = write_songs(tmp_path, seconds=[0.5])
    write_sidecar(path, Sidecar(caption="c", language="en", lyrics=GERMAN))
    _, report = checked(CheckConfig(audio_dir=tmp_path, workers=1))
    assert [finding.kind for finding in report.findings] == []
    assert report.notes == ("languages were not guessed: that needs py3langid; pip install 'sidestep-core[language]'",)
