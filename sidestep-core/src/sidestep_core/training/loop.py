"""The training loop, top to bottom in the order things happen. It yields events and never prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidestep_core.asking import Asked, listening
from sidestep_core.capabilities import check_memory
from sidestep_core.device import free_memory, make_accelerator, resolve_device, resolve_precision
from sidestep_core.errors import TrainingDiverged
from sidestep_core.events import Event, Notice, RunStarted, StepSkipped
from sidestep_core.fitting import Machine, fit
from sidestep_core.plan import TrainPlan
from sidestep_core.processes import Team, join
from sidestep_core.runs import set_status
from sidestep_core.training.checkpoints import read_checkpoint
from sidestep_core.training.compiled import naming_compiler
from sidestep_core.training.fingerprint import fingerprint
from sidestep_core.training.keeping import Keeper
from sidestep_core.training.memory_check import about_memory, naming_out_of_memory
from sidestep_core.training.order import BatchPlan
from sidestep_core.training.pieces import make_pieces
from sidestep_core.training.previews import Previews
from sidestep_core.training.record import begin_record
from sidestep_core.training.report import Reporter
from sidestep_core.training.setup import Setup, make_setup
from sidestep_core.training.sharing import assist, gradients, steps, uneven
from sidestep_core.training.state import RunState, check_resume
from sidestep_core.training.step import update

BAD_STEPS = 10


def never() -> bool:
    """Return False: nobody asks to stop."""
    return False


def train(plan: TrainPlan, *, stop: Callable[[], bool] = never) -> Iterator[Event]:
    """Do what a plan says. Torch's global random state is left as the last step set it.

    Processes that were started together share each step; the main one alone writes and tells how the run goes.

    Args:
        plan: from `sidestep_core.plan.make_plan`.
        stop: asked between steps; once it is true, the state is saved and the run ends with reason "stopped".

    Yields:
        Notices, `RunStarted`, what happens as it happens, and `RunFinished`.

    Raises:
        TrainingDiverged: ten steps in a row were not finite; the state is saved.
        ResumeError: the checkpoint to go on from is damaged or does not fit.
        OtherProcessFailed: another process failed or is gone.
        OutOfMemory: there was too little memory; what had been saved is complete.
        SidestepError: model, tensors or adapter cannot be used; then nothing is written.
    """
    device = resolve_device(plan.request.model.device)
    with join(device, stop) as team:
        yield from _run(plan, device, team)


def _run(plan: TrainPlan, device: str, team: Team) -> Iterator[Event]:
    precision = resolve_precision(plan.request.model.precision, device)
    check_memory(plan.request.memory, device)
    yield from (Notice(message=line, warning=True) for line in (*plan.notices, *uneven(plan, team)))

    same = fingerprint(plan, precision)
    checkpoint = read_checkpoint(plan.resume) if plan.resume else None
    if checkpoint is not None:
        yield from (Notice(message=line, warning=True) for line in check_resume(plan, checkpoint, same))

    machine = Machine(device=device, precision=precision, free=free_memory(device))
    fits = fit(plan, machine)
    if team.main:
        yield from about_memory(plan, machine, fits)
    accelerator = make_accelerator(device, precision)
    with naming_out_of_memory(plan, machine, fits.recomputed):
        pieces = make_pieces(plan, device, precision) if team.main else {}
        setup = make_setup(plan, accelerator, precision, recomputed=fits.recomputed)
    yield from setup.notices
    state = RunState(plan=plan, trainer=setup.trainer, fingerprint=same)
    if checkpoint is not None:
        yield from (Notice(message=line, warning=True) for line in state.restore(checkpoint))

    team.meet()  # whatever another process cannot load ends the run here
    team.share(setup.trainer.parameters)
    if not team.main:
        with naming_out_of_memory(plan, machine, fits.recomputed), naming_compiler():
            assist(plan, setup, team, state.step)
        return

    keeper = Keeper(state, setup.validator)
    begun = begin_record(plan)
    # after the folder is known to be nobody else's: this moves what is in it
    said = [*begun.notices, *(keeper.restore(checkpoint) if checkpoint is not None else ())]
    yield from (Notice(message=line, warning=True) for line in said)
    previews = Previews(plan, state, pieces)
    try:
        with listening(plan.run) as asked, naming_out_of_memory(plan, machine, fits.recomputed), naming_compiler():
            yield RunStarted(
                run=plan.run,
                step=state.step,
                total_steps=plan.total_steps,
                epochs=plan.request.train.epochs,
                steps_per_epoch=plan.steps_per_epoch,
                songs=len(setup.order.songs),
                trainable=sum(parameter.numel() for parameter in setup.trainer.parameters),
                processes=team.count,
            )
            report = Reporter(state, device)
            yield from _train(plan, setup, state, keeper, report, previews, asked, team)
    except Exception as error:
        set_status(plan.run, "failed", str(error))
        raise
    finally:
        begun.end()


def _train(
    plan: TrainPlan,
    setup: Setup,
    state: RunState,
    keeper: Keeper,
    report: Reporter,
    previews: Previews,
    asked: Asked,
    team: Team,
) -> Iterator[Event]:
    reason = "complete" if plan.total_steps == plan.request.train.epochs * plan.steps_per_epoch else "max-steps"
    wishes: frozenset[str] = frozenset()
    for plans, batches in steps(plan, setup, team, state.step):
        if keeper.gives_up:
            reason = "early-stop"
            break
        if team.stopping() or "stop" in wishes:
            reason = "stopped"
            break
        step = plans[0].step
        result = update(setup.trainer, step, gradients(setup.trainer, team, plans, batches))
        state.step = step + 1

        if result.applied:
            state.losses.add(result.loss, result.weighted, result.samples)
        elif not result.overflow:
            state.losses.bad_steps += 1
            yield StepSkipped(step=state.step, songs=_songs(setup, plans))
            if state.losses.bad_steps >= BAD_STEPS:
                yield from _give_up(state, report)
        if state.step % plan.request.run.log_every == 0 or state.step == plan.total_steps:
            yield report.steps_done(result)
        if state.step % plan.steps_per_epoch == 0:
            yield report.epoch_done()
        yield from keeper.after_step()
        wishes = asked.take()
        if _save_is_due(plan, state.step) or "save" in wishes:
            yield state.save()
        yield from previews.after_step(asked="preview" in wishes)

    if state.saved != state.step:
        yield state.save()
    adapter = state.export()
    set_status(plan.run, reason)
    yield report.finished(reason, adapter)


def _save_is_due(plan: TrainPlan, step: int) -> bool:
    config = plan.request.run
    if config.save_every_steps and step % config.save_every_steps == 0:
        return True
    return step % (config.save_every * plan.steps_per_epoch) == 0


def _songs(setup: Setup, plans: list[BatchPlan]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(setup.order.songs[crop.song].name for plan in plans for crop in plan.crops))


def _give_up(state: RunState, report: Reporter) -> Iterator[Event]:
    saved = state.save()
    yield saved
    message = (
        f"{BAD_STEPS} steps in a row had gradients that are not finite; the state is in '{saved.path}'. "
        "Lower --lr, use --precision bf16 or fp32, and look at the songs that were named"
    )
    yield Notice(message=message, warning=True)
    yield report.finished("failed", None)
    raise TrainingDiverged(message)
