"""Finding models in a checkpoint folder, choosing one by name, and telling models apart."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.errors import CheckpointError
from sidestep_core.model.layout import find_checkpoint_dir, find_models, identity, resolve_model, scan

CONFIG = {
    "model_type": "acestep",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "in_channels": 192,
    "audio_acoustic_hidden_dim": 64,
    "patch_size": 2,
    "text_hidden_dim": 8,
    "num_lyric_encoder_hidden_layers": 1,
    "num_timbre_encoder_hidden_layers": 1,
}
XL = {"encoder_hidden_size": 4}
ALL = {"acestep-v15-base": {}, "acestep-v15-sft": {}, "acestep-v15-turbo": {"is_turbo": True}}


def write_tensors(file: Path, shapes: dict[str, tuple[str, int]], *, data: bytes | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    header, end = {}, 0
    for key, (dtype, count) in shapes.items():
        size = count * (2 if dtype == "BF16" else 4)
        header[key] = {"dtype": dtype, "shape": [count], "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + (bytes(end) if data is None else data))


def write_model(root: Path, name: str, **config: Any) -> Path:
    """A model folder with a valid config and two tensors."""
    write_tensors(root / name / "model.safetensors", {"decoder.a": ("BF16", 90), "null_condition_emb": ("F32", 10)})
    (root / name / "config.json").write_text(json.dumps(CONFIG | config))
    (root / name / "silence_latent.pt").write_bytes(b"silence")
    return root / name


def write_helpers(root: Path) -> None:
    """A VAE and a text encoder, as far as they can be seen without loading."""
    write_tensors(root / "vae" / "diffusion_pytorch_model.safetensors", {})
    (root / "vae" / "config.json").write_text('{"_class_name": "AutoencoderOobleck"}')
    write_tensors(root / "Qwen3-Embedding-0.6B" / "model.safetensors", {})
    (root / "Qwen3-Embedding-0.6B" / "config.json").write_text('{"model_type": "qwen3"}')


def write_pipeline(path: Path, **config: Any) -> Path:
    """A diffusers folder, as far as it can be seen without loading."""
    for part in ("transformer", "condition_encoder", "vae"):
        write_tensors(path / part / "diffusion_pytorch_model.safetensors", {f"{part}.w": ("F32", 5)})
        (path / part / "config.json").write_text(json.dumps({k: v for k, v in CONFIG.items() if k != "model_type"}))
    transformer = CONFIG | {"encoder_hidden_size": 8} | config
    (path / "transformer" / "config.json").write_text(json.dumps(transformer))
    write_tensors(path / "text_encoder" / "model.safetensors", {})
    (path / "tokenizer").mkdir()
    (path / "model_index.json").write_text('{"_class_name": "AceStepPipeline"}')
    return path


def names(root: Path) -> list[str]:
    return [model.name for model in find_models(root)]


def variant(tmp_path: Path, name: str, **config: Any) -> str:
    write_model(tmp_path, name, **config)
    return find_models(tmp_path)[0].variant


# What is found


def test_ace_steps_own_models_come_first_in_their_usual_order(tmp_path):
    for name in ("zz-mine", "acestep-v15-turbo", "Another", "acestep-v15-base", "acestep-v15-sft"):
        write_model(tmp_path, name)
    write_model(tmp_path, "acestep-v15-xl-base", **XL)
    assert names(tmp_path) == [
        "acestep-v15-base",
        "acestep-v15-sft",
        "acestep-v15-turbo",
        "acestep-v15-xl-base",
        "Another",
        "zz-mine",
    ]


@pytest.mark.parametrize(
    "name", ["vae", "Qwen3-Embedding-0.6B", "acestep-5Hz-lm-1.7B", ".git", ".cache", "__pycache__"]
)
def test_folders_that_hold_no_music_model_are_passed_over(tmp_path, name):
    write_model(tmp_path, name)
    assert names(tmp_path) == []


def test_other_models_and_plain_folders_and_files_are_passed_over(tmp_path):
    write_model(tmp_path, "llm", model_type="qwen3")
    (tmp_path / "notes").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert scan(tmp_path).models == ()
    assert scan(tmp_path).broken == {}


def test_the_folder_of_an_audio_tokenizer_is_no_model_of_its_own(tmp_path):
    root = write_pipeline(tmp_path / "pipe")
    (root / "transformer" / "config.json").write_text(
        json.dumps(CONFIG | {"_class_name": "AceStepTransformer1DModel", "model_type": None})
    )
    assert names(root) == ["pipe"]


@pytest.mark.parametrize(
    "marker",
    [
        {"architectures": ["AceStepConditionGenerationModel"]},
        {"auto_map": {"AutoModel": "modeling_acestep_v15_base.AceStepConditionGenerationModel"}},
    ],
)
def test_a_model_is_known_by_its_class_too(tmp_path, marker):
    write_model(tmp_path, "mine", model_type=None, **marker)
    assert names(tmp_path) == ["mine"]


def test_size_type_and_count_come_from_the_headers(tmp_path):
    folder = write_model(tmp_path, "acestep-v15-base")
    model = find_models(tmp_path)[0]
    assert (model.layout, model.dtype, model.parameters) == ("original", "bf16", 100)
    assert model.bytes == (folder / "model.safetensors").stat().st_size
    assert (model.path, model.root) == (folder, tmp_path)


def test_sharded_weights_are_counted_together(tmp_path):
    folder = write_model(tmp_path, "acestep-v15-xl-base", **XL)
    (folder / "model.safetensors").unlink()
    for i in (1, 2):
        write_tensors(folder / f"{i}.safetensors", {f"decoder.{i}": ("F32", 7)})
    index = {"weight_map": {"decoder.1": "1.safetensors", "decoder.2": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    model = find_models(tmp_path)[0]
    assert (model.parameters, model.dtype, model.variant) == (14, "fp32", "xl-base")


def test_a_model_folder_given_as_checkpoint_folder_is_that_model(tmp_path):
    folder = write_model(tmp_path, "mine")
    write_helpers(tmp_path)
    assert names(folder) == ["mine"]
    assert find_models(folder)[0].root == tmp_path
    assert find_models(folder)[0].missing == ()


def test_a_diffusers_folder_is_a_model_and_its_own_root(tmp_path):
    root = write_pipeline(tmp_path / "my-pipe")
    model = resolve_model(root, "my-pipe")
    assert (model.layout, model.path, model.root, model.missing) == ("diffusers", root, root, ())
    assert (model.vae, model.text_encoder, model.tokenizer) == (root / "vae", root / "text_encoder", root / "tokenizer")


def test_a_diffusers_folder_can_stand_among_other_models(tmp_path):
    write_model(tmp_path, "acestep-v15-base")
    pipe = write_pipeline(tmp_path / "pipe")
    assert names(tmp_path) == ["acestep-v15-base", "pipe"]
    assert resolve_model(tmp_path, "pipe").root == pipe


def test_the_condition_encoders_dimensions_come_from_its_own_config(tmp_path):
    root = write_pipeline(tmp_path / "pipe", hidden_size=16, num_attention_heads=4)
    dims = find_models(root)[0].dims
    assert (dims.hidden_size, dims.condition_size, dims.num_heads, dims.condition_heads) == (16, 8, 4, 2)
    assert dims.xl


# Variants


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("acestep-v15-base", {}, "base"),
        ("acestep-v15-sft", {}, "sft"),
        ("acestep-v15-xl-turbo", XL, "xl-turbo"),
        ("my_BASE_tune", {}, "base"),
        ("mine", {"is_turbo": True}, "turbo"),
        ("mine", {"model_version": "sft"}, "sft"),
        ("mine", {"model_version": "xl_base", **XL}, "xl-base"),
        ("acestep-v15-base", {"is_turbo": True}, "turbo"),
        ("acestep-v15-base", {"model_version": "v1.5"}, "base"),
        ("database-thing", {}, ""),
        ("basement", {}, ""),
        ("base-sft-merge", {}, ""),
        ("mine", {}, ""),
        ("mine", XL, ""),
    ],
)
def test_the_variant_is_told_by_the_config_then_by_whole_words_of_the_name(tmp_path, name, config, expected):
    assert variant(tmp_path, name, **config) == expected


# Choosing


@pytest.mark.parametrize(("alias", "name"), [("base", "acestep-v15-base"), ("turbo", "acestep-v15-turbo")])
def test_an_alias_means_ace_steps_own_model(tmp_path, alias, name):
    for folder, config in ALL.items():
        write_model(tmp_path, folder, **config)
    write_model(tmp_path, "aa-base-tune")
    assert resolve_model(tmp_path, alias).name == name


def test_an_alias_finds_the_only_model_of_its_variant(tmp_path):
    write_model(tmp_path, "my-base-tune")
    assert resolve_model(tmp_path, "base").name == "my-base-tune"


def test_an_alias_of_several_models_must_be_said_more_exactly(tmp_path):
    write_model(tmp_path, "my-base")
    write_model(tmp_path, "your-base")
    with pytest.raises(CheckpointError, match=r"2 base models in .*; choose by name: my-base, your-base$"):
        resolve_model(tmp_path, "base")


def test_a_folder_of_unknown_variant_is_usable_by_its_name(tmp_path):
    write_model(tmp_path, "database-thing")
    model = resolve_model(tmp_path, "database-thing")
    assert (model.name, model.variant) == ("database-thing", "")


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (["acestep-v15-turbo", "acestep-v15-sft", "acestep-v15-base"], "acestep-v15-base"),
        (["acestep-v15-turbo", "acestep-v15-sft"], "acestep-v15-sft"),
        (["acestep-v15-turbo", "zz"], "acestep-v15-turbo"),
        (["acestep-v15-xl-base", "acestep-v15-turbo"], "acestep-v15-turbo"),
        (["acestep-v15-xl-turbo", "acestep-v15-xl-sft"], "acestep-v15-xl-sft"),
    ],
)
def test_without_a_name_it_is_base_then_sft_then_turbo_then_xl(tmp_path, there, chosen):
    for name in there:
        write_model(tmp_path, name, **(XL if "-xl-" in name else {}))
    assert resolve_model(tmp_path, None).name == chosen


def test_an_unknown_folder_is_asked_about_and_not_guessed(tmp_path):
    write_model(tmp_path, "mine")
    with pytest.raises(CheckpointError, match=r"no base, sft or turbo model in .*; choose with --model: mine$"):
        resolve_model(tmp_path, None)


def test_an_unknown_name_lists_what_is_there_and_what_is_near(tmp_path):
    write_model(tmp_path, "acestep-v15-base")
    write_model(tmp_path, "mine")
    with pytest.raises(
        CheckpointError, match=r"no model 'mime' in .*; there is acestep-v15-base, mine; did you mean 'mine'"
    ):
        resolve_model(tmp_path, "mime")


@pytest.mark.parametrize("name", ["../elsewhere/mine", "", ".", "..", "/"])
def test_a_name_is_never_a_path(tmp_path, name):
    write_model(tmp_path / "elsewhere", "mine")
    write_model(tmp_path / "root", "acestep-v15-base")
    with pytest.raises(CheckpointError, match="no model"):
        resolve_model(tmp_path / "root", name)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="no ACE-Step model in"):
        resolve_model(tmp_path, None)


def test_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint folder .*nowhere"):
        find_models(tmp_path / "nowhere")


# What is wrong or missing


def test_a_complete_checkpoint_lacks_nothing(tmp_path):
    write_model(tmp_path, "acestep-v15-base")
    write_helpers(tmp_path)
    assert find_models(tmp_path)[0].missing == ()


def test_everything_that_is_missing_is_named(tmp_path):
    folder = write_model(tmp_path, "acestep-v15-base")
    (folder / "model.safetensors").unlink()
    (folder / "silence_latent.pt").unlink()
    model = find_models(tmp_path)[0]
    assert model.missing == (
        "weights (model.safetensors)",
        "silence_latent.pt",
        "vae (vae)",
        "text encoder (Qwen3-Embedding-0.6B)",
    )
    assert (model.dtype, model.parameters, model.bytes) == ("", 0, 0)


def test_a_silence_latent_in_the_root_serves_every_model(tmp_path):
    (write_model(tmp_path, "acestep-v15-base") / "silence_latent.pt").rename(tmp_path / "silence_latent.pt")
    model = find_models(tmp_path)[0]
    assert model.silence == tmp_path / "silence_latent.pt"
    assert "silence_latent.pt" not in model.missing


def test_a_models_own_silence_latent_wins_over_the_roots(tmp_path):
    folder = write_model(tmp_path, "acestep-v15-base")
    (tmp_path / "silence_latent.pt").write_bytes(b"other")
    assert find_models(tmp_path)[0].silence == folder / "silence_latent.pt"


def test_a_missing_shard_is_named(tmp_path):
    folder = write_model(tmp_path, "acestep-v15-base")
    write_helpers(tmp_path)
    (folder / "model.safetensors").rename(folder / "1.safetensors")
    index = {"weight_map": {"decoder.a": "1.safetensors", "decoder.b": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert find_models(tmp_path)[0].missing == ("weights (2.safetensors)",)


def test_parts_missing_from_a_diffusers_folder_are_named(tmp_path):
    root = write_pipeline(tmp_path / "pipe")
    for file in root.glob("*/*.safetensors"):
        file.unlink()
    assert find_models(root)[0].missing == (
        "weights (transformer)",
        "weights (condition_encoder)",
        "vae (vae)",
        "text encoder (text_encoder)",
    )


def test_a_model_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    write_model(tmp_path, "acestep-v15-base")
    (write_model(tmp_path, "acestep-v15-sft") / "config.json").write_text("{")
    (write_model(tmp_path, "acestep-v15-turbo") / "model.safetensors").write_bytes(b"short")
    assert names(tmp_path) == ["acestep-v15-base"]
    assert sorted(scan(tmp_path).broken) == ["acestep-v15-sft", "acestep-v15-turbo"]


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("{", "config.json is not valid JSON"),
        ("[]", "config.json holds no JSON object"),
        ('{"model_type": "acestep"}', "config.json has no hidden_size, "),
    ],
)
def test_a_model_whose_config_is_unusable_says_why_when_asked_for(tmp_path, text, because):
    (write_model(tmp_path, "mine") / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=because):
        resolve_model(tmp_path, "mine")


def test_a_pipeline_without_a_condition_encoder_says_so(tmp_path):
    (write_pipeline(tmp_path / "pipe") / "condition_encoder" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"condition_encoder/config.json cannot be read"):
        resolve_model(tmp_path, "pipe")


def test_when_nothing_is_usable_the_reasons_are_given(tmp_path):
    (write_model(tmp_path, "mine") / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"no ACE-Step model in .*; mine cannot be used: .*not valid JSON"):
        resolve_model(tmp_path, "base")


# The checkpoint folder


def test_the_given_checkpoint_folder_wins(tmp_path):
    given, setting = tmp_path / "given", tmp_path / "setting"
    given.mkdir()
    setting.mkdir()
    assert find_checkpoint_dir(given, setting) == given
    assert find_checkpoint_dir(None, setting) == setting


def test_without_either_it_is_checkpoints_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert find_checkpoint_dir(None, None) == Path("checkpoints")


def test_no_checkpoint_folder_says_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="give --checkpoint-dir or run"):
        find_checkpoint_dir(None, None)


@pytest.mark.parametrize(("given", "source"), [(True, "--checkpoint-dir"), (False, "the settings")])
def test_a_checkpoint_folder_that_is_not_there_says_who_named_it(tmp_path, given, source):
    path = tmp_path / "nowhere"
    with pytest.raises(CheckpointError, match=f"which {source} names"):
        find_checkpoint_dir(path if given else None, None if given else path)


# Identity


def test_a_moved_model_stays_the_same(tmp_path):
    before = identity(resolve_model(write_model(tmp_path, "a"), "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert identity(resolve_model(tmp_path, "b")) == before


def test_models_of_one_shape_differ_by_their_weights(tmp_path):
    write_model(tmp_path, "a")
    shapes = {"decoder.a": ("BF16", 90), "null_condition_emb": ("F32", 10)}
    write_tensors(write_model(tmp_path, "b") / "model.safetensors", shapes, data=bytes([1]) * 220)
    assert identity(resolve_model(tmp_path, "a")) != identity(resolve_model(tmp_path, "b"))


@pytest.mark.parametrize("config", [{"timbre_fix_frame": 1}, {"model_version": "x"}])
def test_models_differ_by_their_config(tmp_path, config):
    write_model(tmp_path, "a")
    write_model(tmp_path, "b", **config)
    assert identity(resolve_model(tmp_path, "a")) != identity(resolve_model(tmp_path, "b"))


def test_models_differ_by_their_silence(tmp_path):
    write_model(tmp_path, "a")
    (write_model(tmp_path, "b") / "silence_latent.pt").write_bytes(b"SILENCE")
    assert identity(resolve_model(tmp_path, "a")) != identity(resolve_model(tmp_path, "b"))


def test_the_layout_of_the_config_file_does_not_matter(tmp_path):
    write_model(tmp_path, "a")
    (write_model(tmp_path, "b") / "config.json").write_text(json.dumps(CONFIG, indent=4, sort_keys=True))
    assert identity(resolve_model(tmp_path, "a")) == identity(resolve_model(tmp_path, "b"))


def test_a_diffusers_model_has_an_identity(tmp_path):
    a, b = write_pipeline(tmp_path / "a"), write_pipeline(tmp_path / "b", rope_theta=5.0)
    assert identity(find_models(a)[0]) != identity(find_models(b)[0])


def test_reading_models_imports_nothing_heavy():
    code = "import sys, sidestep_core.model.layout; print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
