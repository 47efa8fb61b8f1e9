"""`sidestep adapter` and `sidestep effect`: what they print, write and refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

RunCli = Callable[..., Any]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def copied(adapter: Path, tmp_path: Path) -> Path:
    """Return a trained adapter beside which something may be written."""
    return Path(shutil.copytree(adapter, tmp_path / "final"))


def test_info_says_what_it_is_and_where_it_comes_from(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("adapter", "info", copied)
    assert (result.code, result.err) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert (facts["kind"], facts["layout"], facts["modules"], facts["dtype"]) == ("lora", "peft", "44", "F32")
    assert (facts["base_model"], facts["base_variant"], facts["adapter_type"]) == ("acestep-v15-base", "base", "lora")


def test_sizes_are_shown_layer_by_layer(run_cli: RunCli, copied: Path, tiny_checkpoint: Path) -> None:
    alone = run_cli("adapter", "info", copied, "--norms").out
    beside = run_cli("adapter", "info", copied, "--norms", "-c", tiny_checkpoint).out
    assert "size of each update:" in alone
    assert "size of each update, as a share of the weight's:" in beside
    assert [row.split()[0] for row in alone.splitlines()[-4:]] == ["0", "1", "2", "3"]


def test_info_as_json_has_it_all(run_cli: RunCli, copied: Path) -> None:
    found = json.loads(run_cli("adapter", "info", copied, "--norms", "--json").out)
    assert found["metadata"]["base_identity"]
    assert len(found["norms"]) == 44
    assert min(found["norms"].values()) > 0


def test_a_picture_is_drawn_where_it_is_asked_for(run_cli: RunCli, copied: Path, tmp_path: Path) -> None:
    result = run_cli("adapter", "info", copied, "--plot", "sizes.png")
    assert (result.code, result.err) == (0, "drawn: sizes.png\n")
    assert (tmp_path / "sizes.png").read_bytes().startswith(b"\x89PNG")


def test_merging_an_adapter_with_itself_doubles_it(run_cli: RunCli, copied: Path, tmp_path: Path) -> None:
    result = run_cli("adapter", "merge", copied, copied, "--weights", "1.5,0.5", "-o", "both")
    assert (result.code, result.err) == (0, "")
    pairs = json.loads(run_cli("adapter", "diff", copied, "both", "--json").out)
    assert all(pair["apart"] == pytest.approx(0.5, rel=1e-3) for pair in pairs.values())
    assert all(pair["second"] == pytest.approx(2 * pair["first"], rel=1e-3) for pair in pairs.values())


def test_what_was_merged_exports(run_cli: RunCli, copied: Path) -> None:
    assert run_cli("adapter", "merge", copied, copied, "-o", "both").code == 0
    assert run_cli("export", "both", "-t", "comfyui").code == 0


def test_a_smaller_rank_is_written_and_its_cost_shown(run_cli: RunCli, copied: Path, tmp_path: Path) -> None:
    result = run_cli("adapter", "resize", copied, "--rank", "1", "-o", "small")
    assert (result.code, result.err) == (0, "")
    assert "missing of each update, which is approximated:" in result.out
    shapes = {tensor.shape[0] for key, tensor in load_file(tmp_path / "small" / WEIGHTS).items() if "lora_A" in key}
    assert shapes == {1}


def test_an_adapter_is_not_apart_from_itself(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("adapter", "diff", copied, copied)
    assert result.code == 0
    assert result.out.splitlines()[-1] == "44 modules, 0.0% apart at most, mean cosine 1.000"


def test_two_models_give_the_adapter_that_made_the_one_of_the_other(
    run_cli: RunCli, copied: Path, tiny_checkpoint: Path
) -> None:
    assert run_cli("export", copied, "-t", "merged", "-c", tiny_checkpoint, "-o", "merged").code == 0
    before = tiny_checkpoint / "acestep-v15-base"
    result = run_cli("adapter", "extract", before, "merged", "--rank", "64", "-o", "again")
    assert (result.code, result.err) == (0, "")
    pairs = json.loads(run_cli("adapter", "diff", copied, "again", "--json").out)
    assert max(pair["apart"] for pair in pairs.values()) < 1e-2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("merge", "final", "final", "--weights", "1", "-o", "x"), "must be 2 finite numbers, one for each adapter"),
        (("merge", "final", "--weights", "much", "-o", "x"), "must be numbers with commas between them"),
        (("merge", "final", "--weights", "nan", "-o", "x"), "must be 1 finite number, one for each adapter"),
        (("merge", "final", "--weights", "0", "-o", "x"), "every weight is 0"),
        (("merge", "final", "-o", "final"), "final is there already; give another --output"),
        (("resize", "final", "--rank", "0", "-o", "x"), "0 is not in the range"),
        (("extract", "final", "final", "-o", "x"), "no ACE-Step model in 'final'"),
        (("extract", "nowhere", "final", "-o", "x"), "no model folder 'nowhere'"),
        (("info", "nowhere"), "no adapter at nowhere"),
        (("info", "final", "--plot", "x.doc"), "neither .png nor .svg"),
        (("diff", "final", "nowhere"), "no adapter at nowhere"),
    ],
)
@pytest.mark.usefixtures("copied")
def test_what_cannot_be_done_is_one_line(run_cli: RunCli, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = run_cli("adapter", *words)
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "x").exists()


# Effect


def test_the_effect_is_shown_for_every_layer(run_cli: RunCli, copied: Path, tiny_checkpoint: Path) -> None:
    result = run_cli("effect", copied, "-c", tiny_checkpoint, "--seconds", "1")
    assert (result.code, result.err) == (0, "")
    assert [row.split()[0] for row in result.out.splitlines()[-5:]] == ["0", "1", "2", "3", "output"]
    again = json.loads(run_cli("effect", copied, "-c", tiny_checkpoint, "--seconds", "1", "--json").out)
    assert (again["modules"], len(again["layers"]), again["flow"] > 0) == (44, 4, True)


def test_an_adapter_that_does_nothing_is_warned_of(run_cli: RunCli, copied: Path, tiny_checkpoint: Path) -> None:
    tensors = load_file(copied / WEIGHTS)
    save_file({k: torch.zeros_like(v) if "lora_B" in k else v for k, v in tensors.items()}, copied / WEIGHTS)
    result = run_cli("effect", copied, "-c", tiny_checkpoint, "--seconds", "1")
    assert (result.code, result.err) == (
        1,
        "warning: the adapter does nothing: the model's output is the same without it\n",
    )


def test_there_has_to_be_a_model_to_measure_on(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("effect", copied)
    assert (result.code, result.err) == (2, "error: no model to measure on: give --checkpoint-dir and --model\n")
