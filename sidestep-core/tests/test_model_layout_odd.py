"""Checkpoint folders as people have them: links, copies, leftovers, odd names; and what makes two models one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from sidestep_core.errors import CheckpointError
from sidestep_core.model.layout import find_models, identity, resolve_model, scan

WEIGHTS = "model.safetensors"


@pytest.fixture
def root(tiny_checkpoint, tmp_path):
    """A copy of the tiny checkpoint to break."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoints")


@pytest.fixture
def base(root):
    return root / "acestep-v15-base"


def names(root):
    return [model.name for model in find_models(root)]


def change(file, place, *, by=1):
    """Change one byte of a file, counted from its start or (negative) its end."""
    content = bytearray(file.read_bytes())
    content[place] ^= by
    file.write_bytes(content)


def edit(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | fields), encoding="utf-8")


# Links


def test_a_checkpoint_folder_may_be_a_link(root, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(root, target_is_directory=True)
    assert names(link) == ["acestep-v15-base"]
    assert find_models(link)[0].missing == ()


def test_a_model_may_be_a_link_to_another_disk(root, base, tmp_path):
    elsewhere = shutil.move(base, tmp_path / "elsewhere")
    base.symlink_to(elsewhere, target_is_directory=True)
    model = resolve_model(root, "base")
    assert (model.name, model.path, model.root, model.missing) == ("acestep-v15-base", base, root, ())


def test_weights_may_be_links_into_a_cache(root, base, tmp_path):
    before = resolve_model(root, "base")
    hashed = identity(before)
    blob = shutil.move(base / WEIGHTS, tmp_path / "blob")
    (base / WEIGHTS).symlink_to(blob)
    after = resolve_model(root, "base")
    assert (after, identity(after)) == (before, hashed)


def test_a_link_that_leads_nowhere_hides_no_model(root):
    (root / "acestep-v15-sft").symlink_to(root / "gone", target_is_directory=True)
    (root / "loop").symlink_to(root / "loop")
    assert (names(root), scan(root).broken) == (["acestep-v15-base"], {})


def test_weights_whose_link_leads_nowhere_are_missing(root, base):
    (base / WEIGHTS).unlink()
    (base / WEIGHTS).symlink_to(root / "gone")
    assert resolve_model(root, "base").missing == (f"weights ({WEIGHTS})",)


def test_a_link_back_up_does_not_end_in_a_circle(root, base):
    (root / "again").symlink_to(root, target_is_directory=True)
    (base / "up").symlink_to(root, target_is_directory=True)
    assert names(root) == ["acestep-v15-base"]


# What stands in the way


def test_a_file_is_no_checkpoint_folder(base):
    with pytest.raises(CheckpointError, match=r"no checkpoint folder '.*config\.json'"):
        find_models(base / "config.json")


def test_files_beside_the_models_are_passed_over(root):
    (root / "acestep-v15-sft").write_bytes(b"not a folder")
    assert names(root) == ["acestep-v15-base"]


@pytest.mark.parametrize(("place", "word"), [("vae", "vae"), ("Qwen3-Embedding-0.6B", "text encoder")])
def test_a_file_where_a_folder_belongs_is_missing(root, place, word):
    shutil.rmtree(root / place)
    (root / place).write_bytes(b"")
    assert resolve_model(root, "base").missing == (f"{word} ({place})",)


@pytest.mark.parametrize(("place", "word"), [(WEIGHTS, f"weights ({WEIGHTS})"), ("silence_latent.pt",) * 2])
def test_a_folder_where_a_file_belongs_is_missing(root, base, place, word):
    (base / place).unlink()
    (base / place).mkdir()
    assert resolve_model(root, "base").missing == (word,)


def test_a_folder_called_config_json_is_no_model(root, base):
    (base / "config.json").unlink()
    (base / "config.json").mkdir()
    assert names(root) == []


def test_a_config_that_cannot_be_read_says_so(tiny_diffusers, tmp_path):
    pipe = shutil.copytree(tiny_diffusers, tmp_path / "pipe")
    (pipe / "transformer" / "config.json").unlink()
    (pipe / "transformer" / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"transformer/config\.json cannot be read: Is a directory"):
        resolve_model(pipe, "pipe")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not valid JSON"),
        (b"\x00\xff\xfe", "is not valid JSON"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"null", "holds no JSON object"),
        (b'{"model_type": "acestep", "hidden_size": "64"}', "has no intermediate_size"),
    ],
    ids=["empty", "binary", "deep", "null", "text for a number"],
)
def test_a_config_that_cannot_be_used_is_named_and_hides_no_other(root, base, content, reason):
    shutil.copytree(base, root / "mine")
    (root / "mine" / "config.json").write_bytes(content)
    assert names(root) == ["acestep-v15-base"]
    with pytest.raises(CheckpointError, match=reason):
        resolve_model(root, "mine")


@pytest.mark.parametrize("size", [0, -64, 1.5, "64", True, None, [64]], ids=repr)
def test_a_size_that_is_no_positive_whole_number_is_named(root, base, size):
    edit(base / "config.json", hidden_size=size)
    with pytest.raises(CheckpointError, match="hidden_size"):
        resolve_model(root, "acestep-v15-base")


def test_a_config_of_many_megabytes_is_read(root, base):
    before = find_models(root)[0]
    edit(base / "config.json", notes=["x" * 1000] * 5000)
    assert find_models(root)[0] == before


# Several at once


def test_two_models_of_one_variant_go_by_name_unless_one_is_ace_steps(root, base):
    for name in ("my-base", "your-base"):
        shutil.copytree(base, root / name)
    assert resolve_model(root, "base").name == "acestep-v15-base"
    assert resolve_model(root, None).name == "acestep-v15-base"
    shutil.rmtree(base)
    with pytest.raises(CheckpointError, match=r"2 base models in .*; choose by name: my-base, your-base"):
        resolve_model(root, "base")
    assert resolve_model(root, "your-base").name == "your-base"


def test_both_layouts_of_a_model_stand_side_by_side(root, tiny_diffusers):
    shutil.copytree(tiny_diffusers, root / "pipe-base")
    original, pipeline = find_models(root)
    assert [(m.name, m.layout) for m in (original, pipeline)] == [
        ("acestep-v15-base", "original"),
        ("pipe-base", "diffusers"),
    ]
    assert (original.dims.hidden_size, original.parameters > 0) == (pipeline.dims.hidden_size, True)
    assert (pipeline.root, pipeline.missing) == (root / "pipe-base", ())


def test_a_folder_that_holds_both_layouts_counts_once(root, base, tiny_diffusers):
    shutil.copytree(tiny_diffusers, base, dirs_exist_ok=True)
    assert names(root) == ["acestep-v15-base"]


@pytest.mark.parametrize(
    "name", ["my tune", "gr\u00f6\u00dfer", "gro\u0308\u00dfer", "日本 base", "a'b\"c", "100%", "-x", "{0}"]
)
def test_a_model_is_found_by_whatever_name_its_folder_has(root, base, name):
    base.rename(root / name)
    model = resolve_model(root, name)
    assert (model.name, model.path, model.missing) == (name, root / name, ())


def test_a_checkpoint_folder_with_blanks_in_its_path_is_read(root, tmp_path):
    moved = root.rename(tmp_path / "my models (1) é")
    assert find_models(moved)[0].root == moved


def test_a_relative_checkpoint_folder_knows_its_name(base, monkeypatch):
    monkeypatch.chdir(base)
    assert names(Path()) == ["acestep-v15-base"]


# Identity


def hashed(root, name="acestep-v15-base"):
    return identity(resolve_model(root, name))


def test_one_byte_of_a_sampled_block_makes_another_model(root, base):
    seen = {hashed(root)}
    for place in (-1, -2048):
        change(base / WEIGHTS, place)
        seen.add(hashed(root))
    assert len(seen) == 3


def test_one_byte_of_the_header_makes_another_model(root, base):
    before = hashed(root)
    content = (base / WEIGHTS).read_bytes()
    place = content.index(b"layers.0.")
    change(base / WEIGHTS, place + len("layers."), by=1 << 3)
    assert hashed(root) != before


def test_one_byte_of_the_silence_makes_another_model(root, base):
    before = hashed(root)
    change(base / "silence_latent.pt", -1)
    assert hashed(root) != before


def test_one_value_of_the_config_makes_another_model(root, base):
    before = hashed(root)
    edit(base / "config.json", timestep_mu=-0.41)
    assert hashed(root) != before


def test_what_surrounds_a_model_is_no_part_of_it(root, base):
    before = hashed(root)
    (base / "README.md").write_text("notes", encoding="utf-8")
    change(root / "vae" / "diffusion_pytorch_model.safetensors", -1)
    os.utime(base / WEIGHTS, (0, 0))
    assert hashed(root) == before


def test_a_copy_under_another_name_is_the_same_model(root, base, tmp_path):
    before = hashed(root)
    shutil.copytree(base, root / "copy")
    shutil.copytree(root, tmp_path / "other place")
    base.rename(root / "renamed")
    assert {hashed(root, "copy"), hashed(root, "renamed"), hashed(tmp_path / "other place")} == {before}


def test_a_silence_that_moves_to_the_root_leaves_the_model_the_same(root, base):
    before = hashed(root)
    (base / "silence_latent.pt").rename(root / "silence_latent.pt")
    assert hashed(root) == before


@pytest.mark.parametrize("part", ["transformer", "condition_encoder"])
def test_a_pipeline_is_told_by_both_of_its_parts(tiny_diffusers, tmp_path, part):
    pipe = shutil.copytree(tiny_diffusers, tmp_path / "pipe")
    before = hashed(pipe, "pipe")
    change(pipe / part / "diffusion_pytorch_model.safetensors", -1)
    changed = hashed(pipe, "pipe")
    edit(pipe / part / "config.json", note=1)
    assert len({before, changed, hashed(pipe, "pipe")}) == 3


def test_a_model_without_weights_has_an_identity_of_its_own(root, base):
    before = hashed(root)
    (base / WEIGHTS).unlink()
    assert hashed(root) != before
