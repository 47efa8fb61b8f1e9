"""Small listening models, made once, and songs for them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from sidestep_core.interfaces import Track
from sidestep_core.testing.providers import write_tone

LYRICS = "# Languages\nja, en\n\n# Lyrics\n[Verse 1]\n歩いていこう\n\n[Chorus]\nLet it shine"
DESCRIPTION = (
    '{"caption": "A slow song.", "genre": ["dub", "soul"], "bpm": 92, "key": "F# minor", "signature": "4/4", '
    '"language": null, "is_instrumental": true}'
)
PROSE = "A warm dub track in A minor, around 92 BPM, with a tape echo; F# is heard in passing."


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of small models: two that babble, and four that answer as their large namesakes were taught to."""
    from tiny_listeners import write_tiny_flamingo, write_tiny_omni

    folder = tmp_path_factory.mktemp("models")
    write_tiny_omni(folder / "babbling", seconds=60)
    write_tiny_omni(folder / "babble" / "acestep-captioner", seconds=60)
    write_tiny_omni(folder / "acestep-captioner", answer=PROSE, seconds=60)
    write_tiny_omni(folder / "acestep-transcriber", answer=LYRICS, seconds=60)
    write_tiny_omni(folder / "qwen2.5-omni-7b", answer=DESCRIPTION, seconds=60)
    write_tiny_flamingo(folder / "music-flamingo", answer=DESCRIPTION)
    # models are let go often here: what the libraries themselves hold need not be looked through each time
    gc.freeze()
    yield folder
    gc.unfreeze()


@pytest.fixture
def song(tmp_path: Path) -> Track:
    """A song of three seconds."""
    path = tmp_path / "song.wav"
    write_tone(path, 3.0)
    return Track(path=path, title="Song", duration=3.0)


@pytest.fixture
def long_song(tmp_path: Path) -> Track:
    """A song of 100 seconds."""
    path = tmp_path / "long.wav"
    write_tone(path, 100.0, rate=8000)
    return Track(path=path, title="Long", duration=100.0)
