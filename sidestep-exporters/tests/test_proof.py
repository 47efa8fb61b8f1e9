"""What a host would read otherwise than it was trained is refused, and nothing is left of it."""

import json
from pathlib import Path

import attrs
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from sidestep_core.errors import ProofError
from sidestep_core.interfaces import ExportRequest
from sidestep_core.tensor_files import tensor_bytes
from sidestep_core.testing.exporters import write_lora
from sidestep_exporters import frame
from sidestep_exporters.comfyui_host import ComfyuiHost
from sidestep_exporters.frame import write_files
from sidestep_exporters.proof import Comparison, skeleton
from sidestep_exporters.source import open_source

# what holds an adapter, and what adapter it is tried with
QUICK = [("native", "oft"), ("native", "lokr split"), ("comfyui", "loha"), ("diffusers", "dora"), ("merged", "lora")]
FURTHER = [
    *(("native", adapter) for adapter in ("lora", "dora", "loha")),
    *(("comfyui", adapter) for adapter in ("lora", "lokr split", "oft")),
    ("diffusers", "lora"),
    ("lora", "loha"),
    ("merged", "oft"),
]
PAIRS = [*QUICK, *(pytest.param(pair, marks=pytest.mark.slow) for pair in FURTHER)]


def name_of(pair):
    return " ".join(pair)


@attrs.define
class Case:
    """The files of one target, to be damaged and then proven."""

    made: object
    folder: Path

    @property
    def file(self):
        return min(self.folder.rglob("*.safetensors"))

    @property
    def tensors(self):
        return safetensors.torch.load(self.file.read_bytes())

    @property
    def key(self):
        """A tensor of a trained module that matters."""
        parts = ("lora_B", "lora_up", "lokr_w2_a", "hada_w2_a", "oft_R", "diff", "layers.1.mlp.up_proj.weight")
        return next(key for key in sorted(self.tensors) if any(part in key for part in parts))

    def put(self, tensors):
        with safe_open(self.file, "pt") as opened:
            metadata = opened.metadata()
        self.file.write_bytes(tensor_bytes(tensors, metadata))

    def change(self, change):
        self.put({key: change(value) if key == self.key else value for key, value in self.tensors.items()})

    def prove(self):
        return self.made.prove(self.folder)


@pytest.fixture(params=PAIRS, ids=name_of)
def case(request, trained, model, tmp_path):
    target, adapter = request.param
    exporter = request.getfixturevalue("targets")[target].build()
    source = open_source(ExportRequest(adapter=trained(adapter).folder, model=model))
    made = exporter.make(source, exporter.file(source, "final"))
    write_files(made.files, tmp_path / "out")
    return Case(made, tmp_path / "out")


def test_what_is_right_passes(case):
    assert case.prove() <= 1e-6


def test_a_scaled_tensor_is_refused(case):
    case.change(lambda value: value * 1.001)
    with pytest.raises(ProofError, match=r"relative difference of .*times what rounding explains"):
        case.prove()


def test_one_changed_number_is_refused(case):
    def change(value):
        value.view(-1)[3] += 1e-4
        return value

    case.change(change)
    with pytest.raises(ProofError, match="relative difference"):
        case.prove()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(case, number):
    case.change(lambda value: value * number)
    with pytest.raises(ProofError):
        case.prove()


def test_a_missing_tensor_is_refused(case):
    case.put({key: value for key, value in case.tensors.items() if key != case.key})
    with pytest.raises(ProofError):
        case.prove()


def test_a_renamed_module_is_refused(case):
    renamed = {"layers.1.": "layers.3.", "layers_1_": "layers_3_"}
    old, new = next((old, new) for old, new in renamed.items() if old in case.key)
    module = case.key.partition(".lo")[0].partition(".hada")[0].partition(".alpha")[0]
    case.put({key.replace(old, new) if key.startswith(module) else key: v for key, v in case.tensors.items()})
    with pytest.raises(ProofError):
        case.prove()


def test_a_renamed_key_is_refused(case):
    case.put({f"{key}_" if key == case.key else key: value for key, value in case.tensors.items()})
    with pytest.raises(ProofError):
        case.prove()


def test_a_tensor_too_many_is_refused(case):
    more = case.key.replace("layers.1.", "layers.9.").replace("layers_1_", "layers_9_")
    case.put({**case.tensors, more: torch.ones(2)})
    with pytest.raises(ProofError):
        case.prove()


def test_a_misshapen_tensor_is_refused(case):
    case.change(lambda value: value.reshape(1, -1))
    with pytest.raises(ProofError):
        case.prove()


def test_a_cut_file_is_refused(case):
    case.file.write_bytes(case.file.read_bytes()[:-10])
    with pytest.raises(ProofError, match="cannot load what was written"):
        case.prove()


def test_a_pickle_in_disguise_is_refused(case):
    torch.save(case.tensors, case.file)
    with pytest.raises(ProofError, match="cannot load what was written"):
        case.prove()


# What only some have


@pytest.mark.parametrize(
    "case",
    [("comfyui", "lora"), ("comfyui", "lokr split"), ("comfyui", "loha"), ("native", "loha")],
    ids=name_of,
    indirect=True,
)
def test_a_missing_alpha_is_refused(case):
    alpha = next(key for key in sorted(case.tensors) if key.endswith(".alpha"))
    case.put({key: value for key, value in case.tensors.items() if key != alpha})
    with pytest.raises(ProofError):
        case.prove()


@pytest.mark.parametrize(
    "case",
    [("comfyui", "lora"), ("comfyui", "lokr split"), ("native", "lokr split"), ("native", "loha")],
    ids=name_of,
    indirect=True,
)
def test_another_alpha_is_refused(case):
    case.put({key: value * 2 if key.endswith(".alpha") else value for key, value in case.tensors.items()})
    with pytest.raises(ProofError, match=r"relative difference of 1.0e\+00"):
        case.prove()


@pytest.mark.parametrize("case", [("comfyui", "lokr")], ids=name_of, indirect=True)
@pytest.mark.parametrize("alpha", [64.0, 0.5])
def test_an_alpha_that_versions_of_comfyui_read_differently_is_refused(case, alpha):
    case.put({k: torch.tensor(alpha) if k.endswith(".alpha") else value for k, value in case.tensors.items()})
    with pytest.raises(ProofError, match="means something else in each version of ComfyUI"):
        case.prove()


def settings_of(case):
    return json.loads((case.folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("case", [("native", "lora"), ("native", "dora")], ids=name_of, indirect=True)
def test_another_alpha_in_the_settings_is_refused(case):
    config = settings_of(case)
    (case.folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2 * config["r"]}))
    with pytest.raises(ProofError, match="relative difference"):
        case.prove()


@pytest.mark.parametrize("case", [("native", "lora"), ("native", "oft")], ids=name_of, indirect=True)
def test_a_target_that_was_not_trained_is_refused(case):
    config = settings_of(case)
    fewer = config["target_modules"][:-1]
    (case.folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": fewer}))
    with pytest.raises(ProofError, match="finds no weights for"):
        case.prove()


@pytest.mark.parametrize("case", [("merged", "lora")], ids=name_of, indirect=True)
def test_a_changed_tensor_that_was_not_trained_is_refused(case):
    case.put({k: v * 2 if "time_embed.linear_1.bias" in k else v for k, v in case.tensors.items()})
    with pytest.raises(ProofError, match=r"other numbers in 'decoder\.time_embed\.linear_1\.bias', which was not"):
        case.prove()


# After a failed proof


class Liar:
    """A target whose reader finds something else."""

    name, accepts, instead, beside = "liar", frozenset({"lora"}), "", False

    def file(self, source, adapter):
        return ""

    def make(self, source, file):
        def prove(folder):
            raise ProofError("no")

        return frame.Made(files={"a/b.bin": b"new"}, prove=prove, reader="nobody")


def test_no_file_is_left(tmp_path):
    adapter = write_lora(tmp_path / "final")
    with pytest.raises(ProofError):
        frame.export(Liar(), ExportRequest(adapter=adapter))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final"]


def test_an_existing_export_survives(tmp_path):
    adapter = write_lora(tmp_path / "final")
    old = tmp_path / "final-liar" / "a" / "b.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    with pytest.raises(ProofError):
        frame.export(Liar(), ExportRequest(adapter=adapter))
    assert old.read_bytes() == b"old"


def test_without_the_proof_it_is_written(tmp_path):
    adapter = write_lora(tmp_path / "final")
    report = frame.export(Liar(), ExportRequest(adapter=adapter, verify=False))
    assert (report.error, (report.paths[0] / "a" / "b.bin").read_bytes()) == (None, b"new")


# The pieces


def compared(found, wanted, allowed):
    comparison = Comparison("x", "reader")
    comparison.add(found.double(), wanted.double(), torch.full_like(wanted, allowed).double())
    return comparison.error()


def test_an_untrained_module_must_read_as_zero():
    zero, one = torch.zeros(2, 2), torch.eye(2)
    assert compared(zero, zero, 0.0) == 0
    with pytest.raises(ProofError, match="relative difference of inf"):
        compared(one, zero, 0.1)


def test_the_difference_is_a_share_of_the_largest_value():
    assert compared(torch.tensor([[4.0, 0.1]]), torch.tensor([[4.0, 0.0]]), 0.2) == pytest.approx(0.025)


def test_rows_may_come_one_after_the_other():
    comparison = Comparison("x", "reader")
    for wanted in (1.0, 4.0):
        row = torch.full((1, 2), wanted).double()
        comparison.add(row + 0.1, row, torch.full_like(row, 0.2))
    assert comparison.error() == pytest.approx(0.025)


def test_a_skeleton_of_a_large_model_takes_no_memory():
    tree = skeleton(torch.nn.Module(), {f"layers.{i}.mlp.up_proj": (6144, 2048) for i in range(4)})
    weights = [tree.get_submodule(f"layers.{i}.mlp.up_proj").weight for i in range(4)]
    assert [tuple(weight.shape) for weight in weights] == [(6144, 2048)] * 4
    assert sum(weight.untyped_storage().nbytes() for weight in weights) == 4 * 4


def test_comfyui_is_not_given_lengths_of_rows(tmp_path):
    name = "base_model.model.layers.0.mlp.up_proj"
    tensors = {f"{name}.{part}": torch.ones(2, 2) for part in ("lora_up.weight", "lora_down.weight", "dora_scale")}
    file = tmp_path / "x.safetensors"
    file.write_bytes(tensor_bytes(tensors | {f"{name}.alpha": torch.tensor(2.0)}, {}))
    assert set(ComfyuiHost(["layers.0.mlp.up_proj"], file).unused) == {f"{name}.dora_scale"}
