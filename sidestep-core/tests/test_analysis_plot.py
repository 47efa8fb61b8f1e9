"""Pictures of an analysis."""

import re
import struct

import attrs
import pytest
from sidestep_core.analysis.plot import draw, write_pictures
from sidestep_core.analysis.result import Analysis, Module, RunSongs

KINDS = ("self_attn.q_proj", "cross_attn.v_proj", "mlp.down_proj")
RANKS = {"layers.0.self_attn.q_proj": 24, "layers.2.cross_attn.v_proj": 128, "layers.3.mlp.down_proj": 16}


@pytest.fixture(scope="module")
def analysis():
    names = [f"layers.{layer}.{kind}" for layer in range(4) for kind in KINDS]
    modules = tuple(
        Module(name=name, score=1e-8 * 3**i, deviation=0.0, effective_rank=9, rank=RANKS.get(name, 0))
        for i, name in enumerate(names)
    )
    return Analysis(
        model="acestep-v15-base",
        variant="base",
        identity="a" * 32,
        layers=4,
        timestep_mu=-0.4,
        timestep_sigma=1.0,
        dataset_hash="b" * 32,
        focus="balanced",
        limits=(0.0, 1.0),
        songs=12,
        batches=12,
        runs=(RunSongs(songs=("a",), batches=1),),
        base=64,
        rank_min=16,
        rank_max=128,
        budget=None,
        adapter_type="lora",
        trainable=None,
        error=0.1,
        modules=modules,
    )


@pytest.fixture(scope="module")
def figure(analysis):
    return draw(analysis)


def fields(figure):
    return [axes for axes in figure.axes if axes.get_title(loc="left")]


def test_a_column_is_a_layer_and_a_row_a_kind_of_projection(figure):
    for axes in fields(figure):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "3"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["self_attn q", "cross_attn v", "mlp down"]


def test_scores_are_where_they_belong_on_a_scale_of_powers(figure, analysis):
    image = fields(figure)[0].images[0]
    assert image.get_array().shape == (3, 4)
    assert image.get_array()[1, 2] == pytest.approx(analysis.modules[7].score)
    assert image.norm(1e-8) == pytest.approx(0)


def test_ranks_are_written_into_their_places_and_the_rest_is_left_blank(figure):
    axes = fields(figure)[1]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "24", (2, 1): "128", (3, 2): "16"}
    assert axes.images[0].get_array().count() == 3


def test_titles_say_what_is_shown(figure):
    titles = [axes.get_title(loc="left") for axes in fields(figure)]
    assert titles == [
        "Where 12 songs pull at acestep-v15-base",
        "Ranks of 3 of 12 projections; grey ones get none",
    ]


def test_files_are_a_png_and_an_svg_beside_the_map(analysis, tmp_path):
    png, svg = write_pictures(analysis, tmp_path / "map.json")
    assert (png.name, svg.name) == ("map.png", "map.svg")
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">II", head[16:24])) > 300
    assert re.search(r"<svg [^>]*viewBox", svg.read_text("utf-8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "map.svg"]


def test_the_same_analysis_gives_the_same_files(analysis, tmp_path):
    pairs = [write_pictures(analysis, tmp_path / f"{name}.json") for name in ("one", "two")]
    for first, second in zip(*pairs, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_projections_without_a_gradient_and_scores_alike_can_be_drawn(analysis):
    flat = tuple(attrs.evolve(module, score=1e-6 if module.rank else 0.0) for module in analysis.modules)
    figure = draw(attrs.evolve(analysis, modules=flat, songs=1))
    assert fields(figure)[0].images[0].get_array().count() == 3
    assert fields(figure)[0].get_title(loc="left").startswith("Where 1 song pulls")
