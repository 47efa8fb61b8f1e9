"""A small synthesiser, for where there is no soundfont: decaying or held tones of a few harmonics, drums of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from known_songs.compose import BASS, CHORDS, DRUMS, LEAD, PAD, Clip, Note
from known_songs.styles import KICK, SNARE, TOM_H, TOM_L, TOM_M

RATE = 22_050
Sound = NDArray[np.float64]

# channel -> strength of the harmonics, seconds in which a tone falls to a third (0: it is held), level
_VOICES = {
    BASS: ((1, 0.6, 0.4, 0.2, 0.1), 0.5, 0.5),
    CHORDS: ((1, 0.5, 0.3, 0.2, 0.12, 0.08), 0.6, 0.16),
    LEAD: ((1, 0.2, 0.4, 0.1, 0.2), 0.0, 0.2),
    PAD: ((1, 0.3, 0.15), 0.0, 0.08),
}
_TONAL_DRUMS = {KICK: (48, 0.12), TOM_L: (90, 0.15), TOM_M: (120, 0.15), TOM_H: (160, 0.15)}  # Hz, seconds


def play(clip: Clip, notes: Mapping[int, Sequence[Note]]) -> Sound:
    """Return a clip as one channel at `RATE`, its peak 0.9."""
    end = max(note.start + note.length for part in notes.values() for note in part) + 0.5
    sound = np.zeros(int(end * RATE))
    noise = np.random.default_rng(clip.seed).standard_normal(RATE)
    for channel, part in notes.items():
        for note in part:
            tone = _drum(note, noise) if channel == DRUMS else _tone(note, channel, clip.cents)
            start = int(note.start * RATE)
            sound[start : start + len(tone)] += tone[: len(sound) - start] * (note.velocity / 127) ** 2
    return 0.9 * sound / np.abs(sound).max()


def _tone(note: Note, channel: int, cents: int) -> Sound:
    harmonics, decay, level = _VOICES[channel]
    time = np.arange(int(max(note.length, 0.06) * RATE)) / RATE
    frequency = 440 * 2 ** ((note.pitch - 69 + cents / 100) / 12)
    sound = sum(a * np.sin(2 * np.pi * frequency * (k + 1) * time) for k, a in enumerate(harmonics))
    envelope = np.minimum(1, time / 0.005) * np.minimum(1, (time[-1] - time) / 0.03)
    return level * sound * envelope * (np.exp(-time / decay) if decay else 1)  # type: ignore[no-any-return]


def _drum(note: Note, noise: Sound) -> Sound:
    if note.pitch in _TONAL_DRUMS:
        frequency, decay = _TONAL_DRUMS[note.pitch]
        time = np.arange(int(4 * decay * RATE)) / RATE
        return np.sin(2 * np.pi * (frequency * time + 3 * (1 - np.exp(-time / 0.02)))) * np.exp(-time / decay)
    decay = 0.1 if note.pitch == SNARE else 0.04
    time = np.arange(int(5 * decay * RATE)) / RATE
    burst = noise[: len(time)] * np.exp(-time / decay)
    if note.pitch == SNARE:
        return 0.4 * burst
    return 0.15 * scipy.signal.lfilter([1, -1], [1], burst)  # type: ignore[no-any-return]
