"""Updates are what their definitions say, and rounding them moves them by no more than they say themselves."""

import attrs
import pytest
import torch
from sidestep_core.formats.updates import Full, Hadamard, Kronecker, LowRank
from sidestep_core.formats.weight_updates import Decomposed, Rotation, block_size

N = "layers.0.self_attn.q_proj"
GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(*shape, generator=GENERATOR)


WEIGHT = draw(24, 16)
LOW = LowRank(name=N, down=draw(4, 16), up=draw(24, 4), scale=0.3)
LOHA = Hadamard(name=N, w1_a=draw(24, 3), w1_b=draw(3, 16), w2_a=draw(24, 3), w2_b=draw(3, 16), scale=0.5)
WHOLE = Kronecker(name=N, first=draw(4, 2), second=draw(6, 8))
SPLIT = Kronecker(name=N, first=draw(4, 2), second=draw(6, 3), second_b=draw(3, 8), scale=0.7)
BOTH = Kronecker(name=N, first=draw(4, 2), first_b=draw(2, 2), second=draw(6, 2), second_b=draw(2, 8), scale=0.7)
DORA = Decomposed(name=N, inner=LOW, magnitude=torch.rand(24, generator=GENERATOR) + 3)
LOKR_WITH_LENGTHS = Decomposed(name=N, inner=SPLIT, magnitude=torch.rand(24, generator=GENERATOR) + 3)
OFT = Rotation(name=N, generators=0.2 * draw(4, 6), terms=5)
EXACT = Rotation(name=N, generators=0.2 * draw(4, 6), terms=None)
ALL = {
    "lora": LOW,
    "loha": LOHA,
    "lokr": WHOLE,
    "lokr split": SPLIT,
    "lokr both split": BOTH,
    "full": Full(name=N, difference=draw(24, 16)),
    "dora": DORA,
    "lokr with lengths": LOKR_WITH_LENGTHS,
    "oft": OFT,
    "exact oft": EXACT,
}


def skew(vector):
    matrix = torch.zeros(4, 4)
    matrix[torch.triu_indices(4, 4, 1).unbind()] = vector
    return matrix - matrix.T


def test_lora_is_a_product():
    assert torch.allclose(LOW.delta(), 0.3 * LOW.up @ LOW.down)


def test_loha_is_a_product_of_products():
    assert torch.allclose(LOHA.delta(), 0.5 * (LOHA.w1_a @ LOHA.w1_b) * (LOHA.w2_a @ LOHA.w2_b))


def test_lokr_holds_the_second_factor_once_for_each_element_of_the_first():
    delta = WHOLE.delta()
    assert all(
        torch.allclose(delta[6 * i : 6 * i + 6, 8 * j : 8 * j + 8], WHOLE.first[i, j] * WHOLE.second)
        for i in range(4)
        for j in range(2)
    )


def test_split_factors_are_products():
    whole = Kronecker(name=N, first=BOTH.first @ BOTH.first_b, second=BOTH.second @ BOTH.second_b, scale=0.7)
    assert torch.allclose(BOTH.delta(), whole.delta(), atol=1e-6)


def test_dora_gives_each_row_its_length():
    rows = (WEIGHT + DORA.delta(WEIGHT)).norm(dim=1)
    assert torch.allclose(rows, DORA.magnitude, rtol=1e-5)


def test_dora_keeps_the_direction_of_the_sum():
    changed = WEIGHT + LOW.delta()
    cosines = torch.cosine_similarity(WEIGHT + DORA.delta(WEIGHT), changed)
    assert torch.allclose(cosines, torch.ones(24), atol=1e-5)


def test_oft_rotates_the_inputs_in_blocks():
    turns = []
    for vector in OFT.generators:
        q = skew(vector)
        turns.append(torch.eye(4) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q)
    assert torch.allclose(WEIGHT + OFT.delta(WEIGHT), WEIGHT @ torch.block_diag(*turns).T, atol=1e-5)


@pytest.mark.parametrize(
    ("terms", "powers"), [(1, ()), (2, (2,)), (3, (2, 2, 1)), (4, (2, 2, 1)), (6, (2, 2, 2, 2, 1))]
)
def test_the_series_is_cut_where_peft_cuts_it(terms, powers):
    update = attrs.evolve(OFT, terms=terms)
    turns = []
    for vector in OFT.generators:
        q, turn = skew(vector), torch.eye(4)
        for i, factor in enumerate(powers, 1):
            turn = turn + factor * torch.linalg.matrix_power(q, i)
        turns.append(turn)
    assert torch.allclose(WEIGHT + update.delta(WEIGHT), WEIGHT @ torch.block_diag(*turns).T, atol=1e-5)


def test_the_exact_transform_keeps_the_length_of_rows():
    rotated = WEIGHT.double() + EXACT.map(torch.Tensor.double).delta(WEIGHT.double())
    assert torch.allclose(rotated.norm(dim=1), WEIGHT.double().norm(dim=1), rtol=1e-12)


@pytest.mark.parametrize(("elements", "size"), [(0, 0), (1, 2), (3, 3), (6, 4), (7, 0), (2016, 64)])
def test_blocks_have_a_size_that_their_generators_tell(elements, size):
    assert block_size(elements) == size


@pytest.mark.parametrize("name", ALL)
def test_double_updates_are_computed_in_double(name):
    delta = ALL[name].map(torch.Tensor.double).delta(WEIGHT.double())
    assert delta.dtype == torch.float64
    assert torch.allclose(delta.float(), ALL[name].delta(WEIGHT), atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_some_rows_are_those_of_the_whole(name):
    update = ALL[name]
    step = update.row_step
    start, stop = step, 24 if step * 3 > 24 else step * 3
    part = update.rows(start, stop).delta(WEIGHT[start:stop])
    assert torch.allclose(part, update.delta(WEIGHT)[start:stop], atol=1e-5)


def moved(update, dtype):
    exact = update.map(torch.Tensor.double)
    rounded = update.to(dtype).map(torch.Tensor.double)
    return (rounded.delta(WEIGHT.double()) - exact.delta(WEIGHT.double())).abs()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_rounding_moves_no_element_further_than_its_spread(name, dtype):
    assert (moved(ALL[name], dtype) <= ALL[name].spread(dtype, WEIGHT.double())).all()


@pytest.mark.parametrize("name", ALL)
def test_the_spread_is_not_much_more_than_rounding_does(name):
    ratio = moved(ALL[name], torch.bfloat16).max() / ALL[name].spread(torch.bfloat16, WEIGHT.double()).max()
    assert ratio > 0.05


def test_numbers_too_small_for_half_precision_have_their_spread():
    tiny = LowRank(name=N, down=1e-7 * draw(4, 16), up=draw(24, 4))
    assert (moved(tiny, torch.float16) <= tiny.spread(torch.float16)).all()
    assert moved(tiny, torch.float16).max() > 1e-2 * tiny.delta().abs().max()


def test_what_cancels_out_has_the_spread_of_what_it_is_made_of():
    same = LowRank(name=N, down=torch.cat([LOW.down, LOW.down]), up=torch.cat([LOW.up, -LOW.up], dim=1))
    assert same.delta().abs().max() < 1e-5
    assert same.spread(torch.bfloat16).max() > 1e-3


def test_a_lost_direction_has_a_spread_of_all_there_is():
    gone = Decomposed(name=N, inner=Full(name=N, difference=-WEIGHT), magnitude=torch.ones(24))
    assert gone.spread(torch.bfloat16, WEIGHT.double()).isfinite().all()


def test_folding_keeps_the_difference():
    assert LOW.folded().scale == 1
    assert torch.allclose(LOW.folded().delta(), LOW.delta(), atol=1e-6)


def test_folding_rounds_once():
    up = (LOW.up * 0.3).to(torch.bfloat16)
    assert LOW.folded(torch.bfloat16).up.equal(up)


def test_lengths_stay_float32():
    assert DORA.to(torch.float16).magnitude.dtype == torch.float32
    assert DORA.folded(torch.bfloat16).inner.scale == 1
