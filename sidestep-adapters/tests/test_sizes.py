"""Factors, block sizes and ranks, computed without torch."""

import subprocess
import sys

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lycoris.functional import factorization
from peft.tuners.oft.layer import OFTLayer
from sidestep_adapters.configs import LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.sizes import block_size, count_lokr, factors, lokr_shape, rank_and_alpha
from sidestep_core.targets import Target

TARGET = Target(name="layers.0.mlp.up_proj", out_features=6, in_features=4)


@given(size=st.integers(2, 3000), factor=st.one_of(st.just(-1), st.integers(1, 100)))
def test_factors_are_those_of_lycoris(size, factor):
    assert factors(size, factor) == factorization(size, factor)


@given(size=st.integers(2, 3000), wanted=st.integers(2, 1024))
def test_block_sizes_are_those_of_peft(size, wanted):
    found = block_size(OftConfig(block_size=wanted), size, None)
    if wanted < size and size % wanted:
        theirs = OFTLayer.adjust_oft_parameters(None, size, wanted)
        assert found == theirs or theirs == 1  # blocks of one turn nothing
    else:
        assert found == min(wanted, size)


def test_a_block_size_of_its_own_counts():
    assert block_size(OftConfig(block_size=64), 128, 16) == 16


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, (8, 12)),
        ({"rank": 2}, (2, 3)),
        ({"rank": 3}, (3, 4.5)),
        ({"alpha": 5}, (8, 5)),
        ({"rank": 2, "alpha": 5}, (2, 5)),
    ],
)
def test_a_rank_of_its_own_keeps_the_ratio_unless_there_is_an_alpha(own, expected):
    assert rank_and_alpha(LoraConfig(rank=8, alpha=12), attrs.evolve(TARGET, **own)) == expected


@pytest.mark.parametrize(
    ("settings", "split_first", "split_second"),
    [
        ({"rank": 64}, False, False),
        ({"rank": 31}, False, True),
        ({"rank": 15, "decompose_both": True}, True, True),
        ({"rank": 16, "decompose_both": True}, False, True),
        ({"rank": 2, "full_matrix": True, "decompose_both": True}, False, False),
    ],
)
def test_a_lokr_factor_is_split_when_the_rank_is_under_half_its_size(settings, split_first, split_second):
    shape = lokr_shape(LokrConfig(**settings), 2048, 2048, settings["rank"])
    assert (shape.first, shape.second) == ((32, 32), (64, 64))
    assert (shape.split_first, shape.split_second) == (split_first, split_second)


def test_lokr_of_a_real_projection_is_small():
    assert count_lokr(LokrConfig(), 2048, 2048, None) == 32 * 32 + 64 * 64


def test_a_factor_of_zero_is_refused():
    with pytest.raises(ValueError, match="factor must be -1 or at least 1"):
        LokrConfig(factor=0)


def test_counting_needs_no_torch():
    code = "import sys, sidestep_adapters.plugin; print(*[m for m in ('torch', 'peft', 'lycoris') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
