"""Memory estimates: against what autograd really keeps, and how many layers have to be recomputed."""

import attrs
import pytest
import torch
from sidestep_core.configs import TargetsConfig
from sidestep_core.memory import MemoryEstimate, estimate_memory
from sidestep_core.memory_parts import Workload, low_rank
from sidestep_core.model.components import build_transformer
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.dims import ModelDims, decoder_parameters, projection_shapes, spread
from sidestep_core.plan import adapted
from sidestep_core.requests import Chosen
from sidestep_core.specs import BuildContext
from sidestep_core.targets import choose_targets
from sidestep_core.testing.tiny_run import SMALL, SmallAdapter, SmallConfig

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


def work(dims=DIMS, *, on=None, dropout=0.0, rank=4, frames=800, rows=60, batch=1, precision="fp32", **more):
    on = targets(dims=dims) if on is None else on
    chosen = Chosen(spec=SMALL, config=SmallConfig(rank=rank, dropout=dropout))
    return Workload(
        dims=dims,
        adapted=adapted(chosen, on, precision),
        trainable=sum(rank * (target.out_features + target.in_features) for target in on),
        batch=batch,
        frames=frames,
        rows=rows,
        precision=precision,
        **more,
    )


def estimate(*args, **settings):
    return estimate_memory(work(*args, **settings))


@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("frames", "rows", "batch"), [(800, 60, 1), (160, 90, 2), (60, 40, 1)])
def test_layers_keep_what_is_estimated(frames, rows, batch, dropout, mlp):
    expected = estimate(on=targets(mlp), frames=frames, rows=rows, batch=batch, dropout=dropout, cpu=True)
    measured = kept_by_autograd(frames=frames, rows=rows, dropout=dropout, mlp=mlp, batch=batch)
    assert sum(expected.layers) == pytest.approx(measured, rel=0.1)


def test_a_recomputed_layer_keeps_its_input_alone():
    sizes = {"frames": 800, "rows": 60, "dropout": 0.0, "mlp": True, "batch": 1}
    saved = kept_by_autograd(**sizes) - kept_by_autograd(**sizes, recomputed=4)
    expected = estimate()
    assert sum(expected.layers) - 4 * expected.checkpoint == pytest.approx(saved, rel=0.1)


def test_layers_below_the_first_adapted_one_keep_nothing():
    layers = estimate(on=targets(mlp=False, layers=(2, 3))).layers
    assert [bool(kept) for kept in layers] == [False, False, True, True]


def test_adapter_gradients_and_optimizer_are_counted_in_float32():
    found = estimate(average=True)
    count = work().trainable
    assert (found.adapter, found.gradients, found.optimizer) == (2 * 4 * count, 4 * count, 8 * count)


def test_half_precision_halves_the_frozen_weights():
    assert estimate(precision="bf16").weights == pytest.approx(estimate(precision="fp32").weights / 2, rel=0.02)


@pytest.mark.parametrize(("kind", "bytes_per_weight"), [("none", 2), ("int8", 1), ("nf4", 4.5 / 8)])
def test_quantized_projections_take_their_bits(kind, bytes_per_weight):
    projections = sum(out * in_ for out, in_ in projection_shapes(BIG).values())
    others = decoder_parameters(BIG) - projections
    found = estimate(BIG, precision="bf16", quantize=kind).weights
    assert found == pytest.approx(projections * bytes_per_weight + others * 2, rel=0.01)


def test_of_the_layers_that_wait_two_are_on_the_device():
    whole, none, some = (estimate(waiting=spread(count, 4), frames=8).weights for count in (0, 4, 3))
    layer = (whole - none) / 2
    assert some == pytest.approx(whole - layer)
    assert layer == 4 * sum(out * in_ for name, (out, in_) in projection_shapes(DIMS).items() if "layers.0." in name)


def test_layers_that_wait_are_recomputed_as_well():
    swapped = estimate(waiting=spread(4, 4))
    assert swapped.activations(0) == estimate().activations(4)
    assert len(swapped.recomputed(0)) == 4


def test_gradients_of_one_batch_are_not_there_before_it():
    once, twice = estimate(rank=64), estimate(rank=64, accumulation=2)
    assert once.total() < twice.total() <= once.total() + once.gradients


def test_gradients_and_state_are_a_peak_of_their_own_where_songs_are_short():
    found = estimate(rank=64, frames=2, rows=1, accumulation=1)
    assert found.total() >= found.state + found.gradients


def test_the_published_model_takes_what_is_known_of_it():
    known = estimate(BIG, frames=1500, rows=200, precision="bf16", rank=64, dropout=0.1)
    assert known.weights == pytest.approx(3.2e9, rel=0.05)
    assert 8e9 < known.total() < 14e9


def test_longer_songs_take_more():
    assert estimate(frames=1600).activations() > 1.9 * estimate(frames=800).activations()


def test_an_adapter_that_says_nothing_is_taken_for_a_low_rank_update():
    silent = attrs.evolve(SMALL, keeps=None)
    assert [a.kept for a in adapted(Chosen(spec=silent, config=SmallConfig(rank=4)), targets()[:1], "bf16")] == [
        low_rank(128, 4, mixed=True)
    ]


def made(layers=(100, 100, 100, 100), **parts) -> MemoryEstimate:
    sizes = {"weights": 1000, "adapter": 50, "gradients": 50, "optimizer": 0, "checkpoint": 10, "outside": 30}
    return MemoryEstimate(layers=layers, **{**sizes, "head": 0, "working": 20, "overhead": 0, **parts})


def test_nothing_is_recomputed_where_everything_fits():
    assert made().layers_to_checkpoint(1550) == 0


def test_as_few_layers_as_possible_are_recomputed():
    # one layer's tensors are there again while it is recomputed
    assert [made().total(count) for count in range(5)] == [1550, 1460, 1370, 1370, 1280]
    assert made().layers_to_checkpoint(1400) == 2


def test_all_layers_are_recomputed_where_nothing_fits():
    assert made().layers_to_checkpoint(10) == 4


def test_the_parts_add_up():
    found = estimate(dropout=0.1, precision="bf16")
    parts = (found.weights, found.adapter, found.gradients, found.optimizer, found.activations(2), found.overhead)
    assert sum(parts) == found.total(2)


@pytest.mark.parametrize(
    ("count", "chosen"), [(0, []), (1, [0]), (2, [0, 2]), (3, [0, 2, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_chosen_layers_are_spread_evenly(count, chosen):
    assert sorted(spread(count, 4)) == chosen
