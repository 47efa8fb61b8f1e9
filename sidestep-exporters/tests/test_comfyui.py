"""The ComfyUI exporter keeps the contract, and writes what a loader finds under its names."""

import pytest
import torch
from safetensors.torch import load_file
from sidestep_core.errors import ExportError
from sidestep_core.formats.reading import deltas
from sidestep_core.formats.saved import read_adapter
from sidestep_core.tensor_files import tensor_bytes
from sidestep_core.testing.contracts import ExporterContract
from sidestep_core.testing.exporters import write_lora
from sidestep_exporters.configs import ComfyuiConfig, LoraExportConfig


class TestComfyui(ExporterContract):
    plugin, name = "sidestep_exporters.plugin", "comfyui"


class TestPlainLora(ExporterContract):
    plugin, name = "sidestep_exporters.plugin", "lora"


def names(path):
    return {key.partition("layers")[0] for key in load_file(path)}


@pytest.mark.parametrize(
    ("case", "prefix", "found"),
    [
        ("lora", "native", "base_model.model."),
        ("lokr", "native", "lycoris_"),
        ("loha", "generic", "diffusion_model.decoder."),
        ("oft", "native", "base_model.model."),
        ("lokr", "my.model", "my.model."),
    ],
)
def test_names_are_those_that_were_asked_for(trained, export, case, prefix, found):
    assert names(export(trained(case).folder, "comfyui", ComfyuiConfig(prefix=prefix)).paths[0]) == {found}


def test_the_default_place_is_a_file_beside_the_adapter(tmp_path, export):
    adapter = write_lora(tmp_path / "final")
    assert export(adapter, "comfyui", output=None, model=None).paths == (tmp_path / "final-comfyui.safetensors",)


def test_every_low_rank_module_has_its_rank_as_alpha(tmp_path, export):
    tensors = load_file(export(write_lora(tmp_path / "final"), "comfyui", output=None, model=None).paths[0])
    ranks = {key.removesuffix("lora_down.weight"): len(t) for key, t in tensors.items() if "lora_down" in key}
    assert {key.removesuffix("alpha"): float(t) for key, t in tensors.items() if key.endswith("alpha")} == ranks


def test_a_whole_difference_has_the_shape_of_the_weight(trained, export, weights):
    tensors = load_file(export(trained("dora").folder, "comfyui").paths[0])
    assert all(key.endswith(".diff") for key in tensors)
    assert tensors["base_model.model.layers.1.mlp.up_proj.diff"].shape == weights["layers.1.mlp.up_proj"].shape


@pytest.mark.parametrize("case", ["dora", "oft"])
def test_an_approximation_says_what_it_costs(trained, export, case):
    adapter = trained(case)
    report = export(adapter.folder, "comfyui", ComfyuiConfig(full="svd", rank=6))
    found = dict(deltas(read_adapter(report.paths[0])))
    for name, delta in adapter.deltas.items():
        missing = float((found[name] - delta).norm() / delta.norm())
        assert report.losses[name] == pytest.approx(missing, rel=1e-2)
    assert "approximated with rank 6" in report.notes[0]


def test_a_plain_lora_of_enough_rank_is_the_adapter(trained, export):
    adapter = trained("loha")
    report = export(adapter.folder, "lora", LoraExportConfig(rank=64))
    found = dict(deltas(read_adapter(report.paths[0])))
    assert max(report.losses.values()) < 1e-5
    assert all((found[n] - d).abs().max() <= 1e-4 * d.abs().max() for n, d in adapter.deltas.items())


def test_factors_that_versions_read_differently_are_refused(tmp_path, export):
    file = tmp_path / "odd.safetensors"
    factors = {"lokr_w1": torch.ones(8, 2), "lokr_w2": torch.ones(4, 2)}
    tensors = {f"lycoris_layers_0_mlp_up_proj.{part}": factor for part, factor in factors.items()}
    file.write_bytes(tensor_bytes(tensors, {}))
    with pytest.raises(ExportError, match="which versions of ComfyUI read differently"):
        export(file, "comfyui", model=None)


def test_a_whole_difference_is_carried_over(tmp_path, export):
    file = tmp_path / "full.safetensors"
    difference = torch.randn(6, 4)
    file.write_bytes(tensor_bytes({"diffusion_model.decoder.layers.0.mlp.up_proj.diff": difference}, {}))
    (tensor,) = load_file(export(file, "comfyui", model=None).paths[0]).values()
    assert tensor.equal(difference)
