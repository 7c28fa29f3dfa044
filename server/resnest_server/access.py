"""API keys, and rate limits of requests and pixels."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import math
import re
import time
from hashlib import sha256
from pathlib import Path

import limits
from fastapi import Request
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from resnest_core.errors import ParameterError, RateLimitedError, UnauthorizedError
from resnest_core.messages import named
from resnest_core.text_files import numbered_lines
from resnest_server.fair_order import CLIENT
from resnest_server.settings import MEGAPIXEL, Settings

KEY = re.compile("[!-~]+")
CHECK_SECONDS = 1.0  # between checks of the key file
IPV6_PREFIX = 64  # bits of an address that name a client's network (RFC 4291)
log = logging.getLogger(__name__)


class Keys:
    """The keys that clients may use, kept as hashes; those of a file are read again when it changes.

    Raises:
        ParameterError: the file can't be read, or holds no key.
    """

    def __init__(self, settings: Settings) -> None:
        self._fixed = [_hash(key.get_secret_value()) for key in settings.api_keys]
        self._file = settings.api_keys_file
        self._stamp: tuple[int, int] | None = None
        self._looked = time.monotonic()
        self._of_file: list[bytes] = []
        if self._file is not None:
            self._read(self._file)

    @property
    def required(self) -> bool:
        return bool(self._fixed or self._file)

    def admit(self, key: str) -> bool:
        """Return whether the key is known; each known key is compared in constant time."""
        self._refresh()
        hashed = _hash(key)
        matches = [hmac.compare_digest(hashed, known) for known in (*self._fixed, *self._of_file)]
        return any(matches)

    def _refresh(self) -> None:
        if self._file is None or time.monotonic() - self._looked < CHECK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            if _stamp(self._file) != self._stamp:
                self._read(self._file)
                log.info("The file of keys was read again: %d keys.", len(self._of_file))
        except (OSError, ParameterError):
            log.exception("The file of keys can't be read: the keys read before stay in force.")

    def _read(self, path: Path) -> None:
        try:
            stamp, lines = _stamp(path), numbered_lines(path)
        except OSError as error:
            raise ParameterError(f"The file of keys {path} can't be read: name one with a key a line.") from error
        except ParameterError as error:
            raise ParameterError(f"The file of keys can't be read: {error}") from error
        keys = {number: line for number, line in lines.items() if not line.startswith("#")}
        if wrong := [number for number, key in keys.items() if not KEY.fullmatch(key)]:
            raise ParameterError(
                f"The file of keys {path} has no key in line {named(wrong)}: a key is printable ASCII without spaces, "
                "and comments stand on lines of their own, after #."
            )
        hashes = [_hash(key) for key in keys.values()]
        if not hashes:
            raise ParameterError(f"The file of keys {path} holds no key: put one on a line.")
        self._stamp, self._of_file = stamp, hashes


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def require_keys_in_public(settings: Settings) -> None:
    """Refuse to serve without keys on an address that others can reach, unless `insecure` is set.

    Raises:
        ParameterError: the address can be reached by others, and there are no keys.
    """
    keys = settings.api_keys or settings.api_keys_file
    if not (keys or settings.insecure or _is_loopback(settings.host)):
        raise ParameterError(
            f"Others can reach {settings.host}, and there are no keys: set RESNEST_API_KEYS or RESNEST_API_KEYS_FILE, "
            "or pass --insecure to let anybody use this gateway."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """Checks a request's key and applies the rate limits."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings)
        self._limit = limits.parse(settings.rate_limit) if settings.rate_limit else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._pixel_limit = _in_pixels(settings.pixel_rate_limit) if settings.pixel_rate_limit else None
        self._pixel_rate = settings.pixel_rate_limit
        # The other one would keep an entry per pixel.
        self._pixel_limiter = FixedWindowRateLimiter(MemoryStorage())

    @property
    def keys_required(self) -> bool:
        return self._keys.required

    def check(self, request: Request) -> None:
        """Accept a request, and name its client for what is shared fairly between clients.

        Raises:
            UnauthorizedError: its key is missing or unknown.
            RateLimitedError: its key, or its address where there are no keys, is over the rate limit.
        """
        key = next(filter(self._keys.admit, _keys(request)), None) if self._keys.required else None
        if self._keys.required and key is None:
            raise UnauthorizedError("This gateway needs a key: send Authorization: Bearer KEY, or X-API-Key: KEY.")
        who = _hash(key or "").hex() if self._keys.required else _network(request.client.host if request.client else "")
        CLIENT.set(who)
        if self._limit is not None and not self._limiter.hit(self._limit, who):
            seconds = _seconds_until(self._limiter.get_window_stats(self._limit, who).reset_time)
            raise RateLimitedError(f"That was more than {self._limit}: try again in {seconds} s.", seconds)

    def charge(self, pixels: int) -> None:
        """Count the pixels of a request that was accepted; those of a refused one aren't counted.

        Raises:
            RateLimitedError: with them its client is over the rate limit of pixels.
        """
        limit, who = self._pixel_limit, CLIENT.get()
        if limit is None:
            return
        if not self._pixel_limiter.test(limit, who, cost=pixels):
            seconds = _seconds_until(self._pixel_limiter.get_window_stats(limit, who).reset_time)
            raise RateLimitedError(
                f"With these images that was more than {self._pixel_rate} in megapixels: try again in {seconds} s, "
                "with smaller ones or fewer in one request.",
                seconds,
            )
        self._pixel_limiter.hit(limit, who, cost=pixels)


def _in_pixels(megapixels: str) -> limits.RateLimitItem:
    limit = limits.parse(megapixels)
    return type(limit)(limit.amount * MEGAPIXEL, limit.multiples)


def _seconds_until(reset: float) -> int:
    return max(1, math.ceil(reset - time.time()))


def _network(address: str) -> str:
    """Return what stands for a client's address: of IPv6 the network, as one client may use any address in a /64."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, IPV6_PREFIX), strict=False))


def _keys(request: Request) -> list[str]:
    """Return the keys that a request may mean: a proxy may put credentials of its own beside the client's key."""
    authorizations = [value.partition(" ") for value in request.headers.getlist("Authorization")]
    bearers = [token.strip() for scheme, _, token in authorizations if scheme.lower() == "bearer"]
    own = request.headers.getlist("X-API-Key")
    return [*bearers[:1], *own[:1]]  # not any number of guesses in one request
