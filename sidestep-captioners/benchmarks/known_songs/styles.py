"""How kinds of music are arranged: patterns over the sixteenths of a bar."""

from __future__ import annotations

import attrs

# General MIDI percussion keys
KICK, SNARE, SIDE, CLAP, HAT, OPEN, RIDE, CRASH = 36, 38, 37, 39, 42, 46, 51, 49
TOM_L, TOM_M, TOM_H, SHAKER, TAMB, CONGA_H, CONGA_L, BRUSH = 45, 47, 50, 70, 54, 63, 64, 40


@attrs.frozen
class Style:
    """How one kind of music is arranged; patterns are strings over the bar grid."""

    drums: dict[int, str]  # percussion key -> pattern, 'x' soft, 'X' loud
    comp: str  # chord hits
    bass: str  # bass hits; the digit chooses the chord tone
    programs: tuple[int, int, int]  # bass, chords, lead: General MIDI programs from 0
    swing: float = 0.0  # how far an off-beat eighth is late, 0 to 0.33 of an eighth twice
    sevenths: bool = False
    hold: float = 1.0  # chord notes last this many sixteenths
    arpeggio: bool = False
    pad: int | None = None


# 4/4 uses 16 steps to the bar (sixteenths); 3/4 and 6/8 use 12; 5/4 uses 20; 12/8 uses 24.
STYLES: dict[str, Style] = {
    "rock": Style(
        {KICK: "X.....x.X.......", SNARE: "....X.......X...", HAT: "X.x.X.x.X.x.X.x."},
        "X..x..x.X..x..x.",
        "1.1.1.1.1.1.1.1.",
        (33, 29, 30),
    ),
    "punk": Style(
        {KICK: "X.x...x.X.x...x.", SNARE: "....X.......X..x", CRASH: "X...............", HAT: "X.X.X.X.X.X.X.X."},
        "X.X.X.X.X.X.X.X.",
        "1.1.1.1.1.1.1.1.",
        (34, 30, 29),
    ),
    "pop": Style(
        {KICK: "X.......X..x....", SNARE: "....X.......X...", HAT: "x.x.x.x.x.x.x.x.", TAMB: "....x.......x..."},
        "X......xX.......",
        "1......1..5.1...",
        (33, 4, 80),
        pad=89,
    ),
    "house": Style(
        {KICK: "X...X...X...X...", CLAP: "....X.......X...", OPEN: "..X...X...X...X.", HAT: "x.xxx.xxx.xxx.xx"},
        "..X..X...X..X...",
        "..1..11...1..1.8",
        (38, 81, 80),
    ),
    "trance": Style(
        {KICK: "X...X...X...X...", CLAP: "....X.......X...", OPEN: "..X...X...X...X."},
        "X..X..X..X..X.X.",
        "..1.1.1...1.1.1.",
        (38, 90, 81),
        arpeggio=True,
        pad=95,
    ),
    "hiphop": Style(
        {KICK: "X.....xX..X.....", SNARE: "....X.......X...", HAT: "x.xxx.x.x.x.xxx."},
        "X.........x.....",
        "1.....1...5.....",
        (38, 4, 11),
        swing=0.16,
        sevenths=True,
    ),
    "trap": Style(
        {KICK: "X......x..X.....", SNARE: "........X.......", HAT: "x.x.x.xxx.x.xxxx"},
        "X...............",
        "1......1..1.....",
        (38, 88, 11),
        hold=14,
    ),
    "dnb": Style(
        {KICK: "X.........X.....", SNARE: "....X.......X..x", HAT: "x.x.x.x.x.x.x.x.", RIDE: "x...x...x...x..."},
        "X.......x.......",
        "1..1......5.1...",
        (38, 89, 81),
        hold=8,
    ),
    "funk": Style(
        {KICK: "X..x..X...x.X...", SNARE: "....X..x.x..X..x", HAT: "xxxxxxxxxxxxxxxx"},
        "..x..x.x..x..xx.",
        "1..8..1.5.8..1.8",
        (36, 7, 61),
        sevenths=True,
    ),
    "disco": Style(
        {KICK: "X...X...X...X...", SNARE: "....X.......X...", OPEN: "..X...X...X...X.", TAMB: "x.xxx.xxx.xxx.xx"},
        "..X...X...X...X.",
        "1.8.1.8.1.8.1.8.",
        (33, 7, 48),
        pad=48,
    ),
    "reggae": Style(
        {SIDE: "........X.......", KICK: "........X.......", HAT: "x.x.x.x.x.x.x.x."},
        "....X.......X...",
        "1...5.1.....5.3.",
        (33, 16, 65),
    ),
    "swing": Style(
        {RIDE: "X...X.x.X...X.x.", HAT: "....X.......X...", BRUSH: "......x.......x."},
        "X.....x.....X...",
        "1...3...5...8...",
        (32, 0, 66),
        swing=0.33,
        sevenths=True,
    ),
    "bossa": Style(
        {SIDE: "X..x..x...x..x..", KICK: "X..xX..xX..xX..x", SHAKER: "xxxxxxxxxxxxxxxx"},
        "X..X..X...X..X..",
        "1.....5.1.....5.",
        (32, 24, 73),
        sevenths=True,
    ),
    "salsa": Style(
        {CONGA_H: "..xx..x...xx..x.", CONGA_L: "......xX......xX", TAMB: "x...x...x...x...", SIDE: "x..x..x...x.x..."},
        "X.xx.xx.x.xx.xx.",
        "1.....5...8.....",
        (32, 0, 56),
    ),
    "metal": Style(
        {KICK: "XXxXXXxXXXxXXXxX", SNARE: "....X.......X...", CRASH: "X...............", RIDE: "X...X...X...X..."},
        "X.xxX.xxX.xxX.xx",
        "1.111.111.111.11",
        (34, 30, 30),
    ),
    "ballad": Style(
        {KICK: "X.......X.......", SIDE: "....X.......X...", RIDE: "x...x...x...x..."},
        "X.......x.......",
        "1.......5.......",
        (35, 0, 73),
        hold=7,
        pad=49,
    ),
    "country": Style(
        {KICK: "X...x...X...x...", SNARE: "....X.......X...", HAT: "x.xxx.xxx.xxx.xx"},
        "....X.......X...",
        "1.......5.......",
        (32, 25, 105),
    ),
    "piano": Style({}, "X.x.x.x.X.x.x.x.", "1.......5.......", (0, 0, 0), arpeggio=True),
    "strings": Style({}, "X...x...X...x...", "1...5...1...5...", (43, 48, 40), hold=3.5),
    "ambient": Style({}, "X...............", "1...............", (39, 89, 88), hold=15, pad=95),
    "guitar": Style({}, "X.xxx.x.X.xxx.x.", "1.......5.......", (24, 24, 24), arpeggio=True),
    # three-beat metres, 12 sixteenths to the bar
    "waltz": Style(
        {KICK: "X...........", SNARE: "....x...x...", HAT: "....x...x..."}, "....X...X...", "1...........", (32, 21, 40)
    ),
    "jazzwaltz": Style(
        {RIDE: "X...X.x.X...", HAT: "....x...x...", KICK: "X.....x....."},
        "X.....x...x.",
        "1...3...5...",
        (32, 0, 66),
        swing=0.33,
        sevenths=True,
    ),
    "rockwaltz": Style(
        {KICK: "X.....x.....", SNARE: "....X...X...", HAT: "x.x.x.x.x.x."}, "X...x...x...", "1.1.1.5.5.8.", (33, 27, 29)
    ),
    "minuet": Style({}, "X...x...x...", "1...3...5...", (0, 6, 6), hold=3),
    # compound metre, 12 sixteenths to the bar = two dotted quarters
    "slow68": Style(
        {KICK: "X.......x...", SNARE: "......X.....", HAT: "x.x.x.x.x.x."},
        "X.x.x.x.x.x.",
        "1.....5.....",
        (33, 0, 73),
        arpeggio=True,
    ),
    "jig": Style(
        {KICK: "X.....X.....", TAMB: "x.x.x.x.x.x.", SNARE: "....x.....x."},
        "X...x.X...x.",
        "1.....5.....",
        (32, 25, 110),
    ),
    "rock68": Style(
        {KICK: "X.....x...x.", SNARE: "......X.....", RIDE: "X.x.X.x.x.x."},
        "X.....X.....",
        "1...1.1...5.",
        (33, 29, 30),
    ),
    "arp68": Style({}, "X.x.x.x.x.x.", "1.....5.....", (46, 46, 73), arpeggio=True),
    # odd and 12/8
    "five": Style(
        {RIDE: "X...X.x.X...X...X...", KICK: "X...........X.......", HAT: "....x...x.......x..."},
        "X.....x.....X...x...",
        "1.....5.....1...5...",
        (32, 0, 66),
        sevenths=True,
    ),
    "blues128": Style(
        {KICK: "X...........X.......x...", SNARE: "......X...........X.....", RIDE: "X.x.x.X.x.x.X.x.x.X.x.x."},
        "X...........X...x.......",
        "1...3.5...3.1...3.5...8.",
        (32, 16, 26),
        sevenths=True,
    ),
}


GRID = {"4/4": (16, 4), "3/4": (12, 4), "6/8": (12, 6), "5/4": (20, 4), "12/8": (24, 6)}
"""Metre -> sixteenths in a bar, sixteenths in a beat."""

PLAN = (
    ("rock", "4/4", 118),
    ("punk", "4/4", 176),
    ("pop", "4/4", 100),
    ("house", "4/4", 124),
    ("trance", "4/4", 138),
    ("hiphop", "4/4", 88),
    ("trap", "4/4", 142),
    ("dnb", "4/4", 172),
    ("funk", "4/4", 108),
    ("disco", "4/4", 120),
    ("reggae", "4/4", 76),
    ("swing", "4/4", 152),
    ("bossa", "4/4", 128),
    ("salsa", "4/4", 96),
    ("metal", "4/4", 164),
    ("ballad", "4/4", 66),
    ("country", "4/4", 132),
    ("piano", "4/4", 84),
    ("strings", "4/4", 104),
    ("ambient", "4/4", 60),
    ("guitar", "4/4", 92),
    ("rock", "4/4", 145),
    ("pop", "4/4", 72),
    ("house", "4/4", 128),
    ("hiphop", "4/4", 94),
    ("swing", "4/4", 116),
    ("ballad", "4/4", 80),
    ("piano", "4/4", 112),
    ("waltz", "3/4", 168),
    ("jazzwaltz", "3/4", 140),
    ("rockwaltz", "3/4", 110),
    ("minuet", "3/4", 126),
    ("waltz", "3/4", 96),
    ("rockwaltz", "3/4", 84),
    ("jazzwaltz", "3/4", 178),
    ("minuet", "3/4", 90),
    ("slow68", "6/8", 62),
    ("jig", "6/8", 116),
    ("rock68", "6/8", 74),
    ("arp68", "6/8", 68),
    ("slow68", "6/8", 82),
    ("jig", "6/8", 128),
    ("rock68", "6/8", 96),
    ("arp68", "6/8", 90),
    ("five", "5/4", 150),
    ("five", "5/4", 104),
    ("blues128", "12/8", 70),
    ("blues128", "12/8", 98),
)
"""The songs of a set: style, metre, beats a minute."""
