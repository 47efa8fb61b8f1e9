"""The diffusers exporter keeps the contract and writes one file in diffusers' names."""

import json

import pytest
from sidestep_core.errors import ExportError
from sidestep_core.formats.saved import read_adapter
from sidestep_core.interfaces import ExportRequest
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import ExporterContract
from sidestep_core.testing.exporters import write_lora
from sidestep_exporters.diffusers import DiffusersExporter


class TestDiffusers(ExporterContract):
    plugin, name = "sidestep_exporters.plugin", "diffusers"


@pytest.fixture
def folder(tmp_path):
    return write_lora(tmp_path / "final")


def export(folder, **more):
    return DiffusersExporter(None, BuildContext()).export(ExportRequest(adapter=folder, **more))


def test_the_default_place_is_a_folder_beside_the_adapter(folder):
    expected = folder.with_name("final-diffusers") / "pytorch_lora_weights.safetensors"
    assert export(folder).paths == (expected,)


def test_an_output_may_be_a_folder_or_a_file(folder, tmp_path):
    assert export(folder, output=tmp_path / "a").paths == (tmp_path / "a" / "pytorch_lora_weights.safetensors",)
    assert export(folder, output=tmp_path / "b" / "song.safetensors").paths == (tmp_path / "b" / "song.safetensors",)


def test_the_adapters_own_file_is_no_output(folder):
    with pytest.raises(ExportError, match="adapter's own folder"):
        export(folder, output=folder / "adapter_model.safetensors")


def test_names_are_those_of_diffusers(folder):
    names = {key.removeprefix("transformer.") for key in read_adapter(export(folder).paths[0]).shapes}
    assert names == {
        f"layers.{module}.lora_{part}.weight"
        for module in ("0.self_attn.to_q", "0.self_attn.to_out.0", "10.mlp.up_proj")
        for part in "AB"
    }


def test_the_settings_are_in_the_metadata(folder):
    metadata = read_adapter(export(folder).paths[0]).metadata
    settings = json.loads(metadata["lora_adapter_metadata"])
    assert (settings["transformer.r"], settings["transformer.lora_alpha"]) == (4, 4)
    assert settings["transformer.rank_pattern"] == {"layers.10.mlp.up_proj": 2}
    assert settings["transformer.alpha_pattern"] == {"layers.10.mlp.up_proj": 2}
    assert metadata["run"] == "r1"


def test_two_exports_are_the_same_bytes(folder, tmp_path):
    first, second = (export(folder, output=tmp_path / name).paths[0].read_bytes() for name in ("a", "b"))
    assert first == second
