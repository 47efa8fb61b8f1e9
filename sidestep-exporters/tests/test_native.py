"""The native exporter keeps the contract, refuses what it cannot hold and chooses its place."""

import json

import pytest
from safetensors import safe_open
from sidestep_core.adapter_files import deltas, read_adapter
from sidestep_core.errors import AdapterError, ExportError
from sidestep_core.interfaces import ExportRequest
from sidestep_core.model.layout import resolve_model
from sidestep_core.specs import BuildContext
from sidestep_core.tensor_files import tensor_bytes
from sidestep_core.testing.contracts import ExporterContract
from sidestep_core.testing.exporters import write_lora
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


def test_exporting_a_native_adapter_gives_the_same_files(folder):
    out = export(folder).paths[0]
    assert [(f.name, f.read_bytes()) for f in sorted(out.iterdir())] == [
        (f.name, f.read_bytes()) for f in sorted(folder.iterdir())
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
    ("settings", "kind"), [({"use_dora": True}, "DoRA"), ({"peft_type": "OFT"}, "'OFT'"), ({"peft_type": 5}, "5")]
)
def test_other_peft_adapters_are_refused(folder, settings, kind):
    unfold(folder, **settings)
    with pytest.raises(ExportError, match=f"target 'native' takes LoRA in PEFT's format; .* holds {kind}"):
        export(folder)


def test_other_formats_are_refused(tmp_path, folder):
    lokr = tmp_path / "lokr" / "lokr_weights.safetensors"
    lokr.parent.mkdir()
    tensors = dict(read_tensors(folder))
    lokr.write_bytes(tensor_bytes(tensors, {"format": "lycoris"}))
    with pytest.raises(ExportError, match="holds 'lycoris'"):
        export(lokr.parent)


def read_tensors(folder):
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        for key in file.offset_keys():
            yield key, file.get_tensor(key)


def test_a_missing_adapter_is_one_line(tmp_path):
    with pytest.raises(AdapterError, match=r"no adapter at .*nowhere"):
        export(tmp_path / "nowhere")


def test_an_adapter_of_another_model_is_refused(folder, tiny_checkpoint):
    misfit = r"does not fit 'acestep-v15-base': 'layers.0.self_attn.o_proj' is \(64, 64\), not \(48, 32\)"
    with pytest.raises(ExportError, match=misfit):
        export(folder, model=resolve_model(tiny_checkpoint, "base"))


def test_a_layer_that_the_model_lacks_is_named(tmp_path, tiny_checkpoint):
    folder = write_lora(tmp_path / "final", {"layers.99.mlp.up_proj": 2})
    with pytest.raises(ExportError, match=r"'layers.99.mlp.up_proj' is not there"):
        export(folder, model=resolve_model(tiny_checkpoint, "base"))
