"""What a request's body says: images, raw, in a form or in JSON, and parameters; never more bytes than allowed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

import anyio
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from resnest_core.errors import NotAnImageError, ParameterError
from resnest_core.messages import shortened
from resnest_server.body_stream import limited_stream
from resnest_server.disconnects import ClientLeftError
from resnest_server.json_image import read_json
from resnest_server.off_loop import COPIED_INLINE_BYTES, INLINE_BYTES, off_loop
from resnest_server.problems import BodyTooLargeError, SlowBodyError, UnsupportedMediaTypeError
from resnest_server.settings import Settings

FORM = "multipart/form-data"
JSON = "application/json"
FIELD = "file"  # of a form
ACCEPTED = f"image/*, {FORM} with the field {FIELD!r}, or {JSON} with the key 'image'"


class Body(NamedTuple):
    """Encoded images, more than one only of a form; and pairs of a parameter's name and value, as the body has them."""

    images: list[bytes]
    parameters: list[tuple[str, Any]]


async def read_body(request: Request, settings: Settings, hold: Callable[[int], None]) -> Body:
    """Read the body of a request.

    `hold` is called with the number of bytes that have come, each time.

    Raises:
        UnsupportedMediaTypeError: the Content-Type or Content-Encoding is none of those read here.
        SlowBodyError: the body takes too long to arrive.
        BodyTooLargeError: the body has too many bytes or images; told from Content-Length where there is one.
        NotAnImageError: there is no image in the body.
        ParameterError: a form has a file in another field.
        ClientLeftError: the client left before it had sent the body.
        RuntimeUnavailableError: `hold` has no room for the body.
    """
    media_type = request.headers.get("Content-Type", "image/*").partition(";")[0].strip().lower()
    if not (media_type.startswith("image/") or media_type in (FORM, JSON)):
        named = shortened(media_type) or "no type"
        raise UnsupportedMediaTypeError(f"A body of {named} is not read here: send {ACCEPTED}.")
    stream = limited_stream(request, settings.max_body_bytes, hold)
    try:
        with anyio.fail_after(settings.body_seconds):
            if media_type == FORM:
                return await _of_form(request, stream, settings)
            blocks = [block async for block in stream]
    except TimeoutError as error:
        raise SlowBodyError(f"The body did not arrive within {settings.body_seconds:g} s: send it again.") from error
    except ClientDisconnect as error:
        raise ClientLeftError from error

    def whole() -> Body:
        body = b"".join(blocks)
        blocks.clear()
        if media_type != JSON:
            return Body([body], [])
        image, parameters = read_json(body)
        return Body([image], parameters)

    inline = INLINE_BYTES if media_type == JSON else COPIED_INLINE_BYTES
    return await off_loop(whole, sum(map(len, blocks)), inline)


async def _of_form(request: Request, stream: AsyncGenerator[bytes, None], settings: Settings) -> Body:
    parser = _FormParser(request.headers, stream, max_files=settings.max_images, max_fields=100)
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
        parts = form.multi_items()
        files = [value for name, value in parts if name == FIELD and isinstance(value, UploadFile)]
        if not files:
            raise NotAnImageError(f"The form holds no image: put a file into its field {FIELD!r}.")
        others = [name for name, value in parts if name != FIELD and isinstance(value, UploadFile)]
        if others:
            named = shortened(repr(others[0]))
            raise ParameterError(f"The form has a file in its field {named}: put each image into {FIELD!r}.")
        parameters = [(name, value) for name, value in parts if isinstance(value, str)]
        images = [await off_loop(file.file.read, file.size or 0, COPIED_INLINE_BYTES) for file in files]
        return Body(images, parameters)
    finally:
        await form.close()


class _FormParser(MultiPartParser):
    """Starlette's; the field for images holds files although nothing names them so."""

    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if options.get(b"name") == FIELD.encode() and b"filename" not in options:
            part.content_disposition = (part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()
