"""A value for each projection as a picture: a column for each layer, a row for each kind of projection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sidestep_core.files import write_atomic
from sidestep_core.formats.grid import kinds_of, place
from sidestep_core.plotting.draw import check_picture


def draw_modules(values: Mapping[str, float], path: Path, *, title: str, label: str) -> None:
    """Draw values of modules as a field of colours; the same values give the same bytes.

    Modules outside the layers are left out.

    Args:
        values: by original module names.
        path: PNG or SVG file to write.
        title: above it.
        label: of the scale of colours.

    Raises:
        ConfigError: the file is of another kind.
        LoadError: matplotlib is not installed.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    from sidestep_core.plotting.figure import picture

    places = {name: place(name) for name in values if place(name)[1]}
    layers, kinds = sorted({int(layer) for layer, _ in places.values()}), kinds_of(places)
    field = [[float("nan")] * len(layers) for _ in kinds]
    for name, (layer, kind) in places.items():
        field[kinds.index(kind)][layers.index(int(layer))] = values[name]
    figure = Figure(figsize=(3.2 + 0.34 * len(layers), 1.6 + 0.34 * len(kinds)))
    axes = figure.subplots()
    image = axes.imshow(field, aspect="auto", cmap="viridis", vmin=0)
    axes.set_xticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel("layer")
    axes.set_title(title)
    figure.colorbar(image, label=label)
    figure.tight_layout()
    write_atomic(path, picture(figure, path.suffix.lower()[1:]))
