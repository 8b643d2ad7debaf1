from __future__ import annotations

import base64
import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from jarvis_core import MediaPart, RequestError
from jarvis_vllm.pictures import Picture, read_pictures

PARAM = "messages[2].content[1].image_url.url"


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def part(url: str) -> MediaPart:
    return MediaPart(kind="image", url=url, param=PARAM)


def encoded(image: Any, form: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def plain(width: int = 4, height: int = 2, color: Any = (200, 10, 10)) -> Any:
    return Image.new("RGB", (width, height), color)


def read(*urls: str, max_pixels: int = 10_000, salt: str | None = None) -> list[Picture]:
    return read_pictures([part(url) for url in urls], max_pixels=max_pixels, salt=salt)


def refused(url: str) -> str:
    with pytest.raises(RequestError) as caught:
        read(url)
    assert caught.value.param == PARAM
    assert "0x" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_an_image_is_read_whatever_its_url_says_that_it_is(form: str) -> None:
    (picture,) = read(data_url(encoded(plain(), form), "image/png"))

    assert picture.pixels.mode == "RGB"
    assert picture.pixels.size == (4, 2)
    assert abs(picture.pixels.getpixel((1, 1))[0] - 200) < 12


def test_several_images_keep_their_order() -> None:
    files = [encoded(plain(color=(n, 0, 0))) for n in (1, 2, 3)]

    pictures = read(*map(data_url, files))

    assert [p.pixels.getpixel((0, 0))[0] for p in pictures] == [1, 2, 3]


def test_data_may_be_broken_into_lines_and_its_type_have_parameters() -> None:
    lines = "\n".join(base64.b64encode(encoded(plain())).decode()[at : at + 8] for at in (0, 8))
    whole = base64.b64encode(encoded(plain())).decode()
    read(f"DATA:image/png;name=a.png;base64,{lines}{whole[16:]}\r\n")


@pytest.mark.parametrize(
    "url",
    [
        "data:,x",
        "data:;base64,AAAA",
        "data:image/png,AAAA",
        "data:text/html;base64,AAAA",
        "data:application/pdf;base64,AAAA",
        f"data:image/png{';a=b' * 200};base64,AAAA",
        "https://example.com/a.png",
    ],
)
def test_a_url_that_is_no_image_with_its_data_is_refused(url: str) -> None:
    assert "data:image/png;base64," in refused(url)


@pytest.mark.parametrize("data", ["AA-_", "AAA", "A", "Ünix", "AAAA=AAA", "AAAA!"])
def test_data_that_is_not_base64_is_refused(data: str) -> None:
    assert "not base64" in refused(f"data:image/png;base64,{data}")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n"


@pytest.mark.parametrize("file", [b"", b"GIF", b"\x89PNG", b"<svg></svg>", EPS, bytes(100)])
def test_a_file_that_is_no_image_is_refused(file: bytes) -> None:
    assert "none of PNG, JPEG, WEBP, GIF, BMP" in refused(data_url(file))


def test_formats_with_other_decoders_are_refused() -> None:
    assert "none of PNG" in refused(data_url(encoded(plain(), "TIFF"), "image/tiff"))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_an_image_that_is_cut_short_is_refused(form: str) -> None:
    file = encoded(Image.effect_noise((60, 60), 50).convert("RGB"), form)
    message = refused(data_url(file[: len(file) // 2]))
    assert "damaged or cut short" in message or "none of" in message


def test_an_image_that_is_damaged_is_refused() -> None:
    file = bytearray(encoded(Image.effect_noise((60, 60), 50)))
    file[60:90] = bytes(30)
    assert "damaged" in refused(data_url(bytes(file)))


def png_head(width: int, height: int) -> bytes:
    """A PNG of any size that has no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0)


def test_images_with_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    message = refused(data_url(png_head(300, 200)))
    assert message.startswith("an image of 300 × 200 pixels is too large")
    assert "10,000 pixels together" in message
    assert "too many pixels" in refused(data_url(png_head(100_000, 100_000)))


def test_the_pixels_of_all_images_count_together() -> None:
    url = data_url(encoded(plain(50, 100)))
    assert len(read(url, url)) == 2
    with pytest.raises(RequestError, match="10,000 pixels together"):
        read(url, url, url)


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (9, 9, 9, 255))
    (picture,) = read(data_url(encoded(clear)))
    assert [picture.pixels.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (9, 9, 9)]


def test_an_image_is_turned_as_the_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (picture,) = read(data_url(encoded(plain(4, 2), "JPEG", exif=exif), "image/jpeg"))
    assert picture.pixels.size == (2, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "I;16"])
def test_images_in_other_colors_become_rgb(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    (picture,) = read(data_url(encoded(Image.new(mode, (3, 3)), form)))
    assert picture.pixels.mode == "RGB"


def test_an_image_is_known_by_its_file_and_by_who_may_know_it() -> None:
    url, other = data_url(encoded(plain())), data_url(encoded(plain(color=(1, 1, 1))))
    known = read(url)[0].digest
    assert read(url)[0].digest == known
    assert read(other)[0].digest != known
    assert read(url, salt="a")[0].digest not in (known, read(url, salt="b")[0].digest)
    assert read(url, salt="a")[0].digest == read(url, salt="a")[0].digest
