"""The font and the text that a class's name is drawn with, in any script.

Pillow's own font has Latin letters. For others the machine's fonts are looked through. A name that no font has is drawn
in ASCII where only accents are lost, else as the class's number: never as empty boxes.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeAlias

from PIL import ImageFont, features

from resnest_core.font_coverage import Coverage

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
UNUSUAL = (
    "bold",
    "italic",
    "oblique",
    "light",
    "thin",
    "black",
    "condensed",
    "narrow",
    "mono",
    "serif",
    "math",
    "emoji",
)
PLACEHOLDERS = ("lastresort", "adobeblank")  # fonts that have every character, as a box or as nothing
MAX_FILES = 5000
SCORE = "0123456789. "  # what is drawn behind a name
NO_CHARACTER = "\U0010ffff"  # drawn as a font draws what it lacks
TEST_SIZE = 24
INVISIBLE = ("Cf", "Mn", "Me", "Zs")  # categories of characters that need no ink of their own
JOINERS = "\u200c\u200d"
# Scripts whose letters change their shapes or places by their neighbours: without Raqm Pillow draws them wrong.
SHAPED_DIRECTIONS = ("R", "AL")
SHAPED_RANGES = ((0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x17FF), (0x1900, 0x1CFF), (0xA800, 0xAAFF))


class Label(NamedTuple):
    """What is drawn for a class: a text, and the font's file; None: Pillow's own font."""

    text: str
    font: Path | None


@lru_cache(maxsize=4096)
def class_label(name: str, number: int) -> Label:
    """Return a class's name and the font that has it; else the name in ASCII, or `#` and the number."""
    can_shape = features.check("raqm")
    text = _cleaned(name, JOINERS if can_shape else "")
    if text.isascii() and text:
        return Label(text, None)
    if text and (can_shape or not _is_shaped(text)):
        for path in (None, *font_files()):
            if _has(path, text):
                return Label(text, path)
    letters = [one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one)]
    plain = "".join(letters)
    return Label(plain if plain.strip() and plain.isascii() else f"#{number}", None)


def label_and_font(name: str, number: int, size: int) -> tuple[str, Font]:
    """Return what `class_label` chooses, with the font in a size in pixels."""
    text, path = class_label(name, number)
    try:
        return text, load(path, size)
    except OSError:  # removed since it was found
        return f"#{number}", load(None, size)


@lru_cache(maxsize=16)
def load(path: Path | None, size: int) -> Font:
    """Return a font in a size in pixels.

    Raises:
        OSError: the file is no font that can be scaled.
    """
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


@cache
def font_files() -> tuple[Path, ...]:
    """Return the machine's font files, upright sans-serif ones first; matplotlib's, too, where it is installed."""
    found = dict.fromkeys(path for folder in _folders() for path in _files(folder))
    usual = sorted((path for path in found if not path.name.lower().startswith(PLACEHOLDERS)), key=_unusual)
    return tuple(usual[:MAX_FILES])


def _folders() -> Iterator[Path]:
    home = os.environ.get("HOME") or os.environ.get("USERPROFILE") or "/"
    environment = os.environ
    data = [environment.get("XDG_DATA_HOME") or f"{home}/.local/share"]
    data += (environment.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(os.pathsep)
    yield from (Path(folder) / "fonts" for folder in (*data, f"{sys.prefix}/share"))
    yield Path(home) / ".fonts"
    if sys.platform == "darwin":
        yield from (Path(home) / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"))
    if sys.platform == "win32":
        yield Path(environment.get("WINDIR", "C:/Windows")) / "Fonts"
        yield Path(environment.get("LOCALAPPDATA", home)) / "Microsoft/Windows/Fonts"
    if (matplotlib := find_spec("matplotlib")) and matplotlib.origin:
        yield Path(matplotlib.origin).parent / "mpl-data/fonts/ttf"


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES)


def _unusual(path: Path) -> int:
    name = path.name.lower()
    return sum(style in name.replace("sansserif", "sans") for style in UNUSUAL)


def _has(path: Path | None, text: str) -> bool:
    """Tell whether a font draws every character of a text, and of a score, as something of its own."""
    visible = [one for one in {*text, *SCORE} if unicodedata.category(one) not in INVISIBLE]
    if path is not None:
        marks = [one for one in text if unicodedata.category(one) in ("Mn", "Me")]
        if not all(_coverage(path).has(one) for one in (*visible, *marks)):
            return False
    try:
        font = load(path, TEST_SIZE)
        missing = _drawn(font, NO_CHARACTER)
        return all(_drawn(font, one) not in (missing, None) for one in visible)
    except OSError:
        return False


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes] | None:
    """Return the size and the pixels of a character; None if there is no ink."""
    mask = font.getmask(character)
    return (mask.size, bytes(mask)) if mask.getbbox() else None


@cache
def _coverage(path: Path) -> Coverage:
    return Coverage(path)


def _cleaned(name: str, kept: str) -> str:
    """Return a name on one line, without control and format characters."""
    letters = (
        one if one.isprintable() or one in kept else "" if unicodedata.category(one) == "Cf" else " " for one in name
    )
    return " ".join("".join(letters).split())


def _is_shaped(text: str) -> bool:
    return any(
        unicodedata.bidirectional(one) in SHAPED_DIRECTIONS
        or any(first <= ord(one) <= last for first, last in SHAPED_RANGES)
        for one in text
    )
