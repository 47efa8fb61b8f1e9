"""ACE-Step's modules as diffusers has them, built for given dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from torch import Tensor, nn

from sidestep_core.model.dims import ModelDims


def build_transformer(dims: ModelDims) -> AceStepTransformer1DModel:
    """Return a decoder with the initial weights of its class, on the current default device."""
    return AceStepTransformer1DModel(
        hidden_size=dims.hidden_size,
        intermediate_size=dims.intermediate_size,
        num_hidden_layers=dims.num_layers,
        num_attention_heads=dims.num_heads,
        num_key_value_heads=dims.num_kv_heads,
        in_channels=dims.in_channels,
        audio_acoustic_hidden_dim=dims.latent_channels,
        patch_size=dims.patch_size,
        layer_types=list(dims.layer_types),
        encoder_hidden_size=dims.condition_size,
        is_turbo=dims.is_turbo,
        model_version=dims.model_version or None,
        **shared_arguments(dims),
    )


def build_condition_encoder(dims: ModelDims) -> AceStepConditionEncoder:
    """Return a condition encoder with the initial weights of its class, on the current default device.

    In the XL models a learned token stands in front of the timbre reference and its position is what is read
    afterwards; the class has the token but does not use it.
    """
    encoder = AceStepConditionEncoder(
        text_hidden_dim=dims.text_hidden_size,
        timbre_hidden_dim=dims.timbre_channels,
        num_lyric_encoder_hidden_layers=dims.lyric_layers,
        num_timbre_encoder_hidden_layers=dims.timbre_layers,
        **encoder_arguments(dims),
    )
    if dims.xl:
        _prepend_timbre_token(encoder.timbre_encoder)
    return encoder


def build_vae(config: Mapping[str, Any]) -> AutoencoderOobleck:
    """Return a VAE with the initial weights of its class, on the current default device.

    Args:
        config: the fields of its config.json.
    """
    with warnings.catch_warnings():
        # the class is built on a torch function that is deprecated; users can do nothing about it
        warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
        return AutoencoderOobleck.from_config(dict(config))


def encoder_arguments(dims: ModelDims) -> dict[str, Any]:
    """Return what the condition encoder, the audio tokenizer and its reverse are all built with."""
    return {
        "hidden_size": dims.condition_size,
        "intermediate_size": dims.condition_intermediate_size,
        "num_attention_heads": dims.condition_heads,
        "num_key_value_heads": dims.condition_kv_heads,
        **shared_arguments(dims),
    }


def shared_arguments(dims: ModelDims) -> dict[str, Any]:
    """Return what every component of a model is built with."""
    return {
        "head_dim": dims.head_dim,
        "rope_theta": dims.rope_theta,
        "rms_norm_eps": dims.norm_eps,
        "sliding_window": dims.sliding_window,
    }


def _prepend_timbre_token(timbre_encoder: nn.Module) -> None:
    def prepend(_: nn.Module, __: tuple[Any, ...], embedded: Tensor) -> Tensor:
        token: Tensor = timbre_encoder.special_token  # type: ignore[assignment]
        return torch.cat([token.to(embedded.dtype).expand(len(embedded), -1, -1), embedded], dim=1)

    timbre_encoder.embed_tokens.register_forward_hook(prepend)  # type: ignore[union-attr]
