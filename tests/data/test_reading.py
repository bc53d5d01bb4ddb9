"""One file, one image, whichever library reads it: upright, and of the same colours."""

import cv2
import numpy as np
import PIL
import pytest
from faulty import exif
from PIL import Image, ImageCms

from dnl_det.data.checks.images import look_at
from dnl_det.data.reading import read_with_opencv, read_with_pillow

COLOURS = {
    "a": (255, 0, 0),
    "b": (0, 255, 0),
    "c": (0, 0, 255),
    "d": (0, 0, 0),
    "e": (255, 255, 255),
    "f": (255, 255, 0),
}
# How abc/def is stored: EXIF says which side of the upright image the first row and the first
# column are, such as right and top for 6.
STORED = {
    1: "abc/def",
    2: "cba/fed",
    3: "fed/cba",
    4: "def/abc",
    5: "ad/be/cf",
    6: "cf/be/ad",
    7: "fc/eb/da",
    8: "da/eb/fc",
}
READERS = {"opencv": read_with_opencv, "pillow": read_with_pillow}


def letters(text):
    """Each letter as a square of 16 pixels of its colour."""
    rows = [[COLOURS[letter] for letter in row] for row in text.split("/")]
    return np.kron(np.array(rows, np.uint8), np.ones((16, 16, 1), np.uint8))


def tagged(where, orientation):
    """Options of Pillow's ``save`` that note an orientation."""
    if where == "xmp":
        text = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
        return {"xmp": text.encode()}
    return {"exif": exif(orientation)}


def save(file, pixels, where, orientation):
    image, options = Image.fromarray(pixels), tagged(where, orientation)
    if file.suffix == ".tif" and where == "xmp":
        options = {"tiffinfo": {700: options["xmp"]}}
    if file.suffix == ".png" and where == "xmp":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", options["xmp"].decode())
        options = {"pnginfo": info}
    if file.suffix in (".jpg", ".avif"):
        options |= {"quality": 95, "subsampling": 0 if file.suffix == ".jpg" else "4:4:4"}
    if file.suffix == ".webp":
        options |= {"lossless": True}
    image.save(file, **options)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("where", ["exif", "xmp"])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
def test_every_orientation_of_every_container_is_turned_upright(
    tmp_path, ending, where, orientation
):
    file = tmp_path / f"turned.{ending}"
    save(file, letters(STORED[orientation]), where, orientation)
    upright = letters(STORED[1]).astype(int)
    for library, read in READERS.items():
        pixels = read(str(file), "RGB")
        assert pixels.shape == upright.shape, library
        assert np.abs(pixels - upright).max() <= 20, library  # JPEG and AVIF lose a little
        assert np.array_equal(read(str(file), "BGR"), pixels[:, :, ::-1])
    for decode in (False, True):
        look = look_at(file, decode)
        assert look.upright == (48, 32)
        assert look.stored == letters(STORED[orientation]).shape[1::-1]
        assert [c for c, _ in look.found] == ["image-rotated"] * (orientation > 1)


@pytest.mark.parametrize("chunk", ["exif", "xmp"])
def test_a_png_s_orientation_behind_its_pixels_is_seen(tmp_path, chunk):
    file = tmp_path / "late.png"
    save(file, letters(STORED[6]), chunk, 6)
    content = file.read_bytes()
    kind = {"exif": b"eXIf", "xmp": b"iTXt"}[chunk]
    start = content.index(kind) - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    iend = len(content) - 12
    file.write_bytes(content[:start] + content[end:iend] + content[start:end] + content[iend:])
    for read in READERS.values():
        assert np.array_equal(read(str(file), "RGB"), letters(STORED[1]))
    for decode in (False, True):
        assert look_at(file, decode).upright == (48, 32)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_passed_over(tmp_path, orientation):
    file = tmp_path / "as_it_is.jpg"
    save(file, letters(STORED[1]), "exif", orientation)
    for read in READERS.values():
        assert np.abs(read(str(file), "RGB") - letters(STORED[1]).astype(int)).max() <= 20
    assert look_at(file, True).found == []


def lab():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = Image.fromarray(letters(STORED[1]))
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


ENDINGS_OF_MODES = {
    "RGB": ("png", "bmp", "gif", "tif", "webp", "avif", "tga", "jp2", "jpg"),
    "P": ("png", "bmp", "gif", "tif", "tga"),
    "RGBA": ("png", "bmp", "tif", "webp", "avif", "tga", "jp2"),
    "LA": ("png", "tif", "tga", "jp2"),
    "L": ("png", "bmp", "tif", "tga", "jp2", "jpg"),
    "1": ("png", "bmp", "tif", "tga"),
    "CMYK": ("tif", "jpg", "jp2"),
    "YCbCr": ("tif", "jpg", "jp2"),
    "LAB": ("tif",),
}


@pytest.mark.parametrize(
    ("mode", "ending"),
    [(m, ending) for m, endings in ENDINGS_OF_MODES.items() for ending in endings],
)
def test_both_libraries_read_the_same_colours(tmp_path, mode, ending):
    if (mode, ending) == ("YCbCr", "tif") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 calls the YCbCr TIFFs that it writes truncated")
    image = lab() if mode == "LAB" else Image.fromarray(letters(STORED[1])).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(letters(STORED[1])[:, :, 0]))
    file = str(tmp_path / f"image.{ending}")
    image.save(file)
    found = [code for code, _ in look_at(file, True).found]
    assert "image-unreadable" not in found
    assert ("image-cmyk" in found) == (Image.open(file).mode in ("CMYK", "YCbCr", "LAB"))
    pixels = {library: read(file, "RGB").astype(int) for library, read in READERS.items()}
    assert np.abs(pixels["opencv"] - pixels["pillow"]).max() <= 1
    lossless = ending in ("png", "bmp", "tif", "tga")
    if lossless and mode not in ("LA", "L", "1"):
        assert np.abs(pixels["opencv"] - letters(STORED[1])).max() <= (40 if mode == "LAB" else 2)


def test_an_image_that_only_pillow_decodes_is_read_in_place_of_opencv(tmp_path, monkeypatch):
    file = str(tmp_path / "photo.jpg")
    Image.fromarray(letters(STORED[1])).save(file)
    monkeypatch.setattr(cv2, "imread", lambda *_: None)
    assert np.array_equal(read_with_opencv(file, "BGR"), read_with_pillow(file, "BGR"))


def test_a_mode_that_has_no_colours_is_refused_by_the_check_and_by_both(tmp_path):
    file = tmp_path / "no_colours.tif"
    Image.new("F", (8, 8)).save(file)
    for decode in (False, True):
        assert [code for code, _ in look_at(file, decode).found] == ["image-unreadable"]
    for read in READERS.values():
        with pytest.raises(ValueError, match=r"no_colours\.tif cannot be read as an image"):
            read(str(file), "RGB")
