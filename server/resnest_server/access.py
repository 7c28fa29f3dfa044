"""API keys and rate limits."""

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
from limits.strategies import MovingWindowRateLimiter

from resnest_core.errors import ParameterError
from resnest_core.messages import named
from resnest_core.text_files import numbered_lines
from resnest_server.problems import RateLimitedError, UnauthorizedError
from resnest_server.settings import Settings

KEY = re.compile("[!-~]+")
CHECK_SECONDS = 1.0  # between checks of the key file
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

    def admit(self, key: str | None) -> bool:
        """Return whether the key is known; each known key is compared in constant time."""
        self._refresh()
        hashed = _hash(key or "")
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
    """Checks a request's key and applies the rate limit."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings)
        self._limit = limits.parse(settings.rate_limit) if settings.rate_limit else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @property
    def keys_required(self) -> bool:
        return self._keys.required

    def check(self, request: Request) -> None:
        """Accept a request.

        Raises:
            UnauthorizedError: its key is missing or unknown.
            RateLimitedError: its key, or its address where there are no keys, is over the rate limit.
        """
        key = _key(request)
        if self._keys.required and not self._keys.admit(key):
            raise UnauthorizedError("This gateway needs a key: send Authorization: Bearer KEY, or X-API-Key: KEY.")
        if self._limit is None:
            return
        address = request.client.host if request.client else ""
        who = _hash(key or "").hex() if self._keys.required else address
        if not self._limiter.hit(self._limit, who):
            reset = self._limiter.get_window_stats(self._limit, who).reset_time
            seconds = max(1, math.ceil(reset - time.time()))
            raise RateLimitedError(f"That was more than {self._limit}: try again in {seconds} s.", seconds)


def _key(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key")
