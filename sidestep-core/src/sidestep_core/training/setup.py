"""Making the parts of a run: the model with its adapter, the optimizer, the data."""

from __future__ import annotations

import attrs
import torch
from accelerate import Accelerator

from sidestep_core.builtins.window import Windowed
from sidestep_core.capabilities import Resolved
from sidestep_core.device import DTYPES, main_memory
from sidestep_core.events import Notice
from sidestep_core.interfaces import Adapter, TimestepSampler
from sidestep_core.model.block_swap import BlockSwap
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.load import load_decoder
from sidestep_core.plan import TrainPlan
from sidestep_core.runs import RECORD
from sidestep_core.specs import BuildContext
from sidestep_core.training.averaging import Average
from sidestep_core.training.batches import Batches, stored_bytes
from sidestep_core.training.compiled import compile_layers
from sidestep_core.training.order import Order
from sidestep_core.training.schedule import Schedule
from sidestep_core.training.seeds import seed_of
from sidestep_core.training.step import Trainer
from sidestep_core.training.validation import Validator, make_validator
from sidestep_core.training.weighting import make_weighting

# latents and conditioning are kept in memory up to this share of it
MEMORY_SHARE = 0.25


@attrs.frozen(kw_only=True)
class Setup:
    """A run that is ready to step.

    Attributes:
        trainer: what a step needs.
        order: which batches make which step.
        batches: makes them.
        in_memory: whether all tensors are kept in memory.
        validator: tries the songs that are held out, None if none is.
        notices: what the user should know of it.
    """

    trainer: Trainer
    order: Order
    batches: Batches
    in_memory: bool
    validator: Validator | None
    notices: tuple[Notice, ...]


def make_setup(plan: TrainPlan, accelerator: Accelerator, precision: Resolved, *, recomputed: int = 0) -> Setup:
    """Load and make everything a run needs; `recomputed` layers are computed again in the backward pass.

    Raises:
        CheckpointError: the model cannot be loaded.
        StoreError: tensors are missing, damaged or not finite.
        AdapterError: the adapter does not fit the model.
        LoadError: a component cannot be built.
    """
    songs = plan.songs
    decoder = make_decoder(plan, accelerator.device, precision, recomputed=recomputed)
    stored = stored_bytes((*songs, *plan.held_out), plan.model.dims.condition_size)
    in_memory = stored <= MEMORY_SHARE * main_memory()
    null = decoder.null_condition[0].cpu()
    batches = Batches(songs, null, in_memory=in_memory)
    validator = make_validator(plan, _make_sampler(plan), null, in_memory=in_memory) if plan.held_out else None

    notices = []
    if not in_memory:
        notices.append(Notice(message="the tensors do not fit into memory and are read while training"))
    if plan.held_out:
        count = len(plan.held_out)
        notices.append(Notice(message=f"{count} of {count + len(songs)} songs are held out; {RECORD} names them"))

    train = plan.request.train
    order = Order(
        songs=songs,
        seed=train.seed,
        batch_size=train.batch_size,
        accumulation=train.accumulation,
        window=plan.window,
        dropout=train.conditioning_dropout,
    )
    if train.batch_size > 1:
        notices.append(Notice(message=f"{order.padding:.1%} of the frames in a batch are padding"))
    trainer, said = make_trainer(plan, decoder, accelerator, DTYPES[precision])
    notices.extend(Notice(message=line, warning=True) for line in said)
    if train.compile:
        compile_layers(decoder)
    return Setup(
        trainer=trainer,
        order=order,
        batches=batches,
        in_memory=in_memory,
        validator=validator,
        notices=tuple(notices),
    )


def make_decoder(plan: TrainPlan, device: torch.device, precision: Resolved, *, recomputed: int) -> Decoder:
    """Load the frozen decoder as the memory settings want it."""
    decoder = load_decoder(
        plan.model,
        device=device,
        dtype=DTYPES[precision],
        quantize=plan.request.memory.quantize_base,
        waiting=plan.waiting_layers,
    )
    decoder.checkpointed_layers = recomputed
    return decoder


def make_trainer(
    plan: TrainPlan, decoder: Decoder, accelerator: Accelerator, dtype: torch.dtype
) -> tuple[Trainer, tuple[str, ...]]:
    """Put an adapter on a decoder; return the trainer and what its optimizer has to say."""
    parts, train, context = plan.components, plan.request.train, _context(plan)
    torch.manual_seed(seed_of(train.seed, "adapter"))
    adapter: Adapter = parts.adapter.build(context)
    adapter.attach(decoder, plan.targets)
    decoder.swap = BlockSwap({i: decoder.transformer.layers[i] for i in plan.waiting_layers}, accelerator.device)
    decoder.swap.place(decoder)
    groups = adapter.groups(plan.learning_rate)
    peaks = [group["lr"] for group in groups]
    factory = parts.optimizer.build(context)
    optimizer = factory.create(groups)
    decoder.train()
    # the decoder is where it belongs: some of it may wait in main memory. Not accelerator.prepare: that would average
    # gradients over processes, batch by batch; sharing.py adds them up
    decoder = accelerator.prepare_model(decoder, device_placement=False, evaluation_mode=True)
    optimizer = accelerator.prepare_optimizer(optimizer)
    optimizer.train()
    sampler = _make_sampler(plan)
    trainer = Trainer(
        accelerator=accelerator,
        decoder=decoder,
        adapter=adapter,
        parameters=[parameter for _, parameter in adapter.parameters()],
        optimizer=optimizer,
        peaks=peaks,
        schedule=Schedule(
            {chosen.called: chosen.build(context) for chosen in parts.controllers},
            learning_rate=plan.learning_rate,
            total_steps=plan.total_steps,
            warmup_steps=plan.warmup_steps,
            start_factor=train.warmup_start_factor,
            steps_per_epoch=plan.steps_per_epoch,
        ),
        sampler=sampler,
        weighting=make_weighting(train, sampler),
        average=Average(adapter.parameters(), train.ema_decay) if train.ema_decay else None,
        seed=train.seed,
        max_norm=train.max_grad_norm,
        dtype=dtype,
        gradients_every=plan.gradients_every,
    )
    return trainer, getattr(factory, "notices", ())


def _context(plan: TrainPlan) -> BuildContext:
    return BuildContext(
        model=plan.model.dims,
        variant=plan.model.variant,
        learning_rate=plan.learning_rate,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
        seed=plan.request.train.seed,
        run=plan.run,
    )


def _make_sampler(plan: TrainPlan) -> TimestepSampler:
    sampler: TimestepSampler = plan.components.timesteps.build(_context(plan))
    low, high = plan.request.train.timestep_min, plan.request.train.timestep_max
    return sampler if (low, high) == (0, 1) else Windowed(sampler, low, high)
