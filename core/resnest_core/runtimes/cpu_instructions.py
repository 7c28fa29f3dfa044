"""Which instructions this machine's CPU has that runtimes don't tell of themselves."""

from __future__ import annotations

import re
from pathlib import Path

from resnest_core.card import ModelCard
from resnest_core.errors import PrecisionUnavailableError

CPU_INFO = Path("/proc/cpuinfo")
INT8_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Linux' names of the instruction sets that sum products of 8-bit integers in 32 bits. Older ones sum pairs in 16 bits,
which overflow with the weights' full range: the answers are wrong then."""


def has_int8_products() -> bool:
    """Return whether int8 models are computed without overflow; True where the system doesn't tell."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return line is None or not INT8_PRODUCTS.isdisjoint(line.group(1).split())


def check_int8(card: ModelCard) -> None:
    """Refuse an int8 model whose products would overflow.

    Raises:
        PrecisionUnavailableError: the CPU hasn't the instructions.
    """
    if card.precision == "int8" and not has_int8_products():
        raise PrecisionUnavailableError(
            f"This CPU has no 8-bit dot products (VNNI), which {card.name} is for: export fp32."
        )
