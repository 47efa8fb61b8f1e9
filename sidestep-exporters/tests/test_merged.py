"""Merged models: whole folders in the layout they had, whose decoder gives what the adapter gave."""

import json
import struct
import subprocess
import sys
import textwrap

import pytest
import torch
from diffusers import AceStepTransformer1DModel
from safetensors import safe_open
from sidestep_core.errors import ExportError
from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.peft_files import peft_files
from sidestep_core.formats.updates import LowRank
from sidestep_core.model.dims import ModelDims, projection_shapes
from sidestep_core.model.folder import read_model
from sidestep_core.model.headers import read_header
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from sidestep_core.model.tiny import tiny_config
from sidestep_exporters.configs import MergedConfig
from sidestep_exporters.merged_proof import row_blocks


def outputs(decoder):
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(1, 40, 64, generator=generator)
    rows = torch.randn(1, 5, decoder.dims.condition_size, generator=generator)
    with torch.no_grad():
        return decoder(noisy, torch.tensor([0.4]), rows)


@pytest.mark.parametrize("case", ["lora", "dora", "lokr split", "oft"])
def test_the_merged_decoder_gives_what_the_adapted_one_gave(trained, model, export, case):
    folder = export(trained(case).folder, "merged").paths[0]
    merged = load_decoder(read_model(folder, folder))
    adapted = load_decoder(model)
    for name, delta in trained(case).deltas.items():
        adapted.transformer.get_submodule(module_path(name)).weight.data.add_(delta)
    wanted = outputs(adapted)
    assert (outputs(merged) - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    assert (outputs(load_decoder(model)) - wanted).abs().max() > 1e-2 * wanted.abs().max()


def test_every_other_file_of_the_folder_is_there_as_it_was(trained, model, export):
    folder = export(trained("lora").folder, "merged").paths[0]
    others = {path.name: path.read_bytes() for path in model.path.iterdir() if path.suffix != ".safetensors"}
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"} == others


def test_small_shards_have_an_index(trained, model, export):
    folder = export(trained("lora").folder, "merged", MergedConfig(shard_size=0.0005)).paths[0]
    files = sorted(folder.glob("*.safetensors"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    held = {key: file.name for file in files for key in read_header(file)}
    assert held == index["weight_map"]
    assert len(files) > 3
    assert index["metadata"]["total_size"] == sum(info.bytes for file in files for info in read_header(file).values())
    assert all(file.stat().st_size < 1_000_000 for file in files)
    assert outputs(load_decoder(read_model(folder, folder))).isfinite().all()


def test_a_pipelines_folder_stays_one(trained, tiny_diffusers, export):
    model = resolve_model(tiny_diffusers, None)
    folder = export(trained("lora").folder, "merged", model=model).paths[0]
    there = {str(path.relative_to(tiny_diffusers)) for path in tiny_diffusers.rglob("*") if path.is_file()}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == there
    transformer = AceStepTransformer1DModel.from_pretrained(folder / "transformer")
    base = BaseWeights(model)
    for name, delta in trained("lora").deltas.items():
        found = transformer.get_submodule(module_path(name)).weight - base.weight(name)
        assert (found - delta).abs().max() <= 1e-5 * delta.abs().max()


def test_another_type_of_numbers_is_in_the_config(trained, export):
    folder = export(trained("lora").folder, "merged", dtype="bf16").paths[0]
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert {info.dtype for info in read_header(folder / "model.safetensors").values()} == {"BF16"}


def test_weights_say_what_was_added_to_them(trained, export):
    folder = export(trained("dora").folder, "merged").paths[0]
    with safe_open(folder / "model.safetensors", "pt") as opened:
        metadata = opened.metadata()
    assert (metadata["run"], metadata["export_target"], metadata["format"]) == ("r1", "merged", "pt")


def test_it_is_said_when_coarse_weights_swallow_a_small_update(make_checkpoint, export, tmp_path):
    coarse = resolve_model(make_checkpoint(dtype="bfloat16"), "base")
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 64, generator=generator), torch.randn(64, 4, generator=generator)
    small = LowRank(name="layers.0.self_attn.q_proj", down=down, up=up, scale=1e-4)
    (tmp_path / "small").mkdir()
    for name, content in peft_files([small], {}).items():
        (tmp_path / "small" / name).write_bytes(content)
    report = export(tmp_path / "small", "merged", model=coarse)
    assert report.error > 0.02
    said = f"rounding moves an update by up to {report.error:.0%} of its largest value; --dtype fp32 keeps it"
    assert report.notes == (said,)
    assert export(tmp_path / "small", "merged", model=coarse, dtype="fp32", output=tmp_path / "fine").notes == ()


def test_a_model_is_not_overwritten(trained, model, export):
    with pytest.raises(ExportError, match="holds a model already"):
        export(trained("lora").folder, "merged", output=model.path)


@pytest.mark.parametrize(("shape", "step"), [((10, 4), 1), ((5000, 3000), 1), ((6144, 2048), 96), ((3,), 1)])
def test_blocks_of_rows_cover_a_weight_once(shape, step):
    blocks = list(row_blocks(shape, step))
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(shape[0]))
    assert all(start % step == 0 for start, _ in blocks)


# Memory

HIDDEN, LAYERS = 2048, 24
CHILD = """
    import resource, sys
    from pathlib import Path
    from sidestep_core.interfaces import ExportRequest
    from sidestep_core.model.folder import read_model
    from sidestep_exporters.configs import MergedConfig
    from sidestep_exporters.merged import MergedExporter
    from sidestep_core.specs import BuildContext

    model, adapter, warm, output = map(Path, sys.argv[1:])
    exporter = MergedExporter(MergedConfig(shard_size=2.0), BuildContext())
    small = read_model(warm / "model", warm)
    exporter.export(ExportRequest(adapter=warm / "adapter", model=small, output=warm / "out"))  # imports and threads
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = exporter.export(ExportRequest(adapter=adapter, model=read_model(model, model.parent), output=output))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, report.modules, report.error)
"""


def write_hollow_model(folder, hidden, layers):
    """Write a model whose weights are zeros that take no room on the disk; return bytes of a layer and of all."""
    config = {**tiny_config("base", hidden=hidden, layers=layers), "intermediate_size": 3 * hidden, "dtype": "bfloat16"}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    shapes = projection_shapes(ModelDims.from_config(config, "made up"))
    tensors = {f"decoder.{name}.weight": shape for name, shape in shapes.items()}
    tensors["encoder.everything_else.weight"] = (hidden, hidden * 6 * layers)
    entries, end = {}, 0
    for name, (out, in_) in tensors.items():
        entries[name] = {"dtype": "BF16", "shape": [out, in_], "data_offsets": [end, end + 2 * out * in_]}
        end += 2 * out * in_
    header = json.dumps(entries).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return sum(2 * out * in_ for name, (out, in_) in shapes.items() if name.startswith("layers.0.")), end


def write_adapter(folder, hidden, layers):
    config = {**tiny_config("base", hidden=hidden, layers=layers), "intermediate_size": 3 * hidden}
    generator = torch.Generator().manual_seed(0)
    updates = [
        LowRank(
            name=name, down=torch.randn(8, in_, generator=generator), up=torch.randn(out, 8, generator=generator) * 1e-3
        )
        for name, (out, in_) in projection_shapes(ModelDims.from_config(config, "made up")).items()
        if name.startswith(("layers.0.", "layers.1."))  # the rest is copied, which is faster
    ]
    folder.mkdir(parents=True)
    for name, content in peft_files(updates, {}).items():
        (folder / name).write_bytes(content)
    return len(updates)


@pytest.mark.slow
def test_a_merge_of_four_gigabytes_never_holds_two_layers(tmp_path):
    layer, total = write_hollow_model(tmp_path / "model", HIDDEN, LAYERS)
    modules = write_adapter(tmp_path / "adapter", HIDDEN, LAYERS)
    write_hollow_model(tmp_path / "warm" / "model", 64, 2)
    write_adapter(tmp_path / "warm" / "adapter", 64, 2)
    assert total > 4_000_000_000
    places = [tmp_path / name for name in ("model", "adapter", "warm", "out")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, places)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown, matched, error = done.stdout.split()
    written = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    for file in (tmp_path / "out").glob("*.safetensors"):
        file.unlink()
    factor = 1 if sys.platform == "darwin" else 1024
    assert (int(matched), float(error) < 5e-3, written > total) == (modules, True, True)
    assert int(grown) * factor < 2 * layer + 64_000_000
