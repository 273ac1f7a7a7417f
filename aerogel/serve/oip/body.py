"""Read the body of a request up to a limit, compressed or not."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from aerogel.serve.oip.datatypes import InferenceError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["read_body"]

# Argument of zlib: the format of the data.
_FORMATS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request, unpacked.

    Args:
        request: the request.
        limit: largest number of bytes, packed and unpacked.

    Raises:
        InferenceError: the body is too large, is not valid in its encoding, or the encoding is unknown.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in (*_FORMATS, "identity", ""):
        raise InferenceError(f"content encoding {encoding[:40]!r} is not supported; use gzip or deflate", 415)
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdecimal() and (len(length) > 18 or int(length) > limit):
        raise _too_large(limit)
    unpacker = zlib.decompressobj(_FORMATS[encoding]) if encoding in _FORMATS else None
    parts, size = [], 0
    async for chunk in request.stream():
        part = chunk
        if unpacker is not None:
            try:
                part = unpacker.decompress(chunk, limit - size + 1)
            except zlib.error as error:
                raise InferenceError(f"the body is not valid {encoding}") from error
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    if unpacker is not None and (not unpacker.eof or unpacker.unused_data):
        raise InferenceError(f"the body is not one complete {encoding} stream")
    return b"".join(parts)


def _too_large(limit: int) -> InferenceError:
    return InferenceError(f"the body is larger than {limit:,} bytes; send fewer rows", 413)
