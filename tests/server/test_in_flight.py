import pytest

from resnest_core.errors import RuntimeUnavailableError
from resnest_server.in_flight import InFlightLimit


def test_images_in_flight_are_limited_and_uncounted_once_answered() -> None:
    limit = InFlightLimit("model", 3)
    with limit.reserve(2), limit.reserve(1):
        with (
            pytest.raises(RuntimeUnavailableError, match="model has 3 images in flight, its limit"),
            limit.reserve(1),
        ):
            pass
        assert limit.count == 3
    assert limit.count == 0
    with pytest.raises(RuntimeUnavailableError), limit.reserve(4):
        pass
    with pytest.raises(ZeroDivisionError), limit.reserve(3):
        raise ZeroDivisionError
    assert limit.count == 0
