"""Checkpoints: whole or absent, exact to the bit, and pruned."""

import json

import attrs
import pytest
import torch
from sidestep_core.errors import ResumeError
from sidestep_core.runs import checkpoints
from sidestep_core.training.checkpoints import (
    Checkpoint,
    join_optimizer,
    prune,
    read_checkpoint,
    save_checkpoint,
    split_optimizer,
)
from torch import nn


def export(folder):
    folder.mkdir()
    (folder / "adapter.txt").write_text("mine")


def stepped(cls=torch.optim.AdamW, **settings):
    """Return an optimizer that has taken two steps, and a fresh one over equal parameters."""
    parameters = [nn.Parameter(torch.linspace(-1, 1, 6)), nn.Parameter(torch.ones(2, 2))]
    twins = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    optimizer = cls(parameters, **settings)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.cos(parameter.detach())
        optimizer.step()
    for parameter, twin in zip(parameters, twins, strict=True):
        twin.data.copy_(parameter.data)
    return optimizer, cls(twins, **settings)


def checkpoint(step=3, optimizer=None, **state):
    optimizer = optimizer or stepped()[0]
    return Checkpoint(
        step=step, adapter={"a.up": torch.randn(2, 3)}, optimizer=optimizer.state_dict(), state={"epoch": 1, **state}
    )


def step(optimizer):
    parameters = optimizer.param_groups[0]["params"]
    for parameter in parameters:
        parameter.grad = torch.sin(parameter.detach())
    optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.AdamW, {"fused": False, "amsgrad": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.Adafactor, {}),
        (torch.optim.Rprop, {}),
    ],
)
def test_an_optimizer_goes_on_to_the_bit(tmp_path, cls, settings):
    before, after = stepped(cls, **settings)
    folder = save_checkpoint(tmp_path, checkpoint(optimizer=before), export)
    after.load_state_dict(read_checkpoint(folder).optimizer)
    assert all(a.equal(b) for a, b in zip(step(before), step(after), strict=True))


def test_state_that_is_no_tensor_is_kept():
    state = {"state": {0: {"d": 0.1, "exp": torch.ones(2)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99)}]}
    tensors, plain = split_optimizer(state)
    joined = join_optimizer(tensors, json.loads(json.dumps(plain)))
    assert joined["state"][0]["d"] == 0.1
    assert joined["param_groups"] == state["param_groups"]


def test_a_checkpoint_comes_back(tmp_path):
    written = checkpoint(step=12, losses={"total": 0.1 + 0.2})
    read = read_checkpoint(save_checkpoint(tmp_path, written, export))
    assert (read.step, read.state) == (12, {"epoch": 1, "losses": {"total": 0.1 + 0.2}})
    assert read.adapter["a.up"].equal(written.adapter["a.up"])


def test_it_holds_the_adapter_as_other_programs_load_it(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(), export)
    assert (folder / "adapter" / "adapter.txt").read_text() == "mine"


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    shared = torch.randn(4, 4)
    written = Checkpoint(step=1, adapter={"a": shared, "b": shared.T}, optimizer=stepped()[0].state_dict(), state={})
    assert read_checkpoint(save_checkpoint(tmp_path, written, export)).adapter["b"].equal(shared.T)


def test_a_failed_save_leaves_nothing(tmp_path):
    def broken(folder):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, checkpoint(), broken)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_checkpoint_can_be_written_again(tmp_path):
    save_checkpoint(tmp_path, checkpoint(epoch=1), export)
    folder = save_checkpoint(tmp_path, checkpoint(epoch=2), export)
    assert read_checkpoint(folder).state["epoch"] == 2


def test_there_is_no_pickle_in_it(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(), export)
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".txt"}


def test_an_average_comes_back_and_is_absent_where_there_is_none(tmp_path):
    average = {"a.up": torch.randn(2, 3)}
    with_it = save_checkpoint(tmp_path, attrs.evolve(checkpoint(1), average=average), export)
    without = save_checkpoint(tmp_path, checkpoint(2), export)
    assert read_checkpoint(with_it).average["a.up"].equal(average["a.up"])
    assert read_checkpoint(without).average is None


def test_a_lost_average_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, attrs.evolve(checkpoint(), average={"a": torch.ones(1)}), export)
    (folder / "average.safetensors").unlink()
    with pytest.raises(ResumeError, match="is damaged"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["state.json", "adapter.safetensors", "optimizer.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, name):
    folder = save_checkpoint(tmp_path, checkpoint(), export)
    (folder / name).write_bytes(b"{")
    with pytest.raises(ResumeError, match=r"step_3' is damaged .*; resume from an earlier one"):
        read_checkpoint(folder)


def test_a_missing_file_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(), export)
    (folder / "optimizer.safetensors").unlink()
    with pytest.raises(ResumeError, match="is damaged"):
        read_checkpoint(folder)


def test_another_format_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(), export)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "format": 99}))
    with pytest.raises(ResumeError, match="another version"):
        read_checkpoint(folder)


@pytest.mark.parametrize(("keep", "left"), [(0, [1, 2, 3]), (1, [3]), (2, [2, 3]), (9, [1, 2, 3])])
def test_the_newest_checkpoints_are_kept(tmp_path, keep, left):
    for number in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step=number), export)
    prune(tmp_path, keep)
    assert [number for number, _ in checkpoints(tmp_path)] == left


def test_what_an_interrupted_save_left_is_removed(tmp_path):
    save_checkpoint(tmp_path, checkpoint(), export)
    left = tmp_path / "checkpoints" / ".step_4.0123abcd.tmp"
    left.mkdir()
    prune(tmp_path, 0)
    assert not left.exists()
