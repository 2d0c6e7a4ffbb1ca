"""FITS, by astropy: an image is one row, a cube a row per plane, a spectrum one series; tables are not read.

Values come as BZERO and BSCALE make them, blank ones as NaN. What was read is written with the cards of its own header
and those of the primary one, other extensions stay behind.
"""

import contextlib
import gzip
import io
import itertools
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from aekit.formats._raw import PIECE, check_deflated, check_unzipped, raw_writer, short
from aekit.formats._registry import (
    Contents,
    Plan,
    Put,
    Stored,
    Want,
    library,
    once,
    quiet,
    reader,
    reading,
    shown,
    writer,
)
from aekit.formats.arrays import unread
from aekit.records import Array

BLOCK = 2880  # bytes; a file is made of whole ones
MOST_COUNTED = 999  # axes of an image, columns of a table
MOST_HEADER = 1 << 22  # bytes
PACKED = ("RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS")  # astropy's decoders of others write beyond their buffers
CHECKED = tuple(
    b"BITPIX NAXIS ZNAXIS PCOUNT GCOUNT TFIELDS TFORM ZIMAGE ZTILE ZNAME ZVAL ZCMPTYPE HIERARCH".split()
)  # cards
COLUMN_BYTES = {"B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "P": 8, "Q": 16}  # of a value, in tables of tiles
DECODERS = {"BYTEPIX": (1, 2, 4, 8), "BLOCKSIZE": (16, 32, 64, 128)}  # what settings of tiles may be
BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
SHIFTED = {"i1": "u1", "u2": "i2", "u4": "i4", "u8": "i8"}  # stored as the other type, with BZERO
OF_VALUES = ("BSCALE", "BZERO", "BLANK", "DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM")  # cards that do not stay true

Hdu = Any  # astropy's: header and data unit


class Header(NamedTuple):
    """Record.header of an image."""

    primary: Any  # astropy's header of the file
    own: Any  # and of the image; None where that is the primary one
    axes: tuple[int, ...]  # as stored, the fastest one last


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int]]:
    """astropy's list of a file's HDUs, and the bytes of the file, unzipped."""
    fits, told = library("astropy.io.fits", path), library("astropy.utils.exceptions", path)
    with reading(path, Exception), quiet(), contextlib.ExitStack() as stack:  # astropy raises anything at damage
        file: BinaryIO = stack.enter_context(path.open("rb"))
        if path.suffix.lower() == ".gz":
            file = _unzipped(path, stack.enter_context(gzip.open(file)))
        if file.read(6) != b"SIMPLE":
            raise ValueError("it does not begin as FITS files do")
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        warnings.filterwarnings("error", r"(?s).*validating header", told.AstropyWarning)  # else it leaves the rest out
        yield _load(fits, file, stack), size


def _unzipped(path: Path, file: Any) -> BinaryIO:
    content = bytearray()
    while piece := file.read(PIECE):
        content += piece
        check_unzipped(path, len(content))
    return io.BytesIO(content)


def _load(fits: Any, file: BinaryIO, stack: contextlib.ExitStack) -> Any:
    """astropy's list of all HDUs, whose headers are checked one by one before astropy believes them."""
    _check_header(fits, file, 0)
    hdus = stack.enter_context(fits.open(file, memmap=False, lazy_load_hdus=True))
    at = 0
    for hdu in hdus:
        place = hdu.fileinfo()
        if place["datLoc"] + place["datSpan"] <= at:
            raise ValueError("an extension of negative size")
        at = place["datLoc"] + place["datSpan"]
        _check_header(fits, file, at)
    return hdus


def _check_header(fits: Any, file: BinaryIO, at: int) -> None:
    """Raises ValueError for counts that astropy would count up to, and settings of tiles that crash its decoders."""
    file.seek(at)
    content = bytearray()
    cards: list[bytes] = []
    while b"END" not in cards[-36:] and (block := file.read(BLOCK)):
        content += block
        cards += [block[i : i + 80].rstrip() for i in range(0, len(block), 80)]
        if len(content) > MOST_HEADER:
            raise ValueError("a header without an end")
    file.seek(at)
    header = fits.Header.fromstring(b"".join(card.ljust(80) for card in cards if card.upper().startswith(CHECKED)))
    prefix = "Z" if header.get("ZIMAGE", False) else ""
    counts = {name: header.get(name, 0) for name in ("NAXIS", "ZNAXIS", "TFIELDS")}  # none behind the last extension
    wrong = [name for name, count in counts.items() if type(count) is not int or not 0 <= count <= MOST_COUNTED]
    axes = [] if wrong else range(1, counts[f"{prefix}NAXIS"] + 1)
    sizes = [f"{kind}NAXIS{i}" for kind in {"", prefix} for i in range(1, 0 if wrong else counts[f"{kind}NAXIS"] + 1)]
    wrong += [name for name in sorted((*sizes, "BITPIX", "PCOUNT", "GCOUNT")) if type(header.get(name, 0)) is not int]
    if prefix and not wrong:
        wrong += [f"ZTILE{i}" for i in axes if not 1 <= header.get(f"ZTILE{i}", 1) <= max(1, header[f"ZNAXIS{i}"])]
        for name, number in [(value, name[5:]) for name, value in header.items() if name.startswith("ZNAME")]:
            if name in DECODERS and header[f"ZVAL{number}"] not in DECODERS[name]:
                wrong.append(name)
        if header["ZCMPTYPE"] not in PACKED:
            raise ValueError(
                f"tiles packed by {header['ZCMPTYPE']} are not read, only by {', '.join(PACKED)}: unpack it first"
            )
        if not _heap_holds(header, content, file):
            wrong.append("length of a tile")
        file.seek(at)
    if wrong:
        raise ValueError(f"its header tells no possible {' and '.join(wrong)}")


def _heap_holds(header: Any, content: bytearray, file: BinaryIO) -> bool:
    """Whether the packed tiles of a table, which begins behind its header, are no longer than all of them together."""
    start = file.tell() + len(content)
    width, rows = header["NAXIS1"], header["NAXIS2"]
    if not 0 <= width * rows <= file.seek(0, io.SEEK_END) - start:
        return False
    file.seek(start)
    table = np.frombuffer(file.read(width * rows), np.uint8).reshape(rows, width)
    at = 0
    for column in range(1, header["TFIELDS"] + 1):
        form = str(header[f"TFORM{column}"]).lstrip("01")[0]
        size = COLUMN_BYTES[form]
        if form in "PQ":
            lengths = np.ascontiguousarray(table[:, at : at + size]).view(f">i{size // 2}")[:, 0]
            if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= header["PCOUNT"]:
                return False
        at += size
    return True


@reader(".fits", ".fit", ".fts", ".fits.gz", needs="astropy")
def read_fits(path: Path, want: Want) -> Contents:
    """The images of a file, by the names of their extensions, or by their numbers where they have none."""
    arrays: dict[str, Stored] = {}
    with _opened(path) as (hdus, size):
        primary = hdus[0].header.copy()
        for index, hdu in enumerate(hdus):
            name = _name(hdu, index, want.name, arrays)
            kind = type(hdu).__name__
            if kind in ("BinTableHDU", "TableHDU"):
                arrays[name] = unread(path, name, (hdu.header["NAXIS2"],), "a table")
            elif kind not in ("PrimaryHDU", "ImageHDU", "CompImageHDU"):
                raise ValueError(f"extension {index} is none that astropy reads")
            elif math.prod(hdu.shape) and hdu.shape:
                _check_size(path, hdu, size)
                header = Header(primary, hdu.header.copy() if index else None, hdu.shape)
                arrays[name] = _image(path, index, hdu)._replace(header=header)
    return Contents(arrays)


def _name(hdu: Hdu, index: int, wanted: str | None, taken: dict[str, Stored]) -> str:
    """What an HDU is called: as the user does, if it is the one, else by its name and version, else by its number."""
    own = str(hdu.header.get("EXTNAME", index)).strip()
    names = [own, f"{own},{hdu.header.get('EXTVER', 1)}", str(index)]
    if wanted is not None and wanted.upper() in map(str.upper, names):
        names.insert(0, wanted)
    return next((name for name in names if name not in taken), f"extension {index}")


def _check_size(path: Path, hdu: Hdu, size: int) -> None:
    """Raises AekitError where the file does not hold the values that it declares."""
    place, bits = hdu.fileinfo(), abs(hdu.header["BITPIX"])
    declared = math.prod(hdu.shape) * bits // 8
    if type(hdu).__name__ == "CompImageHDU":
        check_deflated(path, declared, size)
        declared = 0
    end = place["datLoc"] + max(place["datSpan"], declared)
    if size < end:
        raise short(path, f"{shown(hdu.name)} declares values up to byte {end}, the file has {size}")


def _image(path: Path, index: int, hdu: Hdu) -> Stored:
    """Rows of one image; axes of length 1 before the last three are left out."""
    axes = hdu.shape
    left_out = 0
    while len(axes) - left_out > 3 and axes[left_out] == 1:
        left_out += 1
    shape = (1, *axes) if len(axes) == 2 else axes[left_out:]
    dtype = hdu.section[(slice(1),) * len(axes)].dtype.newbyteorder("=")

    def read(start: int, stop: int) -> Array:
        if start == stop:
            return np.empty((0, *shape[1:]), dtype)
        with _opened(path) as (hdus, _):
            rows = slice(None) if len(axes) == 2 else slice(start, stop)
            values: Array = hdus[index].section[(0,) * left_out + (rows,)]
            return values.astype(dtype, copy=False).reshape(stop - start, *shape[1:])

    zipped = path.suffix.lower() == ".gz"
    return Stored(shape, dtype, once(lambda: read(0, shape[0])) if zipped else read)


@writer(".fits", ".fit", ".fts", ".fits.gz")
@contextlib.contextmanager
def write_fits(path: Path, plan: Plan) -> Iterator[Put]:
    """The image with the headers that it came with, else a file of its own."""
    header = plan.like.header
    if not isinstance(header, Header) or plan.shape != plan.like.shape:
        header = None
    axes = header.axes if header else plan.shape[1:] if plan.shape[0] == 1 else plan.shape
    if header is None and (len(plan.shape) > 3 or (len(plan.shape) == 2 and plan.shape[0] > 1)):
        raise plan.refuse(
            f"a FITS file holds a cube, an image or one spectrum, not an array of {plan.shape}", "name a .npy file"
        )
    code = plan.dtype.str[1:]
    if code not in (*BITPIX, *SHIFTED):
        raise plan.refuse(f"a FITS file holds whole numbers, float32 or float64, not {plan.dtype}", "name a .npy file")
    stored = np.dtype(SHIFTED.get(code, code)).newbyteorder(">")
    with contextlib.ExitStack() as stack:
        f = cast(BinaryIO, stack.enter_context(path.open("wb")))
        if plan.ending.endswith(".gz"):  # no name and time inside: equal arrays give equal files
            f = cast(BinaryIO, stack.enter_context(gzip.GzipFile("", "wb", fileobj=f, mtime=0)))
        put = stack.enter_context(raw_writer(f, _cards(plan, header, code, axes), stored))
        yield lambda rows: put(_shifted(rows) if code in SHIFTED else rows)
        f.write(bytes(-math.prod(axes) * stored.itemsize % BLOCK))


def _cards(plan: Plan, header: Header | None, code: str, axes: tuple[int, ...]) -> bytes:
    """The headers before the values."""
    fits = library("astropy.io.fits", plan.out)
    with quiet():
        first = fits.PrimaryHDU(header=header.primary if header else None)
        last = fits.ImageHDU(header=header.own) if header and header.own is not None else first
        for kept, name in itertools.product((first, last), OF_VALUES):
            kept.header.remove(name, ignore_missing=True, remove_all=True)
        last.header["BITPIX"], last.header["NAXIS"] = BITPIX[SHIFTED.get(code, code)], len(axes)
        for number, length in enumerate(reversed(axes), 1):
            last.header.set(f"NAXIS{number}", length, after="NAXIS" if number == 1 else f"NAXIS{number - 1}")
        if code in SHIFTED:
            last.header["BSCALE"], last.header["BZERO"] = (
                1,
                -128 if code == "i1" else 1 << (8 * plan.dtype.itemsize - 1),
            )
        hdus = [first] if last is first else [first, last]
        return b"".join(hdu.header.tostring().encode("ascii") for hdu in hdus)


def _shifted(rows: Array) -> Array:
    """Whole numbers less BZERO: with their highest bit turned, as the other type of that size."""
    code = rows.dtype.str[1:]
    unsigned = np.dtype(f"u{rows.itemsize}")
    turned: Array = rows.view(unsigned) ^ np.array(1 << (8 * rows.itemsize - 1), unsigned)
    return turned.view(SHIFTED[code])
