"""Commands that do the work: preprocess, train, export, demo, on a tiny checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sidestep_core import events
from sidestep_core.configs import ModelConfig, PreprocessConfig
from sidestep_core.errors import Cancelled
from sidestep_core.events import Event
from sidestep_core.settings import Settings
from sidestep_core.synthetic import write_songs
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]


class Scripted(Toolkit):
    """A toolkit whose preprocessing has happened already; it notes what it was asked to do."""

    def __init__(self, folder: Path, *work: Event, cancelled: bool = False) -> None:
        super().__init__(settings=Settings(folder / "settings.toml"))
        self._work, self._cancelled = work, cancelled
        self.asked: list[tuple[PreprocessConfig, ModelConfig]] = []

    def preprocess(
        self, config: PreprocessConfig, model: ModelConfig, *, cancelled: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield what was given."""
        self.asked.append((config, model))
        yield from self._work
        if self._cancelled:
            raise Cancelled("stopped")


def finished(*, written: int, rejected: int) -> events.PreprocessFinished:
    rejects = tuple(events.SongRejected(name=f"{i}.wav", reason="empty") for i in range(rejected))
    return events.PreprocessFinished(
        written=written, kept=0, rejected=rejects, seconds=1.0, cut_lyrics=0, output=Path("tensors")
    )


@pytest.fixture
def train_args(tensors: Path, tiny_checkpoint: Path) -> tuple[str, ...]:
    where = ("--checkpoint-dir", str(tiny_checkpoint), "--model", "base", "--dataset-dir", str(tensors))
    return ("train", *where, "--output-dir", "run", "--rank", "4", "--max-steps", "4", "--log-every", "1")


# preprocess


@pytest.mark.parametrize(("written", "rejected", "code"), [(3, 0, 0), (2, 1, 1), (0, 3, 2), (0, 0, 0)])
def test_the_exit_code_tells_how_many_songs_could_be_used(
    run_cli: RunCli, tmp_path: Path, written: int, rejected: int, code: int
) -> None:
    toolkit = Scripted(tmp_path, finished(written=written, rejected=rejected))
    result = run_cli("preprocess", "--audio-dir", "songs", "--tensor-output", "tensors", toolkit=toolkit)
    assert result.code == code
    assert result.out.startswith(f"{written} song")


def test_preprocessing_that_was_stopped_is_130(run_cli: RunCli, tmp_path: Path) -> None:
    toolkit = Scripted(tmp_path, cancelled=True)
    assert run_cli("preprocess", "-i", "songs", "-o", "tensors", toolkit=toolkit).code == 130


def test_published_flags_of_preprocess_mean_what_they_did(run_cli: RunCli, tmp_path: Path) -> None:
    toolkit = Scripted(tmp_path, finished(written=1, rejected=0))
    shared = ("-c", "models", "-M", "turbo", "--device", "cpu", "--precision", "fp32")
    run_cli(
        "preprocess",
        "--input",
        "songs",
        "--output",
        "t",
        "--normalize",
        "peak",
        "--max-duration",
        "30",
        *shared,
        toolkit=toolkit,
    )
    ((config, model),) = toolkit.asked
    assert config == PreprocessConfig(
        audio_dir=Path("songs"), tensor_output=Path("t"), normalize="peak", max_duration=30.0
    )
    assert model == ModelConfig(checkpoint_dir=Path("models"), model="turbo", device="cpu", precision="fp32")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-o", "t"), "error: no songs: give --audio-dir, a folder, or --dataset-json, a file that lists them\n"),
        (("-i", "songs"), "error: no place for the tensors: give --tensor-output\n"),
    ],
)
def test_preprocess_says_what_it_needs(run_cli: RunCli, args: tuple[str, ...], message: str) -> None:
    result = run_cli("preprocess", *args)
    assert (result.code, result.err) == (2, message)


def test_preprocessing_as_json(run_cli: RunCli, tmp_path: Path) -> None:
    toolkit = Scripted(tmp_path, finished(written=1, rejected=1))
    result = run_cli("preprocess", "-i", "songs", "-o", "t", "--json", toolkit=toolkit)
    assert json.loads(result.out)["rejected"] == [{"name": "0.wav", "reason": "empty"}]


@pytest.mark.slow
def test_songs_become_tensors_and_a_second_run_keeps_them(
    run_cli: RunCli, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    write_songs(tmp_path / "songs", seconds=(1.0, 1.2))
    (tmp_path / "songs" / "broken.wav").write_bytes(b"RIFF")
    args = ("preprocess", "--audio-dir", "songs", "--tensor-output", "t", "-c", tiny_checkpoint, "--workers", "1")
    first = run_cli(*args)
    assert (first.code, first.out.partition(",")[0]) == (1, "2 songs (2 new")
    assert "broken.wav" in first.err
    second = run_cli(*args)
    assert (second.code, second.out.partition(" of")[0]) == (1, "2 songs (0 new, 2 up to date), 2.2 s")


# train


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    run_cli: RunCli, train_args: tuple[str, ...], tmp_path: Path
) -> None:
    result = run_cli(*train_args, "--dry-run")
    assert (result.code, result.err) == (0, "")
    facts, modules, memory = (
        {line.split("  ")[0]: " ".join(line.split()[1:]) for line in part.splitlines()}
        for part in result.out.split("\n\n")
    )
    assert facts["model"].startswith("acestep-v15-base (base, ")
    assert facts["adapter"].startswith("lora (rank 4, alpha 128")
    assert facts["steps"] == "4 of 1 x 4 samples"
    assert modules["cross_attn.q_proj"] == "4 64 x 64 4"
    parts = ["model", "adapter", "gradients", "optimizer", "activations", "overhead"]
    assert list(memory) == ["MEMORY", *parts, "layers", "total"]
    assert not (tmp_path / "run").exists()


def test_a_plan_as_json_has_the_settings_of_the_run(run_cli: RunCli, train_args: tuple[str, ...]) -> None:
    plan = json.loads(run_cli(*train_args, "--dry-run", "--json", "--scheduler-type", "constant").out)
    assert (plan["total_steps"], plan["steps_per_epoch"], plan["songs"]) == (4, 1, 3)
    expected = {"type": "lora", "rank": 4, "alpha": 128, "dropout": 0.1}
    assert plan["settings"]["adapter"].items() >= expected.items()
    assert list(plan["settings"]["lr-control"]) == ["constant"]
    assert len(plan["targets"]) == 44


def test_target_modules_take_several_words(run_cli: RunCli, train_args: tuple[str, ...]) -> None:
    args = ("--target-modules", "q_proj", "v_proj", "--lr", "1e-4", "--no-target-mlp", "--attention-type", "self")
    plan = json.loads(run_cli(*train_args, *args, "--dry-run", "--json").out)
    assert {name.rpartition("layers.")[2][2:] for name in plan["targets"]} == {"self_attn.q_proj", "self_attn.v_proj"}
    assert plan["settings"]["train"]["learning_rate"] == 1e-4


def test_a_preset_starts_a_run_and_flags_change_it(
    run_cli: RunCli, train_args: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text("[adapter]\ntype = 'lora'\nalpha = 7\nrank = 2\n[train]\nbatch_size = 3\n")
    settings = json.loads(run_cli(*train_args, "--preset", "mine.toml", "--dry-run", "--json").out)["settings"]
    assert (settings["adapter"]["alpha"], settings["adapter"]["rank"], settings["train"]["batch_size"]) == (7, 4, 3)


def test_all_faults_of_a_command_line_are_reported_together(run_cli: RunCli, train_args: tuple[str, ...]) -> None:
    result = run_cli(*train_args, "--batch-size", "0", "--lr", "-1", "--rank", "0")
    assert result.code == 2
    assert result.err.splitlines() == [
        "error: --lr: must be above 0, got -1",
        "error: --batch-size: must be at least 1, got 0",
        "error: --rank: must be at least 1, got 0",
    ]


def test_an_unknown_adapter_type_says_what_there_is(run_cli: RunCli) -> None:
    result = run_cli("train", "--adapter-type", "lorra")
    assert result.code == 2
    assert result.err.startswith("error: no adapter 'lorra'; there is ")
    assert "did you mean 'lora'?" in result.err


@pytest.mark.parametrize(
    ("left_out", "message"), [("--dataset-dir", "no tensors to train on"), ("--output-dir", "no folder for the run")]
)
def test_train_says_what_it_needs(run_cli: RunCli, train_args: tuple[str, ...], left_out: str, message: str) -> None:
    place = train_args.index(left_out)
    result = run_cli(*train_args[:place], *train_args[place + 2 :])
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}")


def test_training_ends_with_an_adapter(run_cli: RunCli, train_args: tuple[str, ...], tmp_path: Path) -> None:
    result = run_cli(*train_args)
    assert result.code == 0
    assert result.out.startswith("done after 4 steps")
    assert result.out.endswith(f"adapter in {Path('run/final')}\n")
    assert "step 4/4" in result.err
    assert (tmp_path / "run" / "final" / "adapter_model.safetensors").is_file()
    (run,) = json.loads(run_cli("history", "--json").out)
    assert (run["step"], run["adapter_type"]) == (4, "lora")


def test_training_as_json_is_a_line_an_event(run_cli: RunCli, train_args: tuple[str, ...]) -> None:
    lines = [json.loads(line) for line in run_cli(*train_args, "--json").out.splitlines()]
    names = [line["event"] for line in lines]
    assert (names[0], names[-1], names.count("steps-done")) == ("memory-planned", "run-finished", 4)


def test_a_run_goes_on_from_its_newest_checkpoint(run_cli: RunCli, train_args: tuple[str, ...]) -> None:
    assert run_cli(*train_args).code == 0
    assert run_cli(*train_args, "--max-steps", "6").code == 2
    again = run_cli(*train_args, "--max-steps", "6", "--resume-from", "latest", "--no-strict-resume")
    assert (again.code, "from step 4" in again.err) == (0, True)


def test_inline_preprocessing_feeds_training(
    run_cli: RunCli, train_args: tuple[str, ...], tensors: Path, tmp_path: Path
) -> None:
    place = train_args.index("--dataset-dir")
    args = (*train_args[:place], *train_args[place + 2 :], "--preprocess", "--audio-dir", "songs", "--tensor-output")
    toolkit = Scripted(tmp_path, finished(written=1, rejected=1))
    result = run_cli(*args, tensors, "--normalize", "peak", toolkit=toolkit)
    assert result.code == 0
    assert toolkit.asked[0][0].normalize == "peak"
    assert result.out.splitlines()[-1] == f"adapter in {Path('run/final')}"


def test_a_dry_run_makes_no_tensors(run_cli: RunCli, train_args: tuple[str, ...], tmp_path: Path) -> None:
    toolkit = Scripted(tmp_path, finished(written=1, rejected=0))
    words = ("--preprocess", "--audio-dir", "songs", "--tensor-output", "t", "--dry-run")
    assert run_cli(*train_args, *words, toolkit=toolkit).code == 0
    assert toolkit.asked == []


@pytest.mark.parametrize(
    ("flag", "rejected", "written", "code"),
    [("--preprocess-only", 0, 1, 0), ("--preprocess-only", 1, 1, 1), ("--preprocess", 1, 0, 2)],
)
def test_training_is_left_out_when_only_preprocessing_is_asked_for_or_nothing_is_left(
    run_cli: RunCli, tmp_path: Path, flag: str, rejected: int, written: int, code: int
) -> None:
    toolkit = Scripted(tmp_path, finished(written=written, rejected=rejected))
    result = run_cli("train", flag, "--audio-dir", "songs", "--tensor-output", "t", toolkit=toolkit)
    assert result.code == code
    assert "adapter" not in result.out


# export


@pytest.mark.parametrize("flags", [(), ("--adapter-dir",)])
def test_an_adapter_is_exported_with_proof(
    run_cli: RunCli, adapter: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    result = run_cli("export", *flags, adapter, "--target", "native", "--output", "exported")
    assert result.code == 0, result.err
    assert (tmp_path / "exported").exists()
    assert result.out.startswith("written  exported")
    assert "differs by at most" in result.out


def test_an_export_as_json(run_cli: RunCli, adapter: Path) -> None:
    report = json.loads(run_cli("export", adapter, "--target", "native", "--output", "exported", "--json").out)
    assert (report["modules"], report["error"] <= 1e-5) == (44, True)


def test_an_unknown_target_says_what_there_is(run_cli: RunCli, adapter: Path) -> None:
    result = run_cli("export", adapter, "--target", "tape")
    assert result.code == 2
    assert result.err.startswith("error: no exporter 'tape'; there is ")


@pytest.mark.parametrize("args", [(), ("one", "--adapter-dir", "two")])
def test_export_takes_one_adapter(run_cli: RunCli, args: tuple[str, ...]) -> None:
    result = run_cli("export", *args, "--target", "native")
    assert (result.code, result.err) == (2, "error: name one adapter: sidestep export FOLDER --target NAME\n")


def test_a_checkpoint_folder_that_was_named_must_be_there(run_cli: RunCli, adapter: Path) -> None:
    result = run_cli("export", adapter, "--target", "native", "--checkpoint-dir", "nowhere")
    assert (result.code, result.out) == (2, "")


# demo


@pytest.mark.slow
def test_the_demonstration_goes_the_whole_way(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("demo", "--output", "shown")
    assert result.code == 0, result.err
    assert "fell from" in result.out
    assert (tmp_path / "shown" / "report.html").is_file()


def test_the_demonstration_leaves_folders_of_others_alone(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.wav").touch()
    result = run_cli("demo", "--output", "mine")
    assert (result.code, (tmp_path / "mine" / "song.wav").exists()) == (2, True)
