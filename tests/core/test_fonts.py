"""The text and the font that a class's name is drawn with, in any script."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont
from hypothesis import given
from hypothesis import strategies as st
from PIL import features

from resnest_core import fonts
from resnest_core.font_coverage import Coverage
from resnest_core.fonts import Label, class_label

MATPLOTLIB = find_spec("matplotlib")
assert MATPLOTLIB is not None and MATPLOTLIB.origin is not None
DEJAVU = Path(MATPLOTLIB.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
LATIN = "0123456789. "
Fonts = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fonts]:
    """Take these fonts for the machine's."""

    def install(*files: Path) -> None:
        monkeypatch.setattr(fonts, "font_files", lambda: files)
        class_label.cache_clear()

    yield install
    class_label.cache_clear()


def font_of(characters: str, path: Path, *, blank: bool = False) -> Path:
    """Make a font whose characters are triangles of their own heights; or nothing."""
    names = [f"u{ord(one):x}" for one in characters]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(one): name for one, name in zip(characters, names, strict=True)})
    glyphs = {}
    for number, name in enumerate([".notdef", *names]):
        pen = TTGlyphPen(None)
        if not blank and name != "u20":
            pen.moveTo((100, 0))
            pen.lineTo((500, 700 - 5 * number))
            pen.lineTo((900, 5 * number))
            pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.mark.parametrize("name", ["dog", "traffic light", "N° 5".replace("°", "o"), "a.b-c_d (e)"])
def test_ascii_has_pillows_own_font(name: str, installed: Fonts) -> None:
    installed(DEJAVU)
    assert class_label(name, 3) == Label(name, None)


@pytest.mark.parametrize("name", ["собака", "γάτα", "Škoda", "łódź", "şişe", "Đường", "naïve café", "→ left", "շուն"])
def test_other_scripts_have_a_font_of_the_machine(name: str, installed: Fonts) -> None:
    installed(DEJAVU)
    assert class_label(name, 3) == Label(name, DEJAVU)


@pytest.mark.parametrize("name", ["كلب", "כלב", "سگ‌ها"])
@pytest.mark.parametrize("can_shape", [False, True])
def test_scripts_that_change_with_their_neighbours_need_raqm(
    name: str, can_shape: bool, installed: Fonts, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(DEJAVU)
    monkeypatch.setattr(features, "check", lambda _: can_shape)
    assert class_label(name, 3) == (Label(name, DEJAVU) if can_shape else Label("#3", None))


@pytest.mark.parametrize("name", ["猫", "犬 dog", "กา", "🐶", "", " ", "\u200e", "\U0010ffff", "\ue000"])
def test_without_a_font_it_is_the_number(name: str, installed: Fonts) -> None:
    installed(DEJAVU)
    assert class_label(name, 17) == Label("#17", None)


@pytest.mark.parametrize(
    ("name", "plain"), [("Škoda", "Skoda"), ("naïve café", "naive cafe"), ("ﬁsh", "fish"), ("Ⅳ", "IV")]
)
def test_without_a_font_only_accents_are_lost(
    name: str, plain: str, installed: Fonts, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed()
    monkeypatch.setattr(fonts, "_has", lambda *_: False)
    assert class_label(name, 17) == Label(plain, None)
    assert class_label("łódź", 17) == Label("#17", None)  # ł is no l with an accent


@pytest.mark.parametrize(
    ("name", "text"), [("dog\n0.99", "dog 0.99"), ("\x1b[31mred", "[31mred"), ("a\u202eb", "ab"), ("a\tb\0", "a b")]
)
def test_control_characters_are_not_drawn(name: str, text: str) -> None:
    assert class_label(name, 3) == Label(text, None)


def test_the_font_that_has_the_name_is_taken(tmp_path: Path, installed: Fonts) -> None:
    cjk = font_of(f"猫犬{LATIN}", tmp_path / "cjk.ttf")
    (tmp_path / "damaged.ttf").write_bytes(cjk.read_bytes()[:200])
    (tmp_path / "text.ttf").write_text("no font")
    others = [
        tmp_path / "absent.ttf",
        tmp_path / "damaged.ttf",
        tmp_path / "text.ttf",
        font_of("猫犬", tmp_path / "without_digits.ttf"),
        font_of(f"猫犬{LATIN}", tmp_path / "blank.ttf", blank=True),
        DEJAVU,
    ]
    installed(*others, cjk)
    assert class_label("猫 犬", 3) == Label("猫 犬", cjk)
    assert class_label("猫 鳥", 3) == Label("#3", None)
    assert class_label("кот", 3) == Label("кот", DEJAVU)


def test_first_font_of_a_collection(tmp_path: Path, installed: Fonts) -> None:
    collection = TTCollection()
    collection.fonts = [
        TTFont(font_of(f"猫{LATIN}", tmp_path / "a.ttf")),
        TTFont(font_of(f"犬{LATIN}", tmp_path / "b.ttf")),
    ]
    collection.save(tmp_path / "both.ttc")
    installed(tmp_path / "both.ttc")
    assert class_label("猫", 3) == Label("猫", tmp_path / "both.ttc")
    assert class_label("犬", 3) == Label("#3", None)


def test_fonts_are_found_in_the_usual_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "share/fonts/a/X-Bold.ttf",
        "share/fonts/X.otf",
        "share/fonts/readme.txt",
        "home/.fonts/LastResort.ttf",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "absent"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fonts.font_files.cache_clear()
    try:
        found = fonts.font_files()
    finally:
        fonts.font_files.cache_clear()
    assert [path.name for path in found if tmp_path in path.parents] == ["X.otf", "X-Bold.ttf"]
    assert DEJAVU in found and found.index(tmp_path / "share/fonts/X.otf") < found.index(DEJAVU)


def test_coverage_is_that_of_fonttools() -> None:
    expected = set(TTFont(DEJAVU).getBestCmap())
    coverage = Coverage(DEJAVU)
    characters = [*range(0x3000), 0xFFFD, 0x1D400, 0x1F600, 0x1F64F, 0x10FFFF]
    assert [one for one in characters if coverage.has(chr(one))] == [one for one in characters if one in expected]


@given(place=st.integers(0, 2000), change=st.binary(min_size=1, max_size=8))
def test_damaged_fonts_have_fewer_characters_or_none(
    place: int, change: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "sound.ttf"
    data = bytearray((path if path.exists() else font_of(f"猫{LATIN}", path)).read_bytes())
    data[place % len(data) : place % len(data) + len(change)] = change
    damaged = folder / f"damaged{hashlib.sha256(data).hexdigest()}.ttf"
    damaged.write_bytes(data)
    assert Coverage(damaged).has("猫") in (True, False)
    assert isinstance(fonts._has(damaged, "猫"), bool)
    damaged.unlink()


def test_a_font_that_is_gone_is_the_number(tmp_path: Path, installed: Fonts) -> None:
    font = font_of(f"猫{LATIN}", tmp_path / "cjk.ttf")
    installed(font)
    assert fonts.label_and_font("猫", 3, 11)[0] == "猫"
    font.unlink()
    assert class_label("猫", 3) == Label("猫", font)
    assert fonts.label_and_font("猫", 3, 12)[0] == "#3"


def test_loaded_fonts_draw_in_their_size() -> None:
    for path in (None, DEJAVU):
        small, large = (np.array(fonts.load(path, size).getbbox("Ag")) for size in (10, 40))
        assert large[3] > 3 * small[3]
