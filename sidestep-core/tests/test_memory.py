"""Memory estimates: against what autograd really keeps, and how many layers have to be recomputed."""

import pytest
import torch
from sidestep_core.configs import TargetsConfig
from sidestep_core.memory import DROPOUT_BYTES, MemoryEstimate, estimate_memory
from sidestep_core.model.components import build_transformer
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.dims import ModelDims, projection_shapes
from sidestep_core.specs import BuildContext
from sidestep_core.targets import choose_targets
from sidestep_core.testing.tiny_run import SmallAdapter, SmallConfig

DIMS = ModelDims.from_config(
    {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "in_channels": 192,
        "audio_acoustic_hidden_dim": 64,
        "patch_size": 2,
        "sliding_window": 32,
        "text_hidden_dim": 64,
        "num_lyric_encoder_hidden_layers": 1,
        "num_timbre_encoder_hidden_layers": 1,
    },
    "dims",
)
BIG = ModelDims.from_config(
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
    "dims",
)


def kept_by_autograd(*, frames, rows, dropout, mlp, batch, recomputed=0) -> int:
    """Return the bytes of all tensors saved for the backward pass, each storage once."""
    torch.manual_seed(0)
    decoder = Decoder(
        build_transformer(DIMS), DIMS, null_condition=torch.zeros(1, 1, 128), silence=torch.zeros(100, 64)
    )
    SmallAdapter(SmallConfig(dropout=dropout), BuildContext()).attach(decoder, targets(mlp))
    decoder.train()
    decoder.checkpointed_layers = recomputed
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*decoder.parameters(), *decoder.buffers())}
    saved = {}
    alive = []

    def pack(tensor):
        alive.append(tensor)  # or its storage would be used again
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        decoder(torch.randn(batch, frames, 64), torch.rand(batch), torch.randn(batch, rows, 128)).square().mean()
    return sum(saved.values())


def targets(mlp=True, dims=DIMS, layers=()):
    names = tuple(f"layers.{layer}.self_attn.q_proj" for layer in layers) or ("q_proj", "k_proj", "v_proj", "o_proj")
    return choose_targets(projection_shapes(dims), TargetsConfig(target_modules=names, target_mlp=mlp))


def estimate(dims=DIMS, *, adapted=None, frames=800, rows=60, batch=1, precision="fp32", dropout_bytes=0, rank=4):
    adapted = targets(dims=dims) if adapted is None else adapted
    return estimate_memory(
        dims,
        adapted,
        trainable=sum(rank * (target.out_features + target.in_features) for target in adapted),
        batch=batch,
        frames=frames,
        rows=rows,
        precision=precision,
        dropout_bytes=dropout_bytes,
    )


@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("frames", "rows", "batch"), [(800, 60, 1), (160, 90, 2), (60, 40, 1)])
def test_layers_keep_what_is_estimated(frames, rows, batch, dropout, mlp):
    expected = estimate(
        adapted=targets(mlp),
        frames=frames,
        rows=rows,
        batch=batch,
        dropout_bytes=DROPOUT_BYTES["cpu"] if dropout else 0,
    )
    measured = kept_by_autograd(frames=frames, rows=rows, dropout=dropout, mlp=mlp, batch=batch)
    assert sum(expected.layers) == pytest.approx(measured, rel=0.1)


def test_a_recomputed_layer_keeps_its_input_alone():
    sizes = {"frames": 800, "rows": 60, "dropout": 0.0, "mlp": True, "batch": 1}
    saved = kept_by_autograd(**sizes) - kept_by_autograd(**sizes, recomputed=4)
    expected = estimate()
    assert sum(expected.layers) - 4 * expected.checkpoint == pytest.approx(saved, rel=0.1)


def test_layers_below_the_first_adapted_one_keep_nothing():
    layers = estimate(adapted=targets(mlp=False, layers=(2, 3))).layers
    assert [bool(kept) for kept in layers] == [False, False, True, True]


def test_adapter_weights_gradients_and_state_are_float32():
    adapted = targets()
    trainable = sum(4 * (target.out_features + target.in_features) for target in adapted)
    assert estimate().adapter == trainable * (4 + 4 + 8)


def test_half_precision_halves_the_frozen_weights():
    assert estimate(precision="bf16").weights * 2 == estimate(precision="fp32").weights


def test_the_published_model_takes_what_is_known_of_it():
    known = estimate(BIG, frames=1500, rows=200, precision="bf16", dropout_bytes=1, rank=64)
    assert known.weights == pytest.approx(3.2e9, rel=0.05)
    assert 8e9 < known.total() < 14e9


def test_longer_songs_take_more():
    assert estimate(frames=1600).total() > 1.9 * estimate(frames=800).total() - estimate().overhead


def made(layers=(100, 100, 100, 100)) -> MemoryEstimate:
    return MemoryEstimate(weights=1000, adapter=100, layers=layers, checkpoint=10, rest=50, overhead=0)


def test_nothing_is_recomputed_where_everything_fits():
    assert made().layers_to_checkpoint(1550) == 0


def test_as_few_layers_as_possible_are_recomputed():
    assert [made().total(count) for count in range(5)] == [1550, 1560, 1470, 1380, 1290]
    assert made().layers_to_checkpoint(1500) == 2


def test_all_layers_are_recomputed_where_nothing_fits():
    assert made().layers_to_checkpoint(10) == 4
