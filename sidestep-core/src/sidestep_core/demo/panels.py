"""What the picture of the way shows: this run's songs, latents, loss, adapter and proofs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sidestep_core.audio.decode import decode, probe
from sidestep_core.demo.report import Report
from sidestep_core.demo.way import Grid, Panel, bars, checks, curve, heat, waveforms
from sidestep_core.formats.reading import deltas
from sidestep_core.formats.saved import read_adapter
from sidestep_core.store.index import TensorStore, open_store
from sidestep_core.store.tensors import load_latents

BINS, COLUMNS, CHANNELS = 62, 40, 16


def way_panels(report: Report, adapter: Path) -> tuple[Panel, ...]:
    """Return the stations of a finished run, from its songs to the proofs of its exports."""
    store = open_store(report.plan.stores[0].path)
    seconds = sum(probe(song).seconds for song in report.songs)
    norms = [float(delta.norm()) for _, delta in deltas(read_adapter(adapter))]
    frames = sum(song.frames for song in store.songs)
    steps = report.steps
    worst = max(report.exports, key=lambda row: row.error)
    return (
        Panel(
            name="Songs",
            drawing=waveforms(_peaks(report.songs)),
            facts=(f"{len(report.songs)} songs, {seconds:.0f} s", "captions and lyrics beside them"),
        ),
        Panel(
            name="Tensors", drawing=heat(_field(store)), facts=(f"{frames} latent frames", "25 a second, 64 channels")
        ),
        Panel(
            name="Training",
            drawing=curve([step.loss for step in steps], [step.smoothed for step in steps]),
            facts=(f"{steps[-1].step} steps", f"loss {steps[0].smoothed:.2f} to {steps[-1].smoothed:.2f}"),
        ),
        Panel(
            name="Adapter",
            drawing=bars(norms),
            facts=(f"{report.plan.components.adapter.spec.name}, {len(norms)} projections", "change of each weight"),
        ),
        Panel(
            name="Proven exports",
            drawing=checks([row.target for row in report.exports]),
            facts=(f"{min(row.modules for row in report.exports)} modules read back", worst.shown_error),
        ),
    )


def _peaks(songs: Sequence[Path]) -> list[Grid]:
    """Return each song's peaks [n] in 0 to 1; the longest song has `BINS` of them."""
    loudness = [np.abs(decode(song)).max(axis=0) for song in songs]
    longest = max(len(song) for song in loudness)
    parts = [np.array_split(song, max(1, round(BINS * len(song) / longest))) for song in loudness]
    peaks = [np.array([part.max() for part in song], np.float32) for song in parts]
    return [song / max(float(song.max()), 1e-6) for song in peaks]


def _field(store: TensorStore) -> Grid:
    """Return the longest song's latents as [CHANNELS, COLUMNS] in 0 to 1."""
    longest = max(store.songs, key=lambda song: song.frames)
    latents = load_latents(store, longest).mean.float().numpy().T[:CHANNELS]
    columns = np.array_split(latents, min(COLUMNS, latents.shape[1]), axis=1)
    field = np.stack([part.mean(axis=1) for part in columns], axis=1)
    low, high = np.percentile(field, (2, 98))
    scaled: Grid = np.clip((field - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return scaled
