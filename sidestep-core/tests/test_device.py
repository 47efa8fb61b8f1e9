"""Devices and precisions on a machine that has at least a CPU."""

import attrs
import pytest
import torch
from sidestep_core import device as module
from sidestep_core.capabilities import CAPABILITIES, capabilities, check_memory
from sidestep_core.configs import MemoryConfig
from sidestep_core.device import (
    available_devices,
    device_facts,
    free_memory,
    main_memory,
    make_accelerator,
    resolve_device,
    resolve_precision,
    used_memory,
)
from sidestep_core.errors import ConfigError


def test_the_cpu_is_always_there_and_last():
    assert available_devices()[-1] == "cpu"


def test_auto_takes_the_preferred_device():
    assert resolve_device("auto") == available_devices()[0]


def test_the_cpu_can_be_asked_for():
    assert resolve_device("cpu") == "cpu"


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"no device 'cuda:99'; there is .*cpu"):
        resolve_device("cuda:99")


@pytest.fixture
def second_of_two(monkeypatch):
    """Be the second of two processes on a machine with two GPUs."""
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_processes_take_a_device_each(second_of_two, name):
    assert resolve_device(name) == "cuda:1"


def test_processes_may_share_the_processor(second_of_two):
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda:0", "mps", "xpu"])
def test_processes_cannot_share_a_gpu(second_of_two, name):
    with pytest.raises(ConfigError, match="2 processes need a GPU each, and there is cuda:0, cuda:1, cpu; start one"):
        resolve_device(name)


def test_more_processes_than_gpus_are_refused(second_of_two, monkeypatch):
    monkeypatch.setattr(module, "available_devices", lambda: ["cuda:0", "cpu"])
    with pytest.raises(ConfigError, match="2 processes need a GPU each, and there is cuda:0, cpu"):
        resolve_device("auto")


def test_processes_divide_main_memory(monkeypatch):
    whole = main_memory()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main_memory() == whole // 4


def test_auto_precision_on_the_cpu_is_fp32():
    assert resolve_precision("auto", "cpu") == "fp32"


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_the_cpu_computes_in(name):
    assert resolve_precision(name, "cpu") == name


def test_fp16_on_the_cpu_is_refused():
    with pytest.raises(ConfigError, match="no fp16 training on cpu; use --precision bf16 or fp32"):
        resolve_precision("fp16", "cpu")


def test_every_device_is_described():
    facts = {one.name: one for one in device_facts()}
    assert list(facts) == available_devices()
    assert (facts["cpu"].precisions, facts["cpu"].capabilities) == (("fp32", "bf16"), capabilities("cpu"))
    assert 0 < facts["cpu"].free <= facts["cpu"].total == main_memory()


@pytest.mark.parametrize("kind", CAPABILITIES)
def test_every_kind_trains_in_fp32(kind):
    assert "fp32" in capabilities(kind).precisions


def test_a_numbered_device_can_do_what_its_kind_can():
    assert capabilities("cuda:3") is CAPABILITIES["cuda"]


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="no device 'tpu'; there is cuda, xpu, mps, cpu"):
        capabilities("tpu")


@pytest.mark.parametrize("kind", CAPABILITIES)
def test_a_base_as_it_is_needs_nothing_of_a_device(kind):
    check_memory(MemoryConfig(block_swap=3), kind)


def test_a_base_that_a_device_cannot_hold_is_refused(monkeypatch):
    poor = attrs.evolve(CAPABILITIES["mps"], quantized=("int8",))
    monkeypatch.setitem(CAPABILITIES, "mps", poor)
    check_memory(MemoryConfig(quantize_base="int8"), "mps")
    with pytest.raises(ConfigError, match="no nf4 base on mps; --quantize-base takes int8 there"):
        check_memory(MemoryConfig(quantize_base="nf4"), "mps")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="no precision 'fp8'"):
        resolve_precision("fp8", "cpu")


def test_memory_of_the_cpu_is_main_memory():
    assert 0 < free_memory("cpu") <= main_memory()


def test_used_memory_counts_this_process():
    assert used_memory("cpu") > 10 * 2**20


def test_two_runs_in_one_process_may_differ_in_precision():
    assert make_accelerator("cpu", "fp32").mixed_precision == "no"
    assert make_accelerator("cpu", "bf16").mixed_precision == "bf16"


def test_the_accelerator_is_on_the_device():
    assert make_accelerator("cpu", "fp32").device == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_auto_precision_on_a_gpu_is_half():
    assert resolve_precision("auto", resolve_device("auto")) in ("bf16", "fp16")
