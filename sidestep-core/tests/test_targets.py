"""Target modules: which projections the settings choose."""

import re

import pytest
from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import AdapterError
from sidestep_core.targets import choose_targets, target_suffixes

BLOCK = {
    **{f"{block}.{name}_proj": (8, 8) for block in ("self_attn", "cross_attn") for name in "qkvo"},
    **{f"mlp.{name}_proj": (24, 8) for name in ("gate", "up", "down")},
}
PROJECTIONS = {f"layers.{layer}.{name}": shape for layer in (0, 1, 10) for name, shape in BLOCK.items()}
MLP = ("gate_proj", "up_proj", "down_proj")
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")


def suffixes(**settings):
    return target_suffixes(TargetsConfig(**{"target_mlp": False, **settings}))


def names(**settings):
    return [target.name for target in choose_targets(PROJECTIONS, TargetsConfig(**settings))]


def test_both_blocks_take_bare_names():
    assert suffixes() == QKVO


def test_the_mlp_is_added():
    assert suffixes(target_mlp=True) == QKVO + MLP


def test_one_block_is_named_in_front():
    assert suffixes(attention="self", target_modules=("q_proj",), target_mlp=True) == ("self_attn.q_proj", *MLP)


def test_cross_attention_alone():
    assert suffixes(attention="cross") == tuple(f"cross_attn.{name}" for name in QKVO)


def test_blocks_may_differ():
    chosen = suffixes(self_target_modules=("q_proj", "v_proj"), cross_target_modules=("q_proj",))
    assert chosen == ("self_attn.q_proj", "self_attn.v_proj", "cross_attn.q_proj")


def test_a_block_without_names_of_its_own_takes_the_common_ones():
    chosen = suffixes(target_modules=("k_proj",), cross_target_modules=("q_proj",))
    assert chosen == ("self_attn.k_proj", "cross_attn.q_proj")


def test_qualified_names_stay_as_they_are():
    chosen = suffixes(target_modules=("self_attn.q_proj", "cross_attn.k_proj"))
    assert chosen == ("self_attn.q_proj", "cross_attn.k_proj")


def test_every_projection_is_chosen_by_default():
    assert names() == list(PROJECTIONS)


def test_only_what_is_named_is_chosen():
    chosen = names(attention="cross", target_modules=("q_proj",), target_mlp=False)
    assert chosen == [f"layers.{layer}.cross_attn.q_proj" for layer in (0, 1, 10)]


def test_a_layer_can_be_named():
    assert names(target_modules=("layers.1.self_attn.q_proj",), target_mlp=False) == ["layers.1.self_attn.q_proj"]


def test_a_name_is_matched_whole():
    with pytest.raises(AdapterError, match="no projection named 'proj'"):
        names(target_modules=("proj",), target_mlp=False)


def test_targets_know_their_shapes():
    target = choose_targets(PROJECTIONS, TargetsConfig(target_modules=(), target_mlp=True))[0]
    assert (target.name, target.out_features, target.in_features) == ("layers.0.mlp.gate_proj", 24, 8)


def test_a_name_that_matches_nothing_is_refused_with_what_there_is():
    with pytest.raises(
        AdapterError, match=r"no projection named 'x_proj'; there is cross_attn\.k_proj, .*mlp\.up_proj"
    ):
        names(target_modules=("x_proj",))


def test_nothing_to_adapt_is_refused():
    with pytest.raises(AdapterError, match="nothing to adapt"):
        names(target_modules=(), target_mlp=False)


# Patterns


def test_include_patterns_keep_only_what_they_match():
    chosen = names(include_modules=("layers.1?.self_attn.*", "layers.0.mlp.up_proj"))
    assert chosen == ["layers.0.mlp.up_proj", *(f"layers.10.self_attn.{name}" for name in QKVO)]


def test_exclude_patterns_take_away():
    chosen = names(exclude_modules=("*.self_attn.*", "layers.0.*"))
    assert chosen == [name for name in PROJECTIONS if "self_attn" not in name and not name.startswith("layers.0.")]


def test_exclude_wins_over_include():
    chosen = names(include_modules=("layers.0.*",), exclude_modules=("*.mlp.*", "*.cross_attn.*", "*.[qkv]_proj"))
    assert chosen == ["layers.0.self_attn.o_proj"]


def test_patterns_only_narrow_what_names_choose():
    chosen = names(target_modules=("q_proj",), target_mlp=False, include_modules=("layers.0.*",))
    assert chosen == ["layers.0.self_attn.q_proj", "layers.0.cross_attn.q_proj"]


@pytest.mark.parametrize("setting", ["include_modules", "exclude_modules"])
@pytest.mark.parametrize("pattern", ["layers.2.*", "q_proj", "LAYERS.0.*", ""])
def test_a_pattern_that_matches_nothing_is_refused(setting, pattern):
    flag = f"--{setting.replace('_', '-')}"
    with pytest.raises(AdapterError, match=re.escape(f"{flag} {pattern!r} matches none of the 33 chosen projections")):
        names(**{setting: (pattern,)})


def test_a_pattern_for_what_was_not_chosen_is_refused_with_an_example():
    with pytest.raises(AdapterError, match=r"none of the 24 .* full names such as 'layers\.0\.self_attn\.q_proj'"):
        names(target_mlp=False, exclude_modules=("*.mlp.*",))


def test_patterns_that_leave_nothing_are_refused():
    with pytest.raises(AdapterError, match="nothing to adapt: --exclude-modules leaves out all 33 chosen projections"):
        names(exclude_modules=("*",))


# Ranks


def ranks(*entries, **settings):
    targets = choose_targets(PROJECTIONS, TargetsConfig(module_ranks=entries, **settings))
    return {target.name: (target.rank, target.alpha) for target in targets}


def test_without_ranks_of_their_own_modules_have_none():
    assert set(ranks().values()) == {(None, None)}


def test_a_pattern_gives_a_rank():
    found = ranks("layers.0.*=8")
    assert {rank for name, rank in found.items() if name.startswith("layers.0.")} == {(8, None)}
    assert {rank for name, rank in found.items() if not name.startswith("layers.0.")} == {(None, None)}


def test_a_pattern_can_give_an_alpha_too():
    assert ranks("*.down_proj=8/12")["layers.1.mlp.down_proj"] == (8, 12)


def test_the_last_pattern_that_matches_counts():
    found = ranks("*=8/12", "layers.1.*=4", "*.mlp.up_proj=2/1")
    assert found["layers.0.self_attn.q_proj"] == (8, 12)
    assert found["layers.1.self_attn.q_proj"] == (4, None)
    assert found["layers.1.mlp.up_proj"] == (2, 1)


@pytest.mark.parametrize("entry", ["layers.0.*", "=8", "*=", "*=x", "*=-1", "*=1.5", "*=8/", "*=8/x", "*=8=4"])
def test_a_rank_that_cannot_be_read_is_refused(entry):
    with pytest.raises(AdapterError, match=re.escape(f"--module-ranks {entry!r} must read PATTERN=RANK or")):
        ranks(entry)


@pytest.mark.parametrize("entry", ["*=0", "*=1025", "*=8/0"])
def test_a_rank_out_of_range_is_refused(entry):
    with pytest.raises(AdapterError, match=re.escape(f"--module-ranks {entry!r}: a rank is 1 to 1024")):
        ranks(entry)


def test_a_rank_for_nothing_is_refused():
    with pytest.raises(AdapterError, match=r"--module-ranks 'layers\.9\.\*' matches none"):
        ranks("layers.9.*=8")


def test_a_rank_for_what_is_left_out_is_refused():
    with pytest.raises(AdapterError, match=r"--module-ranks 'layers\.0\.\*' matches none of the 22 chosen"):
        ranks("layers.0.*=8", exclude_modules=("layers.0.*",))
