"""Render a set of songs whose tempo, metre and key are known: WAV files and `truth.json`.

    python render.py FOLDER --set N [--mixed] [--course steady|drift|jump] [--soundfont FILE]

Without a soundfont the songs are played by a small synthesiser of oscillators and noise; with one, by fluidsynth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import soundfile
from known_songs import midi, synth
from known_songs.compose import Clip, compose, plan


def write_set(
    clips: Sequence[Clip], folder: Path, *, seconds: float, soundfont: Path | None
) -> list[dict[str, object]]:
    """Render clips into a folder and return what is true of each, as it is written to `truth.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    truth: list[dict[str, object]] = []
    for clip in clips:
        notes = compose(clip, seconds)
        wav = folder / f"{clip.name}.wav"
        if soundfont is None:
            soundfile.write(wav, synth.play(clip, notes), synth.RATE)
        else:
            midi.render(clip, notes, wav, soundfont)
        facts = {"bpm": clip.bpm, "key": clip.key, "signature": clip.metre}
        truth.append({"file": wav.name, "style": clip.style, "drums": clip.drums, **facts})
    (folder / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")
    return truth


def main() -> None:
    """Read the command line and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--set", type=int, default=1, dest="number", help="which composition of the plan")
    parser.add_argument("--mixed", action="store_true", help="drums of one style under the chords of another, or none")
    parser.add_argument("--course", choices=("steady", "drift", "jump"), default="steady", help="how the tempo goes")
    parser.add_argument("--seconds", type=float, default=42.0, help="about how long a song is")
    parser.add_argument("--soundfont", type=Path, help="General MIDI soundfont (.sf2); needs fluidsynth")
    args = parser.parse_args()
    clips = plan(args.number, mixed=args.mixed, course=args.course)
    truth = write_set(clips, args.folder, seconds=args.seconds, soundfont=args.soundfont)
    print(f"{len(truth)} songs in {args.folder}")


if __name__ == "__main__":
    main()
