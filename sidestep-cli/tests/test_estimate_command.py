"""`sidestep estimate` and `sidestep devices`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_cli.commands.estimate import ROWS
from sidestep_core import device
from sidestep_core.testing.hollow import write_hollow

RunCli = Callable[..., Any]
PARTS = ["model", "adapter", "gradients", "optimizer", "activations", "overhead"]
CARDS = {"vram_8gb": 8, "vram_12gb": 12, "vram_16gb": 16, "vram_24gb_plus": 24, "recommended": 12, "high_quality": 16}
SHIPPED = [*CARDS, "quick_test"]


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint folder with models of the published sizes, without weights."""
    root = tmp_path_factory.mktemp("hollow")
    for variant in ("base", "xl-base"):
        write_hollow(root, variant)
    return root


@pytest.fixture
def estimated(run_cli: RunCli) -> Callable[..., dict[str, Any]]:
    """Return a function that estimates with given arguments and returns the JSON."""

    def call(*args: str | Path) -> dict[str, Any]:
        result = run_cli("estimate", *args, "--json")
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)  # type: ignore[no-any-return]

    return call


def test_without_tensors_lengths_are_assumed(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    result = run_cli("estimate", "-c", tiny_checkpoint)
    assert (result.code, result.err) == (0, "")
    facts, table = result.out.split("\n\n")
    assert f"assumed  {ROWS} rows of conditioning" in facts
    lines = [line.split()[0] for line in table.splitlines()]
    assert lines == ["MEMORY", *PARTS, "layers", "total", "fits"]
    assert "1:00 MIN  4:00 MIN" in table.splitlines()[0]


def test_with_tensors_their_longest_song_counts(
    estimated: Callable[..., dict[str, Any]], tiny_checkpoint: Path, tensors: Path
) -> None:
    found = estimated("-c", tiny_checkpoint, "--dataset-dir", tensors)
    assert not found["assumed"]
    assert [(one["frames"], one["rows"]) for one in found["lengths"]] == [(40, 9)]


def test_given_lengths_win(estimated: Callable[..., dict[str, Any]], tiny_checkpoint: Path, tensors: Path) -> None:
    found = estimated("-c", tiny_checkpoint, "--dataset-dir", tensors, "--seconds", "90", "--seconds", "30")
    assert [one["seconds"] for one in found["lengths"]] == [30.0, 90.0]
    assert found["assumed"]


def test_a_crop_bounds_the_length(estimated: Callable[..., dict[str, Any]], tiny_checkpoint: Path) -> None:
    found = estimated("-c", tiny_checkpoint, "--chunk-duration", "45")
    assert [one["seconds"] for one in found["lengths"]] == [45.0]


def test_the_parts_make_the_total(estimated: Callable[..., dict[str, Any]], tiny_checkpoint: Path) -> None:
    for one in estimated("-c", tiny_checkpoint)["lengths"]:
        assert sum(one["memory"][part] for part in PARTS) == one["memory"]["total"]


def test_the_command_line_of_a_training_run_is_understood(
    estimated: Callable[..., dict[str, Any]], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    words = ["--adapter-type", "lokr", "--lokr-factor", "4", "--optimizer-type", "prodigy", "--output-dir", "run"]
    words += ["--epochs", "3", "--scheduler-type", "constant", "--quantize-base", "int8", "--block-swap", "2"]
    found = estimated("-c", tiny_checkpoint, "--device", "cpu", *words)
    assert found["adapter"] == "lokr"
    memory = found["lengths"][0]["memory"]
    assert (memory["optimizer"], memory["recomputed_layers"]) == (16 * found["trainable"], 2)
    assert not (tmp_path / "run").exists()


def test_a_run_that_does_not_fit_is_told_what_would(run_cli: RunCli, hollow: Path) -> None:
    result = run_cli("estimate", "-c", hollow, "--model", "xl-base", "--free", "8", "--seconds", "60")
    assert "device   cuda in bf16, 8.0 GB free" in result.out
    assert "does not fit" in result.out
    assert result.out.splitlines()[-1].startswith("1:00 min: --quantize-base nf4 would make it fit (")


def test_what_is_told_does_fit(estimated: Callable[..., dict[str, Any]], hollow: Path) -> None:
    words = ("-c", hollow, "--model", "xl-base", "--free", "8", "--seconds", "60")
    (before,) = estimated(*words)["lengths"]
    (after,) = estimated(*words, *before["change"]["flags"].split())["lengths"]
    assert (before["verdict"], after["verdict"]) == ("does not fit", "fits")


def test_where_nothing_would_help_that_is_said(run_cli: RunCli, hollow: Path) -> None:
    result = run_cli("estimate", "-c", hollow, "--model", "xl-base", "--free", "1", "--seconds", "60")
    assert "1:00 min: nothing that sidestep knows would make it fit" in result.out


def test_real_steps_are_near_the_estimate(
    estimated: Callable[..., dict[str, Any]], run_cli: RunCli, tiny_checkpoint: Path
) -> None:
    words = ("-c", tiny_checkpoint, "--device", "cpu", "--seconds", "12", "--measure")
    (found,) = estimated(*words)["lengths"]
    expected = found["memory"]["total"] - found["memory"]["overhead"]
    assert found["measured"] == pytest.approx(expected, rel=0.1)


def test_a_device_that_is_not_there_is_refused(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    result = run_cli("estimate", "-c", tiny_checkpoint, "--device", "cuda:9")
    assert (result.code, result.out) == (2, "")
    assert "no device 'cuda:9'" in result.err


def test_a_precision_that_a_device_does_not_have_is_refused(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    words = ("estimate", "-c", tiny_checkpoint, "--free", "8", "--device", "cpu", "--precision", "fp16")
    assert "no fp16 training on cpu" in run_cli(*words).err


# Presets


@pytest.mark.parametrize("preset", CARDS)
def test_a_preset_fits_its_card(estimated: Callable[..., dict[str, Any]], hollow: Path, preset: str) -> None:
    found = estimated("-c", hollow, "--model", "base", "--preset", preset, "--free", str(CARDS[preset]))
    assert [one["verdict"] for one in found["lengths"]] == ["fits", "fits"]


@pytest.mark.parametrize("model", ["base", "xl-base", "tiny"])
@pytest.mark.parametrize("preset", SHIPPED)
def test_every_preset_is_estimated_and_planned_without_weights(
    run_cli: RunCli, hollow: Path, tiny_checkpoint: Path, tensors: Path, preset: str, model: str
) -> None:
    # the hollow models' weights are holes of gigabytes: to load them would be seen
    place = ("-c", tiny_checkpoint) if model == "tiny" else ("-c", hollow, "--model", model)
    estimate = run_cli("estimate", *place, "--preset", preset, "--free", "24")
    dry = run_cli("train", *place, "--preset", preset, "--dry-run", "-d", tensors, "-o", "run")
    assert (estimate.code, dry.code) == (0, 0), estimate.err + dry.err
    assert "fits" in estimate.out
    assert "optimizer  adamw8bit (weight decay 0.01)" in dry.out


# Devices


def test_devices_are_listed(run_cli: RunCli) -> None:
    result = run_cli("devices")
    assert (result.code, result.err) == (0, "")
    heading, *rows = result.out.splitlines()
    assert heading.split()[:3] == ["DEVICE", "MEMORY", "FREE"]
    assert [row.split()[0] for row in rows] == device.available_devices()
    assert "fp32, bf16" in rows[-1]


def test_devices_as_json_have_their_capabilities(run_cli: RunCli) -> None:
    (*_, cpu) = json.loads(run_cli("devices", "--json").out)
    assert (cpu["name"], cpu["precisions"]) == ("cpu", ["fp32", "bf16"])
    assert cpu["capabilities"]["quantized"] == ["int8", "nf4"]
    assert cpu["total"] >= cpu["free"] > 0
