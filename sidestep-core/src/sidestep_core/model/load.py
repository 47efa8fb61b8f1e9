"""Loading models into diffusers' and transformers' modules, in the type and on the device wanted."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderOobleck
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from sidestep_core.errors import CheckpointError
from sidestep_core.model.components import build_condition_encoder, build_transformer, build_vae
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.folder import SILENCE, SILENCE_KEY, ModelFolder, part_tensors
from sidestep_core.model.headers import TensorInfo, read_header, weight_files
from sidestep_core.model.names import NULL_CONDITION, to_original
from sidestep_core.model.quantize import QuantizedLinear
from sidestep_core.model.quiet import no_progress_bar
from sidestep_core.model.streaming import Device, Read, check, fill, read_tensor, reader
from sidestep_core.model.tokenizer import load_tokenizer


def load_decoder(
    folder: ModelFolder,
    *,
    device: Device = "cpu",
    dtype: torch.dtype = torch.float32,
    quantize: str = "none",
    waiting: Collection[int] = (),
) -> Decoder:
    """Return the frozen decoder of a model; nothing else of the weights is read.

    Args:
        folder: the model.
        device: where the weights go.
        dtype: their type there, the compute type.
        quantize: keep the layers' projections in "int8" or "nf4"; each is quantized as it is read.
        waiting: layers whose projections stay in main memory, for `block_swap.BlockSwap`.

    Raises:
        CheckpointError: weights or the silence latent are missing or not what the config says.
        LoadError: a library that the quantization needs is missing.
    """
    with torch.device("meta"):
        transformer = build_transformer(folder.dims)
    projections = {f"{path}.weight" for path, part in transformer.layers.named_modules() if isinstance(part, nn.Linear)}

    def read(name: str, info: TensorInfo) -> Tensor | nn.Module:
        inside = name.removeprefix("layers.")
        if inside not in projections:
            return read_tensor(info, device, dtype)
        place = "cpu" if int(inside.partition(".")[0]) in waiting else device
        if quantize == "none":
            return read_tensor(info, place, dtype)
        # quantized where it is fast, whatever the compute type
        return QuantizedLinear(read_tensor(info, device, torch.float32), quantize, dtype).to(place)

    _fill_part(transformer, folder, "transformer", read)
    conditions = part_tensors(folder, "condition_encoder")
    null = {name: info for name, info in conditions.items() if name == NULL_CONDITION}
    check({NULL_CONDITION: (1, 1, folder.dims.condition_size)}, null, folder.name)
    decoder = Decoder(
        transformer,
        folder.dims,
        null_condition=read_tensor(null[NULL_CONDITION], device, dtype),
        silence=load_silence(folder).to(device, dtype),
    )
    return decoder.requires_grad_(False).eval()


def load_condition_encoder(
    folder: ModelFolder, *, device: Device = "cpu", dtype: torch.dtype = torch.float32
) -> AceStepConditionEncoder:
    """Return the frozen condition encoder; its `silence_latent` is [1, frames, channels].

    Raises:
        CheckpointError: weights or the silence latent are missing or not what the config says.
    """
    with torch.device("meta"):
        encoder = build_condition_encoder(folder.dims)
    encoder.silence_latent = None
    _fill_part(encoder, folder, "condition_encoder", reader(device, dtype))
    encoder.silence_latent = load_silence(folder)[None].to(device, dtype)
    return encoder.requires_grad_(False).eval()


def load_silence(folder: ModelFolder) -> Tensor:
    """Return the latents of silence, [frames, channels] in float32.

    Raises:
        CheckpointError: there are none, or their file is damaged.
    """
    channels = folder.dims.latent_channels
    if folder.layout == "diffusers":
        info = part_tensors(folder, "condition_encoder").get(SILENCE_KEY)
        if info is None:
            raise CheckpointError(f"{folder.path / 'condition_encoder'} has no {SILENCE_KEY}")
        silence = read_tensor(info, "cpu", torch.float32)
    elif folder.silence is None:
        raise CheckpointError(f"no {SILENCE} in {folder.path} or {folder.root}; download the model's again")
    else:
        silence = _load_pt(folder.silence).float().transpose(-1, -2)  # channels first in the file
    if silence.ndim != 3 or silence.shape[0] != 1 or silence.shape[2] != channels:
        raise CheckpointError(f"the silence latent of {folder.name} is not one of {channels} channels")
    return silence[0].contiguous()


def load_vae(folder: ModelFolder, *, device: Device = "cpu", dtype: torch.dtype = torch.float32) -> AutoencoderOobleck:
    """Return the frozen VAE that belongs to a model.

    Raises:
        CheckpointError: it is missing or its weights are not what its config says.
    """
    path = _existing(folder.vae, "VAE")
    try:
        config = AutoencoderOobleck.load_config(path)
        with torch.device("meta"):
            vae = build_vae(config)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"the config of the VAE in {path} cannot be used: {_first_line(error)}") from error
    files = weight_files(path, "diffusion_pytorch_model")
    tensors = {key: info for file in files for key, info in read_header(file).items()}
    fill(vae, tensors, str(path), reader(device, dtype))
    return vae.requires_grad_(False).eval()


def load_text_encoder(
    folder: ModelFolder, *, device: Device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return the tokenizer and the frozen text encoder that belong to a model.

    Raises:
        CheckpointError: either is missing or cannot be loaded.
    """
    path = _existing(folder.text_encoder, "text encoder")
    tokenizer = load_tokenizer(folder)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with no_progress_bar():
            model, report = AutoModel.from_pretrained(
                path, dtype=dtype, use_safetensors=True, output_loading_info=True, **local
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"the text encoder in {path} cannot be loaded: {_first_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"the text encoder in {path} lacks {len(missing)} tensors: {', '.join(missing[:3])}")
    return tokenizer, model.to(device).requires_grad_(False).eval()


def _fill_part(module: nn.Module, folder: ModelFolder, part: str, read: Read) -> None:
    found = part_tensors(folder, part)
    found.pop(SILENCE_KEY, None)
    rename = (lambda key: to_original(part, key)) if folder.layout == "original" else str
    fill(module, found, folder.name, read, rename)


def _load_pt(file: Path) -> Tensor:
    """Read a tensor from a torch file in which nothing but tensors is accepted."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file} is no torch file of tensors, or it is damaged") from error
    if not isinstance(found, Tensor):
        raise CheckpointError(f"{file} holds no tensor")
    return found


def _existing(path: Path, what: str) -> Path:
    if not path.is_dir():
        raise CheckpointError(f"no {what} in {path.parent}: the folder {path.name!r} is missing")
    return path


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
