"""What a host would read otherwise than it was trained is refused, and nothing is left of it."""

import functools
import json

import pytest
import safetensors.torch
import torch
from sidestep_core.adapter_writing import peft_files
from sidestep_core.errors import ProofError
from sidestep_core.interfaces import ExportRequest
from sidestep_core.tensor_files import tensor_bytes
from sidestep_core.testing.exporters import write_lora
from sidestep_exporters.diffusers import WEIGHTS_NAME, file_content, prove_file
from sidestep_exporters.native import prove_folder
from sidestep_exporters.proof import relative_difference, skeleton, write_proven
from sidestep_exporters.source import open_source

NATIVE_KEY = "base_model.model.layers.0.self_attn.q_proj.lora_A.weight"
NAMES = {
    "native": ("adapter_model.safetensors", NATIVE_KEY),
    "diffusers": (WEIGHTS_NAME, "transformer.layers.0.self_attn.to_q.lora_A.weight"),
}


class Case:
    """The files of one target, to be damaged and then proven."""

    def __init__(self, target, tmp_path):
        source = open_source(ExportRequest(adapter=write_lora(tmp_path / "final")), target)
        self.file, self.key = NAMES[target]
        self.parent, self.out = tmp_path, tmp_path / "out"
        if target == "native":
            self.files, self._prove = peft_files(source.modules, {}), functools.partial(prove_folder, source)
        else:
            self.files = {self.file: file_content(source)}
            self._prove = functools.partial(prove_file, source, name=self.file)

    @property
    def tensors(self):
        return safetensors.torch.load(self.files[self.file])

    def put(self, tensors):
        self.files[self.file] = tensor_bytes(tensors, {"format": "pt"})

    def prove(self):
        return write_proven(self.out, self.files, self._prove)

    def is_refused(self, match):
        with pytest.raises(ProofError, match=match):
            self.prove()
        return sorted(path.name for path in self.parent.iterdir()) == ["final"]


@pytest.fixture(params=NAMES)
def case(request, tmp_path):
    return Case(request.param, tmp_path)


@pytest.fixture
def native(tmp_path):
    return Case("native", tmp_path)


def test_what_is_right_is_written(case):
    assert case.prove() <= 1e-5
    assert (case.out / case.file).read_bytes() == case.files[case.file]


def test_other_files_of_the_folder_stay(case):
    case.out.mkdir()
    (case.out / "notes.txt").write_text("mine")
    case.prove()
    assert (case.out / "notes.txt").read_text() == "mine"


def test_a_scaled_tensor_is_refused(case):
    case.put({name: value * 1.001 if name == case.key else value for name, value in case.tensors.items()})
    assert case.is_refused(r"q_proj' with a relative difference of 1.0e-03")


def test_one_changed_number_is_refused(case):
    tensors = case.tensors
    tensors[case.key][1, 1] += 0.01
    case.put(tensors)
    assert case.is_refused("relative difference")


def test_numbers_that_are_not_finite_are_refused(case):
    case.put({name: value * float("nan") if name == case.key else value for name, value in case.tensors.items()})
    assert case.is_refused("relative difference of nan")


def test_a_missing_tensor_is_refused(case):
    case.put({name: value for name, value in case.tensors.items() if name != case.key})
    assert case.is_refused(r"q_proj")


def test_a_renamed_tensor_is_refused(case):
    case.put({name.replace("layers.10.", "layers.11."): value for name, value in case.tensors.items()})
    assert case.is_refused(r"layers.10.mlp.up_proj")


def test_a_misshapen_tensor_is_refused(case):
    case.put({name: value[:, :7] if name == case.key else value for name, value in case.tensors.items()})
    assert case.is_refused("cannot load what was written")


def test_a_cut_file_is_refused(case):
    case.files[case.file] = case.files[case.file][:-10]
    assert case.is_refused("cannot load what was written")


def test_another_alpha_is_refused(native):
    config = json.loads(native.files["adapter_config.json"])
    native.files["adapter_config.json"] = json.dumps({**config, "lora_alpha": 2 * config["r"]}).encode()
    assert native.is_refused(r"relative difference of 1.0e\+00")


def test_a_target_that_was_not_trained_is_refused(native):
    config = json.loads(native.files["adapter_config.json"])
    targets = [name.rpartition(".")[2] for name in config["target_modules"]]
    native.files["adapter_config.json"] = json.dumps({**config, "target_modules": targets[:1]}).encode()
    assert native.is_refused("finds no weights for")


def test_an_existing_export_survives_a_failed_proof(case):
    case.prove()
    before = (case.out / case.file).read_bytes()
    case.put({name: value * 2 for name, value in case.tensors.items()})
    with pytest.raises(ProofError):
        case.prove()
    assert (case.out / case.file).read_bytes() == before


def test_an_untrained_adapter_must_read_as_zero():
    zero, one = torch.zeros(2, 2), torch.eye(2)
    assert relative_difference(zero, zero) == 0
    assert relative_difference(one, zero) == float("inf")


def test_other_shapes_are_no_match():
    assert relative_difference(torch.zeros(2, 3), torch.zeros(3, 2)) == float("inf")


def test_a_skeleton_of_a_large_model_takes_no_memory():
    tree = skeleton(torch.nn.Module(), {f"layers.{i}.mlp.up_proj": (6144, 2048) for i in range(4)})
    weights = [tree.get_submodule(f"layers.{i}.mlp.up_proj").weight for i in range(4)]
    assert [tuple(weight.shape) for weight in weights] == [(6144, 2048)] * 4
    assert sum(weight.untyped_storage().nbytes() for weight in weights) == 4 * 4
