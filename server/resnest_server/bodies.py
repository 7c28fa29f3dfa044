"""The images in a request's body: raw, in a form, or in JSON; never more bytes than allowed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import anyio
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from resnest_core.errors import NotAnImageError
from resnest_core.messages import shortened
from resnest_server.disconnects import ClientLeftError
from resnest_server.json_image import image_of_json
from resnest_server.off_loop import off_loop
from resnest_server.problems import BodyTooLargeError, SlowBodyError, UnsupportedMediaTypeError
from resnest_server.settings import Settings

FORM = "multipart/form-data"
JSON = "application/json"
FIELD = "file"  # of a form
ACCEPTED = f"image/*, {FORM} with the field {FIELD!r}, or {JSON} with the key 'image'"


async def read_images(request: Request, settings: Settings, hold: Callable[[int], None]) -> list[bytes]:
    """Return the encoded images of a request; more than one only of a form.

    `hold` is called with the number of bytes that have come, each time.

    Raises:
        UnsupportedMediaTypeError: the Content-Type is none of those read here.
        SlowBodyError: the body takes too long to arrive.
        BodyTooLargeError: the body has too many bytes or images; told from Content-Length where there is one.
        NotAnImageError: there is no image in the body.
        ClientLeftError: the client left before it had sent the body.
        RuntimeUnavailableError: `hold` has no room for the body.
    """
    media_type = request.headers.get("Content-Type", "image/*").partition(";")[0].strip().lower()
    if not (media_type.startswith("image/") or media_type in (FORM, JSON)):
        raise UnsupportedMediaTypeError(
            f"A body of {shortened(media_type) or 'no type'} is not read here: send {ACCEPTED}."
        )
    stream = _limited(request, settings.max_body_bytes, hold)
    try:
        with anyio.fail_after(settings.body_seconds):
            if media_type == FORM:
                return await _of_form(request, stream, settings)
            blocks = [block async for block in stream]
    except TimeoutError as error:
        raise SlowBodyError(f"The body did not arrive within {settings.body_seconds:g} s: send it again.") from error
    except ClientDisconnect as error:
        raise ClientLeftError from error

    def joined() -> bytes:
        body = b"".join(blocks)
        blocks.clear()
        return image_of_json(body) if media_type == JSON else body

    is_whole = media_type != JSON and len(blocks) == 1  # there is nothing to do
    return [await off_loop(joined, 0 if is_whole else sum(map(len, blocks)))]


async def _limited(request: Request, limit: int, hold: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """Yield the body's bytes as they come.

    Raises:
        BodyTooLargeError: there are more than `limit`.
    """
    error = BodyTooLargeError(f"The body is larger than the {limit:,} bytes allowed: send a smaller image.")
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise error
    count = 0
    async for block in request.stream():
        count += len(block)
        if count > limit:
            raise error
        hold(len(block))
        yield block


async def _of_form(request: Request, stream: AsyncGenerator[bytes, None], settings: Settings) -> list[bytes]:
    parser = MultiPartParser(request.headers, stream, max_files=settings.max_images, max_fields=100)
    parser.spool_max_size = settings.max_body_bytes + 1  # no files: the body is bounded, and there may be no disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise BodyTooLargeError(f"Send at most {settings.max_images} images in one request.") from error
        raise NotAnImageError("The form is damaged: send multipart/form-data, whole.") from error
    except (KeyError, HTTPException) as error:  # no boundary in the header
        raise NotAnImageError("The form is damaged: name its boundary in Content-Type.") from error
    try:
        files = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
        if not files:
            raise NotAnImageError(f"The form holds no image: put a file into its field {FIELD!r}.")
        return [await file.read() for file in files]
    finally:
        await form.close()
