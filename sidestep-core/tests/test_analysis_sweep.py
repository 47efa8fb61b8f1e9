"""The sweep: squared gradients as they are, one at a time, whatever the memory and the precision."""

import math

import pytest
import torch
from sidestep_core.analysis.sampling import noise_seed, plan_of
from sidestep_core.analysis.sweep import Sweep, finite
from sidestep_core.configs import DataConfig
from sidestep_core.errors import OutOfMemory
from sidestep_core.model.components import build_transformer
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from sidestep_core.store.noise import write_noise
from sidestep_core.training.batches import Batches
from sidestep_core.training.seeds import generator
from sidestep_core.training.sets import songs_of

FRAMES = [50, 33, 75]
TIMES = [0.3, 0.62, 0.9]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture(scope="module")
def names(model):
    return list(projection_shapes(model.dims))


@pytest.fixture(scope="module")
def songs(model, tmp_path_factory):
    store = write_noise(tmp_path_factory.mktemp("tensors"), model, frames=FRAMES, rows=[7, 12])
    return songs_of([store], DataConfig())


@pytest.fixture(scope="module")
def measure(model, names, songs):
    """A function that measures the three songs with a decoder of its own."""

    def run(dtype=torch.float32, checkpointed=0, watch=None):
        decoder = load_decoder(model, dtype=dtype)
        decoder.checkpointed_layers = checkpointed
        sweep = Sweep(decoder, names)
        batches = Batches(songs, decoder.null_condition[0], in_memory=False)
        if watch is not None:
            watch(decoder)
        scores = [sweep.measure(batches[plan_of(i, i, songs, None)], t) for i, t in enumerate(TIMES)]
        return decoder, scores

    return run


@pytest.fixture(scope="module")
def measured(measure):
    return measure()


@pytest.fixture(scope="module")
def scores(measured):
    return measured[1]


@pytest.fixture(scope="module")
def reference(model, names, songs):
    """Explicit gradients of one parameter after the other, through diffusers' own forward pass."""
    ours = load_decoder(model)
    plain = build_transformer(model.dims).eval().requires_grad_(False)
    plain.load_state_dict(ours.transformer.state_dict())
    batches = Batches(songs, ours.null_condition[0], in_memory=False)
    found = []
    for place, t in enumerate(TIMES):
        batch = batches[plan_of(place, place, songs, None)]
        latents = batch.latents
        noise = torch.randn(latents.shape, generator=generator("cpu", *noise_seed(place)))
        silence = ours.silence[: latents.shape[1]]
        context = torch.cat([silence, torch.ones_like(silence)], dim=-1)[None]
        weights = [plain.get_submodule(module_path(name)).weight.requires_grad_(True) for name in names]
        time = torch.tensor([t])
        flow = plain(
            hidden_states=t * noise + (1 - t) * latents,
            timestep=time,
            timestep_r=time,
            encoder_hidden_states=batch.conditioning,
            context_latents=context,
            return_dict=False,
        )[0]
        loss = torch.nn.functional.mse_loss(flow, noise - latents)
        gradients = [torch.autograd.grad(loss, [weight], retain_graph=True)[0] for weight in weights]
        found.append([gradient.double().square().mean().item() for gradient in gradients])
    return found


def test_scores_are_the_diagonal_of_the_fisher_information(scores, reference):
    for ours, theirs in zip(scores, reference, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_the_reference_tells_songs_and_projections_apart(reference):
    assert len({score for song in reference for score in song}) == len(FRAMES) * len(reference[0])


@pytest.mark.parametrize("recomputed", [2, 4])
def test_recomputed_layers_change_no_score(measure, scores, recomputed):
    assert measure(checkpointed=recomputed)[1] == scores


def test_bf16_scores_are_near_those_of_fp32(measure, scores):
    ratios = [
        ours / theirs
        for song, other in zip(measure(torch.bfloat16)[1], scores, strict=True)
        for ours, theirs in zip(song, other, strict=True)
    ]
    assert 0.98 < sum(ratios) / len(ratios) < 1.02
    assert all(0.8 < ratio < 1.25 for ratio in ratios)


def test_no_gradient_is_left_when_a_song_is_measured(measured):
    decoder, _ = measured
    assert [name for name, parameter in decoder.named_parameters() if parameter.grad is not None] == []


def test_one_gradient_is_held_at_a_time(measure, names, scores):
    held = []

    def watch(decoder):
        weights = [decoder.transformer.get_submodule(module_path(name)).weight for name in names]
        # these hooks come after the sweep's own, which have freed what they took
        for weight in weights:
            weight.register_post_accumulate_grad_hook(lambda _: held.append(sum(w.grad is not None for w in weights)))

    again = measure(watch=watch)[1]
    assert again == scores  # and measuring again gives the same
    assert held == [0] * len(names) * len(FRAMES)


def test_only_projections_get_gradients(measured, names):
    decoder, _ = measured
    trained = sum(parameter.requires_grad for parameter in decoder.parameters())
    assert trained == len(names)


def test_measuring_leaves_the_weights_as_they_were(model, measured):
    decoder, _ = measured
    before = load_decoder(model).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_told(bad):
    assert finite([1.0, 0.0])
    assert not finite([1.0, bad])


def test_a_song_after_one_that_is_not_finite_is_measured_as_if_alone(model, names, songs, scores):
    decoder = load_decoder(model)
    sweep = Sweep(decoder, names)
    batches = Batches(songs, decoder.null_condition[0], in_memory=False)
    batch = batches[plan_of(0, 0, songs, None)]
    batch.latents[0, 0, 0] = math.inf
    assert not finite(sweep.measure(batch, TIMES[0]))
    assert sweep.measure(batches[plan_of(1, 1, songs, None)], TIMES[1]) == scores[1]


@pytest.fixture
def failing(model, names, songs, monkeypatch):
    """A function that measures a song on a device that gives up with an error."""

    def measure(error):
        decoder = load_decoder(model)
        sweep = Sweep(decoder, names)
        batch = Batches(songs, decoder.null_condition[0], in_memory=False)[plan_of(2, 2, songs, None)]

        def fail(*_, **__):
            raise error

        monkeypatch.setattr(decoder, "forward", fail)
        sweep.measure(batch, 0.5)

    return measure


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no"), RuntimeError("MPS backend out of memory"), RuntimeError("not enough memory")],
)
def test_a_song_too_long_for_the_device_is_told_with_what_helps(failing, error):
    with pytest.raises(OutOfMemory, match=r"^3 seconds of music do not fit .* --chunk-duration 60"):
        failing(error)


def test_other_failures_of_the_device_stay_what_they_are(failing):
    with pytest.raises(RuntimeError, match="illegal instruction"):
        failing(RuntimeError("illegal instruction"))
