"""The objective: its formula, its precision, and padding that changes nothing."""

import attrs
import pytest
import torch
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.specs import BuildContext
from sidestep_core.targets import Target
from sidestep_core.testing.tiny_run import SmallAdapter, SmallConfig
from sidestep_core.training.batches import Batch
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.order import BatchPlan


def batch(lengths, rows=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = rows or [5] * len(lengths)
    longest, most = max(lengths), max(rows)
    return Batch(
        BatchPlan(0, 0, (), sum(lengths)),
        torch.randn(len(lengths), longest, 64, generator=generator),
        torch.randn(len(lengths), most, 64, generator=generator),
        torch.arange(longest) < torch.tensor(lengths)[:, None],
        torch.arange(most) < torch.tensor(rows)[:, None],
    )


def noise_for(data, seed=1):
    return torch.randn(data.latents.shape, generator=torch.Generator().manual_seed(seed))


def zeros(noisy, t, conditioning, **masks):
    return torch.zeros_like(noisy)


def test_the_target_is_the_way_from_latents_to_noise():
    data = attrs.evolve(batch([20]), frames=None)
    noise = noise_for(data)
    loss = flow_matching_loss(zeros, data, torch.tensor([0.3]), noise, torch.float32)
    assert loss.tolist() == pytest.approx([(noise - data.latents).square().mean(dim=2).sum().item()])


def test_the_decoder_sees_the_mixture():
    seen = {}

    def decoder(noisy, t, conditioning, **masks):
        seen.update(noisy=noisy, t=t, conditioning=conditioning, **masks)
        return noisy

    data = batch([20, 10])
    noise, t = noise_for(data), torch.tensor([1.0, 0.25])
    flow_matching_loss(decoder, data, t, noise, torch.float32)
    assert seen["noisy"][0].equal(noise[0])
    torch.testing.assert_close(seen["noisy"][1], 0.25 * noise[1] + 0.75 * data.latents[1])
    assert seen["frames"] is data.frames
    assert seen["rows"] is data.rows


def test_only_the_decoder_s_input_is_cast():
    dtypes = {}

    def decoder(noisy, t, conditioning, **masks):
        dtypes.update(noisy=noisy.dtype, t=t.dtype)
        return noisy

    data = batch([20])
    loss = flow_matching_loss(decoder, data, torch.tensor([0.3]), noise_for(data), torch.bfloat16)
    assert dtypes == {"noisy": torch.bfloat16, "t": torch.float32}
    assert loss.dtype == torch.float32


def test_the_loss_is_summed_over_real_frames_alone():
    data = batch([20, 10])
    short = attrs.evolve(data, latents=data.latents[1:, :10], frames=None)
    noise, t = noise_for(data), torch.tensor([0.3, 0.6])
    both = flow_matching_loss(zeros, data, t, noise, torch.float32)
    alone = flow_matching_loss(zeros, short, t[1:], noise[1:, :10], torch.float32)
    assert both[1].item() == pytest.approx(alone[0].item(), rel=1e-6)


def test_bad_numbers_in_padding_do_not_spread():
    data = batch([20, 10])
    data.latents[1, 10:] = torch.nan
    loss = flow_matching_loss(zeros, data, torch.tensor([0.3, 0.6]), noise_for(data), torch.float32)
    assert loss.isfinite().all()


@pytest.fixture(scope="module")
def trained(tiny_checkpoint):
    """A function from a batch to the loss and all gradients of an adapter on the real decoder."""
    decoder = load_decoder(resolve_model(tiny_checkpoint, "base"))
    adapter = SmallAdapter(SmallConfig(dropout=0.0), BuildContext())
    adapter.attach(
        decoder,
        [
            Target(name="layers.0.self_attn.q_proj", out_features=64, in_features=64),
            Target(name="layers.1.cross_attn.v_proj", out_features=32, in_features=64),
        ],
    )
    with torch.no_grad():
        for _, parameter in adapter.parameters():
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(3))

    def run(data):
        t = torch.linspace(0.2, 0.9, len(data.latents))
        loss = flow_matching_loss(decoder, data, t, noise_for(data), torch.float32).sum()
        loss.backward()
        gradients = [parameter.grad for _, parameter in adapter.parameters()]
        for _, parameter in adapter.parameters():
            parameter.grad = None
        return loss.detach(), gradients

    return run


@pytest.mark.parametrize("lengths", [(60, 43), (90, 20, 71)])
def test_padded_values_change_neither_loss_nor_gradients_by_a_bit(trained, lengths):
    data = batch(list(lengths), rows=[3, 8, 5][: len(lengths)])
    other = attrs.evolve(data, latents=data.latents.clone(), conditioning=data.conditioning.clone())
    other.latents[~other.frames] = 1e3
    other.conditioning[~other.rows] = -1e3
    loss, gradients = trained(data)
    loss_again, gradients_again = trained(other)
    assert loss.equal(loss_again)
    assert all(a.equal(b) for a, b in zip(gradients, gradients_again, strict=True))


def test_a_padded_sample_loses_what_it_loses_alone(trained):
    data = batch([60, 43], rows=[3, 8])
    first = attrs.evolve(data, latents=data.latents[:1], conditioning=data.conditioning[:1, :3], frames=None, rows=None)
    noise = noise_for(data)
    both, _ = trained(data)
    assert noise_for(first).equal(noise[:1])
    assert trained(first)[0] < both
