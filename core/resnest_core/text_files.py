"""Text files that somebody else wrote: any byte-order mark, any ends of lines."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from resnest_core.errors import ParameterError

# UTF-32's mark begins with UTF-16's.
ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENDS = re.compile(r"\r\n|\r|\n")  # not those of splitlines, which a name may have
MARK = "\ufeff"  # in the middle of a text where files were joined


def decode_text(content: bytes, source: object) -> str:
    """Return a text in UTF-8, or in the encoding of its byte-order mark.

    Args:
        content: the text's bytes.
        source: what a message calls it.

    Raises:
        ParameterError: it isn't such text.
    """
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ParameterError(f"{source} can't be read as text: save it as UTF-8.") from error
    if "\0" in text:
        raise ParameterError(
            f"{source} has NUL bytes, as UTF-16 without its byte-order mark and binary files have: save it as UTF-8."
        )
    return text


def read_text(file: Path) -> str:
    """Return the text of a file, as `decode_text`.

    Raises:
        ParameterError: it can't be read, or isn't text.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ParameterError(f"{file} can't be read ({error.strerror}): name a file of text.") from error
    return decode_text(content, file)


def numbered_lines(file: Path) -> dict[int, str]:
    """Return the lines of a text file that aren't blank by number, without spaces and byte-order marks around them.

    Raises:
        ParameterError: it can't be read, or isn't text.
    """
    lines = (line.replace(MARK, "").strip() for line in ENDS.split(read_text(file)))
    return {number: line for number, line in enumerate(lines, 1) if line}


def read_lines(file: Path) -> list[str]:
    """Return the lines of `numbered_lines`.

    Raises:
        ParameterError: it can't be read, or isn't text.
    """
    return [*numbered_lines(file).values()]
