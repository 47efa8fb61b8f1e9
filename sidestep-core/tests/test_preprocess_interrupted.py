"""Runs that are stopped or killed, and what is in memory and on disk meanwhile."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from diffusers import AutoencoderOobleck
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from sidestep_core.configs import PreprocessConfig
from sidestep_core.errors import Cancelled, StoreError
from sidestep_core.events import Event, SongFinished, StageStarted
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.preprocess.run import preprocess
from sidestep_core.store.index import INDEX, open_store, read_index
from sidestep_core.store.info import store_info
from transformers import Qwen3Model


def write_clip(
    path: Path, *, seconds: float = 0.1, rate: int = 48_000, channels: int = 2, pitch: float = 220.0
) -> Path:
    """Write a tone with a little noise; every pitch is another content."""
    time = np.arange(int(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * np.random.default_rng(0).standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, format="WAV", subtype="FLOAT")
    return path


def run(
    model: ModelFolder, songs: Path, out: Path, *, cancelled: Callable[[], bool] = lambda: False, **settings: Any
) -> list[Event]:
    """Run preprocessing to its end and return its events."""
    config = PreprocessConfig(audio_dir=songs, tensor_output=out, workers=1, **settings)
    return list(preprocess(config, model, device="cpu", dtype="fp32", cancelled=cancelled))


def stages(events: list[Event]) -> list[tuple[str, int]]:
    """Return the stages that had something to do, and for how many songs."""
    return [(event.stage, event.total) for event in events if isinstance(event, StageStarted)]


def times(folder: Path) -> dict[str, int]:
    """Return the time of change of every file."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> ModelFolder:
    """The tiny base model."""
    return resolve_model(tiny_checkpoint, "base")


class StopAfter:
    """Asks to stop once a file with a suffix is in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> bool:
        return any(self.folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("latents", {"audio": 1, "text": 2, "condition": 2}),
        (".work/text", {"text": 1, "condition": 2}),
        ("conditioning", {"condition": 1}),
    ],
)
def test_a_cancelled_run_goes_on_where_it_stopped(
    model: ModelFolder, tmp_path: Path, stage: str, left: dict[str, int]
) -> None:
    for pitch in (100, 200):
        write_clip(tmp_path / "songs" / f"{pitch}.wav", pitch=pitch)
    with pytest.raises(Cancelled, match="the same command goes on from there"):
        run(model, tmp_path / "songs", tmp_path / "out", cancelled=StopAfter(tmp_path / "out" / stage))
    with pytest.raises(StoreError, match="no finished song yet"):
        open_store(tmp_path / "out")
    before = times(tmp_path / "out" / "latents")
    events = run(model, tmp_path / "songs", tmp_path / "out")
    assert dict(stages(events)) == left
    assert before.items() <= times(tmp_path / "out" / "latents").items()
    assert store_info(open_store(tmp_path / "out"), verify=True).problems == ()
    assert not (tmp_path / "out" / ".work").exists()


def test_a_set_stays_usable_while_it_is_renewed(model: ModelFolder, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "songs" / "a.wav")
    write_clip(tmp_path / "songs" / "b.wav", pitch=330)
    run(model, tmp_path / "songs", tmp_path / "out")
    before = open_store(tmp_path / "out").songs
    clip.rename(clip.with_name("other name.wav"))
    with pytest.raises(Cancelled):
        run(model, tmp_path / "songs", tmp_path / "out", cancelled=StopAfter(tmp_path / "out" / ".work" / "text"))
    assert open_store(tmp_path / "out").songs == before
    assert store_info(open_store(tmp_path / "out"), verify=True).problems == ()


def test_one_model_is_in_memory_at_a_time(model: ModelFolder, tmp_path: Path) -> None:
    write_clip(tmp_path / "songs" / "a.wav")
    config = PreprocessConfig(audio_dir=tmp_path / "songs", tensor_output=tmp_path / "out", workers=1)
    kinds = (AutoencoderOobleck, Qwen3Model, AceStepConditionEncoder)
    before = {id(thing) for thing in gc.get_objects() if type(thing) in kinds}
    seen = {}
    for event in preprocess(config, model, device="cpu", dtype="fp32", cancelled=lambda: False):
        if isinstance(event, SongFinished):
            alive = (thing for thing in gc.get_objects() if type(thing) in kinds and id(thing) not in before)
            seen[event.stage] = {type(thing).__name__ for thing in alive}
    assert seen == {
        "scan": set(),
        "audio": {"AutoencoderOobleck"},
        "text": {"Qwen3Model"},
        "condition": {"AceStepConditionEncoder"},
    }


SCRIPT = """
    import sys
    from pathlib import Path
    from sidestep_core.configs import PreprocessConfig
    from sidestep_core.model.layout import resolve_model
    from sidestep_core.preprocess.run import preprocess

    if __name__ == "__main__":
        checkpoint, songs, out = map(Path, sys.argv[1:])
        config = PreprocessConfig(audio_dir=songs, tensor_output=out, workers=2)
        for event in preprocess(
            config, resolve_model(checkpoint, "base"), device="cpu", dtype="fp32", cancelled=lambda: False
        ):
            print(event, flush=True)
"""


@pytest.fixture
def killed(model: ModelFolder, tmp_path: Path) -> Path:
    """A folder with a set whose making was killed after its first song was encoded."""
    for pitch in (100, 200, 300, 400):
        write_clip(tmp_path / "songs" / f"{pitch}.wav", seconds=0.5, pitch=pitch)
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    arguments = [sys.executable, script, model.root, tmp_path / "songs", tmp_path / "out"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "SongFinished(stage='audio'" in line)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
    return tmp_path


@pytest.mark.slow
def test_a_killed_run_loses_nothing_finished_and_leaves_no_process(killed: Path, model: ModelFolder) -> None:
    done = times(killed / "out" / "latents")
    assert 1 <= len(done) < 4
    events = run(model, killed / "songs", killed / "out")
    assert dict(stages(events))["audio"] == 4 - len(done)
    assert "scan" not in dict(stages(events))
    assert done.items() <= times(killed / "out" / "latents").items()
    assert store_info(open_store(killed / "out"), verify=True).problems == ()
    assert sorted(p.name for p in (killed / "out").iterdir()) == ["conditioning", INDEX, "latents"]


def test_an_index_is_there_before_the_first_tensor(model: ModelFolder, tmp_path: Path) -> None:
    write_clip(tmp_path / "songs" / "a.wav")
    config = PreprocessConfig(audio_dir=tmp_path / "songs", tensor_output=tmp_path / "out")
    for event in preprocess(config, model, device="cpu", dtype="fp32", cancelled=lambda: False):
        if isinstance(event, StageStarted) and event.stage == "audio":
            index = read_index(tmp_path / "out")
            assert index is not None
            assert list(index.sources) == [str(tmp_path / "songs" / "a.wav")]
            break
