"""Fetches an image from an address, where a caller asks for it: no detector does so by itself."""

from __future__ import annotations

import httpx

from resnest_client.client_limits import CONNECT_TIMEOUT, TIMEOUT
from resnest_client.proxies import direct_mounts
from resnest_core.errors import DownloadError, ImageTooLargeError

MAX_BYTES = 64 * 2**20


def fetch_image(url: str, *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes at an HTTP address, to be passed to `detect`; redirects are followed.

    Args:
        url: the address.
        timeout: seconds without progress.
        max_bytes: of the answer, at most.

    Raises:
        DownloadError: the address isn't one, nothing answers there, or the answer isn't a success.
        ImageTooLargeError: there are more bytes.
    """
    try:
        with (
            httpx.Client(
                timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
                mounts=direct_mounts(httpx.URL(url)),
                follow_redirects=True,
            ) as client,
            client.stream("GET", url) as response,
        ):
            if not response.is_success:
                raise DownloadError(
                    f"{url} answered {response.status_code} {response.reason_phrase}: check the address."
                )
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > max_bytes:
                    raise ImageTooLargeError(f"{url} has more than {max_bytes:,} bytes: raise max_bytes.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"{url} can't be fetched: {str(error) or type(error).__name__}.") from error
    return bytes(data)
