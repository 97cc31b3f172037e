"""Decode image files, and tell those that are corrupt.

OpenCV fills what is missing in some truncated files with gray, and the libraries beneath it
complain on stderr, past every logger; so the structure is checked before anything is decoded.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qbench.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings of the files that count as images, in any letter case."""

UNREAD_ENDINGS = (".gif", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".jxl")
"""Endings of images that no build of OpenCV is sure to read, and that do not count."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_SCAN = 0xDA
_PNG_START = b"\x89PNG\r\n\x1a\n"


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return the pixels [height, width, 3] of an image file, BGR.

    Gray, palette, 16-bit and transparent images are converted. The EXIF orientation is applied, as
    `cv2.imread` and every viewer do: a photo must stand as those saw it who labelled it.

    Raises:
        DataError: The file cannot be read, is truncated or is no image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the file") from error
    if not _is_whole(data):
        raise DataError(f"{path} is truncated or damaged; copy it again or remove it")
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path} cannot be decoded ({reason}); remove it") from error
    # The stubs promise an array, but OpenCV returns None for what it cannot decode.
    pixels: NDArray[np.uint8] | None = image  # type: ignore[assignment]
    if pixels is None:
        raise DataError(f"{path} is no image that OpenCV can decode; remove it")
    return pixels


def _is_whole(data: bytes) -> bool:
    """Return whether the structure of a file is complete, by its format's own marks."""
    if data.startswith(_JPEG_START):
        return _jpeg_is_whole(data)
    if data.startswith(_PNG_START):
        return _png_is_whole(data)
    if data.startswith(b"BM"):
        return len(data) >= int.from_bytes(data[2:6], "little")
    if data.startswith((b"II*\0", b"MM\0*")):
        return int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") < len(data)
    return bool(data)


def _jpeg_is_whole(data: bytes) -> bool:
    """Return whether an end marker follows the first scan.

    Segments before it are skipped by their length, since a thumbnail there has its own end marker.
    In a scan 0xFF is followed by 0 or a restart marker, so the end marker stands for itself.
    """
    at = len(_JPEG_START)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _JPEG_SCAN:
            return data.find(_JPEG_END, at) >= 0
        # 0xFF may be repeated before a marker as filling.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png_is_whole(data: bytes) -> bool:
    """Return whether all chunks up to the end chunk are there and agree with their checksums."""
    return png_chunks(data) is not None


def png_chunks(data: bytes) -> list[tuple[bytes, memoryview]] | None:
    """Return type and content of the chunks of a PNG file up to its end chunk.

    None where it is no such file, the end chunk is not there, or a checksum is wrong.
    """
    if not data.startswith(_PNG_START):
        return None
    at, chunks = len(_PNG_START), []
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        checksum = int.from_bytes(data[end : end + 4], "big")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != checksum:
            return None
        chunks.append((data[at + 4 : at + 8], memoryview(data)[at + 8 : end]))
        if chunks[-1][0] == b"IEND":
            return chunks
        at = end + 4
    return None


def png_from_chunks(chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> bytes:
    """Return the PNG file that has these chunks, each a type and its content."""
    parts = [_PNG_START]
    for kind, content in chunks:
        body = kind + bytes(content)
        parts += [len(content).to_bytes(4, "big"), body, zlib.crc32(body).to_bytes(4, "big")]
    return b"".join(parts)
