"""Compose songs: the notes of a clip follow from its plan and its seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

import attrs

from known_songs.styles import CRASH, GRID, PLAN, SNARE, STYLES, TOM_H, TOM_L, TOM_M, Style

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
BASS, CHORDS, LEAD, PAD, DRUMS = 0, 1, 2, 3, 9  # MIDI channels
Course = Literal["steady", "drift", "jump"]

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# chord roots as scale degrees, loops that begin at home and loops that do not; in minor the fifth is made dominant
_PROGRESSIONS = {
    "major": (
        *((1, 5, 6, 4), (1, 6, 4, 5), (1, 4, 1, 5), (1, 3, 4, 5), (1, 4, 6, 5), (1, 2, 4, 1)),
        *((2, 5, 1, 6), (6, 4, 1, 5), (4, 1, 5, 6), (4, 5, 3, 6)),
    ),
    "minor": (
        *((1, 6, 3, 7), (1, 4, 5, 1), (1, 7, 6, 5), (1, 6, 4, 5), (1, 4, 7, 3), (1, 1, 6, 5), (1, 7, 1, 6)),
        *((6, 7, 1, 1), (4, 1, 5, 1), (6, 4, 1, 7)),
    ),
}
_RHYTHMS = ((0, 4, 6, 10), (0, 3, 6, 8, 11), (2, 4, 8, 10), (0, 2, 4, 8))
_HOME = 0.75  # share of songs that end on their tonic
_HUMAN = 0.003  # seconds, standard deviation
_DRIFT = 0.03  # how far the tempo wanders, as a share
_JUMP = 1.3  # how much faster the second half is


@attrs.frozen(kw_only=True)
class Clip:
    """A song to make. `drums` is the style whose drums it has, "" for none; `course` how its tempo goes."""

    name: str
    style: str
    drums: str
    metre: str
    bpm: float
    tonic: int
    mode: str
    seed: int
    cents: int = 0
    course: Course = "steady"

    @property
    def key(self) -> str:
        """The key as a sidecar holds it."""
        return f"{PITCHES[self.tonic]} {self.mode}"


@attrs.frozen
class Note:
    """A note: where it begins and how long it lasts in seconds, its MIDI pitch and velocity."""

    start: float
    length: float
    pitch: int
    velocity: int


def plan(number: int, *, mixed: bool = False, course: Course = "steady") -> list[Clip]:
    """Return the clips of a set: 48 songs in every key, five metres, 60 to 180 BPM, new for each number.

    A mixed set has the drums of one style under the chords of another of the same metre, and none in a quarter of it.
    """
    rng = random.Random(f"{number} {mixed}")
    keys = [(tonic, mode) for mode in _SCALES for tonic in range(12)]
    order = [*rng.sample(keys, len(keys)), *rng.sample(keys, len(keys))]
    clips = []
    for i, ((style, metre, usual), (tonic, mode)) in enumerate(zip(PLAN, order, strict=True)):
        bpm = max(60, min(180, round(usual * rng.uniform(0.92, 1.08))))
        others = [other for other, where, _ in PLAN if where == metre]
        drums = "" if mixed and rng.random() < 0.25 else rng.choice(others) if mixed else style
        name = f"{i:02d}-{style}-{metre.replace('/', '_')}-{bpm}"
        cents = {4: 25, 8: -30}.get(i % 11, 0)
        seed = 7000 + 1000 * number + i
        clips.append(
            Clip(
                name=name,
                style=style,
                drums=drums,
                metre=metre,
                bpm=bpm,
                tonic=tonic,
                mode=mode,
                seed=seed,
                cents=cents,
                course=course,
            )
        )
    return clips


def compose(clip: Clip, seconds: float) -> dict[int, list[Note]]:
    """Return the notes of a clip of about that length, by MIDI channel."""
    return _Composer(clip, seconds).compose()


def seconds_at(clip: Clip, beat: float, beats: float) -> float:
    """Return when a beat of a clip of so many comes, in seconds."""
    steady = beat * 60 / clip.bpm
    if clip.course == "drift":  # a slow wave up and down again
        return steady + _DRIFT * 60 / clip.bpm * 0.5 * beat * (1 - beat / beats)
    if clip.course == "jump" and beat > beats / 2:
        return 60 / clip.bpm * (beats / 2 + (beat - beats / 2) / _JUMP)
    return steady


class _Composer:
    """Composes one clip, bar by bar; the generator's state is the only thing that goes from bar to bar."""

    def __init__(self, clip: Clip, seconds: float) -> None:
        self.clip, self.rng = clip, random.Random(clip.seed)
        self.style = STYLES[clip.style]
        self.drums: Style | None = STYLES[clip.drums] if clip.drums else None
        self.steps, self.beat = GRID[clip.metre]
        self.bars = max(8, round(seconds / (self.steps / self.beat * 60 / clip.bpm) / 4) * 4)
        first = self.rng.choice(_PROGRESSIONS[clip.mode])
        second = self.rng.choice([p for p in _PROGRESSIONS[clip.mode] if p is not first])
        self.progressions = (first, first, second, first)
        self.motif = [self.rng.choice([0, 0, 1, 2, -1, 3, -2]) for _ in range(8)]
        self.rhythm = self.rng.choice(_RHYTHMS)
        self.degree = 8
        self.notes: dict[int, list[Note]] = {channel: [] for channel in (BASS, CHORDS, LEAD, PAD, DRUMS)}

    def compose(self) -> dict[int, list[Note]]:
        for bar in range(self.bars - 1):
            root = self.progressions[bar // 4 % 4][bar % 4]
            if bar >= 2 or self.bars < 12:
                self.add_drums(bar)
                self.add_lead(bar, root)
                self.add_pad(bar, root)
            self.add_bass(bar, root)
            self.add_chords(bar, root)
        self.end()
        return self.notes

    def add(self, channel: int, bar: int, step: float, steps: float, pitch: int, velocity: int) -> None:
        """Add a note that begins at a step of a bar, nearly, and lasts some steps."""
        if self.style.swing and int(step) % 4 == 2 and channel != PAD:
            step += 2 * self.style.swing
        beat = (bar * self.steps + step) / self.beat
        start = seconds_at(self.clip, beat, self.bars * self.steps / self.beat) + self.rng.gauss(0, _HUMAN)
        length = steps / self.beat * 60 / self.clip.bpm
        self.notes[channel].append(Note(max(0.0, start), length, pitch, max(1, min(127, velocity))))

    def pitch(self, degree: int, octave: int) -> int:
        scale = _SCALES[self.clip.mode]
        return 12 * (octave + 1 + (degree - 1) // 7) + self.clip.tonic + scale[(degree - 1) % 7]

    def chord(self, root: int) -> list[int]:
        tones = [self.pitch(root + k, 3) for k in ((0, 2, 4, 6) if self.style.sevenths else (0, 2, 4))]
        if self.clip.mode == "minor" and root == 5:
            tones[1] += 1
        return [tone if tone < 72 else tone - 12 for tone in tones]

    def loud(self, usual: int, spread: int = 8) -> int:
        return usual + self.rng.randint(-spread, spread)

    def add_drums(self, bar: int) -> None:
        if self.drums is None:
            return
        for key, pattern in self.drums.drums.items():
            if key != CRASH or bar % 4 == 0:
                for step, mark in _marks(pattern):
                    self.add(DRUMS, bar, step, 0.5, key, self.loud(108 if mark == "X" else 74))
        if self.drums.drums and bar % 8 == 7:
            for step in range(self.steps - 4, self.steps):
                self.add(DRUMS, bar, step, 0.5, self.rng.choice([TOM_H, TOM_M, TOM_L, SNARE]), self.loud(92))

    def add_bass(self, bar: int, root: int) -> None:
        for step, mark in _marks(self.style.bass):
            pitch = self.pitch(root + {"1": 0, "3": 2, "5": 4, "8": 7}[mark], 1)
            self.add(BASS, bar, step, 1.8, pitch - 12 * max(0, -(-(pitch - 52) // 12)), self.loud(92))

    def add_chords(self, bar: int, root: int) -> None:
        tones = self.chord(root)
        run = [*tones, tones[0] + 12]
        for n, (step, mark) in enumerate(_marks(self.style.comp)):
            velocity = self.loud(84 if mark == "X" else 68)
            for tone in [run[n % len(run)]] if self.style.arpeggio else tones:
                self.add(
                    CHORDS, bar, step, 2.2 if self.style.arpeggio else max(1, self.style.hold), tone + 12, velocity
                )

    def add_pad(self, bar: int, root: int) -> None:
        if self.style.pad is not None:
            for tone in self.chord(root):
                self.add(PAD, bar, 0, self.steps - 0.2, tone, 52)

    def add_lead(self, bar: int, root: int) -> None:
        """Add a motif around the chord, on strong steps a chord tone; every fourth part is without."""
        if bar // 4 % 4 == 3:
            return
        for n, step in enumerate(step for step in self.rhythm if step < self.steps):
            if self.rng.random() < 0.12:
                continue
            self.degree = min(14, max(5, self.degree + self.motif[(bar * 3 + n) % len(self.motif)]))
            if step % self.beat == 0:
                tones = [root + k + 7 * octave for k in (0, 2, 4) for octave in (0, 1, 2)]
                self.degree = min(tones, key=lambda tone: abs(tone - self.degree))
            self.add(LEAD, bar, step, self.rng.choice([1.7, 2.5, 3.5]), self.pitch(self.degree, 4), self.loud(88))

    def end(self) -> None:
        """Add a last bar: of the tonic, or of the chord that comes next, as songs are cut, faded and looped, too."""
        bar = self.bars - 1
        root = 1 if self.rng.random() < _HOME else self.progressions[bar // 4 % 4][bar % 4]
        self.add(BASS, bar, 0, self.steps, self.pitch(root, 1), 92)
        for tone in self.chord(root):
            self.add(CHORDS, bar, 0, self.steps, tone + 12, 84)


def _marks(pattern: str) -> Iterator[tuple[int, str]]:
    return ((step, mark) for step, mark in enumerate(pattern) if mark != ".")
