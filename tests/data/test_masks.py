import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.data.images import png_from_chunks
from qbench.data.masks import find_masks, read_mask
from qbench.errors import DataError


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


def test_masks_are_found_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    write(tmp_path / "sub" / "b.png", np.zeros((2, 2), np.uint8))
    found = find_masks(["a.jpg", "sub/b.png", "c.jpg"], tmp_path)
    assert found.files == {"a.jpg": tmp_path / "a.png", "sub/b.png": tmp_path / "sub" / "b.png"}
    note = f"1 of 3 samples have no mask in {tmp_path} and are left out: c.jpg"
    assert found.notes == (note,)
    assert find_masks(["a.jpg"], tmp_path).notes == ()


def test_no_masks(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has a \.png mask for none of the 1 samples, such as a\.j"
    ):
        find_masks(["a.jpg"], tmp_path)
    with pytest.raises(DataError, match=r"no folder of masks at .*gone; check the path"):
        find_masks(["a.jpg"], tmp_path / "gone")


def test_gray_values_are_class_indices(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 255], [7, 19, 0]], np.uint8)
    assert read_mask(write(tmp_path / "m.png", mask), (2, 3)).tolist() == mask.tolist()


def packed(rows: list[list[int]], bits: int) -> bytes:
    """Return the uncompressed pixels of a PNG: rows of whole bytes, each after a filter type 0."""
    text = ["".join(f"{value:0{bits}b}" for value in row) for row in rows]
    filled = [row.ljust(-(-len(row) // 8) * 8, "0") for row in text]
    return b"".join(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big") for row in filled)


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_class_indices_are_read_as_they_are_stored(
    bits: int, palette: bool, tmp_path: Path
) -> None:
    """Small bit depths are no grays of 0 to 255, and a palette's colours are for the eye alone."""
    most = 2**bits - 1
    rows = [[0, 1, 0, 1, most], [most, 0, 1, 0, 0]]
    header = struct.pack(">IIBBBBB", 5, 2, bits, 3 if palette else 0, 0, 0, 0)
    colours = np.random.default_rng(0).integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes()
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(packed(rows, bits))), (b"IEND", b"")]
    if palette:
        chunks[1:1] = [(b"PLTE", colours), (b"tRNS", bytes([0, 128]))]
    (tmp_path / "m.png").write_bytes(png_from_chunks(chunks))
    assert read_mask(tmp_path / "m.png", (2, 5)).tolist() == rows


def test_a_mask_that_was_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "m.png", np.zeros((2, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"m\.png is no gray or palette PNG"):
        read_mask(path, (2, 3))


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint16)], ids=["colour", "16 bits"]
)
def test_other_images_are_no_masks(mask: NDArray[np.generic], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"m\.png is no gray or palette PNG of up to 8 bits, or damaged; save class"
    ):
        read_mask(write(tmp_path / "m.png", mask), (2, 3))


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("no")
    with pytest.raises(DataError, match=r"m\.png is no gray or palette PNG of up to 8 bits"):
        read_mask(tmp_path / "m.png", (2, 3))


def test_a_mask_of_another_image(tmp_path: Path) -> None:
    path = write(tmp_path / "m.png", np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match=r"m\.png has 2x3 pixels, but its image has 4x6; give the"):
        read_mask(path, (4, 6))
