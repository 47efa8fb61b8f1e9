"""The native exporter keeps the contract, refuses what it cannot hold and chooses its place."""

import json

import pytest
import torch
from safetensors import safe_open
from sidestep_core.errors import AdapterError, ExportError
from sidestep_core.formats.reading import deltas
from sidestep_core.formats.saved import read_adapter
from sidestep_core.interfaces import ExportRequest
from sidestep_core.model.layout import resolve_model
from sidestep_core.specs import BuildContext
from sidestep_core.tensor_files import tensor_bytes
from sidestep_core.testing.contracts import ExporterContract
from sidestep_core.testing.exporters import write_lora
from sidestep_exporters.configs import LoraExportConfig
from sidestep_exporters.lora import LoraExporter
from sidestep_exporters.native import NativeExporter


class TestNative(ExporterContract):
    plugin, name = "sidestep_exporters.plugin", "native"


@pytest.fixture
def folder(tmp_path):
    return write_lora(tmp_path / "final")


def export(folder, **more):
    return NativeExporter(None, BuildContext()).export(ExportRequest(adapter=folder, **more))


def unfold(folder, **settings):
    """Make the folder one whose scale is not folded in: what other trainers write."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def same(left, right):
    return left.keys() == right.keys() and all((left[k] - right[k]).abs().max() < 1e-5 for k in left)


def test_the_default_place_is_beside_the_adapter(folder):
    assert export(folder).paths == (folder.with_name("final-native"),)


def test_the_weights_file_may_be_given_instead_of_its_folder(folder):
    assert export(folder / "adapter_model.safetensors").paths == (folder.with_name("final-native"),)


def test_a_folder_can_be_given_as_the_current_one(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert export(folder.relative_to(folder)).paths == (folder.with_name("final-native"),)


def test_the_adapters_own_folder_is_no_output(folder):
    with pytest.raises(ExportError, match="lies in the adapter's own folder"):
        export(folder, output=folder)


def test_a_file_is_no_place_for_a_folder(folder, tmp_path):
    (tmp_path / "song.txt").write_text("mine")
    with pytest.raises(ExportError, match="is a file; give a folder"):
        export(folder, output=tmp_path / "song.txt")


def test_exporting_an_export_gives_the_same_files(folder, tmp_path):
    first = export(folder).paths[0]
    second = export(first, output=tmp_path / "again").paths[0]
    assert [(f.name, f.read_bytes()) for f in sorted(first.iterdir())] == [
        (f.name, f.read_bytes()) for f in sorted(second.iterdir())
    ]


def test_a_scale_outside_the_weights_is_folded_in(folder):
    unfold(folder, lora_alpha=9, alpha_pattern={"layers.10.mlp.up_proj": 5}, use_rslora=True)
    trained = dict(deltas(read_adapter(folder)))
    out = export(folder).paths[0]
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 4, False)
    assert config["alpha_pattern"] == config["rank_pattern"] == {"layers.10.mlp.up_proj": 2}
    assert same(dict(deltas(read_adapter(out))), trained)


def test_the_wanted_dtype_is_written(folder):
    out = export(folder, dtype="bf16").paths[0]
    with safe_open(out / "adapter_model.safetensors", framework="pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.offset_keys()} == {"BF16"}


def test_metadata_of_the_adapter_is_kept(folder):
    assert read_adapter(export(folder).paths[0]).metadata["run"] == "r1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "says LORA with use_dora, the tensors are of lora"),
        ({"peft_type": "OFT"}, "says OFT, the tensors are of lora"),
        ({"peft_type": 5}, "peft_type 5 is not read"),
    ],
)
def test_settings_of_another_type_are_refused(folder, settings, message):
    unfold(folder, **settings)
    with pytest.raises(AdapterError, match=message):
        export(folder)


def test_a_format_of_somebody_else_is_refused(tmp_path):
    file = tmp_path / "hooked" / "hooked.safetensors"
    file.parent.mkdir()
    file.write_bytes(tensor_bytes({"w": torch.zeros(2)}, {"format": "hooked"}))
    with pytest.raises(AdapterError, match="'w' is no tensor of an adapter that can be read"):
        export(file.parent)


def test_two_libraries_kinds_are_not_one_native_adapter(tmp_path):
    file = tmp_path / "mixed.safetensors"
    low = {"lora_down.weight": torch.ones(2, 4), "lora_up.weight": torch.ones(4, 2)}
    both = {"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.ones(2, 2)}
    tensors = {f"lycoris_layers_0_mlp_up_proj.{k}": v for k, v in low.items()}
    file.write_bytes(tensor_bytes(tensors | {f"lycoris_layers_1_mlp_up_proj.{k}": v for k, v in both.items()}, {}))
    with pytest.raises(ExportError, match="no library loads lokr and lora from one adapter; --target lora makes"):
        export(file)


@pytest.mark.parametrize("target", ["native", "lora"])
def test_a_convolution_has_no_form_in_a_list_of_projections(tmp_path, target):
    file = tmp_path / "side-step.safetensors"
    tensors = {"lycoris_proj_in_1.lokr_w1": torch.ones(2, 3), "lycoris_proj_in_1.lokr_w2": torch.ones(4, 2, 2)}
    file.write_bytes(tensor_bytes(tensors, {}))
    exporter = {
        "native": NativeExporter(None, BuildContext()),
        "lora": LoraExporter(LoraExportConfig(), BuildContext()),
    }
    with pytest.raises(ExportError, match=f"target '{target}' has no form for 'proj_in.1', a convolution"):
        exporter[target].export(ExportRequest(adapter=file))


def test_lora_and_dora_are_not_one_adapter(tmp_path):
    file = tmp_path / "mixed.safetensors"
    low = {"lora_down.weight": torch.ones(2, 4), "lora_up.weight": torch.ones(4, 2)}
    tensors = {f"lycoris_layers_{i}_mlp_up_proj.{k}": v + 0 for i in (0, 1) for k, v in low.items()}
    file.write_bytes(tensor_bytes(tensors | {"lycoris_layers_1_mlp_up_proj.dora_scale": torch.ones(4, 1)}, {}))
    with pytest.raises(ExportError, match="no library loads dora and lora from one adapter"):
        export(file)


def test_a_missing_adapter_is_one_line(tmp_path):
    with pytest.raises(AdapterError, match=r"no adapter at .*nowhere"):
        export(tmp_path / "nowhere")


def test_an_adapter_of_another_model_is_refused(folder, tiny_checkpoint):
    misfit = r"does not fit 'acestep-v15-base': 'layers.0.self_attn.o_proj' is \(64, 64\), not \(48, 32\)"
    with pytest.raises(AdapterError, match=misfit):
        export(folder, model=resolve_model(tiny_checkpoint, "base"))


def test_a_layer_that_the_model_lacks_is_named(tmp_path, tiny_checkpoint):
    folder = write_lora(tmp_path / "final", {"layers.99.mlp.up_proj": 2})
    with pytest.raises(AdapterError, match=r"'layers.99.mlp.up_proj' is not there"):
        export(folder, model=resolve_model(tiny_checkpoint, "base"))
