"""`sidestep export`: an adapter for another program."""

from __future__ import annotations

from pathlib import Path

import click
from sidestep_core.configs import ModelConfig
from sidestep_core.errors import CheckpointError, ConfigError
from sidestep_core.interfaces import ExportReport, ExportRequest

from sidestep_cli.output import json_option, plain_path, print_facts, print_json, warn
from sidestep_cli.session import Session, pass_session


class _TargetOption(click.Option):
    """An option whose help lists the export targets that are installed."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        names = ", ".join(ctx.ensure_object(Session).toolkit.registry("exporter"))
        return "-t, --target NAME", f"{self.help}  [{names or 'none installed'}]"


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--adapter-dir", type=click.Path(path_type=Path), help="The same as FOLDER.")
@click.option("-t", "--target", cls=_TargetOption, required=True, help="Program or format to write for.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File or folder to write; beside the adapter when not given.",
)
@click.option(
    "--dtype",
    type=click.Choice(("keep", "fp32", "bf16", "fp16")),
    default="keep",
    show_default=True,
    help="Number format of the weights.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Read the result back as the other program does and compare it with what was trained.",
)
@click.option("-c", "--checkpoint-dir", type=click.Path(path_type=Path), help="Folder of the models.")
@click.option("-M", "--model", help="Base model of the adapter; for targets that need its weights.")
@json_option
@pass_session
def export(
    session: Session,
    folder: Path | None,
    adapter_dir: Path | None,
    target: str,
    output: Path | None,
    dtype: str,
    verify: bool,
    checkpoint_dir: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Write the adapter in FOLDER for another program.

    What is written is read back and compared before it gets its name, so that a file that is there is one that works.

    \b
    sidestep export output/my_lora/final --target native

    Exit code 4: what was written does not read back as what was trained; no file is left.
    """
    adapter = folder or adapter_dir
    if adapter is None or (folder and adapter_dir):
        raise ConfigError("name one adapter: sidestep export FOLDER --target NAME")
    base = _model(session, ModelConfig(checkpoint_dir=checkpoint_dir, model=model))
    request = ExportRequest(adapter=adapter, output=output, model=base, dtype=dtype, verify=verify)
    report = session.toolkit.export(target, request)
    if as_json:
        print_json(
            {
                "paths": [str(p) for p in report.paths],
                "modules": report.modules,
                "error": report.error,
                "reader": report.reader,
                "notes": list(report.notes),
            }
        )
    else:
        _print(report)


def _model(session: Session, config: ModelConfig) -> object | None:
    """Return the base model; none is fine unless it was asked for, since only some targets need it."""
    try:
        return session.toolkit.model(config)
    except CheckpointError:
        if config.checkpoint_dir is not None or config.model is not None:
            raise
        return None


def _print(report: ExportReport) -> None:
    facts = [("written", plain_path(path)) for path in report.paths]
    facts.append(("modules", str(report.modules)))
    if report.error is not None:
        facts.append(
            ("proof", f"read back by {report.reader}: differs by at most {report.error:.1e} from what was trained")
        )
    print_facts(facts)
    if report.error is None:
        warn("not verified (--no-verify)")
    for note in report.notes:
        click.echo(note, err=True)
