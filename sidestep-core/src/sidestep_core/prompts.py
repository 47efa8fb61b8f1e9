"""The two texts that describe a song to the model, byte for byte as ACE-Step builds them when it generates."""

from __future__ import annotations

import random
from collections.abc import Mapping

import attrs

from sidestep_core.configs import Conditioning, SongsConfig
from sidestep_core.songs import INSTRUMENTAL, Song, SongSet, TagPosition

MAX_PROMPT_TOKENS = 256
MAX_LYRICS_TOKENS: Mapping[Conditioning, int] = {"inference": 2048, "side-step": 512}

_TEXT_PROMPT = """\
# Instruction
Fill the audio semantic mask based on the given conditions:

# Caption
{caption}

# Metas
- bpm: {bpm}
- timesignature: {signature}
- keyscale: {key}
- duration: {seconds} seconds
<|endoftext|>
"""
_LYRICS_PROMPT = "# Languages\n{language}\n\n# Lyric\n{lyrics}<|endoftext|>"
_NOT_KNOWN = "N/A"


@attrs.frozen(kw_only=True)
class Wording:
    """How a song of a set is described: the tag it gets if it has none, where that goes, and caption or genre."""

    tag: str
    tag_position: TagPosition
    use_genre: bool


def wordings(songs: SongSet, config: SongsConfig) -> list[Wording]:
    """Return how each song of a set is described; what the settings say wins over what the set says."""
    ratio = songs.genre_ratio if config.genre_ratio is None else config.genre_ratio
    by_genre = genre_choice(len(songs.songs), ratio)
    return [
        Wording(
            tag=config.custom_tag or songs.custom_tag,
            tag_position=config.tag_position or songs.tag_position,
            use_genre=number in by_genre,
        )
        for number in range(len(songs.songs))
    ]


def text_prompt(song: Song, *, seconds: int, tag: str, tag_position: TagPosition, use_genre: bool) -> str:
    """Return the text that the text encoder reads.

    Args:
        song: what to describe.
        seconds: length of the audio that is used.
        tag: trigger tag if the song has none of its own.
        tag_position: where the tag goes.
        use_genre: describe the song by its genre, unless its `prompt_override` says otherwise.
    """
    return _TEXT_PROMPT.format(
        caption=with_tag(_description(song, use_genre), song.custom_tag or tag, tag_position),
        bpm=song.bpm if song.bpm.strip("0.") else _NOT_KNOWN,  # 0 and 0.0 are ways of saying nothing
        signature=song.signature or _NOT_KNOWN,
        key=song.key or _NOT_KNOWN,
        seconds=seconds,
    )


def lyrics_prompt(song: Song, conditioning: Conditioning) -> str:
    """Return the text whose token embeddings are the lyrics: with a language header, or bare as Side-Step has it."""
    if conditioning == "side-step":
        return song.lyrics
    lyrics = INSTRUMENTAL if song.instrumental else song.lyrics
    return _LYRICS_PROMPT.format(language=song.language, lyrics=lyrics)


def genre_choice(count: int, ratio: int) -> frozenset[int]:
    """Return which of `count` songs, in their set's order, are described by genre; always the same `ratio` per cent."""
    order = list(range(count))
    random.Random(42).shuffle(order)
    return frozenset(order[: count * ratio // 100])


def _description(song: Song, use_genre: bool) -> str:
    if song.prompt_override == "genre":
        return song.genre
    if song.prompt_override == "caption" or not use_genre:
        return song.caption
    return song.genre or song.caption


def with_tag(text: str, tag: str, position: TagPosition) -> str:
    """Return a caption with its trigger tag."""
    if not tag:
        return text
    if position == "replace" or not text:
        return tag
    return f"{tag}, {text}" if position == "prepend" else f"{text}, {tag}"
