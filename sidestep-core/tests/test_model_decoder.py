"""The decoder's own forward pass: equal to diffusers', exact with padding, and everything training needs of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AceStepTransformer1DModel
from peft import LoraConfig, inject_adapter_in_model
from sidestep_core.model.components import build_transformer
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.dims import ModelDims, decoder_parameters, projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder, load_silence
from sidestep_core.model.names import module_path
from sidestep_core.model.tiny import disturb, tiny_config
from torch import Tensor

WINDOW = 6


def make_decoder(variant: str = "base", *, layers: int = 2, silence: int = 500) -> Decoder:
    """A decoder whose sliding layers work in blocks from 19 positions (38 frames)."""
    torch.manual_seed(0)
    dims = ModelDims.from_config(tiny_config(variant, layers=layers, window=WINDOW), "tiny")
    transformer = build_transformer(dims)
    disturb(transformer)
    decoder = Decoder(
        transformer,
        dims,
        null_condition=torch.randn(1, 1, dims.condition_size),
        silence=torch.randn(silence, dims.latent_channels),
    )
    return decoder.requires_grad_(False).eval()


def inputs(batch: int, frames: int, rows: int = 7, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    draw = torch.rand(batch, generator=g)
    return torch.randn(batch, frames, 64, generator=g), draw, torch.randn(batch, rows, 64, generator=g)


def as_diffusers(
    transformer: AceStepTransformer1DModel, silence: Tensor, noisy: Tensor, t: Tensor, rows: Tensor
) -> Tensor:
    """The flow by the class's own forward pass, with the inputs its pipeline makes for text alone."""
    length = noisy.shape[1]
    silence = silence.repeat(-(-length // len(silence)), 1)[:length].expand(len(noisy), -1, -1)
    context = torch.cat([silence, torch.ones_like(silence)], dim=-1)
    flow: Tensor = transformer(noisy, t, t, rows, context, return_dict=False)[0]
    return flow


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def gradients(decoder: Decoder, loss: Tensor, parts: tuple[str, ...] = ("to_q", "to_v", "up_proj")) -> list[Tensor]:
    chosen = [p for name, p in decoder.named_parameters() if any(part in name for part in parts)]
    return list(torch.autograd.grad(loss, chosen))


def train_all(decoder: Decoder) -> Decoder:
    return decoder.requires_grad_(True)


# Parity with diffusers


@pytest.fixture(scope="module")
def tiny_xl(make_checkpoint, tmp_path_factory) -> tuple[Path, Path]:
    diffusers = tmp_path_factory.mktemp("diffusers") / "xl-base"
    return make_checkpoint(variants=("xl-base",), diffusers=diffusers, window=WINDOW), diffusers


@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize("frames", [1, 2, 11, 60, 101, 250])
def test_a_loaded_decoder_equals_the_class_loaded_by_diffusers(tiny_checkpoint, tiny_diffusers, layout, frames):
    ours = load_decoder(resolve_model({"original": tiny_checkpoint, "diffusers": tiny_diffusers}[layout], None))
    theirs = AceStepTransformer1DModel.from_pretrained(tiny_diffusers / "transformer").eval()
    given = inputs(2, frames)
    with torch.no_grad():
        flow = ours(*given)
        assert relative(flow, as_diffusers(theirs, ours.silence, *given)) <= 1e-5
    assert flow.shape == given[0].shape


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("frames", [11, 101])
def test_a_loaded_xl_decoder_equals_the_class_loaded_by_diffusers(tiny_xl, layout, frames):
    ours = load_decoder(resolve_model(tiny_xl[layout], None))
    theirs = AceStepTransformer1DModel.from_pretrained(tiny_xl[1] / "transformer").eval()
    given = inputs(2, frames)
    with torch.no_grad():
        assert relative(ours(*given), as_diffusers(theirs, ours.silence, *given)) <= 1e-5


@pytest.mark.parametrize("frames", [11, 90])
def test_gradients_equal_those_of_diffusers_own_pass(frames):
    decoder, given = train_all(make_decoder()), inputs(2, frames)
    mine = gradients(decoder, decoder(*given).square().sum(), parts=("",))
    reference = build_transformer(decoder.dims)
    reference.load_state_dict(decoder.transformer.state_dict())
    flow = as_diffusers(reference, decoder.silence, *given)
    theirs = dict(zip(*zip(*reference.named_parameters(), strict=True), strict=True))
    expected = torch.autograd.grad(flow.square().sum(), list(theirs.values()))
    assert len(mine) == len(expected)
    assert all(relative(a, b) <= 2e-5 for a, b in zip(mine, expected, strict=True))


def test_audio_longer_than_the_silence_latent_repeats_it():
    decoder, given = make_decoder(silence=30), inputs(1, 101)
    reference = build_transformer(decoder.dims)
    reference.load_state_dict(decoder.transformer.state_dict())
    with torch.no_grad():
        assert relative(decoder(*given), as_diffusers(reference, decoder.silence, *given)) <= 1e-5


# Padding


LENGTHS = [(9, (9, 4, 1)), (40, (40, 21, 2)), (101, (101, 40, 13)), (64, (63, 17, 5))]


def masks(frames: int, lengths: tuple[int, ...], rows: int = 7) -> tuple[Tensor, Tensor]:
    real = torch.arange(frames) < torch.tensor(lengths)[:, None]
    return real, torch.arange(rows) < torch.tensor([rows, 3, 1])[:, None]


@pytest.mark.parametrize(("frames", "lengths"), LENGTHS)
@pytest.mark.parametrize("filling", [1e4, float("nan"), float("inf")])
def test_what_padding_holds_changes_no_bit_of_output_or_gradients(frames, lengths, filling):
    decoder = train_all(make_decoder())
    noisy, t, conditioning = inputs(3, frames)
    real, rows = masks(frames, lengths)
    results = []
    for padding in (0.0, filling):
        flow = decoder(
            torch.where(real[:, :, None], noisy, padding),
            t,
            torch.where(rows[:, :, None], conditioning, padding),
            frames=real,
            rows=rows,
        )
        loss = torch.where(real[:, :, None], flow, 0).square().sum()
        results.append((flow[real], gradients(decoder, loss, parts=("",))))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


@pytest.mark.parametrize(("frames", "lengths"), LENGTHS)
def test_a_padded_sample_gives_what_it_gives_alone(frames, lengths):
    decoder = make_decoder()
    noisy, t, conditioning = inputs(3, frames)
    real, rows = masks(frames, lengths)
    flow = decoder(noisy, t, conditioning, frames=real, rows=rows)
    for i, length in enumerate(lengths):
        alone = decoder(noisy[i : i + 1, :length], t[i : i + 1], conditioning[i : i + 1, : int(rows[i].sum())])
        assert relative(flow[i : i + 1, :length], alone) <= 1e-5


@pytest.mark.parametrize(("frames", "lengths"), LENGTHS)
def test_a_padded_sample_gives_the_gradients_it_gives_alone(frames, lengths):
    decoder = train_all(make_decoder())
    noisy, t, conditioning = inputs(3, frames)
    real, rows = masks(frames, lengths)
    flow = decoder(noisy, t, conditioning, frames=real, rows=rows)
    together = gradients(decoder, torch.where(real[:, :, None], flow, 0).square().sum())
    apart = 0
    for i, length in enumerate(lengths):
        flow = decoder(noisy[i : i + 1, :length], t[i : i + 1], conditioning[i : i + 1, : int(rows[i].sum())])
        apart = apart + flow.square().sum()
    assert all(relative(a, b) <= 5e-5 for a, b in zip(together, gradients(decoder, apart), strict=True))


def test_masks_that_leave_nothing_out_change_next_to_nothing():
    decoder, given = make_decoder(), inputs(2, 90)
    everything = {"frames": torch.ones(2, 90, dtype=torch.bool), "rows": torch.ones(2, 7, dtype=torch.bool)}
    assert relative(decoder(*given, **everything), decoder(*given)) <= 1e-5


@pytest.mark.parametrize("frames", [9, 90])
def test_a_sample_that_is_padding_throughout_stays_finite(frames):
    decoder, given = train_all(make_decoder()), inputs(2, frames)
    real, rows = torch.ones(2, frames, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool)
    real[1], rows[1] = False, False
    flow = decoder(*given, frames=real, rows=rows)
    assert flow.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(decoder, flow[0].square().sum()))


# The null condition


def test_one_null_row_equals_many():
    decoder, (noisy, t, _) = make_decoder(), inputs(2, 50)
    one = decoder(noisy, t, decoder.null_condition.expand(2, 1, -1))
    many = decoder(noisy, t, decoder.null_condition.expand(2, 300, -1))
    assert relative(one, many) <= 1e-5


# Timesteps and types


def test_timesteps_stay_exact_with_bfloat16_weights():
    decoder = make_decoder().to(torch.bfloat16)
    seen: list[Tensor] = []
    decoder.transformer.time_embed.time_sinusoid.register_forward_hook(lambda *call: seen.append(call[-1]))
    decoder(*inputs(1, 8))
    fine = decoder.transformer.time_embed.time_sinusoid(inputs(1, 8)[1] * 1000)
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[0], fine)


def test_bfloat16_weights_take_float32_inputs():
    decoder, given = make_decoder(), inputs(2, 90)
    exact = decoder(*given)
    flow = decoder.to(torch.bfloat16)(*given)
    assert flow.dtype == torch.bfloat16
    assert relative(flow.float(), exact) <= 0.05


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_it_runs_under_autocast_with_padding_and_gradients(weights):
    decoder, given = train_all(make_decoder()), inputs(2, 90)
    exact = decoder(*given).detach()
    decoder.to(weights)
    decoder.checkpointed_layers = 1
    real = torch.ones(2, 90, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        flow = decoder(*given, frames=real)
    assert relative(flow.float(), exact) <= 0.05
    assert all(gradient.isfinite().all() for gradient in gradients(decoder, flow.float().square().mean()))


def test_constants_follow_the_type_of_the_weights():
    decoder, given = make_decoder(), inputs(1, 60)
    first = decoder(*given)
    decoder.to(torch.bfloat16)(*given)
    assert relative(decoder.to(torch.float32)(*given), first) <= 0.05


# Cached constants


def test_a_cached_length_gives_the_same_bits():
    decoder, given = make_decoder(), inputs(1, 60)
    first = decoder(*given)
    decoder(*inputs(1, 90))
    assert torch.equal(decoder(*given), first)


def test_odd_and_even_lengths_share_constants_without_mixing():
    decoder, even = make_decoder(), inputs(1, 60)
    first = decoder(*even)
    odd = decoder(even[0][:, :59], even[1], even[2])
    assert odd.shape[1] == 59
    assert torch.equal(decoder(*even), first)


def test_few_lengths_are_kept():
    decoder = make_decoder()
    for frames in range(2, 60, 2):
        decoder(*inputs(1, frames))
    assert len(decoder._constants) == 8


# What training asks for


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_recomputed_layers_give_the_same_gradients(count):
    decoder, given = train_all(make_decoder(layers=5)), inputs(2, 60)
    plain = gradients(decoder, decoder(*given).square().sum())
    decoder.checkpointed_layers = count
    again = gradients(decoder, decoder(*given).square().sum())
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize(
    ("count", "chosen"), [(0, []), (1, [0]), (2, [0, 3]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_recomputed_layers_are_spread_evenly(count, chosen):
    decoder = train_all(make_decoder(layers=5))
    runs = [0] * 5
    for i, layer in enumerate(decoder.transformer.layers):
        layer.register_forward_pre_hook(lambda *_, i=i: runs.__setitem__(i, runs[i] + 1))
    decoder.checkpointed_layers = count
    decoder(*inputs(1, 8)).sum().backward()
    assert [i for i, times in enumerate(runs) if times == 2] == chosen


def test_nothing_is_recomputed_without_gradients():
    decoder = make_decoder()
    decoder.checkpointed_layers = 2
    runs: list[int] = []
    decoder.transformer.layers[0].register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        decoder(*inputs(1, 8))
    assert runs == [1]


def test_a_replaced_projection_is_used_at_once():
    decoder, given = make_decoder(), inputs(1, 60)
    before = decoder(*given)
    attention = decoder.transformer.layers[1].self_attn
    attention.to_q = torch.nn.Sequential(attention.to_q, torch.nn.LayerNorm(attention.to_q.out_features))
    assert relative(decoder(*given), before) > 1e-3


def test_only_a_trained_projection_gets_a_gradient():
    decoder = make_decoder()
    weight = decoder.transformer.layers[1].self_attn.to_q.weight.requires_grad_(True)
    decoder.checkpointed_layers = 2
    decoder(*inputs(2, 60)).square().mean().backward()
    assert weight.grad.abs().max() > 0
    assert [p.grad is not None for p in decoder.parameters()].count(True) == 1


@pytest.mark.parametrize("checkpointed", [0, 2])
def test_peft_adapts_the_live_modules_in_place(checkpointed):
    decoder, given = make_decoder(), inputs(2, 60)
    before = decoder(*given)
    names = [module_path(f"layers.{i}.{block}.q_proj") for i in (0, 1) for block in ("self_attn", "cross_attn")]
    inject_adapter_in_model(LoraConfig(r=4, target_modules=names), decoder.transformer)
    decoder.checkpointed_layers = checkpointed
    flow = decoder.train()(*given)
    assert torch.equal(flow.detach(), before)
    flow.square().mean().backward()
    trained = {name for name, p in decoder.named_parameters() if p.grad is not None}
    assert trained == {f"transformer.{name}.lora_{letter}.default.weight" for name in names for letter in ("A", "B")}
    assert all(p.grad.abs().max() > 0 for name, p in decoder.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize("variant", ["base", "xl-base"])
def test_names_shapes_and_counts_describe_the_live_module(variant):
    decoder = make_decoder(variant)
    for name, shape in projection_shapes(decoder.dims).items():
        assert decoder.transformer.get_submodule(module_path(name)).weight.shape == shape
    assert decoder_parameters(decoder.dims) == sum(p.numel() for p in decoder.transformer.parameters())


def test_a_loaded_decoder_is_frozen_and_in_evaluation_mode(tiny_checkpoint):
    folder = resolve_model(tiny_checkpoint, "base")
    decoder = load_decoder(folder)
    assert not decoder.training
    assert not any(p.requires_grad for p in decoder.parameters())
    assert torch.equal(decoder.silence, load_silence(folder))
    assert decoder.null_condition.shape == (1, 1, 64)
