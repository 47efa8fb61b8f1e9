"""From latents to audio: the VAE, loaded for as long as it is needed, in windows of a fixed length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sidestep_core.errors import GenerationError
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.load import load_vae

Audio = npt.NDArray[np.float32]
# latent frames: ten seconds take about 2 GB with the VAE itself; the overlap is more than a frame can hear
WINDOW, OVERLAP = 256, 32


def decode(model: ModelFolder, latents: Sequence[Tensor], device: torch.device | str) -> list[Audio]:
    """Return the audio [samples, 2] of each latents [frames, channels], in float32 and at the level it comes out with.

    The VAE is loaded, used and let go. Where a device has no room for it beside what is there, it works on the CPU.

    Raises:
        GenerationError: latents or audio are not finite.
        CheckpointError: the VAE cannot be loaded.
    """
    for place in dict.fromkeys((str(device), "cpu")):
        try:
            return _decode(model, latents, place)
        except torch.OutOfMemoryError:
            if place == "cpu":
                raise
    raise AssertionError("the CPU either decodes or raises")


@torch.no_grad()
def _decode(model: ModelFolder, latents: Sequence[Tensor], device: str) -> list[Audio]:
    vae = load_vae(model, device=device)
    vae.enable_tiling()
    vae.tile_latent_min_length, vae.tile_latent_overlap = WINDOW, OVERLAP
    decoded = []
    for one in latents:
        if not one.isfinite().all():
            raise GenerationError("the generated latents are not finite; the adapter or the model is broken")
        audio = vae.decode(one.T[None].to(device)).sample[0].T.float().cpu()
        if not audio.isfinite().all():
            raise GenerationError("the decoded audio is not finite; the VAE cannot make anything of these latents")
        decoded.append(audio.numpy())
    return decoded
