"""`sidestep preview`, and previews as `train` plans and shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sidestep_core.configs import DataConfig, ModelConfig, PreviewConfig, RunConfig, TargetsConfig, TrainConfig
from sidestep_core.events import PreviewMade
from sidestep_core.requests import TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]
PROMPT = ("--prompt", "warm hip hop", "--seconds", "1", "--steps", "2", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def previewed(tensors: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished LoRA run with a preview of a prompt at its end."""
    folder = tmp_path_factory.mktemp("previewed")
    toolkit = Toolkit(settings=Settings(folder / "settings.toml"))
    request = TrainRequest(
        model=ModelConfig(checkpoint_dir=tiny_checkpoint, device="cpu", precision="fp32"),
        data=DataConfig(dataset_dir=(tensors,)),
        train=TrainConfig(max_steps=3, learning_rate=1e-2),
        targets=TargetsConfig(target_mlp=False),
        run=RunConfig(output_dir=folder / "run"),
        preview=PreviewConfig(every_steps=3, prompt="warm hip hop", seconds=1.0, steps=2),
    )
    (made,) = [event for event in toolkit.train(toolkit.plan(request)) if isinstance(event, PreviewMade)]
    assert len(made.paths) == 2
    return folder / "run"


def audio(path: Path) -> Any:
    return soundfile.read(path)[0]


def test_an_adapter_sounds_as_in_its_runs_last_preview(
    run_cli: RunCli, previewed: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    result = run_cli("preview", "-a", previewed / "final", "-c", tiny_checkpoint, *PROMPT, "-o", "a.flac", "--compare")
    assert (result.code, result.out) == (0, "a_without.flac\na.flac\n")
    assert result.err == "reading the prompt\ngenerating\ndecoding\n"
    off, on = audio(tmp_path / "a_without.flac"), audio(tmp_path / "a.flac")
    last = previewed / "previews"
    assert np.abs(on - audio(last / "step_3" / "1_prompt.flac")).max() <= 2 / 32768
    assert np.abs(off - audio(last / "without_adapter" / "1_prompt.flac")).max() <= 2 / 32768
    assert np.abs(on - off).max() > 20 / 32768


def test_the_settings_stand_beside_the_audio(run_cli: RunCli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert run_cli("preview", "-c", tiny_checkpoint, *PROMPT, "--seed", "3", "-o", "a.flac").code == 0
    told = json.loads((tmp_path / "a.json").read_text())
    assert {"seed": 3, "steps": 2, "seconds": 1.0, "adapter": False}.items() <= told.items()


def test_what_happens_can_be_had_as_json(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    result = run_cli("preview", "-c", tiny_checkpoint, *PROMPT, "-o", "a.flac", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["event"] for line in lines] == ["stage-started", "stage-started", "stage-started", "preview-made"]
    assert lines[-1]["paths"] == ["a.flac"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("-o", "a.flac"), "nothing to generate: give --prompt, a description of the music"),
        (("-o", "a.wav", "--prompt", "p"), "--output 'a.wav' must end in .flac"),
        (("-o", "a.flac", "--prompt", "p", "--compare"), "--compare needs an adapter to compare with: give --adapter"),
        (("-o", "a.flac", "--prompt", "p", "-a", "none"), "no adapter at none: there is nothing of that name"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run_cli: RunCli, tiny_checkpoint: Path, words: tuple[str, ...], error: str
) -> None:
    result = run_cli("preview", "-c", tiny_checkpoint, *words)
    assert (result.code, result.err) == (2, f"error: {error}\n")


# In a run


@pytest.fixture
def train(tensors: Path, tiny_checkpoint: Path) -> tuple[str, ...]:
    where = ("-c", str(tiny_checkpoint), "-d", str(tensors), "-o", "run", "--device", "cpu", "--precision", "fp32")
    return ("train", *where, "--max-steps", "2", "--rank", "2", "--no-target-mlp")


def test_a_preview_is_a_line_of_the_log(run_cli: RunCli, train: tuple[str, ...]) -> None:
    result = run_cli(*train, "--preview-every-steps", "2", "--preview-seconds", "1", "--preview-steps", "1")
    assert result.code == 0
    assert "\npreview of step 2 in run/previews/step_2 (" in result.err


def test_a_plan_says_which_previews_are_made(run_cli: RunCli, train: tuple[str, ...]) -> None:
    plain = run_cli(*train, "--dry-run").out
    result = run_cli(*train, "--dry-run", "--preview-every", "2", "--preview-every-steps", "500")
    (line,) = [line for line in result.out.splitlines() if line.startswith("previews")]
    assert line.split(maxsplit=1)[1] == "every 2 epochs and every 500 steps, 30 s with 0.wav"
    assert "previews" not in plain


def test_a_plan_with_an_unknown_song_is_refused(run_cli: RunCli, train: tuple[str, ...]) -> None:
    result = run_cli(*train, "--dry-run", "--preview-songs", "7.wav")
    assert result.code == 2
    assert result.err.startswith("error: --preview-songs: no song '7.wav' among the 3 of this run; did you mean '")


def test_previews_can_stand_in_a_preset(run_cli: RunCli, train: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "heard.toml").write_text('[preview]\nevery = 5\nprompt = "p"\nsampler = "turbo"\n')
    settings = json.loads(run_cli(*train, "--preset", "heard.toml", "--dry-run", "--json").out)["settings"]["preview"]
    assert (settings["every"], settings["prompt"], settings["sampler"]) == (5, "p", "turbo")


def test_flags_of_previews_leave_those_of_training_alone(noting: Any, run_cli: RunCli) -> None:
    run_cli("train", "--seed", "5", "--preview-seed", "6", "--no-preview-compare", toolkit=noting)
    (request,) = noting.requests
    assert (request.train.seed, request.preview.seed, request.preview.compare) == (5, 6, False)
