"""`sidestep devices`: what this machine can train on, and how."""

from __future__ import annotations

import attrs
import click

from sidestep_cli.output import json_option, print_json, print_table, size


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List the devices of this machine and what they can do; the first is what `auto` takes."""
    from sidestep_core.device import DeviceFacts, device_facts

    found = device_facts()
    if as_json:
        print_json([attrs.asdict(one) for one in found])
        return

    def row(one: DeviceFacts) -> tuple[str, ...]:
        can = one.capabilities
        return (
            one.name,
            size(one.total),
            size(one.free),
            ", ".join(one.precisions),
            "8 bit" if can.eight_bit else "32 bit",
            ", ".join(can.quantized),
            "yes" if can.swap else "no",
            f"{one.title}; attention: {can.attention}",
        )

    headings = ("device", "memory", "free", "precision", "optimizer", "base", "block swap", "what it is")
    print_table(headings, [row(one) for one in found], right=("memory", "free"))
