"""Where models go, in what form, and what is said when they cannot."""

from __future__ import annotations

import logging

import pytest
import torch
from sidestep_captioners.local.loading import Placement, free_memory, naming_failures, place, timed
from sidestep_core.errors import ConfigError, ProviderError
from transformers.utils import logging as transformers_logging

CPU = place("cpu", four_bit=False, offload=False)


def test_the_cpu_has_half_precision_too() -> None:
    assert (CPU.device, CPU.dtype) == ("cpu", torch.bfloat16)


def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="no device 'warp'"):
        place("warp", four_bit=False, offload=False)


@pytest.mark.parametrize(
    ("four_bit", "offload", "said"),
    [
        (False, False, "bfloat16 on cpu"),
        (True, False, "four bits on cpu"),
        (True, True, "four bits on cpu and main memory"),
    ],
)
def test_a_placement_reads_well(four_bit: bool, offload: bool, said: str) -> None:
    assert str(place("cpu", four_bit=four_bit, offload=offload)) == said


def test_all_of_a_model_goes_to_one_device() -> None:
    assert CPU.arguments() == {"dtype": torch.bfloat16, "device_map": {"": "cpu"}}


def test_layers_are_spread_if_that_is_allowed() -> None:
    assert place("cpu", four_bit=False, offload=True).arguments()["device_map"] == "auto"


@pytest.mark.parametrize("offload", [False, True])
def test_four_bits_are_nf4_with_scales_that_are_small_too(offload: bool) -> None:
    made = place("cpu", four_bit=True, offload=offload).arguments()["quantization_config"]
    assert made.load_in_4bit
    assert made.bnb_4bit_quant_type == "nf4"
    assert made.bnb_4bit_use_double_quant
    assert made.bnb_4bit_compute_dtype is torch.bfloat16
    assert made.llm_int8_enable_fp32_cpu_offload is offload


def fail(error: Exception, placement: Placement = CPU) -> ProviderError:
    """Return what an error of a loader becomes."""
    with pytest.raises(ProviderError) as caught, naming_failures("tiny", placement):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("no file\nand more"), "tiny cannot be loaded: no file"),
        (KeyError("text_config"), "tiny cannot be loaded: 'text_config'"),
        (ImportError("No module named 'bitsandbytes'"), "tiny cannot be loaded: No module named 'bitsandbytes'"),
        (ValueError(), "tiny cannot be loaded: ValueError"),
    ],
)
def test_what_a_loader_raises_becomes_one_line(error: Exception, said: str) -> None:
    made = fail(error)
    assert (str(made), made.kind) == (said, "not found")


def test_a_model_that_does_not_fit_says_what_would_help() -> None:
    made = fail(torch.OutOfMemoryError("CUDA out of memory"))
    assert made.kind == "memory"
    assert str(made).startswith("tiny does not fit as bfloat16 on cpu; try four bits (")
    assert str(made).endswith("or --cpu-offload")


def test_loading_draws_nothing_and_leaves_the_setting_as_it_was() -> None:
    before = transformers_logging.is_progress_bar_enabled()
    with naming_failures("tiny", CPU):
        assert not transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled() == before


def test_a_stage_that_fails_is_not_said_to_have_taken_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sidestep_captioners")
    with timed("thinking", "tiny"):
        pass
    with pytest.raises(ValueError, match="no"), timed("thinking", "tiny"):
        raise ValueError("no")
    (record,) = caplog.records
    assert record.getMessage().startswith("tiny: thinking took 0.0")
    assert record.levelno == logging.INFO


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "xpu:1"])
def test_freeing_memory_needs_no_device(device: str) -> None:
    free_memory(device)
