"""`sidestep export` of a trained adapter: where it goes, in what form, and what is refused."""

from __future__ import annotations

import json
import pickle
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
    """Return a trained adapter to be changed."""
    return Path(shutil.copytree(adapter, tmp_path / "final"))


def report(run_cli: RunCli, *args: str | Path) -> dict[str, Any]:
    result = run_cli("export", *args, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("target", ["native", "diffusers"])
def test_without_an_output_it_goes_beside_the_adapter(run_cli: RunCli, copied: Path, target: str) -> None:
    (path,) = report(run_cli, copied, "-t", target)["paths"]
    assert Path(path).is_relative_to(copied.with_name(f"final-{target}"))
    assert Path(path).exists()


@pytest.mark.parametrize("target", ["native", "diffusers", "comfyui"])
def test_json_says_who_read_it_back_and_how_exactly(run_cli: RunCli, copied: Path, target: str) -> None:
    found = report(run_cli, copied, "-t", target)
    assert (found["modules"], found["error"] <= 1e-5, found["notes"]) == (44, True, [])
    assert found["reader"].split()[0] in ("peft", "diffusers", "ComfyUI's")


def test_the_file_itself_can_be_named(run_cli: RunCli, copied: Path, tmp_path: Path) -> None:
    report(run_cli, copied / WEIGHTS, "-t", "diffusers", "-o", "out/mine.safetensors")
    assert (tmp_path / "out" / "mine.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "dtype"), [("keep", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_weights_are_written_in_the_wanted_form(
    run_cli: RunCli, copied: Path, tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    report(run_cli, copied, "-t", "native", "-o", "out", "--dtype", name)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / WEIGHTS).values()} == {dtype}


def test_exporting_twice_gives_the_same_bytes(run_cli: RunCli, copied: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        report(run_cli, copied, "-t", "native", "-o", name)
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()


def test_the_adapter_is_left_as_it_was(run_cli: RunCli, copied: Path) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    report(run_cli, copied, "-t", "native")
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_other_files_where_it_goes_are_left_alone(run_cli: RunCli, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    report(run_cli, copied, "-t", "native", "-o", "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_without_the_proof_it_is_said_to_be_unproven(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("export", copied, "-t", "native", "--no-verify")
    assert (result.code, result.err) == (0, "warning: not verified (--no-verify)\n")
    assert "proof" not in result.out
    assert report(run_cli, copied, "-t", "native", "--no-verify")["error"] is None


def test_the_base_model_is_checked_when_it_is_known(run_cli: RunCli, copied: Path, tiny_checkpoint: Path) -> None:
    found = report(run_cli, copied, "-t", "native", "-c", tiny_checkpoint, "-M", "base")
    assert found["modules"] == 44


def test_a_base_model_of_another_shape_is_refused(
    run_cli: RunCli, copied: Path, make_checkpoint: Callable[..., Path]
) -> None:
    other = make_checkpoint(hidden=128, layers=2)
    result = run_cli("export", copied, "-t", "native", "-c", other)
    assert (result.code, result.out) == (2, "")
    assert "the adapter does not fit 'acestep-v15-base'" in result.err
    assert not copied.with_name("final-native").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "-t", "native"), "nowhere"),
        (("empty", "-t", "native"), "empty"),
        (("final", "-t", "nativ"), "did you mean 'native'?"),
        (("final",), "Missing option '--target' / '-t'"),
        (("final", "-t", "native", "--dtype", "int8"), "'int8' is not one of 'keep', 'fp32', 'bf16', 'fp16'"),
        (("final", "-t", "native", "-o", "final"), "lies in the adapter's own folder; give another --output"),
        (("final", "-t", "native", "-o", "final/deeper"), "lies in the adapter's own folder; give another --output"),
        (("final", "-t", "native", "-o", "file"), "file is a file; give a folder as --output"),
        (("final", "-t", "native", "-c", "nowhere"), "no folder 'nowhere', which --checkpoint-dir names"),
        (("final", "-t", "native", "-M", "base"), "no checkpoint folder: give --checkpoint-dir"),
    ],
)
@pytest.mark.usefixtures("copied")
def test_what_cannot_be_exported_is_refused(
    run_cli: RunCli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    result = run_cli("export", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == []


def test_a_run_folder_says_where_its_adapter_is(run_cli: RunCli, run_folder: Path) -> None:
    result = run_cli("export", run_folder, "-t", "native")
    assert result.code == 2
    assert "there is one in final" in result.err


@pytest.mark.parametrize("damage", ["truncated", "not finite", "half a pair"])
def test_a_damaged_adapter_is_refused_and_nothing_is_written(run_cli: RunCli, copied: Path, damage: str) -> None:
    file = copied / WEIGHTS
    tensors = load_file(file)
    name = next(iter(tensors))
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "not finite":
        save_file({**tensors, name: torch.full_like(tensors[name], float("nan"))}, file)
    else:
        save_file({key: tensor for key, tensor in tensors.items() if key != name}, file)
    result = run_cli("export", copied, "-t", "native")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert not copied.with_name("final-native").exists()


# ComfyUI, and the flags of older command lines


def keys(path: Path) -> set[str]:
    return {key.partition(".layers")[0] for key in load_file(path)}


@pytest.mark.parametrize(
    ("words", "prefix"),
    [
        (("-t", "comfyui"), "base_model.model"),
        (("-t", "comfyui", "--prefix", "generic"), "diffusion_model.decoder"),
        (("-t", "comfyui", "--prefix", "my.model"), "my.model"),
        (("--format", "comfyui"), "base_model.model"),
        (("-f", "comfyui", "--target", "native"), "base_model.model"),
        (("-f", "comfyui", "--target", "generic"), "diffusion_model.decoder"),
        (("--format=comfyui", "-t", "generic"), "diffusion_model.decoder"),
        (("--target", "generic"), "diffusion_model.decoder"),
        (("--prefix", "my.model"), "my.model"),
        (("--target", "native", "--prefix", "my.model"), "my.model"),
    ],
)
def test_names_have_the_prefix_that_was_asked_for(
    run_cli: RunCli, copied: Path, words: tuple[str, ...], prefix: str
) -> None:
    report(run_cli, copied, *words)
    assert keys(copied.with_name("final-comfyui.safetensors")) == {prefix}


def test_an_adapter_is_never_normalized_to_another_strength(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("export", copied, "--format", "comfyui", "--normalize-alpha")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "as trained at strength 1.0" in result.err
    assert not copied.with_name("final-comfyui.safetensors").exists()


def test_a_format_and_another_target_contradict(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("export", copied, "--format", "comfyui", "--target", "diffusers")
    assert (result.code, result.err) == (
        2,
        "error: --format comfyui and --target diffusers contradict; --target alone says it\n",
    )


def test_settings_of_another_target_are_refused(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("export", copied, "--target", "diffusers", "--rank", "4")
    assert result.code == 2
    assert "--rank" in result.err


def test_an_approximation_is_shown_layer_by_layer(run_cli: RunCli, copied: Path) -> None:
    result = run_cli("export", copied, "-t", "lora", "--rank", "1")
    assert result.code == 0, result.err
    head, *rows = result.out.partition("approximated:\n")[2].splitlines()
    kinds = [f"{block} {letter}" for block in ("SELF", "CROSS") for letter in "QKVO"]
    assert " ".join(head.split()) == " ".join(["LAYER", *kinds, "GATE", "UP", "DOWN"])
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]
    assert all(cell.endswith("%") for row in rows for cell in row.split()[1:])
    assert "from the approximation" in result.out


def test_a_merged_model_is_a_model(run_cli: RunCli, copied: Path, tiny_checkpoint: Path) -> None:
    report(run_cli, copied, "-t", "merged", "-c", tiny_checkpoint)
    listed = json.loads(run_cli("models", "list", "-c", copied.with_name("final-merged"), "--json").out)
    assert [(model["name"], model["variant"]) for model in listed] == [("final-merged", "base")]


# The model of an adapter


def test_the_model_is_the_one_it_was_trained_on(
    run_cli: RunCli, copied: Path, tiny_checkpoint: Path, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(make_checkpoint(seed=3) / "acestep-v15-base", tmp_path / "both" / "acestep-v15-base")
    shutil.copytree(tiny_checkpoint / "acestep-v15-base", tmp_path / "both" / "acestep-v15-mine")
    (tmp_path / "both" / "vae").mkdir()
    result = run_cli("export", copied, "-t", "merged", "-c", "both", "-o", "out")
    assert (result.code, result.err) == (0, "")
    result = run_cli("export", copied, "-t", "merged", "-c", "both", "-M", "acestep-v15-base", "-o", "other")
    assert result.code == 0
    assert "the adapter was trained on 'acestep-v15-base', this is another version of it" in result.err


# Other programs' files


def test_what_was_exported_converts_back(run_cli: RunCli, copied: Path, tmp_path: Path) -> None:
    report(run_cli, copied, "-t", "comfyui", "--prefix", "generic", "-o", "there.safetensors")
    result = run_cli("convert", "there.safetensors", "-t", "native", "--json")
    assert result.code == 0, result.err
    back, trained = (load_file(folder / WEIGHTS) for folder in (tmp_path / "there-native", copied))
    assert all(torch.equal(back[key], value) for key, value in trained.items())


def test_a_prefix_that_is_not_known_has_to_be_given(run_cli: RunCli, copied: Path) -> None:
    report(run_cli, copied, "-t", "comfyui", "--prefix", "my.model", "-o", "mine.safetensors")
    result = run_cli("convert", "mine.safetensors", "-t", "native")
    assert result.code == 2
    assert "begins with none of base_model.model." in result.err
    assert run_cli("convert", "mine.safetensors", "-t", "native", "--source-prefix", "my.model").code == 0


HOSTILE = {
    "wrong header length": (2**62).to_bytes(8, "little") + b"{}",
    "cut": b"\x10",
    "empty": b"",
    "pickle in disguise": pickle.dumps({"lora": [1, 2, 3]}),
    "huge shape": b'{"a.lora_A.weight":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}',
    "huge product": b'{"a.lora_A.weight":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
    "infinite shape": b'{"a.lora_A.weight":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}',
    "negative": b'{"a.lora_A.weight":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("command", ["export -t native", "convert -t comfyui", "adapter info"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_clear_line(run_cli: RunCli, tmp_path: Path, name: str, command: str) -> None:
    content = HOSTILE[name]
    if content[:1] in (b"{", b"["):
        content = len(content).to_bytes(8, "little") + content + bytes(4)
    (tmp_path / "song.safetensors").write_bytes(content)
    result = run_cli(*command.split(), "song.safetensors")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert result.err.startswith("error: song.safetensors is not a readable safetensors file")
    assert [path.name for path in tmp_path.iterdir() if "song" in path.name] == ["song.safetensors"]


def test_a_target_that_cannot_hold_it_is_said_before_libraries_are_imported(run_cli: RunCli, tmp_path: Path) -> None:
    name = "lycoris_layers_0_mlp_up_proj"
    save_file({f"{name}.lokr_w1": torch.ones(2, 2), f"{name}.lokr_w2": torch.ones(2, 2)}, tmp_path / "song.safetensors")
    result = run_cli("export", "song.safetensors", "-t", "diffusers")
    assert (result.code, result.err) == (
        2,
        "error: target 'diffusers' cannot hold lokr (song.safetensors); it takes dora, lora; "
        "--target lora makes a plain LoRA of any adapter\n",
    )


@pytest.mark.parametrize(("command", "argument"), [("export", "[FOLDER]"), ("convert", "FILE")])
def test_help_names_the_argument_in_the_usage_alone(run_cli: RunCli, command: str, argument: str) -> None:
    usage, _, rest = run_cli(command, "--help").out.partition("\n")
    assert usage.endswith(f"[OPTIONS] {argument}")
    assert argument not in [line.strip() for line in rest.splitlines()]


def test_help_lists_the_targets_that_are_installed(run_cli: RunCli) -> None:
    listed = " ".join(run_cli("export", "--help").out.split()).partition("Program or format to write for. [")[2]
    assert {"diffusers", "native"} <= set(listed.partition("]")[0].split(", "))
