"""Modules have a place in a grid of layers and kinds."""

import pytest
from sidestep_core.formats.grid import kinds_of, place


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("layers.3.self_attn.q_proj", ("3", "self q")),
        ("layers.12.cross_attn.o_proj", ("12", "cross o")),
        ("layers.0.mlp.down_proj", ("0", "down")),
        ("condition_embedder", ("condition_embedder", "")),
    ],
)
def test_a_module_has_a_layer_and_a_kind(name, found):
    assert place(name) == found


def test_kinds_come_in_the_order_of_the_decoder():
    names = ["layers.0.mlp.up_proj", "layers.0.cross_attn.k_proj", "layers.1.self_attn.o_proj", "layers.1.odd"]
    assert kinds_of(names) == ["self o", "cross k", "up", "odd"]
