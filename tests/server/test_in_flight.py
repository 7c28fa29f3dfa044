import pytest

from resnest_core.errors import RuntimeUnavailableError
from resnest_server.in_flight import InFlightLimit


def test_places_are_bounded_and_come_back() -> None:
    places = InFlightLimit("model", 3)
    with places.take(2), places.take(1):
        with pytest.raises(RuntimeUnavailableError, match="model has all 3 places of its queue taken"), places.take(1):
            pass
        assert places.taken == 3
    assert places.taken == 0
    with pytest.raises(RuntimeUnavailableError), places.take(4):
        pass
    with pytest.raises(ZeroDivisionError), places.take(3):
        raise ZeroDivisionError
    assert places.taken == 0
