"""Events: facts that a caller can keep, compare, send on and write down."""

from __future__ import annotations

import collections.abc
import pickle
import types
import typing
from pathlib import Path

import attrs
import pytest
from sidestep_core import events
from sidestep_core.events import Event

KINDS = sorted(
    (
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    ),
    key=lambda kind: kind.__name__,
)
SAMPLES = {str: "text", int: 3, float: 0.5, bool: True, Path: Path("run"), type(None): None}


def parts_of(hint):
    """Return the plain types that a hint is made of."""
    origin = typing.get_origin(hint)
    if origin in (tuple, typing.Union, types.UnionType, collections.abc.Mapping):
        return [part for item in typing.get_args(hint) if item is not ... for part in parts_of(item)]
    if origin is typing.Literal:
        return [type(choice) for choice in typing.get_args(hint)]
    if attrs.has(hint):
        # events may be made of smaller facts, which are held to the same
        assert attrs.fields(hint)[0].kw_only
        assert hint.__setattr__ is not object.__setattr__
        return [part for inner in typing.get_type_hints(hint).values() for part in parts_of(inner)]
    return [hint]


def sample(hint):
    if attrs.has(hint):
        return made(hint)
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        return (sample(items[0]),) if items[1:] == (...,) else tuple(map(sample, items))
    if typing.get_origin(hint) is collections.abc.Mapping:
        return dict([map(sample, typing.get_args(hint))])
    return SAMPLES[parts_of(hint)[0]]


def made(kind):
    return kind(**{name: sample(hint) for name, hint in typing.get_type_hints(kind).items()})


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def test_events_hold_plain_values(kind):
    assert {part for hint in typing.get_type_hints(kind).values() for part in parts_of(hint)} <= SAMPLES.keys()


def test_events_cannot_be_changed(kind):
    event = made(kind)
    for field in attrs.fields(kind):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(event, field.name, None)


def test_events_are_made_by_the_names_of_their_fields(kind):
    assert all(field.kw_only for field in attrs.fields(kind))
    with pytest.raises(TypeError, match="positional"):
        kind("text")


def test_events_of_equal_facts_are_equal_and_hash_alike(kind):
    assert made(kind) == made(kind)
    assert len({made(kind), made(kind)}) == 1


def test_events_can_be_sent_to_another_process(kind):
    assert pickle.loads(pickle.dumps(made(kind))) == made(kind)


def test_events_say_what_they_are_about(kind):
    assert kind.__doc__
    assert kind.__name__ in repr(made(kind))
