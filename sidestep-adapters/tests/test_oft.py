"""OFT: rotations, the bound of COFT, and one block size in the file."""

import json

import attrs
import pytest
import torch
from safetensors.torch import load_file
from sidestep_adapters.configs import OftConfig
from sidestep_core.errors import AdapterError
from sidestep_core.model.names import module_path


def test_small_rotations_keep_the_length_of_rows(attach, few, stir, plain):
    adapter = attach("oft", OftConfig(block_size=16), few)
    stir(adapter, 0.01)
    for name, delta in adapter.deltas():
        before = plain.weights[name]
        assert torch.allclose((before + delta).norm(dim=1), before.norm(dim=1), rtol=1e-3)
        assert delta.norm() > 0.01 * before.norm()


def test_blocks_of_several_sizes_are_saved_as_the_largest(attach, few, stir, plain, tmp_path):
    sizes = dict(zip((target.name for target in few), (8, 16, 4, 32), strict=True))
    own = [attrs.evolve(target, rank=sizes[target.name]) for target in few]
    adapter = attach("oft", OftConfig(block_size=16), own)
    stir(adapter)
    adapter.save(tmp_path, metadata={})
    assert json.loads((tmp_path / "adapter_config.json").read_text())["oft_block_size"] == 32
    shapes = {tuple(tensor.shape)[1] for tensor in load_file(tmp_path / "adapter_model.safetensors").values()}
    assert shapes == {32 * 31 // 2}
    read = plain.deltas(tmp_path)
    assert all(torch.allclose(read[name], delta, atol=1e-6) for name, delta in adapter.deltas())


def test_blocks_that_no_common_size_holds_are_refused(decoder, attach, few):
    before = [name for name, _ in decoder.named_modules()]
    own = [attrs.evolve(few[0], rank=64), attrs.evolve(few[3], rank=3)]
    with pytest.raises(AdapterError, match=r"block sizes 3, 64 cannot be saved together: 192, .* not divide the 64"):
        attach("oft", OftConfig(), own)
    assert [name for name, _ in decoder.named_modules()] == before


def test_an_alpha_is_refused(attach, few):
    with pytest.raises(AdapterError, match=r"oft has no alpha, but 'layers.1.self_attn.q_proj' is given one"):
        attach("oft", OftConfig(), [attrs.evolve(few[0], rank=16, alpha=3)])


def test_coft_keeps_its_bound_and_saves_what_it_computes(decoder, attach, few, stir, plain, tmp_path):
    adapter = attach("oft", OftConfig(block_size=16, coft=True, eps=0.1), few)
    stir(adapter)
    before = {key: weight.clone() for key, weight in adapter.state_dict().items()}
    adapter.save(tmp_path, metadata={})
    assert all(weight.equal(before[key]) for key, weight in adapter.state_dict().items())
    for generators in load_file(tmp_path / "adapter_model.safetensors").values():
        # the norm of the skew-symmetric blocks counts every angle twice
        assert (generators.norm(dim=1) * 2**0.5 <= 0.1 / len(generators) ** 0.5 + 1e-6).all()
    deltas = dict(adapter.deltas())
    for target in few:
        x = torch.randn(3, target.in_features)
        moved = x @ (plain.weights[target.name] + deltas[target.name]).T
        layer = decoder.get_submodule(f"transformer.{module_path(target.name)}")
        assert torch.allclose(layer(x), moved, atol=1e-5)
