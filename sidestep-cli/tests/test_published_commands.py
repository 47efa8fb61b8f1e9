"""Commands that users of the published toolkit type, word for word, on a tiny checkpoint."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.synthetic import write_songs

RunCli = Callable[..., Any]
TRAIN = (
    "train --checkpoint-dir ./checkpoints --model base --dataset-dir ./my_tensors --output-dir ./output/my_lora "
    "--epochs 500"
)
SCRIPT = (
    "train -c ./checkpoints -M base -d ./my_tensors -o ./output/my_lora -a lora -r 32 --alpha 64 --dropout 0.05 "
    "--learning-rate 1e-4 -b 2 -g 2 -e 10 -m 20 --warmup-steps 5 --weight-decay 0.02 --max-grad-norm 0.5 -s 7 "
    "--timestep-mode discrete --scheduler-type constant --optimizer-type adamw --cfg-ratio 0.1 "
    "--attention-type both --target-modules q_proj v_proj --self-target-modules q_proj --cross-target-modules v_proj "
    "--no-target-mlp --save-every 5 --log-every 2 --run-name mine --no-strict-resume --num-workers 0 --no-pin-memory "
    "--prefetch-factor 2 -R 2 --chunk-duration 60 --max-latent-length 500 --gradient-checkpointing "
    "--gradient-checkpointing-ratio 0.5 --warmup-start-factor 0.2 --val-split 0.3 --save-best --save-best-after 5 "
    "--save-best-every-n-steps 10 --early-stop-patience 20"
)


@pytest.fixture
def here(run_cli: RunCli, tmp_path: Path, tiny_checkpoint: Path, tensors: Path) -> Path:
    """Return the working folder, with the folders that the commands name."""
    (tmp_path / "checkpoints").symlink_to(tiny_checkpoint)
    (tmp_path / "my_tensors").symlink_to(tensors)
    write_songs(tmp_path / "my_songs", seconds=(1.0, 1.2))
    (tmp_path / "my_music_folder").symlink_to(tmp_path / "my_songs")
    return tmp_path


def test_train_as_published_is_understood(run_cli: RunCli, here: Path) -> None:
    plan = json.loads(run_cli(*shlex.split(TRAIN), "--dry-run", "--json").out)
    assert (plan["model"], plan["total_steps"], plan["songs"]) == ("acestep-v15-base", 500, 3)
    assert plan["settings"]["adapter"].items() >= {"type": "lora", "rank": 64, "alpha": 128, "dropout": 0.1}.items()


def test_train_of_another_type_as_published_is_understood(run_cli: RunCli, here: Path) -> None:
    words = shlex.split(f"{TRAIN} --adapter-type dora --rank 64 --alpha 128 --dry-run --json")
    assert json.loads(run_cli(*words).out)["settings"]["adapter"]["type"] == "dora"


@pytest.mark.usefixtures("here")
def test_published_flags_that_keep_adapters_keep_them(run_cli: RunCli) -> None:
    words = "--max-steps 2 --val-split 0.3 --save-best-after 0 --save-best-every-n-steps 1 --loss-milestones 50 40"
    result = run_cli(*shlex.split(TRAIN), *words.split())
    assert result.code == 0, result.err
    assert {f"in {Path('output/my_lora', name)}" for name in ("best", "milestones/loss_50", "milestones/loss_40")} <= {
        f"in {line.rpartition(' in ')[2]}" for line in result.err.splitlines()
    }


@pytest.mark.slow
def test_train_as_published_runs(run_cli: RunCli, here: Path) -> None:
    assert run_cli(*shlex.split(TRAIN)).code == 0
    assert (here / "output" / "my_lora" / "final").is_dir()


@pytest.mark.usefixtures("here")
def test_models_are_found_in_the_working_folder(run_cli: RunCli) -> None:
    result = run_cli("train", "--dataset-dir", "./my_tensors", "--output-dir", "./out", "--dry-run")
    assert (result.code, result.err) == (0, "")


@pytest.mark.usefixtures("here")
def test_every_published_flag_of_train_is_understood(run_cli: RunCli) -> None:
    result = run_cli(*shlex.split(SCRIPT), "--dry-run", "--json")
    assert result.code == 0, result.err
    settings = json.loads(result.out)["settings"]
    assert settings["adapter"].items() >= {"type": "lora", "rank": 32, "alpha": 64, "dropout": 0.05}.items()
    assert (settings["timesteps"]["type"], settings["optimizer"]["weight_decay"]) == ("discrete", 0.02)
    assert list(settings["lr-control"]) == ["constant"]
    train, targets, run, data = (settings[name] for name in ("train", "targets", "run", "data"))
    assert (train["learning_rate"], train["batch_size"], train["accumulation"], train["seed"]) == (1e-4, 2, 2, 7)
    assert (train["conditioning_dropout"], settings["memory"]["gradient_checkpointing_ratio"]) == (0.1, 0.5)
    assert (targets["target_modules"], targets["target_mlp"]) == (["q_proj", "v_proj"], False)
    assert (targets["self_target_modules"], targets["cross_target_modules"]) == (["q_proj"], ["v_proj"])
    assert (run["run_name"], run["save_every"], run["strict_resume"]) == ("mine", 5, False)
    assert settings["keep"].items() >= {"save_best": True, "save_best_after": 5, "early_stop_patience": 20}.items()
    assert (settings["keep"]["save_best_every_n_steps"], data["val_split"]) == (10, 0.3)
    assert (data["num_workers"], data["dataset_repeats"], data["max_latent_length"]) == (0, [2], 500)


@pytest.mark.slow
def test_preprocess_as_published_runs(run_cli: RunCli, here: Path) -> None:
    (here / "my_tensors").unlink()
    result = run_cli(
        *shlex.split("preprocess --audio-dir ./my_songs --tensor-output ./my_tensors --normalize peak --workers 1")
    )
    assert (result.code, result.out.partition(" (")[0]) == (0, "2 songs")


@pytest.mark.usefixtures("here")
def test_every_published_flag_of_analyze_is_understood(run_cli: RunCli, noting: Any) -> None:
    words = (
        "analyze -c ./checkpoints -M base -d ./my_tensors -r 32 --rank-min 8 --rank-max 96 --timestep-focus texture "
        "--fisher-runs 2 --fisher-batches 20 --convergence-patience 4 --output ./maps --device cpu --precision fp32"
    )
    assert run_cli("--yes", *shlex.split(words), toolkit=noting).err == "error: noted\n"
    ((config, model),) = noting.analyses
    assert (config.rank, config.rank_min, config.rank_max, config.timestep_focus) == (32, 8, 96, "texture")
    assert (config.runs, config.batches, config.convergence_patience, config.output) == (2, 20, 4, Path("maps"))
    assert (model.model, model.device, model.precision) == ("base", "cpu", "fp32")


@pytest.mark.usefixtures("here")
def test_analyze_as_published_runs_and_train_finds_its_map(run_cli: RunCli, here: Path, tensors: Path) -> None:
    (here / "my_tensors").unlink()
    shutil.copytree(tensors, here / "my_tensors")
    assert run_cli(*shlex.split("--yes analyze -c ./checkpoints -M base -d ./my_tensors")).code == 0
    plan = json.loads(run_cli(*shlex.split(TRAIN), "--dry-run", "--json").out)
    assert plan["rank_map"] == "my_tensors/fisher_map.json"
    plan = json.loads(run_cli(*shlex.split(TRAIN), "--ignore-fisher-map", "--dry-run", "--json").out)
    assert (plan["rank_map"], len(plan["targets"])) == (None, 44)


@pytest.mark.usefixtures("here")
def test_dataset_as_published_runs(run_cli: RunCli) -> None:
    result = run_cli(*shlex.split("dataset --input ./my_music_folder"))
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("--provider local_16gb", {"local_16gb", "genius"}),
        ("--provider local_8-10gb --no-lyrics", {"local_8-10gb"}),
        ("--provider gemini", {"gemini", "genius"}),
        ("--provider openai --ai-model gpt-audio-mini --policy overwrite_caption", {"openai", "genius"}),
        ("--provider lyrics_only", {"genius"}),
        (
            "--metadata-provider music_flamingo --lyrics-provider transcriber_server "
            "--music-flamingo-url http://localhost:5000 --transcriber-server-url http://localhost:8000",
            {"transcriber_server", "music_flamingo", "gemini"},
        ),
    ],
)
def test_captions_as_published_ask_whom_they_name(run_cli: RunCli, here: Path, words: str, asked: set[str]) -> None:
    for sidecar in (here / "my_songs").glob("*.txt"):
        sidecar.unlink()
    result = run_cli(*shlex.split(f"captions --audio-dir ./my_songs {words} --dry-run --json"))
    assert result.code == 0, result.err
    songs = json.loads(result.out)
    assert {name for song in songs for name in song["asked"]} == asked


@pytest.mark.parametrize("mode", ["faf", "mid --chunks 5", "sas"])
@pytest.mark.usefixtures("here")
def test_audio_analyze_as_published_is_understood(run_cli: RunCli, mode: str) -> None:
    result = run_cli(*shlex.split(f"audio-analyze --input ./my_songs --policy fill_missing --mode {mode} --dry-run"))
    assert result.code == 0, result.err


@pytest.mark.usefixtures("here")
def test_export_as_published_runs(run_cli: RunCli) -> None:
    assert run_cli(*shlex.split(TRAIN), "--max-steps", "1").code == 0
    result = run_cli(*shlex.split("export --adapter-dir ./output/my_lora/final --target native"))
    assert result.code == 0, result.err
    assert "read back by" in result.out


@pytest.mark.parametrize(
    "words", ["settings show", "settings path", "history --limit 20 --json", "tags list ./my_songs", "plugins list"]
)
@pytest.mark.usefixtures("here")
def test_small_commands_as_published_run(run_cli: RunCli, words: str) -> None:
    assert run_cli(*shlex.split(words)).code == 0
