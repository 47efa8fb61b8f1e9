"""Reading progress files, ours and Side-Step's."""

import json
import sys

import pytest
from sidestep_core.progress import CHUNK, number, of_kind, read_progress, seconds_of


def step(at, loss=1.0, **more):
    return {"kind": "step", "step": at, "epoch": 1, "loss": loss, **more}


def start(at, **more):
    return {"kind": "start", "step": at, **more}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.jsonl"


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_every_line_is_there_in_its_order(path):
    lines = [start(0), *(step(n, loss=n / 7, bands=[0.5, None], samples=[1, 0]) for n in range(1, 2 * CHUNK + 5))]
    assert read_progress(write(path, lines)) == lines


def test_what_a_resume_overtook_is_left_out(path):
    lines = [start(0), step(10), step(20), step(30), start(20), step(30, 0.5)]
    kept = read_progress(write(path, lines))
    assert [(line["kind"], line["step"]) for line in kept] == [
        ("start", 0),
        ("step", 10),
        ("step", 20),
        ("start", 20),
        ("step", 30),
    ]
    assert kept[-1]["loss"] == 0.5


def test_a_start_that_went_back_far_takes_earlier_starts_with_it(path):
    lines = [start(0), step(10), start(10), step(20), start(20), step(30), start(0), step(5)]
    kept = read_progress(write(path, lines))
    assert [(line["kind"], line["step"]) for line in kept] == [("start", 0), ("start", 0), ("step", 5)]


def test_several_events_of_one_step_stay(path):
    lines = [step(10), {"kind": "epoch", "step": 10}, {"kind": "validation", "step": 10}, {"kind": "best", "step": 10}]
    assert read_progress(write(path, lines)) == lines


def test_where_no_line_marks_a_resume_a_step_that_goes_back_does(path):
    lines = [step(10), step(20), step(30), step(20, 0.5), step(30, 0.4)]
    assert [line["loss"] for line in read_progress(write(path, lines))] == [1.0, 0.5, 0.4]


def test_a_line_cut_off_between_others_costs_only_itself(path):
    good = [json.dumps(step(n)) for n in range(CHUNK)]
    good.insert(500, '{"kind": "step", "st')
    path.write_text("\n".join(good))
    assert [line["step"] for line in read_progress(path)] == list(range(CHUNK))


def test_halves_of_a_line_are_not_taken_for_one(path):
    path.write_text('{"kind": "step", "step": 1\n"loss": 2.0}\n' + json.dumps(step(3)))
    assert [line["step"] for line in read_progress(path)] == [3]


def test_characters_that_end_a_line_elsewhere_do_not_here(path):
    lines = [{"kind": "skip", "step": 3, "songs": ["a\u2028b\x85c\x0bd.wav"]}]
    path.write_text(json.dumps(lines[0], ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_progress(path) == lines


@pytest.mark.parametrize("value", [True, 1.5, "1", None])
def test_a_step_that_is_no_number_is_no_line(path, value):
    assert read_progress(write(path, [{"kind": "step", "step": value}])) == []


def test_a_file_that_is_nested_without_end_is_no_progress(path):
    path.write_text("[" * 100_000)
    assert read_progress(path) == []


def test_lines_are_picked_by_kind():
    assert of_kind([step(1), start(2), step(3)], "step") == [step(1), step(3)]


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (3, 3), (None, None), ("x", None), (True, None)])
def test_only_numbers_are_numbers(value, expected):
    assert number({"loss": value}, "loss") == expected


def test_pauses_do_not_count_as_time():
    lines = [start(0, ts=100.0), step(10, ts=160.0), start(10, ts=9000.0), step(20, ts=9030.0)]
    assert seconds_of(lines) == 90


def test_a_clock_that_was_set_back_takes_no_time_away():
    assert seconds_of([start(0, ts=100.0), step(1, ts=50.0), step(2, ts=60.0)]) == 10


def test_lines_without_times_tell_no_time():
    assert seconds_of([step(1), step(2)]) is None


def work(path):
    """Return how many bytecodes reading a file takes."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        read_progress(path)
    finally:
        sys.settrace(None)
    return count


def whole(n):
    return [start(0), *map(step, range(1, n))]


def resumed(n):
    """Return lines with a resume after every fifth, each going back by one."""
    return [start(max(0, i - 2)) if i % 5 == 0 else step(i) for i in range(n)]


def overtaken(n):
    """Return lines of which a resume in the middle overtook half."""
    return [*map(step, range(1, n // 2)), start(0), *map(step, range(1, n // 2))]


@pytest.mark.parametrize("lines", [whole, resumed, overtaken])
def test_a_line_takes_little_work_however_many_there_are(path, lines):
    few, many = (work(write(path, lines(n))) for n in (1000, 3000))
    assert many <= 3.2 * few
    assert many / 3000 < 120


def test_a_damaged_line_does_not_make_the_others_slow(path):
    whole_work = work(write(path, whole(4000)))
    with path.open("a") as file:
        file.write("{\n")
    # the lines beside it are parsed one by one, those of other chunks are not
    assert work(path) - whole_work < 0.7 * whole_work


def test_a_hundred_thousand_lines_are_read(path):
    lines = [json.dumps(step(n, lr=1e-4, smoothed=0.5)) for n in range(100_000)]
    path.write_text("\n".join(lines))
    assert len(read_progress(path)) == 100_000


def test_the_garbage_collector_is_as_it_was(path):
    import gc

    write(path, whole(3))
    read_progress(path)
    assert gc.isenabled()
    gc.disable()
    try:
        read_progress(path)
        assert not gc.isenabled()
    finally:
        gc.enable()
