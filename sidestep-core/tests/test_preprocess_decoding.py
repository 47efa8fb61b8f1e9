"""Decoding in processes of its own, and what happens when they die."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from sidestep_core.audio.loudness import Loudness
from sidestep_core.errors import AudioError
from sidestep_core.preprocess.decoding import Decoding, decode_all, decode_to_file


def task(path: Path, scratch: Path, **settings: Any) -> Decoding:
    known = {"max_seconds": 0.0, "method": "none", "target_db": -1.0, "target_lufs": -14.0}
    return Decoding(path=path, scratch=scratch, **(known | settings))


def clip(path: Path, *, seconds: float = 0.1) -> Path:
    samples = int(seconds * 48_000)
    soundfile.write(path, np.linspace(-0.5, 0.5, 2 * samples).reshape(samples, 2), 48_000, subtype="FLOAT")
    return path


class Deadly(PurePosixPath):
    """A path that ends the process which is handed it, as a faulty decoder would."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_samples_come_as_a_file_that_can_be_mapped(tmp_path: Path) -> None:
    loudness = decode_to_file(task(clip(tmp_path / "a.wav"), tmp_path / "a.npy"))
    audio = np.load(tmp_path / "a.npy", mmap_mode="c")
    assert (audio.shape, audio.dtype) == ((2, 4800), np.float32)
    assert loudness == Loudness(method="none")


def test_the_level_is_set_before_samples_are_handed_over(tmp_path: Path) -> None:
    decode_to_file(task(clip(tmp_path / "a.wav"), tmp_path / "a.npy", method="peak", target_db=-6.0))
    assert np.abs(np.load(tmp_path / "a.npy")).max() == pytest.approx(10 ** (-6 / 20), rel=1e-4)


def test_only_the_wanted_part_is_decoded(tmp_path: Path) -> None:
    decode_to_file(task(clip(tmp_path / "a.wav"), tmp_path / "a.npy", max_seconds=0.05))
    assert np.load(tmp_path / "a.npy").shape == (2, 2400)


def test_every_file_gets_its_answer(tmp_path: Path) -> None:
    tasks = [task(clip(tmp_path / f"{n}.wav"), tmp_path / f"{n}.npy") for n in range(5)]
    (tmp_path / "2.wav").write_bytes(b"nothing")
    answers = {done.path.stem: outcome for done, outcome in decode_all(tasks, workers=2)}
    assert sorted(answers) == ["0", "1", "2", "3", "4"]
    assert isinstance(answers.pop("2"), AudioError)
    assert all(isinstance(outcome, Loudness) for outcome in answers.values())


def test_nothing_to_decode_is_no_process() -> None:
    assert list(decode_all([], workers=2)) == []


def test_a_file_that_kills_its_process_costs_itself_alone(tmp_path: Path) -> None:
    tasks = [task(clip(tmp_path / f"{n}.wav"), tmp_path / f"{n}.npy") for n in range(3)]
    tasks.insert(1, task(Deadly("deadly.wav"), tmp_path / "deadly.npy"))  # type: ignore[arg-type]
    answers = {done.path.stem: outcome for done, outcome in decode_all(tasks, workers=2)}
    deadly = answers.pop("deadly")
    assert isinstance(deadly, AudioError)
    assert "the process that decodes it dies" in str(deadly)
    assert sorted(answers) == ["0", "1", "2"]
    assert all(isinstance(outcome, Loudness) for outcome in answers.values())


def test_a_fault_of_a_library_is_a_reason_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = tmp_path / "no folder" / "a.npy"
    ((_, outcome),) = decode_all([task(clip(tmp_path / "a.wav"), nowhere)], workers=1)
    assert isinstance(outcome, AudioError)
    assert str(outcome).startswith("cannot be decoded: FileNotFoundError: ")
    assert "Traceback" in caplog.text


def test_files_are_decoded_only_a_little_ahead(tmp_path: Path) -> None:
    tasks = [task(clip(tmp_path / f"{n}.wav"), tmp_path / f"{n}.npy") for n in range(6)]
    answers = decode_all(tasks, workers=1)
    next(answers)
    assert len(list(tmp_path.glob("*.npy"))) <= 3  # the one handed over, and twice the number of processes
    answers.close()


def test_stopping_early_leaves_no_process(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    answers = decode_all([task(clip(tmp_path / f"{n}.wav"), tmp_path / f"{n}.npy") for n in range(3)], workers=2)
    next(answers)
    started = set(psutil.Process().children(recursive=True)) - before
    answers.close()
    # the tracker of shared resources stays as long as this process; workers must not
    left = [child for child in started if child.is_running() and "spawn_main" in " ".join(child.cmdline())]
    assert left == []


def test_workers_import_no_model_library() -> None:
    code = "import sys, sidestep_core.preprocess.decoding; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"
