"""Sampling: equal to diffusers' own pipeline on equal noise, and without traces on the decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AceStepPipeline
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
from sidestep_core.builtins.timesteps import Discrete
from sidestep_core.configs import SoundConfig
from sidestep_core.generation.conditioning import encode_prompt, make_texts
from sidestep_core.generation.guidance import Guidance
from sidestep_core.generation.samplers import SAMPLERS, Sampler, choose_sampler
from sidestep_core.generation.sampling import draw_noise, sample
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.model.load import load_condition_encoder, load_decoder
from sidestep_core.specs import BuildContext
from torch import Tensor

SOUND = SoundConfig(prompt="warm hip hop", lyrics="[Verse]\nsoft notes in the morning light", language="en", seconds=3)
Pair = tuple[ModelFolder, AceStepPipeline]


@pytest.fixture(scope="module")
def pair(make_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Return a function that makes a model of a variant, and diffusers' pipeline of the same weights."""

    def make(variant: str) -> Pair:
        diffusers = tmp_path_factory.mktemp("diffusers") / variant
        model = resolve_model(make_checkpoint(variants=(variant,), diffusers=diffusers), variant)
        pipeline = AceStepPipeline.from_pretrained(diffusers)
        pipeline.set_progress_bar_config(disable=True)
        return model, pipeline

    return make


@pytest.fixture(scope="module")
def decoder(tiny_checkpoint: Path) -> Decoder:
    return load_decoder(resolve_model(tiny_checkpoint, "base"))


def by_pipeline(pipeline: AceStepPipeline, noise: Tensor, sampler: Sampler) -> Tensor:
    made = pipeline(
        prompt=SOUND.prompt,
        lyrics=SOUND.lyrics,
        vocal_language=SOUND.language,
        audio_duration=SOUND.seconds,
        num_inference_steps=sampler.steps,
        guidance_scale=sampler.guidance,
        shift=sampler.shift,
        latents=noise[None],
        output_type="latent",
    )
    latents: Tensor = made.audios[0]
    return latents


def by_us(model: ModelFolder, noise: Tensor, sampler: Sampler) -> Tensor:
    rows = encode_prompt(model, make_texts(SOUND, "inference"), device="cpu", dtype=torch.float32)
    return sample(load_decoder(model), rows, noise, sampler)


def conditioning(rows: int = 7) -> Tensor:
    return torch.randn(rows, 64, generator=torch.Generator().manual_seed(5))


# Parity


@pytest.mark.parametrize("variant", ["base", "turbo"])
def test_it_ends_where_the_pipeline_ends(pair: Callable[[str], Pair], variant: str) -> None:
    model, pipeline = pair(variant)
    noise, sampler = draw_noise(SOUND.seconds, 1), choose_sampler(SOUND, model)
    expected = by_pipeline(pipeline, noise, sampler)
    assert expected.abs().max() > 1
    assert (by_us(model, noise, sampler) - expected).abs().max() < 1e-4


def test_it_ends_where_the_pipeline_ends_with_the_timbre_token_of_xl(pair: Callable[[str], Pair]) -> None:
    model, pipeline = pair("xl-sft")
    noise, sampler = draw_noise(SOUND.seconds, 1), choose_sampler(SOUND, model)
    # the one thing that diffusers lacks: its condition encoder does not put the token in front
    pipeline.register_modules(condition_encoder=load_condition_encoder(model))
    expected = by_pipeline(pipeline, noise, sampler)
    assert (by_us(model, noise, sampler) - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    "sampler", [Sampler(steps=20, shift=1.0, guidance=7.0), Sampler(steps=5, shift=2.0, guidance=1.5)]
)
def test_other_settings_end_where_the_pipeline_ends(
    tiny_checkpoint: Path, tiny_diffusers: Path, sampler: Sampler
) -> None:
    pipeline = AceStepPipeline.from_pretrained(tiny_diffusers)
    pipeline.set_progress_bar_config(disable=True)
    noise = draw_noise(SOUND.seconds, 2)
    found = by_us(resolve_model(tiny_checkpoint, "base"), noise, sampler)
    assert (found - by_pipeline(pipeline, noise, sampler)).abs().max() < 1e-4


def test_guidance_is_that_of_diffusers_at_every_step() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, momentum = Guidance(7.0), MomentumBuffer(-0.75)
    for size in (0.01, 1.0, 5.0):  # below and above the norm that differences are cut to
        flow = torch.randn(1, 40, 8, generator=generator)
        empty = flow + size * torch.randn(1, 40, 8, generator=generator)
        theirs = normalized_guidance(
            flow,
            empty,
            6.0,
            momentum,
            eta=0.0,
            norm_threshold=2.5,
            use_original_formulation=True,
            norm_dim=(1,),
        )
        torch.testing.assert_close(ours(flow, empty), theirs, rtol=1e-5, atol=1e-5)


def test_equal_flows_need_no_guidance() -> None:
    flow = torch.randn(1, 10, 4, generator=torch.Generator().manual_seed(0))
    assert Guidance(7.0)(flow, flow.clone()).equal(flow)


# Which steps


def test_the_steps_of_turbo_are_those_its_timestep_sampler_draws() -> None:
    drawn = Discrete(None, BuildContext()).sample(500, generator=torch.Generator().manual_seed(0))
    steps = SAMPLERS["turbo"].timesteps()
    assert steps[-1] == 0
    assert sorted(set(drawn.tolist())) == pytest.approx(sorted(steps[:-1]), abs=1e-6)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_steps_fall_from_noise_to_audio(shift: float) -> None:
    steps = Sampler(steps=10, shift=shift, guidance=1.0).timesteps()
    assert (len(steps), steps[0], steps[-1]) == (11, 1, 0)
    assert steps == sorted(steps, reverse=True)
    assert (steps[5] > 0.5) is (shift > 1)


@pytest.mark.parametrize(("variant", "sampler"), [("base", "base"), ("sft", "base"), ("turbo", "turbo")])
def test_a_model_is_sampled_as_it_was_trained(make_checkpoint: Any, variant: str, sampler: str) -> None:
    model = resolve_model(make_checkpoint(variants=(variant,)), variant)
    assert choose_sampler(SoundConfig(), model) == SAMPLERS[sampler]


def test_a_sampler_and_parts_of_it_can_be_chosen(tiny_checkpoint: Path) -> None:
    model = resolve_model(tiny_checkpoint, "base")
    assert choose_sampler(SoundConfig(sampler="turbo"), model) == SAMPLERS["turbo"]
    changed = choose_sampler(SoundConfig(steps=12, guidance=3.0), model)
    assert changed == Sampler(steps=12, shift=3.0, guidance=3.0)


# Noise and traces


def test_noise_depends_on_the_seed_and_starts_alike_for_every_length() -> None:
    assert draw_noise(2, 1).equal(draw_noise(3, 1)[:50])
    assert not draw_noise(2, 1).equal(draw_noise(2, 2))
    assert draw_noise(1.01, 1).shape == (26, 64)


def test_the_random_state_stays_as_it_was(decoder: Decoder) -> None:
    before = torch.get_rng_state()
    sample(decoder, conditioning(), draw_noise(1, 1), SAMPLERS["turbo"])
    assert torch.get_rng_state().equal(before)


def test_a_decoder_that_was_sampled_with_can_still_be_trained(tiny_checkpoint: Path) -> None:
    decoder = load_decoder(resolve_model(tiny_checkpoint, "base"))
    noise, rows = draw_noise(1, 1), conditioning()
    sample(decoder, rows, noise, Sampler(steps=1, shift=1.0, guidance=7.0))
    decoder.requires_grad_(True)
    # the same length: masks and rotations that were made while sampling are used again
    decoder(noise[None], torch.tensor([0.5]), rows[None]).square().mean().backward()
    assert decoder.transformer.layers[0].self_attn.to_q.weight.grad.abs().max() > 0


def test_a_model_in_bf16_is_followed_in_float32(tiny_checkpoint: Path) -> None:
    decoder = load_decoder(resolve_model(tiny_checkpoint, "base"), dtype=torch.bfloat16)
    latents = sample(decoder, conditioning(), draw_noise(1, 1), Sampler(steps=3, shift=3.0, guidance=7.0))
    assert latents.dtype == torch.float32
    # the last digits of float32 are in use: nothing was rounded to bf16 on the way
    assert not latents.bfloat16().float().equal(latents)


def test_prompts_are_built_as_those_of_songs_are() -> None:
    texts = make_texts(SoundConfig(prompt="a tune", seconds=12.5), "inference")
    assert "# Caption\na tune\n" in texts.prompt
    assert "- duration: 12 seconds\n" in texts.prompt
    assert texts.lyrics == "# Languages\nunknown\n\n# Lyric\n[Instrumental]<|endoftext|>"
    assert make_texts(SOUND, "side-step").lyrics == SOUND.lyrics


def test_side_steps_prompts_have_side_steps_timbre(tiny_checkpoint: Path) -> None:
    model = resolve_model(tiny_checkpoint, "base")
    inference, side_step = (
        encode_prompt(model, make_texts(SOUND, mode), device="cpu", dtype=torch.float32)
        for mode in ("inference", "side-step")
    )
    # the language header is left out, and the text behind the lyrics is the same
    assert len(side_step) < len(inference)
    torch.testing.assert_close(side_step[-10:], inference[-10:])
