import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.data.images import read_image
from qbench.errors import DataError

TRUNCATED = r"photo\.\w+ is truncated or damaged; copy it again or remove it"


def picture() -> NDArray[np.uint8]:
    small = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48)).astype(np.uint8)


def encode(ending: str, *options: int) -> bytes:
    return cv2.imencode(ending, picture(), options)[1].tobytes()


def write(folder: Path, data: bytes, ending: str) -> Path:
    path = folder / f"photo{ending}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_formats(tmp_path: Path, ending: str) -> None:
    image = read_image(write(tmp_path, encode(ending), ending))
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture()).mean() < 8


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_truncated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str, share: float
) -> None:
    data = encode(ending)
    path = write(tmp_path, data[: int(len(data) * share)], ending)
    with pytest.raises(DataError, match=rf"photo{ending} is (truncated|no image)"):
        read_image(path)
    if (ending, share) != (".tif", 0.999):  # OpenCV logs a cut through the directory at the end
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_cut_behind_its_thumbnail(tmp_path: Path, progressive: int) -> None:
    data = encode(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data
    whole = data[:2] + thumbnail + b"\xff" + data[2:] + b"trailing bytes"
    assert read_image(write(tmp_path, whole, ".jpg")).shape == (48, 64, 3)
    cut = whole[: 2 + len(thumbnail) + len(data) * 2 // 3]
    with pytest.raises(DataError, match=TRUNCATED):
        read_image(write(tmp_path, cut, ".jpg"))


def test_png_with_a_flipped_bit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encode(".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(DataError, match=TRUNCATED):
        read_image(write(tmp_path, bytes(data), ".png"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8", b"BM"])
def test_no_image(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"photo\.jpg is (truncated|no image)"):
        read_image(write(tmp_path, data, ".jpg"))


def test_image_that_claims_too_many_pixels(tmp_path: Path) -> None:
    data = bytearray(encode(".jpg"))
    frame = data.find(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(DataError, match=r"photo\.jpg cannot be decoded \(.*PIXELS.*\); remove it"):
        read_image(write(tmp_path, bytes(data), ".jpg"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.jpg: No such file"):
        read_image(tmp_path / "gone.jpg")


def test_content_counts_not_the_ending(tmp_path: Path) -> None:
    assert np.array_equal(read_image(write(tmp_path, encode(".png"), ".jpg")), picture())


def test_gray_transparent_and_16_bit_become_bgr(tmp_path: Path) -> None:
    base = np.full((4, 4), 128, dtype=np.uint8)
    for image in (base, np.dstack([base] * 4), base.astype(np.uint16) * 257):
        data = cv2.imencode(".png", image)[1].tobytes()
        assert (read_image(write(tmp_path, data, ".png")) == 128).all()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    # One entry: tag 0x0112 (orientation), a short, once, 6: turn by 90 degrees clockwise.
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    data = encode(".jpg")
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:]
    image = read_image(write(tmp_path, turned, ".jpg"))
    expected = np.rot90(read_image(write(tmp_path, data, ".jpg")), -1)
    assert image.shape == (64, 48, 3)
    assert np.array_equal(image, expected)
