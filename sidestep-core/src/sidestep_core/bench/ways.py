"""One training step in many ways: with each of our adapter types, and as other trainers take it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from accelerate import Accelerator
from diffusers import AceStepTransformer1DModel
from diffusers.models.transformers.ace_step_transformer import AceStepAttnProcessor2_0
from torch import Tensor, nn

from sidestep_core.bench.timing import Step
from sidestep_core.interfaces import Adapter
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.names import module_path
from sidestep_core.plan import config_of
from sidestep_core.requests import Chosen
from sidestep_core.specs import AdapterType, BuildContext
from sidestep_core.targets import Target
from sidestep_core.training.batches import Batch
from sidestep_core.training.compiled import compile_layers
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.order import BatchPlan, Crop

LEARNING_RATE = 1e-4
PEFT = "plain PEFT"
SIDE_STEP = "Side-Step's settings"
# 256 of the prompt, 512 of the lyrics, one of the timbre, all of them whatever there is to say
PADDED_ROWS = 769
# where the type that is compared has no such settings
RANK, ALPHA = 64, 128


@attrs.frozen(kw_only=True)
class Sample:
    """What every way is trained on.

    Attributes:
        batch: one sample on the device.
        t: its timestep [1].
        noise: float32 [1, T, 64].
        dtype: compute dtype.
    """

    batch: Batch
    t: Tensor
    noise: Tensor
    dtype: torch.dtype


def make_sample(decoder: Decoder, frames: int, rows: int, device: torch.device, dtype: torch.dtype) -> Sample:
    """Return a sample of noise."""
    draw = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 1, frames, decoder.dims.latent_channels, generator=draw).to(device)
    conditioning = torch.randn(1, rows, decoder.dims.condition_size, generator=draw).to(device, dtype)
    plan = BatchPlan(0, 0, (Crop(0, 0, frames, 0),), frames)
    return Sample(
        batch=Batch(plan, latents, conditioning), t=torch.full((1,), 0.5, device=device), noise=noise, dtype=dtype
    )


def without_dropout(chosen: Chosen[AdapterType]) -> Chosen[AdapterType]:
    """Return an adapter type with its defaults but no dropout, so that only the forms are compared."""
    config = config_of(chosen)
    return attrs.evolve(chosen, config=attrs.evolve(config, dropout=0.0) if hasattr(config, "dropout") else config)


def our_step(
    decoder: Decoder,
    chosen: Chosen[AdapterType],
    targets: Sequence[Target],
    accelerator: Accelerator,
    sample: Sample,
    *,
    compiled: bool = False,
) -> Step:
    """Return a step with one of our adapter types.

    Args:
        decoder: frozen; its weights are shared, and it is left as it is.
        chosen: the adapter type.
        targets: projections that get an adapter.
        accelerator: casts and places.
        sample: what is trained on.
        compiled: with layers compiled as a run compiles them.
    """
    own = _twin(decoder)
    adapter: Adapter = chosen.build(BuildContext(model=decoder.dims))
    adapter.attach(own, targets)
    if compiled:
        compile_layers(own)
    own.train()
    return _step(
        accelerator.prepare_model(own, evaluation_mode=True), _optimizer(adapter.groups(LEARNING_RATE)), sample
    )


def other_steps(
    decoder: Decoder, chosen: Chosen[AdapterType], targets: Sequence[Target], accelerator: Accelerator, sample: Sample
) -> Iterator[tuple[str, Step]]:
    """Yield steps of other trainers with LoRA on the same projections of the unmodified diffusers model.

    Arguments are those of `our_step`; rank and alpha are those of the adapter type.
    """
    paths = [module_path(target.name) for target in targets]
    plain = _peft_model(decoder, config_of(chosen), paths)
    yield PEFT, _step(_call(plain, decoder, accelerator, sample), _optimizer(_groups(plain)), sample)

    theirs = _peft_model(decoder, config_of(chosen), paths)
    theirs.enable_gradient_checkpointing()
    for parameter in theirs.parameters():
        parameter.data = parameter.data.to(sample.dtype)  # the adapter too
    rows = sample.batch.conditioning
    padded = torch.nn.functional.pad(rows, (0, 0, 0, max(0, PADDED_ROWS - rows.shape[1])))
    padded_sample = attrs.evolve(sample, batch=attrs.evolve(sample.batch, conditioning=padded))
    forward = _call(theirs, decoder, accelerator, sample, input_gradients=True)
    yield SIDE_STEP, _step(forward, _optimizer(_groups(theirs)), padded_sample, watch=_look)


def _step(decoder: Callable[..., Tensor], optimizer: torch.optim.Optimizer, sample: Sample, watch: Any = None) -> Step:
    frames = sample.noise.shape[1]

    def step() -> None:
        errors = flow_matching_loss(decoder, sample.batch, sample.t, sample.noise, sample.dtype)
        loss = errors.sum() / frames
        if watch is not None:
            watch(loss, sample)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _look(loss: Tensor, sample: Sample) -> None:
    """Make the host wait as often as Side-Step does in a step."""
    for _ in range(2):
        bool(loss.isnan())
        bool(loss.isinf())
        loss.item()
    sample.t.tolist()


def _optimizer(groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW([dict(group) for group in groups], fused=True)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": LEARNING_RATE}]


def _peft_model(decoder: Decoder, config: Any, paths: Sequence[str]) -> AceStepTransformer1DModel:
    """Return the model as diffusers makes it, with PEFT's own LoRA in float32."""
    from peft import LoraConfig, inject_adapter_in_model

    model = _twin(decoder.transformer)
    for layer in model.layers:
        layer.self_attn.set_processor(AceStepAttnProcessor2_0())
        layer.cross_attn.set_processor(AceStepAttnProcessor2_0())
    rank, alpha = getattr(config, "rank", RANK), getattr(config, "alpha", ALPHA)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(paths)), model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train()


def _call(
    model: nn.Module, decoder: Decoder, accelerator: Accelerator, sample: Sample, *, input_gradients: bool = False
) -> Callable[..., Tensor]:
    """Return the unmodified model as a function of what our decoder takes."""
    length = sample.noise.shape[1]
    silence = decoder.silence.repeat(-(-length // len(decoder.silence)), 1)[None, :length]
    context = torch.cat([silence, torch.ones_like(silence)], dim=-1)
    prepared = accelerator.prepare_model(model, evaluation_mode=True)

    def forward(noisy: Tensor, t: Tensor, conditioning: Tensor, *, frames: None, rows: None) -> Tensor:
        if input_gradients:
            noisy = noisy.detach().requires_grad_()
        flow: Tensor = prepared(
            hidden_states=noisy,
            timestep=t.to(noisy.dtype),
            timestep_r=t.to(noisy.dtype),
            encoder_hidden_states=conditioning,
            context_latents=context.to(noisy.dtype),
            return_dict=False,
        )[0]
        return flow

    return forward


def _twin(module: Any) -> Any:
    """Return a copy of a module that shares its weights."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)
