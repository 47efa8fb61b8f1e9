"""Render songs with the `fluidsynth` command and a General MIDI soundfont."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from known_songs.compose import BASS, CHORDS, DRUMS, LEAD, PAD, Clip, Note
from known_songs.styles import STYLES

_PER_SECOND = 960  # ticks: 480 a quarter note at 120 BPM, which every file has
_PAN = {BASS: 64, CHORDS: 44, LEAD: 76, PAD: 90}


def render(clip: Clip, notes: Mapping[int, Sequence[Note]], wav: Path, soundfont: Path) -> None:
    """Write a clip as 44.1 kHz stereo WAV; a MIDI file of the same name is written on the way and removed."""
    midi = wav.with_suffix(".mid")
    midi.write_bytes(midi_file(clip, notes))
    command = ["fluidsynth", "-ni", "-q", "-g", "0.7", "-r", "44100", "-T", "wav", "-F", wav, soundfont, midi]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        midi.unlink()


def midi_file(clip: Clip, notes: Mapping[int, Sequence[Note]]) -> bytes:
    """Return a MIDI file of one track."""
    events = sorted([*_setup(clip), *_note_events(notes)], key=lambda event: event[:2])
    track, now = bytearray(), 0
    for tick, _, message in events:
        track += _length(tick - now) + message
        now = tick
    track += _length(_PER_SECOND) + b"\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _setup(clip: Clip) -> Iterator[tuple[int, int, bytes]]:
    style = STYLES[clip.style]
    bass, chords, lead = style.programs
    bend = 8192 + round(clip.cents / 200 * 8191)
    for channel, program in {BASS: bass, CHORDS: chords, LEAD: lead, PAD: style.pad or 89}.items():
        yield 0, 0, bytes([0xC0 | channel, program])
        yield 0, 0, bytes([0xB0 | channel, 10, _PAN[channel]])
        yield 0, 0, bytes([0xE0 | channel, bend & 127, bend >> 7])


def _note_events(notes: Mapping[int, Sequence[Note]]) -> Iterator[tuple[int, int, bytes]]:
    for channel in (BASS, CHORDS, LEAD, PAD, DRUMS):
        for note in notes[channel]:
            start = round(note.start * _PER_SECOND)
            yield start, 2, bytes([0x90 | channel, note.pitch, note.velocity])
            # a note that ends comes before one that begins on the same key
            yield start + max(10, round(note.length * _PER_SECOND)), 1, bytes([0x80 | channel, note.pitch, 0])


def _length(ticks: int) -> bytes:
    """Return a number as MIDI writes lengths: seven bits a byte, the high bit on all but the last."""
    found = [ticks & 127]
    while ticks := ticks >> 7:
        found.append(ticks & 127 | 128)
    return bytes(reversed(found))
