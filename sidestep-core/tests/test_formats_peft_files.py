"""PEFT folders: what is written reads back as it was, with equal bytes for equal adapters."""

import json

import safetensors.torch
import torch
from sidestep_core.formats.peft_files import diffusers_metadata, peft_files
from sidestep_core.formats.reading import deltas, read_updates
from sidestep_core.formats.saved import read_adapter
from sidestep_core.formats.updates import LowRank
from sidestep_core.formats.weight_updates import Decomposed
from sidestep_core.tensor_files import tensor_bytes

Q, UP = "layers.2.self_attn.q_proj", "layers.10.mlp.up_proj"


def module(name, rank=4, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(len(name))
    down, up = torch.randn(rank, 6, generator=generator), torch.randn(8, rank, generator=generator)
    return LowRank(name=name, down=down.to(dtype), up=up.to(dtype), scale=scale)


def test_folding_keeps_the_difference():
    part = module(Q, scale=0.3)
    assert part.folded().scale == 1
    assert torch.allclose(part.folded().delta(), part.delta(), atol=1e-6)


def test_folding_can_change_the_dtype():
    part = module(Q).folded(torch.bfloat16)
    assert {part.up.dtype, part.down.dtype} == {torch.bfloat16}
    assert part.shape == (8, 6)


def store(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return read_adapter(tmp_path)


def test_written_files_read_back_as_they_were(tmp_path):
    modules = [module(Q, scale=0.3), module(UP, rank=2, scale=3.0)]
    saved = store(tmp_path, peft_files(modules, {"run": "r1"}))
    assert saved.metadata["run"] == "r1"
    for part, (name, delta) in zip(modules, deltas(saved), strict=True):
        assert name == part.name
        assert torch.allclose(delta, part.delta(), atol=1e-6)


def test_alpha_equals_rank_everywhere(tmp_path):
    parts = [module(Q, scale=2.0), module("layers.3.self_attn.q_proj"), module(UP, rank=2)]
    config = store(tmp_path, peft_files(parts, {})).config
    assert (config["r"], config["lora_alpha"]) == (4, 4)
    assert config["rank_pattern"] == config["alpha_pattern"] == {UP: 2}
    assert config["target_modules"] == [part.name for part in parts]


def test_the_order_of_the_modules_does_not_show(tmp_path):
    parts = [module(Q), module(UP, rank=2)]
    assert peft_files(parts, {}) == peft_files(parts[::-1], {})


def test_metadata_is_written_in_order():
    metadata = {f"key{i}": str(i) for i in range(20)}
    content = tensor_bytes({"w": torch.zeros(2)}, dict(reversed(metadata.items())))
    assert content == tensor_bytes({"w": torch.zeros(2)}, metadata)
    assert [content.index(key.encode()) for key in sorted(metadata)] == sorted(
        content.index(key.encode()) for key in metadata
    )


def test_any_dtype_and_layout_is_written_as_it_is(tmp_path):
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3).T,
        "b": torch.ones(3, dtype=torch.bfloat16),
        "c": torch.tensor([], dtype=torch.float16),
    }
    file = tmp_path / "x.safetensors"
    file.write_bytes(tensor_bytes(tensors, {}))
    back = safetensors.torch.load_file(file)
    assert all(back[name].equal(value) and back[name].dtype == value.dtype for name, value in tensors.items())


def test_diffusers_is_told_the_settings_in_its_own_names():
    named = json.loads(diffusers_metadata([module(Q), module(UP, rank=2)])["lora_adapter_metadata"])
    assert named["transformer.target_modules"] == ["layers.2.self_attn.to_q", UP]
    assert named["transformer.rank_pattern"] == {UP: 2}


def test_dora_keeps_its_magnitudes_and_says_that_it_is_dora(tmp_path):
    part = Decomposed(name=Q, inner=module(Q, scale=0.3), magnitude=torch.rand(8) + 1)
    saved = store(tmp_path, peft_files([part], {}))
    (read,) = read_updates(saved)
    assert (saved.config["use_dora"], read.kind, read.inner.scale) == (True, "dora", 1.0)
    assert read.magnitude.equal(part.magnitude)


def test_magnitudes_stay_float32_beside_smaller_factors(tmp_path):
    part = Decomposed(name=Q, inner=module(Q), magnitude=torch.rand(8) + 1).folded(torch.bfloat16)
    (read,) = read_updates(store(tmp_path, peft_files([part], {})))
    assert (read.dtype, read.magnitude.dtype) == (torch.bfloat16, torch.float32)
