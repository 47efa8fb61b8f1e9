"""The providers that run on this machine, as the plugin offers them."""

from __future__ import annotations

from sidestep_core.specs import ProviderType

from sidestep_captioners.local.configs import CaptionerConfig, FlamingoConfig, TranscriberConfig

_EXTRA = "sidestep-captioners[local]"
_NEEDS = ("torch", "transformers", "accelerate", "soxr", "soundfile")
_DESCRIPTION = frozenset({"caption", "genre", "bpm", "key", "signature", "language", "is_instrumental"})

LOCAL_PROVIDERS = (
    ProviderType(
        name="local_8-10gb",
        summary="ACE-Step's captioner or Qwen2.5-Omni on this machine, in four bits",
        config=CaptionerConfig,
        target="sidestep_captioners.local.captioner:four_bit_captioner",
        needs=(*_NEEDS, "bitsandbytes"),
        extra=_EXTRA,
        supplies=_DESCRIPTION,
        offline=True,
    ),
    ProviderType(
        name="local_16gb",
        summary="ACE-Step's captioner or Qwen2.5-Omni on this machine, in bf16",
        config=CaptionerConfig,
        target="sidestep_captioners.local.captioner:captioner",
        needs=_NEEDS,
        extra=_EXTRA,
        supplies=_DESCRIPTION,
        offline=True,
    ),
    ProviderType(
        name="acestep_transcriber",
        summary="Lyrics and their language by ACE-Step's transcriber on this machine",
        config=TranscriberConfig,
        target="sidestep_captioners.local.transcriber:Transcriber",
        needs=_NEEDS,
        extra=_EXTRA,
        supplies=frozenset({"lyrics", "language", "is_instrumental"}),
        offline=True,
    ),
    ProviderType(
        name="music_flamingo_local",
        summary="NVIDIA's Music Flamingo on this machine; for non-commercial use",
        config=FlamingoConfig,
        target="sidestep_captioners.local.flamingo:FlamingoCaptioner",
        needs=_NEEDS,
        extra=_EXTRA,
        supplies=_DESCRIPTION,
        offline=True,
    ),
)
