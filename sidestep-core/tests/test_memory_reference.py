"""Side-Step's own memory estimate, whose published numbers users know, beside ours.

Ours counts tensors as they are (frozen weights of the decoder alone, float32 master weights and two states for each
parameter, what autograd really keeps) and so differs on purpose. The formula that gives the published numbers lives
here, to show which of its parts ours shares and in which direction the others differ.
"""

import pytest
from sidestep_core.configs import TargetsConfig
from sidestep_core.memory import estimate_memory
from sidestep_core.memory_parts import Adapted, Workload
from sidestep_core.model.dims import ModelDims, decoder_parameters, projection_shapes
from sidestep_core.specs import Kept
from sidestep_core.targets import choose_targets

MB = 2**20
CONTEXT, MODEL_MB, CUDA_MB, FRAGMENTED, FLASH, BACKWARD = 512, 4566.0, 500.0, 1.12, 0.95, 0.08
EIGHT_BIT_ADAM = 6.2
# rank, MLP, batch, and peaks in MB for 60 s, for 240 s, and for 240 s with flash attention
PRESETS = {
    "recommended": (64, True, 1, 6922.6361, 7456.8934, 7436.7843),
    "high_quality": (128, True, 1, 7988.4281, 8522.6854, 8502.5763),
    "quick_test": (16, True, 1, 6123.2921, 6657.5494, 6637.4403),
    "vram_8gb": (16, False, 1, 6000.3161, 6534.5734, 6514.4643),
    "vram_12gb": (32, True, 1, 6389.7401, 6923.9974, 6903.8883),
    "vram_16gb": (64, True, 2, 7105.5603, 8174.0747, 8133.8566),
    "vram_24gb_plus": (128, True, 2, 8171.3523, 9239.8667, 9199.6486),
}
DIMS = ModelDims.from_config(
    {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "in_channels": 192,
        "audio_acoustic_hidden_dim": 64,
        "patch_size": 2,
        "text_hidden_dim": 1024,
        "num_lyric_encoder_hidden_layers": 8,
        "num_timbre_encoder_hidden_layers": 4,
    },
    "the 2B model",
)


def layer_bytes(batch, positions, *, flash=False):
    """Return what the reference says one layer keeps."""
    hidden, inner = DIMS.hidden_size, DIMS.intermediate_size
    queries, keys = DIMS.num_heads * DIMS.head_dim, DIMS.num_kv_heads * DIMS.head_dim
    statistics = 4 * DIMS.num_heads * batch * positions
    own = 2 * batch * positions * (4 * hidden + 2 * queries + 2 * keys) + statistics
    cross = 2 * batch * positions * (4 * hidden + 2 * queries) + 2 * batch * CONTEXT * (hidden + 2 * keys) + statistics
    gated = 2 * batch * positions * (3 * hidden + 4 * inner)
    return (own + cross + gated) * (FLASH if flash else 1)


def trained(rank, *, mlp, blocks=2):
    """Return how many parameters the reference says a low-rank adapter has."""
    hidden, inner, keys = DIMS.hidden_size, DIMS.intermediate_size, DIMS.num_kv_heads * DIMS.head_dim
    attention = blocks * (2 * 2 * hidden + 2 * (hidden + keys))
    return rank * DIMS.num_layers * (attention + mlp * 3 * (hidden + inner))


def peak(rank, mlp, batch, seconds, *, flash=False):
    """Return the peak in MB that the reference names with every layer recomputed."""
    positions = max(1, int(seconds * 25) // 2)
    one = layer_bytes(batch, positions, flash=flash)
    kept = one + BACKWARD * one + DIMS.num_layers * batch * positions * DIMS.hidden_size * 2
    adapter = trained(rank, mlp=mlp) * (EIGHT_BIT_ADAM + 4 + 2)
    return (MODEL_MB + CUDA_MB + (kept + adapter) / MB) * FRAGMENTED


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_peaks_of_the_presets(name):
    rank, mlp, batch, short, long, flash = PRESETS[name]
    found = [peak(rank, mlp, batch, 60), peak(rank, mlp, batch, 240), peak(rank, mlp, batch, 240, flash=True)]
    assert found == pytest.approx([short, long, flash], abs=0.01)


@pytest.mark.parametrize(
    ("batch", "positions", "flash", "expected"),
    [(1, 750, False, 90306304), (1, 750, True, 85790988), (2, 3000, False, 697284608)],
)
def test_the_published_bytes_of_a_layer(batch, positions, flash, expected):
    assert layer_bytes(batch, positions, flash=flash) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("rank", "mlp", "attention", "expected"),
    [(64, True, "both", 81788928), (64, False, "both", 44040192), (16, False, "self", 5505024)],
)
def test_parameters_are_counted_alike(rank, mlp, attention, expected):
    targets = choose_targets(projection_shapes(DIMS), TargetsConfig(target_mlp=mlp, attention=attention))
    ours = sum(rank * (target.out_features + target.in_features) for target in targets)
    assert ours == trained(rank, mlp=mlp, blocks=2 if attention == "both" else 1) == expected


def ours(rank=64, batch=1, seconds=60, rows=CONTEXT):
    """Return our estimate for LoRA on everything, in bf16, as the presets have it."""
    targets = choose_targets(projection_shapes(DIMS), TargetsConfig())
    adapted = [
        Adapted(
            layer=int(target.name.split(".")[1]),
            name=target.name.split(".", 2)[2],
            in_features=target.in_features,
            kept=Kept(input=False, elements=rank + target.in_features),
        )
        for target in targets
    ]
    return estimate_memory(
        Workload(
            dims=DIMS,
            adapted=adapted,
            trainable=trained(rank, mlp=True),
            batch=batch,
            frames=round(25 * seconds),
            rows=rows,
            precision="bf16",
            accumulation=4,
            optimizer_bytes=2 + 8 / 256,
        )
    )


def test_only_the_decoder_is_loaded_where_the_reference_holds_all_parts():
    assert ours().weights == pytest.approx(2 * decoder_parameters(DIMS), rel=0.01)
    assert ours().weights < 0.7 * MODEL_MB * MB


def test_gradients_are_float32_in_both_and_the_weights_only_in_ours():
    assert ours().gradients == 4 * trained(64, mlp=True)
    assert ours().adapter == 2 * 2 * trained(64, mlp=True)


def test_a_layer_keeps_more_than_the_reference_says():
    # norms keep their inputs in float32 too, and each adapted projection a copy of its own
    assert 1.2 < min(ours().layers) / layer_bytes(1, 750) < 2.5


def test_with_all_layers_recomputed_ours_needs_less_in_all():
    for seconds in (60, 240):
        assert ours(seconds=seconds).total(24) < peak(64, True, 1, seconds) * MB
