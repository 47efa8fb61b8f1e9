"""The condition encoder against diffusers' own, and the timbre token that the XL models have in front."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_condition_encoder
from torch import Tensor, nn

ROWS = (5, 3)  # lyrics and text of the longer sample


def inputs(frames: int = 40) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "text_hidden_states": torch.randn(2, ROWS[1], 64, generator=g),
        "text_attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "lyric_hidden_states": torch.randn(2, ROWS[0], 64, generator=g),
        "lyric_attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "refer_audio_acoustic_hidden_states_packed": torch.randn(2, frames, 64, generator=g),
        "refer_audio_order_mask": torch.tensor([0, 1]),
    }


@pytest.fixture(scope="module")
def tiny_xl(make_checkpoint, tmp_path_factory) -> tuple[Path, Path]:
    diffusers = tmp_path_factory.mktemp("diffusers") / "xl-sft"
    return make_checkpoint(variants=("xl-sft",), diffusers=diffusers), diffusers


def plain(diffusers: Path) -> AceStepConditionEncoder:
    return AceStepConditionEncoder.from_pretrained(diffusers / "condition_encoder").eval()


@torch.no_grad()
def timbre_with_token(encoder: nn.Module, frames: Tensor) -> Tensor:
    """The XL models' timbre vector computed step by step: token, frames, layers, norm, first position."""
    timbre = encoder.timbre_encoder
    hidden = torch.cat([timbre.special_token.expand(len(frames), 1, -1), timbre.embed_tokens(frames)], dim=1)
    length, size = hidden.shape[1], timbre.head_dim
    speeds = 1.0 / timbre.rope_theta ** (torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length), torch.cat([speeds, speeds]))
    places = torch.arange(length)
    near = (places[:, None] - places).abs() <= timbre.sliding_window
    for i, layer in enumerate(timbre.layers):
        hidden = layer(hidden, (angles.cos(), angles.sin()), None if i % 2 else near[None, None])
    first: Tensor = timbre.norm(hidden)[:, 0]
    return first


def test_the_base_encoder_equals_the_class_loaded_by_diffusers(tiny_checkpoint, tiny_diffusers):
    with torch.no_grad():
        states, mask = load_condition_encoder(resolve_model(tiny_checkpoint, None))(**inputs())
        expected, expected_mask = plain(tiny_diffusers)(**inputs())
    assert torch.equal(mask, expected_mask)
    assert torch.allclose(states, expected, rtol=1e-6, atol=1e-6)


def test_both_layouts_load_the_same_encoder(tiny_checkpoint, tiny_diffusers):
    one, two = (load_condition_encoder(resolve_model(root, None)) for root in (tiny_checkpoint, tiny_diffusers))
    assert one.state_dict().keys() == two.state_dict().keys()
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("layout", [0, 1])
def test_the_xl_encoder_differs_from_diffusers_in_the_timbre_row_alone(tiny_xl, layout):
    with torch.no_grad():
        states, mask = load_condition_encoder(resolve_model(tiny_xl[layout], None))(**inputs())
        expected, expected_mask = plain(tiny_xl[1])(**inputs())
    assert torch.equal(mask, expected_mask)
    differs = ((states - expected).abs().amax(dim=-1) > 1e-5) & mask
    assert differs.nonzero().tolist() == [[0, 5], [1, 3]]  # right after each sample's lyrics


@pytest.mark.parametrize("frames", [1, 10, 40, 750])
def test_the_xl_timbre_row_is_read_from_the_token_in_front(tiny_xl, frames):
    given = inputs(frames)
    with torch.no_grad():
        states, _ = load_condition_encoder(resolve_model(tiny_xl[0], None))(**given)
    expected = timbre_with_token(plain(tiny_xl[1]), given["refer_audio_acoustic_hidden_states_packed"])
    assert torch.allclose(torch.stack([states[0, 5], states[1, 3]]), expected, rtol=1e-5, atol=1e-5)


def test_the_encoder_carries_the_silence_latent(tiny_checkpoint):
    encoder = load_condition_encoder(resolve_model(tiny_checkpoint, None), dtype=torch.bfloat16)
    assert encoder.silence_latent.shape == (1, 15000, 64)
    assert encoder.silence_latent.dtype == torch.bfloat16
    assert encoder.silence_latent.abs().max() > 0


def test_the_encoder_is_frozen_and_runs_in_bfloat16(tiny_xl):
    encoder = load_condition_encoder(resolve_model(tiny_xl[0], None), dtype=torch.bfloat16)
    assert not any(p.requires_grad for p in encoder.parameters())
    given = {key: value.bfloat16() if value.is_floating_point() else value for key, value in inputs().items()}
    assert encoder(**given)[0].isfinite().all()
