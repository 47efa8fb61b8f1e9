"""Little generated songs with truthful sidecars: something to train on where there is no music at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import soundfile
from numpy.typing import NDArray

from sidestep_core.sidecars import Sidecar, write_sidecar

Wave = NDArray[np.float64]

_FORMATS = ((".wav", 44_100), (".flac", 48_000), (".ogg", 44_100), (".mp3", 32_000))
_NOTES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_SQUARE = (1.0, 0.0, 1 / 3, 0.0, 1 / 5)  # strengths of the harmonics
_SAW = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6)
_SINE = (1.0,)
_VOWEL = (0.5, 1.0, 0.8, 0.2, 0.1, 0.4, 0.3)


@attrs.frozen(kw_only=True)
class _Style:
    """A kind of song: kick and hat have a character for each sixteenth note, the harmony a scale degree for a beat."""

    genre: str
    caption: str
    bpm: tuple[int, int]
    mode: str
    drums: tuple[str, str]
    harmony: tuple[int, ...]
    voices: tuple[tuple[float, ...], ...]  # bass, chords, lead
    words: str = ""


_STYLES = (
    _Style(
        genre="synthwave",
        caption="driving synthwave with a four-on-the-floor kick, offbeat hats, square bass, saw chords",
        bpm=(112, 128),
        mode="minor",
        drums=("x...x...x...x...", "..x...x...x...x."),
        harmony=(0, 0, 5, 5),
        voices=(_SQUARE, _SAW, _VOWEL),
        words="headlights on the water\nwe are driving home",
    ),
    _Style(
        genre="waltz",
        caption="gentle waltz on soft sine tones with a light kick on the first beat",
        bpm=(84, 104),
        mode="major",
        drums=("x...........", "....x...x..."),
        harmony=(0, 3, 4),
        voices=(_SINE, _SINE, _SINE),
    ),
    _Style(
        genre="lo-fi",
        caption="slow lo-fi beat with a lazy kick, sparse hats, sine bass and mellow chords",
        bpm=(68, 82),
        mode="minor",
        drums=("x.........x.....", "....x.......x..x"),
        harmony=(0, 0, 3, 4),
        voices=(_SINE, (1.0, 0.3, 0.1), _VOWEL),
        words="rain on the window\nnothing to do",
    ),
)


def write_songs(folder: Path, *, seconds: Sequence[float], seed: int = 0) -> list[Path]:
    """Write one song with its sidecar for each length and return the audio files; the same seed gives the same songs.

    Styles and file formats (wav, flac, ogg; mp3 where libsndfile writes it) take turns; one song in three is
    instrumental.
    """
    folder.mkdir(parents=True, exist_ok=True)
    formats = [each for each in _FORMATS if each[0][1:].upper() in soundfile.available_formats()]
    paths = []
    for index, length in enumerate(seconds):
        random = np.random.default_rng((seed, index))
        style = _STYLES[index % len(_STYLES)]
        suffix, rate = formats[index % len(formats)]
        bpm, root = int(random.integers(*style.bpm, endpoint=True)), int(random.integers(12))
        path = folder / f"{index + 1:02d}-{style.genre}{suffix}"
        _write_wave(path, _render(style, bpm, root, length, rate, random), rate)
        write_sidecar(path, _describe(style, bpm, root))
        paths.append(path)
    return paths


def _write_wave(path: Path, wave: Wave, rate: int) -> None:
    with soundfile.SoundFile(path, "w", rate, wave.shape[1]) as file:
        for start in range(0, len(wave), rate):  # the Vorbis encoder puts what it is given on the stack
            file.write(wave[start : start + rate])


def _describe(style: _Style, bpm: int, root: int) -> Sidecar:
    voice = "wordless voice-like synth lead" if style.words else "instrumental, simple lead melody"
    return Sidecar(
        caption=f"{style.caption}, {voice}",
        genre=style.genre,
        bpm=bpm,
        key=f"{_NOTES[root]} {style.mode}",
        signature=f"{len(style.drums[0]) // 4}/4",
        is_instrumental=not style.words,
        lyrics=f"[Verse]\n{style.words}" if style.words else "[Instrumental]",
    )


def _render(style: _Style, bpm: int, root: int, seconds: float, rate: int, random: np.random.Generator) -> Wave:
    """Return [samples, 2] at -3 dBFS."""
    sixteenth = 15 / bpm
    kick, hat = style.drums
    bass, chord, lead = style.voices
    mix: Wave = np.zeros((round(seconds * rate), 2))

    def play(sound: Wave, step: int, *gains: float) -> None:
        start = round(step * sixteenth * rate)
        sound = sound[: len(mix) - start, None]
        mix[start : start + len(sound)] += sound * gains

    def tone(harmonics: tuple[float, ...], degree: int, steps: float) -> Wave:
        octave, within = divmod(degree, 7)
        semitones = root + _SCALES[style.mode][within] + 12 * octave
        return _tone(261.63 * 2 ** (semitones / 12), harmonics, steps * sixteenth, rate)

    for step in range(math.ceil(seconds / sixteenth)):
        degree = style.harmony[step // 4 % len(style.harmony)]
        if kick[step % len(kick)] == "x":
            play(_kick(rate), step, 0.9, 0.9)
        if hat[step % len(hat)] == "x":
            play(_hat(rate, random), step, 0.12, 0.2)
        if step % 2 == 0:
            play(tone(bass, degree - 14, 2), step, 0.35, 0.35)
            play(tone(lead, degree + 7 + int(random.choice((0, 2, 4, 5, 7))), 1.8), step, 0.22, 0.16)
        if step % 4 == 0:
            for third, left, right in ((0, 0.2, 0.1), (2, 0.15, 0.15), (4, 0.1, 0.2)):
                play(tone(chord, degree + third, 4), step, left, right)
    mix *= 10 ** (-3 / 20) / np.abs(mix).max()
    return mix


def _tone(pitch: float, harmonics: tuple[float, ...], seconds: float, rate: int) -> Wave:
    time: Wave = np.arange(round(seconds * rate)) / rate
    wave: Wave = np.zeros_like(time)
    for number, strength in enumerate(harmonics, 1):
        wave += strength / sum(harmonics) * np.sin(2 * np.pi * number * pitch * time)
    return wave * np.minimum(time / 0.005, 1) * np.minimum((seconds - time) / 0.02, 1) * np.exp(-2 * time / seconds)


def _kick(rate: int) -> Wave:
    time: Wave = np.arange(round(0.25 * rate)) / rate
    falling: Wave = 50 * time - 4 * np.exp(-25 * time)
    return np.sin(2 * np.pi * falling) * np.exp(-14 * time)


def _hat(rate: int, random: np.random.Generator) -> Wave:
    time: Wave = np.arange(round(0.06 * rate)) / rate
    return np.diff(random.standard_normal(len(time)), prepend=0.0) * np.exp(-70 * time)
