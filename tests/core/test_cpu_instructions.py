"""Which CPUs compute int8 models without overflow, by the text of /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnest_core.errors import PrecisionUnavailableError
from resnest_core.runtimes import cpu_instructions
from resnest_core.runtimes.cpu_instructions import check_int8, has_int8_products
from resnest_core.runtimes.fake import FAKE_CARD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512bw\n", False),
        ("processor\t: 0\nflags\t\t: fpu avx2\nbugs\t\t: avx512_vnni\n", False),
        ("processor\t: 0\nmodel name\t: unknown\n", True),
    ],
    ids=["AVX-512 VNNI", "AVX VNNI", "ARM", "AVX-512 only", "other line", "no list"],
)
def test_cpu_info(text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(text)
    monkeypatch.setattr(cpu_instructions, "CPU_INFO", info)
    assert has_int8_products() is expected
    check_int8(FAKE_CARD)
    card = FAKE_CARD.model_copy(update={"precision": "int8"})
    if expected:
        check_int8(card)
    else:
        with pytest.raises(PrecisionUnavailableError, match="has no 8-bit dot products"):
            check_int8(card)


def test_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_instructions, "CPU_INFO", tmp_path / "absent")
    assert has_int8_products()
