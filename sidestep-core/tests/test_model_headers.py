"""Headers of safetensors files, sound and hostile, read without torch."""

from __future__ import annotations

import contextlib
import json
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidestep_core.errors import CheckpointError
from sidestep_core.model.headers import read_header, weight_files


def entry(begin: int, end: int, dtype: str = "F32", shape: tuple[int, ...] = (2, 3)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def write(path, header: object, data: bytes = b"", *, length: int | None = None):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)
    return path


def refused(file, because: str) -> None:
    with pytest.raises(CheckpointError, match=because) as caught:
        read_header(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_names_types_and_shapes_are_read(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "a": entry(0, 24), "b": entry(24, 28, "BF16", (2,))}
    file = write(tmp_path / "x.safetensors", header, bytes(28))
    found = read_header(file)
    assert {name: (info.dtype, info.shape, info.count) for name, info in found.items()} == {
        "a": ("F32", (2, 3), 6),
        "b": ("BF16", (2,), 2),
    }
    assert found["a"].file == file


def test_a_scalar_is_one_element(tmp_path):
    file = write(tmp_path / "x.safetensors", {"a": entry(0, 4, shape=())}, bytes(4))
    assert read_header(file)["a"].count == 1


def test_an_empty_file_is_refused(tmp_path):
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"")
    refused(file, "no safetensors file")


def test_a_header_longer_than_the_file_is_refused_without_reading_it(tmp_path):
    refused(write(tmp_path / "x.safetensors", {}, length=2**63), "its header ends beyond the file")


def test_a_file_cut_in_its_header_is_refused(tmp_path):
    file = write(tmp_path / "x.safetensors", {"a": entry(0, 24)}, bytes(24))
    os.truncate(file, 20)
    refused(file, "its header ends beyond the file")


def test_a_file_cut_in_its_data_is_refused(tmp_path):
    file = write(tmp_path / "x.safetensors", {"a": entry(0, 24)}, bytes(23))
    refused(file, "cut short: 'a' ends 1 bytes beyond the file")


@pytest.mark.parametrize(
    "header",
    [
        b"{not json",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"null",
        b"[1]",
        {"a": 5},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": entry(0, 24, dtype="MYSTERY")},
        {"a": {"dtype": "F32", "shape": 6, "data_offsets": [0, 24]}},
        {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 24]}},
        {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": ["0", "24"]}},
    ],
)
def test_a_header_that_is_no_table_of_tensors_is_refused(tmp_path, header):
    refused(write(tmp_path / "x.safetensors", header, bytes(24)), "its header cannot be understood")


@pytest.mark.parametrize("place", [entry(0, 20), entry(-4, 20), entry(24, 0), entry(0, 24, shape=(-2, -3))])
def test_a_tensor_whose_place_does_not_fit_its_shape_is_refused(tmp_path, place):
    refused(write(tmp_path / "x.safetensors", {"a": place}, bytes(24)), "'a' does not have the size of its shape")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "x.safetensors", "cannot be read: No such file")


def test_a_single_file_is_preferred_to_an_index(tmp_path):
    write(tmp_path / "model.safetensors", {})
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "other.safetensors"}}')
    assert weight_files(tmp_path, "model") == (tmp_path / "model.safetensors",)


def test_shards_are_named_once_each_by_their_index(tmp_path):
    index = {"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(tmp_path, "model") == (tmp_path / "1.safetensors", tmp_path / "2.safetensors")


def test_a_folder_without_weights_has_no_files(tmp_path):
    assert weight_files(tmp_path, "model") == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "{}"])
def test_an_index_that_cannot_be_understood_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read as an index of shards"):
        weight_files(tmp_path, "model")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/x.safetensors", ".."])
def test_an_index_cannot_name_files_elsewhere(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="no safetensors file of its own folder"):
        weight_files(tmp_path, "model")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries({"dtype": st.sampled_from(["F32", "?"]) | JSON, "shape": JSON, "data_offsets": JSON})


@given(header=JSON | st.dictionaries(st.text(max_size=5), ENTRY, max_size=3), data=st.binary(max_size=40))
def test_no_header_whatsoever_fails_in_another_way(tmp_path_factory, header, data):
    file = write(tmp_path_factory.mktemp("any") / "x.safetensors", header, data)
    with contextlib.suppress(CheckpointError):
        assert all(info.count >= 0 for info in read_header(file).values())


@given(content=st.binary(max_size=64))
def test_no_bytes_whatsoever_fail_in_another_way(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("any") / "x.safetensors"
    file.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read_header(file)
