"""Title, artist and length: from real tags of real files, else from the name."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import imageio_ffmpeg
import mutagen.id3
import mutagen.wave
import numpy as np
import pytest
import soundfile
from sidestep_core.describing.titles import read_track

TAGS = {"title": "Jóga", "artist": "Björk"}
FORMATS = ("mp3", "flac", "ogg", "opus", "m4a")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.wav"
    soundfile.write(path, np.zeros(24000, dtype=np.float32), 48000)
    return path


def tagged(sound: Path, path: Path, **tags: str) -> Path:
    words = [word for name, value in tags.items() for word in ("-metadata", f"{name}={value}")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", sound, *words, path], check=True)
    return path


def track(path: Path, **known: str):
    return read_track(path, known=known, default_artist="Nobody")


@pytest.mark.parametrize("form", FORMATS)
def test_tags_of_every_kind_of_file_are_read(sound, tmp_path, form):
    made = track(tagged(sound, tmp_path / f"x - y.{form}", **TAGS))
    assert (made.title, made.artist) == ("Jóga", "Björk")
    assert made.duration == pytest.approx(0.5, abs=0.1)


def test_tags_in_wav_files_are_read(sound, tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(sound.read_bytes())
    file = mutagen.wave.WAVE(path)
    file.add_tags()
    file.tags.add(mutagen.id3.TIT2(text="Jóga"))
    file.tags.add(mutagen.id3.TPE2(text="Björk"))
    file.save()
    made = track(path)
    assert (made.title, made.artist, made.duration) == ("Jóga", "Björk", 0.5)


def test_a_files_artist_may_stand_for_its_songs(sound, tmp_path):
    assert track(tagged(sound, tmp_path / "a.flac", title="One", albumartist="Band")).artist == "Band"


def test_tags_are_cleaned(sound, tmp_path):
    made = track(tagged(sound, tmp_path / "a.flac", title="\ufeffJo\u0301ga\u200b\x07 \uff11", artist="  B  jork "))
    assert (made.title, made.artist) == ("Jóga 1", "B jork")


@pytest.mark.parametrize(
    ("name", "artist", "title"),
    [
        ("Björk - Jóga", "Björk", "Jóga"),
        ("Björk – Jóga", "Björk", "Jóga"),
        ("Björk—Jóga", "Björk", "Jóga"),
        ("Björk - Jóga - live", "Björk", "Jóga - live"),
        ("01. Björk - Jóga", "Björk", "Jóga"),
        ("07 - Jóga", "Nobody", "Jóga"),
        ("99 Luftballons", "Nobody", "99 Luftballons"),
        ("self-titled", "Nobody", "self-titled"),
        ("my_first_song", "Nobody", "my first song"),
        ("桜 - 春", "桜", "春"),
        ("Bjo\u0308rk - Jo\u0301ga", "Björk", "Jóga"),
        (" - ", "Nobody", "-"),
    ],
)
def test_without_tags_the_name_says_it(tmp_path, name, artist, title):
    made = track(tmp_path / f"{name}.wav".replace("/", ""))
    assert (made.artist, made.title) == (artist, title)


@pytest.mark.parametrize("form", [*FORMATS, "wav", "aac"])
def test_a_damaged_file_is_known_by_its_name(tmp_path, form):
    path = tmp_path / f"A - B.{form}"
    path.write_bytes(b"RIFFID3\x04fLaCOggS" + bytes(range(256)))
    made = track(path)
    assert (made.artist, made.title, made.duration) == ("A", "B", 0.0)


def test_a_title_from_tags_goes_with_an_artist_from_the_name(sound, tmp_path):
    made = track(tagged(sound, tmp_path / "Björk - track.mp3", title="Jóga"))
    assert (made.artist, made.title) == ("Björk", "Jóga")


def test_what_is_empty_is_not_known(tmp_path):
    assert track(tmp_path / "a.wav", bpm="96", key="").known == {"bpm": "96"}


@pytest.mark.parametrize("form", FORMATS)
def test_no_damage_keeps_a_song_from_being_described(sound, tmp_path, form):
    whole = tagged(sound, tmp_path / f"whole.{form}", **TAGS).read_bytes()
    damaged, chance = tmp_path / f"A - B.{form}", random.Random(1)
    for _ in range(150):
        content = bytearray(whole[: chance.randrange(1, len(whole))])
        for _ in range(chance.randrange(20)):
            content[chance.randrange(min(len(content), 600))] = chance.randrange(256)
        damaged.write_bytes(content)
        made = track(damaged)
        assert made.title
        assert made.artist
        assert made.duration >= 0
