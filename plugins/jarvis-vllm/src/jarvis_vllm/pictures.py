"""Images that clients sent: from data URLs to pixels, with nothing believed that is unchecked."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from attrs import frozen
from PIL import Image, ImageOps

from jarvis_core import MediaPart, RequestError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that are read, by Pillow's names; others have decoders that do more than decode."""

_HEAD = re.compile(r"data:image/[\w.+-]+(;[\w.+-]+=[^;,]*)*;base64,", re.ASCII | re.IGNORECASE)
_LONGEST_HEAD = 256
_WHITE = (255, 255, 255, 255)


@frozen(kw_only=True)
class Picture:
    """An image.

    Attributes:
        pixels: Pillow's image, in RGB.
        digest: SHA-256 of the file and of the salt under which it may be found again.
    """

    pixels: Any
    digest: str


def read_pictures(
    parts: Sequence[MediaPart], *, max_pixels: int, salt: str | None
) -> list[Picture]:
    """Decode the images of a request, which takes a while.

    Args:
        parts: The images.
        max_pixels: Pixels of all of them at most; what has more is not decoded.
        salt: What is computed of an image is found again by requests of the same salt.

    Raises:
        RequestError: It names the image and what is wrong with it.
    """
    files = [_file(part) for part in parts]
    opened = [_opened(part, file) for part, file in zip(parts, files, strict=True)]
    pixels = 0
    for part, image in zip(parts, opened, strict=True):
        pixels += image.width * image.height
        if pixels > max_pixels:
            raise _refusal(
                part,
                f"an image of {image.width:,} × {image.height:,} pixels is too large: the images "
                f"of a request may have {max_pixels:,} pixels together",
            )
    return [
        Picture(
            pixels=_decoded(part, image),
            digest=hashlib.sha256(f"{salt or ''}\0".encode() + file).hexdigest(),
        )
        for part, file, image in zip(parts, files, opened, strict=True)
    ]


def _file(part: MediaPart) -> bytes:
    head = _HEAD.match(part.url[:_LONGEST_HEAD])
    if head is None:
        raise _refusal(part, "an image must be a URL of the form data:image/png;base64,…")
    try:
        data = part.url[head.end() :].encode("ascii")
        # Some clients break the text into lines.
        return base64.b64decode(data.translate(None, b" \t\r\n"), validate=True)
    except ValueError as error:  # binascii's own error is one too
        raise _refusal(part, "the data of an image is not base64") from error


def _opened(part: MediaPart, file: bytes) -> Any:
    """The image, of which only the head is read."""
    try:
        return Image.open(BytesIO(file), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _refusal(part, "an image has too many pixels") from error
    except Exception as error:  # decoders raise what they like on files of any content
        raise _refusal(part, f"an image is none of {', '.join(FORMATS)}") from error


def _decoded(part: MediaPart, image: Any) -> Any:
    """The pixels, turned as the camera was held, on white where they are transparent."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
        return image.convert("RGB")
    except Exception as error:  # decoders raise what they like on files of any content
        raise _refusal(part, "an image is damaged or cut short") from error


def _refusal(part: MediaPart, message: str) -> RequestError:
    return RequestError(message, param=part.param or "messages")
