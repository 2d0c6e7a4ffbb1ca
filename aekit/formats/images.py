"""Image files, and folders of them; a folder per class gives labels.

Pixels come as stored or not at all: what Pillow would convert with loss (16-bit colour, transparency) is refused.
"""

import contextlib
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from aekit.errors import AekitError
from aekit.formats._raw import PIECE, short
from aekit.formats._registry import (
    FOLDER,
    Contents,
    Plan,
    Put,
    Read,
    Stored,
    Want,
    label_array,
    once,
    one_buffer,
    reader,
    reading,
    writer,
)
from aekit.records import Array

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it talks on stderr; its exceptions say the same

ENDINGS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
GREY = {  # what Pillow keeps as it is, by form
    "PNG": ("uint8", "uint16"),
    "JPEG": ("uint8",),
    "TIFF": ("uint8", "uint16", "int32", "float32"),
    "BMP": ("uint8",),
    "WEBP": (),
    "PPM": ("uint8", "uint16"),
}
SETTINGS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},  # lossy all the same
    "WEBP": {"lossless": True, "exact": True},
}
ALWAYS_READ = 1 << 22  # pixels, which hurt nobody: a blank picture has any number in a few bytes
PASSES = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))  # of Adam7
MODES = ("1", "L", "I;16", "I;16B", "I;16L", "I", "F", "RGB")
FAULTS = (
    Image.DecompressionBombError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RuntimeError,
    struct.error,
)


class Picture(NamedTuple):
    """Record.header of an image or a folder of images."""

    black_and_white: bool  # one bit a pixel, which arrives as 0 and 1
    names: tuple[str, ...] = ()  # of the files in a folder, relative to it


def names_of(header: object) -> tuple[str, ...]:
    """The files of a folder of images, a name for each row; none of anything else."""
    return header.names if isinstance(header, Picture) else ()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    with reading(path, *FAULTS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes below Pillow's limit, and of metadata that nobody reads
        with Image.open(path, formats=sorted(set(ENDINGS.values()))) as image:
            yield image


def _pixels(image: ImageFile.ImageFile, path: Path) -> Array:
    """One picture as (H, W) or (H, W, 3), as stored."""
    mode = image.mode
    size, declared = path.stat().st_size, image.width * image.height
    if declared > max(ALWAYS_READ, 1032 * size):  # deflate's bound, and that of JPEG's blocks
        raise AekitError(
            f"{path}: declares {image.width} x {image.height} pixels, its {size} bytes cannot hold them; copy it again"
        )
    if image.format == "PNG":
        _check_chunks(path, size)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (tile[1] for tile in image.tile) if box]
    there = sum(areas)
    if there < declared and image.format != "WEBP":  # which has no tiles before it is loaded
        raise AekitError(f"{path}: declares {image.width} x {image.height} pixels, {there} are there; copy it again")
    if _loses(image):
        raise AekitError(f"{path}: holds finer values than Pillow keeps; save it as 8-bit colour, 16-bit grey or .npy")
    if mode in ("LA", "PA", "RGBA") or ("transparency" in image.info and mode in ("L", "P", "RGB")):
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            raise AekitError(f"{path}: is transparent in places; save it without an alpha channel")
    plain = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "LA": "L"}.get(mode, mode)
    if plain not in MODES:
        raise AekitError(f"{path}: has the colour mode {mode}; save it as grey or RGB")
    array: Array = np.array(image.convert(plain) if plain != mode else image)
    if image.format == "PNG" and (image.info.get("interlace") or not array[-1].any()):
        _check_png(path)
    if mode == "1":  # bytes of 0 and 255
        array = (array.view(np.uint8) != 0).astype(np.uint8)
    if mode == "I" and image.format in ("PNG", "PPM"):  # Pillow's way with 16-bit grey there
        array = array.astype(np.uint16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_chunks(path: Path, size: int) -> None:
    """Raises AekitError where a PNG's chunk is longer than the file, for which Pillow would take memory."""
    with path.open("rb") as f:
        at = 8
        while at + 8 <= size:
            f.seek(at)
            head = f.read(8)
            if head[4:] == b"IEND":
                return
            at += 12 + int.from_bytes(head[:4], "big")
    if at > size:
        raise short(path, f"its chunks declare {at} bytes, the file has {size}")


def _check_png(path: Path) -> None:
    """Raises AekitError where pixels are missing: Pillow passes black ones for them."""
    with path.open("rb") as f:
        f.seek(16)
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", f.read(13))
        bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        passes = PASSES if interlaced else ((0, 1, 0, 1),)
        sides = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, dx, y, dy in passes]
        wanted = sum(h * (1 + -(-w * bits // 8)) for w, h in sides if w > 0 and h > 0)
        f.seek(4, os.SEEK_CUR)
        unzip, there = zlib.decompressobj(), 0
        while len(head := f.read(8)) == 8 and there < wanted:
            length = int.from_bytes(head[:4], "big")
            data = f.read(length)
            f.seek(4, os.SEEK_CUR)
            while head[4:] == b"IDAT" and data and there < wanted:
                there += len(unzip.decompress(data, PIECE))
                data = unzip.unconsumed_tail
    if there < wanted:
        raise short(path, f"its header declares {wanted} bytes of pixels, {there} are there")


def _loses(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would round or scale the values while decoding."""
    if not image.tile:
        return False
    codec, args = image.tile[0][0], image.tile[0][3]
    values = args if isinstance(args, tuple) else (args,)
    raw = str(values[0]) if values else ""
    if codec.startswith("ppm") and len(values) > 1:
        return values[1] != 255 and not (values[1] == 65535 and image.mode == "I")
    return (";16" in raw and not raw.startswith("I;")) or raw.startswith(("F;64", "I;32N"))


@reader(*ENDINGS)
def read_image(path: Path, want: Want) -> Contents:
    """One picture as one row; the pages of a TIFF as rows."""
    with _opened(path) as image:
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and image.format in ("PNG", "WEBP"):
            raise AekitError(f"{path}: is animated, {pages} pictures; save each as a file of its own, in one folder")
        pages = pages if image.format == "TIFF" else 1
        black_and_white = image.mode == "1"
        first = _pixels(image, path)

    take = one_buffer(first.shape, first.dtype)

    def read(start: int, stop: int) -> Array:
        rows = take(stop - start)
        with _opened(path) as image:
            for page in range(start, stop):
                image.seek(page)
                rows[page - start] = _like_first(_pixels(image, path), f"{path}: page {page + 1}", first, "page 1")
        return rows

    return _contents((pages, *first.shape), first.dtype, read, Picture(black_and_white))


def _contents(shape: tuple[int, ...], dtype: np.dtype[np.generic], read: Read, header: Picture) -> Contents:
    return Contents({"": Stored(shape, dtype, read)}, "image", 3 if len(shape) == 4 else None, header=header)


def _like_first(pixels: Array, place: str, first: Array, place_of_first: str) -> Array:
    """The same pixels; raises AekitError where size or mode are not those of the first picture."""
    if pixels.shape == first.shape and pixels.dtype == first.dtype:
        return pixels
    forms = [
        f"{item.shape[1]} x {item.shape[0]} {'RGB' if item.ndim == 3 else 'grey'} of {item.dtype}"
        for item in (pixels, first)
    ]
    raise AekitError(f"{place}: is {forms[0]}, {place_of_first} is {forms[1]}; bring all to one size and mode")


@reader(FOLDER)
def read_folder(path: Path, want: Want) -> Contents:
    """The images of a folder, sorted by name; of a folder of folders, each named as its class."""
    with reading(path):
        names, folders = _listing(path)
        if names and folders:
            raise AekitError(
                f"{path}: holds images beside folders ({names[0]}, {folders[0]}); put each image into a folder"
            )
        for folder in folders:
            inside, deeper = _listing(path / folder)
            if deeper:
                raise AekitError(f"{path / folder}: holds folders; name it, or have one folder per class")
            names += [f"{folder}/{name}" for name in inside]
    if not names:
        raise AekitError(
            f"{path}: holds neither data files nor images ({', '.join(ENDINGS)}); name a folder that does, or one file"
        )
    with _opened(path / names[0]) as image:
        black_and_white = image.mode == "1"
        first = _pixels(image, path / names[0])
    take = one_buffer(first.shape, first.dtype)

    def read(start: int, stop: int) -> Array:
        rows = take(stop - start)
        for row, name in enumerate(names[start:stop]):
            with _opened(path / name) as image:
                rows[row] = _like_first(_pixels(image, path / name), str(path / name), first, str(path / names[0]))
        return rows

    contents = _contents((len(names), *first.shape), first.dtype, read, Picture(black_and_white, tuple(names)))
    if folders:
        labels = label_array([name.split("/")[0] for name in names])
        contents.arrays["label"] = Stored(labels.shape, labels.dtype, once(lambda: labels))
        contents = replace(contents, labels="label")
    return contents


def _listing(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the images and of the folders in a folder, sorted; hidden ones are left out."""
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    images = [entry.name for entry in entries if Path(entry.name).suffix.lower() in ENDINGS and entry.is_file()]
    return sorted(images), sorted(entry.name for entry in entries if entry.is_dir())


@writer(*ENDINGS)
@contextlib.contextmanager
def write_image(path: Path, plan: Plan) -> Iterator[Put]:
    """One picture; several only as the pages of a TIFF."""
    form = ENDINGS[plan.ending]
    if plan.shape[0] > 1 and form != "TIFF":
        raise plan.refuse(
            f"one {plan.ending} file holds one picture, not {plan.shape[0]}", "name a folder, without an ending"
        )
    pages: list[Image.Image] = []
    picture = _painter(plan, form)
    yield lambda rows: pages.extend(picture(row) for row in rows)
    if pages:
        more = {"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}
        pages[0].save(path, form, **more, **SETTINGS.get(form, {}))


@writer(FOLDER)
@contextlib.contextmanager
def write_folder(path: Path, plan: Plan) -> Iterator[Put]:
    """Files named as those of the folder that the rows came from, else numbered PNGs."""
    names = names_of(plan.like.header)
    if len(names) != plan.shape[0]:
        digits = len(str(plan.shape[0] - 1))
        names = tuple(f"{row:0{digits}}.png" for row in range(plan.shape[0]))
    path.mkdir()
    left = iter(names)

    def put(rows: Array) -> None:
        for row in rows:
            name = next(left)
            form = ENDINGS[Path(name).suffix.lower()]
            (path / name).parent.mkdir(exist_ok=True)
            _painter(plan, form)(row).save(path / name, form, **SETTINGS.get(form, {}))

    yield put


def _painter(plan: Plan, form: str) -> Callable[[Array], Image.Image]:
    """A function that makes a picture of one row, checked against what a file of this form can hold."""
    item = plan.shape[1:]
    if len(item) == 3 and plan.like.channel_axis == 1:
        item = (item[1], item[2], item[0])
    grey = len(item) == 2 or (len(item) == 3 and item[2] == 1)
    dtypes = GREY[form] if grey else ("uint8",)
    if not grey and not (len(item) == 3 and item[2] == 3):
        raise plan.refuse(f"images are grey or RGB, not of shape {plan.shape[1:]}", "name a .npy file")
    if plan.dtype.name not in dtypes:
        raise plan.refuse(
            f"{form} images {'in grey' if grey else 'in colour'} hold {' or '.join(dtypes)}, not {plan.dtype}",
            "name a .npy file",
        )
    header = plan.like.header
    black_and_white = isinstance(header, Picture) and header.black_and_white and plan.dtype == np.uint8

    def paint(row: Array) -> Image.Image:
        pixels = np.moveaxis(row, 0, 2) if row.ndim == 3 and plan.like.channel_axis == 1 else row
        pixels = np.ascontiguousarray(pixels.reshape(item[:2]) if grey else pixels)
        return Image.fromarray(pixels.astype(np.bool_)) if black_and_white else Image.fromarray(pixels)

    return paint
