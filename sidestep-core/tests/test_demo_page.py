"""The picture of the way and the demo's page, drawn from given numbers."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from sidestep_core.demo.report import loss_curve
from sidestep_core.demo.way import Panel, bars, checks, curve, heat, waveforms, way_picture
from sidestep_core.events import StepsDone

SVG = "{http://www.w3.org/2000/svg}"


def step(number: int, loss: float) -> StepsDone:
    return StepsDone(
        step=number,
        total_steps=9,
        epoch=1,
        epochs=1,
        loss=loss,
        smoothed=loss,
        learning_rate=1e-3,
        grad_norm=1.0,
        steps_per_second=1.0,
        memory=0,
    )


def picture(*drawings: str) -> ElementTree.Element:
    panels = [Panel(name="A & B", drawing=drawing, facts=("1 < 2",)) for drawing in drawings]
    return ElementTree.fromstring(way_picture(panels))


def test_a_picture_has_one_frame_a_panel_and_an_arrow_between():
    root = picture("", "", "")
    assert len(root.findall(f".//{SVG}rect[@class='frame']")) == 3
    assert len(root.findall(f".//{SVG}path[@class='arrow']")) == 2


def test_names_and_facts_are_escaped():
    texts = [element.text for element in picture("").iter(f"{SVG}text")]
    assert texts == ["A & B", "1 < 2"]


def test_every_song_is_one_line_of_peaks():
    assert len(picture(waveforms([np.ones(5, np.float32), np.ones(3, np.float32)])).findall(f".//{SVG}path")) == 2


def test_every_value_of_a_field_is_one_rectangle():
    assert len(picture(heat(np.zeros((3, 4), np.float32))).findall(f".//{SVG}rect")) == 1 + 12


def test_a_falling_curve_goes_down_the_page():
    line = picture(curve([2.0, 1.0], [2.0, 1.0])).findall(f".//{SVG}polyline")[1]
    first, last = (float(point.split(",")[1]) for point in line.get("points", "").split())
    assert first < last


@pytest.mark.parametrize("values", [[1.0], [0.5, 1.0, 0.25]])
def test_the_largest_bar_fills_the_panel(values):
    heights = [float(r.get("height", "0")) for r in picture(bars(values)).findall(f".//{SVG}rect")[1:]]
    assert len(heights) == len(values)
    assert max(heights) == 96.0


def test_every_proof_gets_a_check_mark():
    assert way_picture([Panel(name="x", drawing=checks(["a", "b"]), facts=("",))]).count("✓") == 2


def test_a_loss_curve_stands_between_its_axes():
    root = ElementTree.fromstring(loss_curve([step(1, 2.0), step(5, 1.5), step(9, 1.0)]))
    points = [
        tuple(map(float, p.split(","))) for line in root.findall("polyline") for p in line.get("points", "").split()
    ]
    assert all(0 <= x <= 720 and 0 <= y <= 260 for x, y in points)
    assert root.findall("text")[-1].text == "step 9"
