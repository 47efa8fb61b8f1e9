"""Preprocessing shared by processes: the same set as one makes. Run as a script, this is one process."""

import json
import shutil
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
import soundfile
import torch
from sidestep_core.configs import PreprocessConfig
from sidestep_core.errors import Cancelled
from sidestep_core.events import Notice, PreprocessFinished, SongRejected
from sidestep_core.launch import Launch, launched
from sidestep_core.model.layout import resolve_model
from sidestep_core.preprocess.plan import Entry
from sidestep_core.preprocess.run import preprocess
from sidestep_core.preprocess.sharing import own_entries
from sidestep_core.processes import Team
from sidestep_core.songs import Song
from sidestep_core.store.index import open_store
from sidestep_core.testing.launched import run_together

CLIP = 0.3  # seconds
LONG = "la " * 3000  # lyrics that do not fit


def never():
    return False


def entry(name, key):
    song = Song(path=Path(name), name=name, caption="")
    return Entry(song=song, tag="", tag_position="prepend", use_genre=False, latents_key=key)


def test_songs_that_share_a_tensor_stay_together():
    entries = [entry(str(number), key) for number, key in enumerate("abacb")]
    teams = [Team(Launch(rank=rank, count=2), never) for rank in (0, 1)]
    shares = [own_entries(team, entries, lambda one: one.latents_key) for team in teams]
    assert [[one.song.name for one in share] for share in shares] == [["0", "2", "3"], ["1", "4"]]


def write_song(path, *, pitch=220.0, caption="slow jazz", lyrics="la la la"):
    time = np.arange(int(CLIP * 48_000)) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * pitch * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(tone[:, None], 2, axis=1), 48_000)
    path.with_suffix(".txt").write_text(f"caption: {caption}\nlyrics:\n{lyrics}\n", encoding="utf-8")


def make(checkpoint, songs, out, cancelled=never):
    """Preprocess, and return the events."""
    config = PreprocessConfig(audio_dir=songs, tensor_output=out, workers=1)
    model = resolve_model(checkpoint, "base")
    return list(preprocess(config, model, device="cpu", dtype="fp32", cancelled=cancelled))


def summed_up(events):
    """Return what a run came to: counts, who was left out and why, what was warned of."""
    done = [event for event in events if isinstance(event, PreprocessFinished)]
    counts = [[event.written, event.kept, event.seconds, event.cut_lyrics] for event in done]
    rejected = sorted([event.name, event.reason] for event in events if isinstance(event, SongRejected))
    listed = [sorted([song.name, song.reason] for song in event.rejected) for event in done]
    warned = sorted(event.message for event in events if isinstance(event, Notice) and event.warning)
    return [counts, rejected, listed, warned]


@attrs.frozen
class Compared:
    """A set made by one process and by two, anew and after changes; what the runs came to (by rank, for two)."""

    root: Path
    alone: dict
    together: list


@pytest.fixture(scope="module")
def compared(tmp_path_factory, tiny_checkpoint):
    root = tmp_path_factory.mktemp("shared")
    songs, changed = root / "songs", root / "changed"
    write_song(songs / "a.wav")
    write_song(songs / "b" / "a.wav", pitch=330.0, lyrics=LONG)
    shutil.copytree(songs / "b", songs / "c")  # the same audio and the same words
    write_song(songs / "d.flac", pitch=440.0)
    (songs / "e.wav").write_bytes(b"no audio")
    shutil.copytree(songs, changed)
    write_song(changed / "a.wav", caption="fast jazz")
    (changed / "d.flac").unlink()
    write_song(changed / "f.wav", pitch=550.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the two have; how sums are split shows in the last digits
    alone = {"new": summed_up(make(tiny_checkpoint, songs, root / "one"))}
    for copy in ("one again", "two again"):
        shutil.copytree(root / "one", root / copy)
    alone["again"] = summed_up(make(tiny_checkpoint, changed, root / "one again"))
    torch.set_num_threads(threads)
    ended = run_together([__file__, tiny_checkpoint, root])
    assert [one.code for one in ended] == [0, 0], ended
    return Compared(root, alone, [json.loads(one.out) for one in ended])


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["", " again"])
def test_two_processes_make_the_set_that_one_makes_byte_for_byte(compared, what):
    one, two = (content(compared.root / f"{count}{what}") for count in ("one", "two"))
    assert len(one) > 5
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("what", ["new", "again"])
def test_two_processes_come_to_what_one_comes_to(compared, what):
    assert compared.together[0][what] == compared.alone[what]


@pytest.mark.slow
def test_a_bad_file_costs_one_file(compared):
    assert [song.name for song in open_store(compared.root / "two").songs] == ["a.wav", "b/a.wav", "c/a.wav", "d.flac"]
    assert [name for name, _ in compared.together[0]["new"][1]] == ["e.wav"]


@pytest.mark.slow
def test_when_one_process_is_asked_to_stop_all_do(compared):
    assert [told["stopped"] for told in compared.together] == [True, True]


def main(checkpoint, root):
    results = {
        "new": summed_up(make(checkpoint, root / "songs", root / "two")),
        "again": summed_up(make(checkpoint, root / "changed", root / "two again")),
    }
    try:
        make(checkpoint, root / "songs", root / "stopped", never if launched().main else lambda: True)
    except Cancelled:
        results["stopped"] = True
    print(json.dumps(results))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
