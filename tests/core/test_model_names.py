"""Names of models: what can be one, and that no two models share a folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.card import NETWORK_SUFFIX, PREPROCESS_SUFFIX, check_model_name
from resnest_core.errors import ParameterError

PARTS = st.sampled_from(["x", "Y", "7", "_", "-", ".", NETWORK_SUFFIX, PREPROCESS_SUFFIX, "_int8"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("".join)


@pytest.mark.parametrize("name", ["demo", "fruit_v2", "a.b-c", "7", "x_networks", "network", "_", "x_network_int8"])
def test_a_name(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "../up", "a b", "a\n", "ä", "a\0", "x_network", "x_preprocess", "_network", "٣"],
)
def test_what_can_not_be_one(name: str) -> None:
    with pytest.raises(ParameterError, match=r"A model can't be called .*[.]$"):
        check_model_name(name)


@given(NAMES, NAMES)
def test_no_two_models_share_a_folder(one: str, other: str) -> None:
    try:
        check_model_name(one)
        check_model_name(other)
    except ParameterError:
        return
    folders = [{name, name + NETWORK_SUFFIX, name + PREPROCESS_SUFFIX} for name in (one, other)]
    assert one == other or not folders[0] & folders[1]
