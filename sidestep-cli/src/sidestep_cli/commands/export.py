"""`sidestep export` and `sidestep convert`: an adapter for another program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import ExportReport, ExportRequest

from sidestep_cli.base_model import find_model, metadata_of, model_options, one_adapter
from sidestep_cli.by_layer import print_by_layer
from sidestep_cli.output import json_option, plain_path, print_facts, print_json, warn
from sidestep_cli.parts import Resolved, Slot, last, peek, without
from sidestep_cli.session import Session, pass_session
from sidestep_cli.slots import SlotCommand

TARGET = Slot(
    name="export",
    title="Target",
    kind="exporter",
    default="",
    flags=("--target", "-t"),
    help="Program or format to write for.",
)
_OLD_FORMAT = ("--format", "-f")


class ExportCommand(SlotCommand):
    """A command with an export target, which also takes the flags of older command lines."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the older flags into today's, then parse."""
        return super().parse_args(ctx, _translated(args))


def _translated(args: Sequence[str]) -> list[str]:
    """Return arguments in which `--format comfyui --target generic` has become a target with its prefix.

    Older command lines write for ComfyUI alone: their target is the form of the names, and a prefix overrides it.
    """
    target, form = last(peek(args, TARGET.flags)), last(peek(args, _OLD_FORMAT))
    names = target in ("", "native", "generic")
    if not form and not (names and (target == "generic" or _given(args, "--prefix"))):
        return list(args)
    rest = without(without(args, _OLD_FORMAT), TARGET.flags)
    prefix = ["--prefix", target] if names and target and not _given(args, "--prefix") else []
    if form and not names and target != form:
        raise ConfigError(f"--format {form} and --target {target} contradict; --target alone says it")
    return ["--target", form or "comfyui", *(prefix if (form or "comfyui") == "comfyui" else []), *rest]


def _given(args: Sequence[str], flag: str) -> bool:
    return bool(peek(args, (flag,)))


def _refuse(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        raise ConfigError(
            "--normalize-alpha would weaken the adapter, which is as trained at strength 1.0 everywhere; leave it out"
        )


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path),
                help="File or folder to write; beside the adapter when not given.",
            ),
            click.option(
                "--dtype",
                type=click.Choice(("keep", "fp32", "bf16", "fp16")),
                default="keep",
                show_default=True,
                help="Number format of the weights.",
            ),
            click.option(
                "--verify/--no-verify",
                default=True,
                show_default=True,
                help="Read the result back as the other program does and compare it with what was trained.",
            ),
            model_options,
            # told apart before anything is parsed
            click.option("-f", "--format", hidden=True, expose_value=False),
            click.option("--normalize-alpha", is_flag=True, hidden=True, expose_value=False, callback=_refuse),
            json_option,
        )
    ):
        command = option(command)
    return command


@click.command(cls=ExportCommand, groups=(), slots=(TARGET,))
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--adapter-dir", type=click.Path(path_type=Path), help="The same as FOLDER.")
@_common
@pass_session
def export(
    session: Session, /, settings: Resolved, folder: Path | None, adapter_dir: Path | None, **options: Any
) -> None:
    """Write the adapter in FOLDER for another program.

    What is written is read back and compared before it gets its name, so that a file that is there is one that works.

    \b
    sidestep export output/my_lora/final --target native
    sidestep export output/my_lora/final --target comfyui --dtype bf16

    The options follow the target: 'sidestep export --target NAME --help' shows its own.

    Exit code 4: what was written does not read back as what was trained; no file is left.
    """
    adapter = one_adapter(folder, adapter_dir, "sidestep export FOLDER --target NAME")
    _write(session, settings, adapter, "", **options)


@click.command(cls=ExportCommand, groups=(), slots=(TARGET,))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--source-prefix", default="", help="What stands before modules' names in FILE, where it is not known.")
@_common
@pass_session
def convert(session: Session, /, settings: Resolved, file: Path, source_prefix: str, **options: Any) -> None:
    """Write an adapter FILE of any program for another one.

    It reads PEFT folders, LyCORIS files, and the files of Side-Step, ACE-Step, ComfyUI, kohya's scripts and diffusers.
    'sidestep adapter info FILE' shows what is in one.

    \b
    sidestep convert downloads/song.safetensors --target native
    """
    _write(session, settings, file, source_prefix, **options)


def _write(
    session: Session,
    settings: Resolved,
    adapter: Path,
    prefix: str,
    *,
    output: Path | None,
    dtype: str,
    verify: bool,
    checkpoint_dir: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    base = find_model(session, metadata_of(adapter, prefix), checkpoint_dir, model)
    target = settings.one("export")
    request = ExportRequest(adapter=adapter, output=output, model=base, dtype=dtype, verify=verify, prefix=prefix)
    report = session.toolkit.export(target.name, request, target.config)
    if as_json:
        print_json(
            {
                "paths": [str(p) for p in report.paths],
                "modules": report.modules,
                "error": report.error,
                "reader": report.reader,
                "notes": list(report.notes),
                "losses": dict(report.losses),
            }
        )
    else:
        _print(report)


def _print(report: ExportReport) -> None:
    facts = [("written", plain_path(path)) for path in report.paths]
    facts.append(("modules", str(report.modules)))
    if report.error is not None:
        what = "the approximation" if any(report.losses.values()) else "what was trained"
        facts.append(("proof", f"read back by {report.reader}: differs by at most {report.error:.1e} from {what}"))
    print_facts(facts)
    if any(report.losses.values()):
        click.echo("\nmissing of each update, which is approximated:")
        print_by_layer(report.losses, lambda loss: f"{loss:.1%}")
    if report.error is None:
        warn("not verified (--no-verify)")
    for note in report.notes:
        click.echo(note, err=True)
