"""`sidestep captions` with models that run here: the real providers, with small weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.sidecars import Sidecar, read_sidecar, write_sidecar
from sidestep_core.testing.providers import write_tone

RunCli = Callable[..., Any]
PROSE = "A warm dub track in A minor, around 92 BPM, with a tape echo."
LYRICS = "# Languages\nen\n\n# Lyrics\n[Verse]\nOne line\nand another"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner and a transcriber."""
    tiny = pytest.importorskip("tiny_listeners")
    folder = tmp_path_factory.mktemp("models")
    tiny.write_tiny_omni(folder / "acestep-captioner", answer=PROSE, seconds=30)
    tiny.write_tiny_omni(folder / "acestep-transcriber", answer=LYRICS, seconds=30)
    return folder


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder with two songs."""
    root = tmp_path / "songs"
    root.mkdir()
    write_tone(root / "a.wav", 1.0)
    write_tone(root / "Ö – b.wav", 1.5)
    return root


@pytest.fixture
def described(run_cli: RunCli, songs: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that has the songs described."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(songs.parent / "hub"))

    def call(*words: str | Path) -> Any:
        lyrics = ("--lyrics-provider", "acestep_transcriber", "--lyrics-weights", models)
        return run_cli("captions", "-i", songs, "--provider", "local_16gb", "--weights", models, *lyrics, *words)

    return call


def test_songs_get_captions_and_lyrics(described: Callable[..., Any], songs: Path) -> None:
    result = described()
    assert result.code == 0, result.err
    sidecar = read_sidecar(songs / "Ö – b.wav")
    assert sidecar is not None
    assert sidecar.caption == PROSE
    assert (sidecar.bpm, sidecar.key, sidecar.signature) == ("92", "A minor", "")
    assert (sidecar.lyrics, sidecar.language) == ("[Verse]\nOne line\nand another", "en")
    assert result.out.splitlines()[-1] == "2 songs described"


def test_each_model_hears_all_songs_before_the_next_is_loaded(described: Callable[..., Any]) -> None:
    turns = [line.split()[0] for line in described().err.splitlines() if "/2  " in line]
    assert turns == ["acestep_transcriber"] * 2 + ["local_16gb"] * 2


def test_what_is_there_stays_and_is_not_asked_for(described: Callable[..., Any], songs: Path) -> None:
    write_sidecar(songs / "a.wav", Sidecar(caption="Mine.", bpm="90"))
    described()
    sidecar = read_sidecar(songs / "a.wav")
    assert sidecar is not None
    assert (sidecar.caption, sidecar.bpm) == ("Mine.", "90")
    assert sidecar.lyrics


def test_the_sources_name_the_model_and_how_sure_it_is(described: Callable[..., Any], songs: Path) -> None:
    described()
    noted = (songs / "a.sources.json").read_text("utf-8")
    assert '"acestep-captioner"' in noted
    assert '"acestep-transcriber"' in noted
    assert '"low"' in noted  # tempo and key in passing


def test_a_second_run_asks_nobody(described: Callable[..., Any]) -> None:
    described()
    again = described()
    assert again.code == 0
    assert "asking" not in again.err


def test_a_song_that_is_no_audio_costs_itself_alone(described: Callable[..., Any], songs: Path) -> None:
    (songs / "bad.mp3").write_text("no audio")
    result = described()
    assert result.code == 1
    assert "bad.mp3" in result.err
    assert read_sidecar(songs / "a.wav") is not None


def test_missing_weights_end_it_with_one_line(run_cli: RunCli, songs: Path, tmp_path: Path) -> None:
    result = run_cli("captions", "-i", songs, "--provider", "local_16gb", "--weights", tmp_path, "--no-lyrics")
    assert result.code == 2
    (line,) = [line for line in result.err.splitlines() if "no weights of acestep-captioner" in line]
    assert f"into '{tmp_path}', or say --allow-download" in line
    assert list(songs.glob("*.txt")) == []


def test_the_voice_needs_weights_of_its_own(described: Callable[..., Any]) -> None:
    result = described("--vocals-only")
    assert result.code == 2
    assert "--vocals-only: no weights of htdemucs: put " in result.err


def test_another_model_is_one_flag_away(described: Callable[..., Any]) -> None:
    result = described("--ai-model", "qwen2.5-omni-7b")
    assert "no weights of qwen2.5-omni-7b: put the files of https://huggingface.co/Qwen/Qwen2.5-Omni-7B" in result.err


def test_a_provider_is_checked_without_being_loaded(run_cli: RunCli, models: Path) -> None:
    assert run_cli("settings", "set", "local_16gb.weights", str(models)).code == 0
    result = run_cli("providers", "check", "local_16gb")
    assert result.code == 0
    assert f"acestep-captioner in '{models / 'acestep-captioner'}'" in result.out


def test_local_providers_are_listed_as_running_here(run_cli: RunCli) -> None:
    listed = json.loads(run_cli("providers", "list", "--json").out)
    local = {entry["name"] for entry in listed if entry.get("offline")}
    assert {"local_8-10gb", "local_16gb", "acestep_transcriber", "music_flamingo_local"} <= local
