"""Songs that are in a set more than once: by their samples, and by ear where they were encoded anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from sidestep_core.doctor.fingerprint import CODES_A_SECOND, Codes

_SAME = 0.3  # share of bits that may differ; 0.05 to 0.25 in new encodings, about 0.5 in other songs
_ALIKE = 0.4  # the same of a stretch, of which most must be alike: songs that share half their samples are two songs
_STRETCH = 64  # codes, 4 s
_ENOUGH = 128  # codes, 8 s: what two songs must have in common for a verdict
_WHOLE = 0.8  # share of the shorter song that must be in the longer one
_COMMON = 24  # songs in which a code may occur before it says nothing
_VOTES = 2  # codes that a pair must have in common at one distance before it is looked at
_TRIED = 8  # distances of a pair that are looked at
_FARTHEST = 1 << 23  # codes: more than any song has
_NEAR = 4  # codes: distances that are counted together, since codes do not begin at the same moment in two encodings


@attrs.frozen(kw_only=True)
class Match:
    """Two songs that sound the same where they overlap.

    Attributes:
        song: number of the one that comes later in the set.
        of: number of the earlier one.
        differing: share of the bits of their fingerprints that differ.
        start: seconds into the longer one at which the shorter one begins.
        overlap: share of the longer one that is in both.
        inside: whether the later one is the shorter one.
    """

    song: int
    of: int
    differing: float
    start: float
    overlap: float
    inside: bool


def find_matches(fingerprints: Sequence[Codes]) -> list[Match]:
    """Return the pairs of songs that sound the same, by the later song.

    Work and memory grow with the codes of the set, not with the pairs of its songs: pairs are only looked at where
    they have codes in common at the same distance.
    """
    matches = (
        match
        for pair, offsets in _candidates(fingerprints).items()
        if (match := _compare(fingerprints, pair, offsets)) is not None
    )
    return sorted(matches, key=lambda match: (match.song, match.of))


def _candidates(fingerprints: Sequence[Codes]) -> Mapping[tuple[int, int], list[int]]:
    """Return, for pairs with codes in common, the distances at which most of these lie, the likeliest first.

    Each stands for `_NEAR` distances, of which it is the least.
    """
    found: dict[tuple[int, int], list[int]] = {}
    keys, votes = np.unique(_common_codes(fingerprints), return_counts=True)
    keys, votes = keys[votes >= _VOTES], votes[votes >= _VOTES]
    for key in keys[np.argsort(-votes, kind="stable")].tolist():
        pair, offset = divmod(key, 2 * _FARTHEST)
        offsets = found.setdefault(divmod(pair, len(fingerprints)), [])
        if len(offsets) < _TRIED:
            offsets.append((offset - _FARTHEST) * _NEAR)
    return found


def _common_codes(fingerprints: Sequence[Codes]) -> NDArray[np.int64]:
    """Return (earlier song, later song, distance) as one number for each code that two songs share.

    Only the first place of a code in a song counts. A code that is in many songs says nothing.
    """
    firsts = [_first_places(codes) for codes in fingerprints]
    codes = np.concatenate([np.empty(0, np.uint32), *(codes for codes, _ in firsts)])
    places = np.concatenate([np.empty(0, np.int32), *(places for _, places in firsts)])
    songs = np.repeat(np.arange(len(firsts), dtype=np.int32), [len(codes) for codes, _ in firsts])
    del firsts[:]
    order = np.argsort(codes, kind="stable")  # songs stay in their order
    _, runs = np.unique(codes, return_counts=True)
    order = order[np.repeat((runs > 1) & (runs <= _COMMON), runs)]
    codes, places, songs = codes[order], places[order].astype(np.int64), songs[order].astype(np.int64)
    keys = []
    for step in range(1, _COMMON):
        at = np.flatnonzero(codes[step:] == codes[:-step])
        pairs = songs[at] * len(fingerprints) + songs[at + step]
        keys.append(pairs * 2 * _FARTHEST + (places[at] - places[at + step]) // _NEAR + _FARTHEST)
    return np.concatenate(keys)


def _first_places(codes: Codes) -> tuple[Codes, NDArray[np.int32]]:
    """Return the codes of a song, sorted, each with its first place."""
    changes = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
    found, first = np.unique(codes[changes], return_index=True)
    return found, changes[first].astype(np.int32)


def _compare(fingerprints: Sequence[Codes], pair: tuple[int, int], offsets: Sequence[int]) -> Match | None:
    """Return the best match of two songs at the distances given, and one code to either side of them."""
    earlier, later = (fingerprints[number] for number in pair)
    tried = [_match(earlier, later, o + nudge, pair) for o in offsets for nudge in range(-1, _NEAR + 1)]
    good = [match for match in tried if match is not None]
    return min(good, key=lambda match: match.differing, default=None)


def _match(earlier: Codes, later: Codes, offset: int, pair: tuple[int, int]) -> Match | None:
    """Compare two songs where the later one begins `offset` codes into the earlier one, or before it."""
    begin, end = max(0, offset), min(len(earlier), len(later) + offset)
    shared = end - begin
    if shared < max(_ENOUGH, _WHOLE * min(len(earlier), len(later))):
        return None
    one, other = earlier[begin:end], later[begin - offset : end - offset]
    sounding = (one | other) != 0  # silence is the same everywhere
    if np.count_nonzero(sounding) < _ENOUGH:
        return None
    differing = _differing_bits(one[sounding], other[sounding])
    if differing.mean() > _SAME or np.mean(differing <= _ALIKE) < _WHOLE:
        return None
    inside = len(later) <= len(earlier)
    return Match(
        of=pair[0],
        song=pair[1],
        differing=float(differing.mean()),
        start=(begin if inside else begin - offset) / CODES_A_SECOND,
        overlap=shared / max(len(earlier), len(later)),
        inside=inside,
    )


def _differing_bits(one: Codes, other: Codes) -> NDArray[np.float64]:
    """Return the share of bits that differ, for each stretch of some 4 s."""
    bits: NDArray[np.uint8] = np.unpackbits((one ^ other).view(np.uint8).reshape(len(one), -1), axis=1)
    shares: NDArray[np.float64] = np.array(
        [part.mean() for part in np.array_split(bits, max(1, len(bits) // _STRETCH))]
    )
    return shares
