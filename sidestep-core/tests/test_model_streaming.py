"""Filling modules from files: what is compared, what is said, what is copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sidestep_core.errors import CheckpointError
from sidestep_core.model.headers import TensorInfo, read_header
from sidestep_core.model.streaming import check, fill, read_tensor, reader
from torch import nn


def found(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(Path("x"), name.upper(), "F32", shape) for name, shape in shapes.items()}


def complaint(expected: dict[str, tuple[int, ...]], there: dict[str, TensorInfo], **more: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        check(expected, there, "m", **more)
    return str(caught.value)


def meta_linear() -> nn.Linear:
    with torch.device("meta"):
        return nn.Linear(3, 2)


def test_what_fits_is_passed():
    check({"a": (1, 2), "b": ()}, found(a=(1, 2), b=()), "m")


def test_every_kind_of_difference_is_in_one_line():
    text = complaint({"a": (1,), "b": (2,)}, found(b=(3,), c=(4,)))
    assert text == (
        "m: tensors do not fit the config: 1 missing (a); 1 not expected (C); 1 of the wrong shape (B is [3], not [2])"
    )


@pytest.mark.parametrize(("count", "shown"), [(3, "(k0, k1, k2)"), (4, "(k0, k1, k2, ...)"), (99, "(k0, k1, k2, ...)")])
def test_three_names_are_shown(count, shown):
    assert complaint({f"k{i}": () for i in range(count)}, {}).endswith(f"{count} missing {shown}")


def test_missing_tensors_have_the_names_their_files_use():
    assert "1 missing (decoder.a)" in complaint({"a": ()}, {}, rename=lambda name: f"decoder.{name}")


def test_nothing_is_read_when_something_does_not_fit(tmp_path):
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "x.safetensors")
    module = meta_linear()
    with pytest.raises(CheckpointError, match=r"1 missing \(bias\)"):
        fill(module, read_header(tmp_path / "x.safetensors"), "m", reader("cpu", torch.float32))
    assert module.weight.is_meta


def test_tensors_of_several_files_fill_one_module(tmp_path):
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "1.safetensors")
    save_file({"b": torch.tensor([5.0, 7.0])}, tmp_path / "2.safetensors")
    module = meta_linear()
    tensors = {
        "weight": read_header(tmp_path / "1.safetensors")["weight"],
        "bias": read_header(tmp_path / "2.safetensors")["b"],
    }
    fill(module, tensors, "m", reader("cpu", torch.float32))
    assert module(torch.ones(1, 3)).tolist() == [[8.0, 10.0]]
    assert isinstance(module.weight, nn.Parameter)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16, torch.float16])
def test_a_tensor_is_converted_from_any_type_to_any(tmp_path, stored, wanted):
    value = torch.tensor([0.5, -3.0, 1e-3]).to(stored)
    save_file({"a": value}, tmp_path / "x.safetensors")
    assert torch.equal(read_tensor(read_header(tmp_path / "x.safetensors")["a"], "cpu", wanted), value.to(wanted))


def test_a_tensor_can_be_changed_without_changing_the_file(tmp_path):
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(4)}, file)
    read_tensor(read_header(file)["a"], "cpu", torch.float32).zero_()
    assert torch.equal(read_tensor(read_header(file)["a"], "cpu", torch.float32), torch.ones(4))
