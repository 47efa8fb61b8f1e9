"""A value for each projection as a picture: a column for each layer, a row for each kind of projection."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from sidestep_core.errors import LoadError
from sidestep_core.formats.grid import kinds_of, place


def check_plotting() -> None:
    """Raise `LoadError` if pictures cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise LoadError("--plot needs matplotlib: pip install 'sidestep-core[plot]'")


def write_picture(values: Mapping[str, float], path: Path, *, title: str, label: str) -> None:
    """Draw values of modules as fields of colour, in the form that the ending of the path names.

    Modules outside the layers are left out.

    Args:
        values: by original module names.
        path: picture to write.
        title: above it.
        label: of the scale of colours.

    Raises:
        LoadError: matplotlib is missing, or knows no such form.
    """
    check_plotting()
    from matplotlib.figure import Figure

    places = {name: place(name) for name in values if place(name)[1]}
    layers, kinds = sorted({int(layer) for layer, _ in places.values()}), kinds_of(places)
    field = [[float("nan")] * len(layers) for _ in kinds]
    for name, (layer, kind) in places.items():
        field[kinds.index(kind)][layers.index(int(layer))] = values[name]
    figure = Figure(figsize=(3.2 + 0.34 * len(layers), 1.6 + 0.34 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(field, aspect="auto", cmap="viridis", vmin=0)
    axes.set_xticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel("layer")
    axes.set_title(title)
    figure.colorbar(image, label=label)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise LoadError(f"'{path}' cannot be drawn: {error}") from error
