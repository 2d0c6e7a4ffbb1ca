"""Hostile input: mutants of small good files through every reader, and through the model, resume and config files.

    python bench/fuzz.py                                    # 5,000 mutants of each format -> results/fuzz.csv
    python bench/fuzz.py npy hdf5 --count 20000 --seed 3    # of some: their rows are replaced; fewer are not written
    python bench/fuzz.py hdf5 --seed 3 --only 1234          # one of them, in this process, with its traceback
    python bench/fuzz.py "csv, tsv" --guided 120            # for so many seconds, led by coverage (extra fuzz)

A mutant is told by format, seed and number, whatever came before it. It is opened as the verbs do, all its rows are
read, and `info` looks at it. Anything but a result or one AekitError line that names the file is a failure, as are more
than 5 s of computing, 1 GiB of memory beyond the program's own, the end of the process, and whatever a file has no
business to cause: a program started, a connection, a file opened for writing or far from this one, text run as code.
"""

import argparse
import contextlib
import csv
import dis
import faulthandler
import gzip
import io
import json
import mmap
import os
import re
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # which make the good files

import good_files
import torch

import aekit
from aekit import checkpoint, formats, inference, workflows
from aekit.errors import AekitError
from aekit.formats._registry import READERS
from aekit.records import record_of
from aekit.training import reconstructs
from aekit.workflows import common

RESULTS = Path(__file__).parent / "results" / "fuzz.csv"
COUNT = 5000
CHUNK = 250  # mutants of one child
SECONDS = 5  # of computing, for one mutant
WAIT = 60  # seconds without a sign of life
MEMORY = 1 << 30  # bytes beyond what the process has before the first mutant
TRACED = 4  # every so manieth mutant tells which lines of the reader ran
VALUES = 1 << 18  # read at once

# --- mutations: each takes a random generator, a file's bytes and those of another good file of the format -----------

Mutation = Callable[[Random, bytes, bytes], bytes]
WIDTHS = (1, 2, 4, 8)
EXTREMES = (0, 1, 2, 3, 7, 8, 16, 64, 100, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 1 << 20)
EXTREMES = (*EXTREMES, *(n + d for n in (1 << 24, 1 << 30, 1 << 31, 1 << 32, 1 << 53, 1 << 63) for d in (-1, 0)))
NUMBERS = (
    "0",
    "1",
    "-1",
    "00",
    "1e400",
    "-1e400",
    "1e-400",
    "nan",
    "inf",
    "0x10",
    "1_0",
    "1.5",
    "",
    "9" * 20,
    "9" * 400,
)
NUMBERS = (*NUMBERS, "9" * 400, *(str(n) for n in EXTREMES))
WORDS = (
    None,
    True,
    False,
    "",
    "x",
    "../../../etc/passwd",
    "nan",
    "os.system",
    [],
    {},
    [[]],
    1.5,
    -1,
    -(1 << 63),
    1e308,
)
WORDS = (*WORDS, float("nan"), float("inf"), *EXTREMES)


def _place(rng: Random, content: bytes) -> int:
    """Half of them near the beginning, where headers are."""
    return rng.randrange(min(len(content), 400) if rng.random() < 0.5 else len(content)) if content else 0


def flip(rng: Random, content: bytes, other: bytes) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if out:
            out[_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(out)


def insert(rng: Random, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 200))) + content[at:]


def overwrite(rng: Random, content: bytes, other: bytes) -> bytes:
    at, made = _place(rng, content), rng.choice((b"\0", b"\xff", b" ", rng.randbytes(1))) * rng.choice((1, 4, 8, 64))
    return content[:at] + made + content[at + len(made) :]


def delete(rng: Random, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.choice((1, 2, 4, 8, 100)) :]


def repeat(rng: Random, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    part = content[at : at + rng.choice((1, 4, 8, 80, 512))]
    return content[:at] + part * rng.choice((2, 3, 50)) + content[at:]


def truncate(rng: Random, content: bytes, other: bytes) -> bytes:
    return content[: _place(rng, content)]


def splice(rng: Random, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + other[(at if rng.random() < 0.5 else _place(rng, other)) :]


def integer(rng: Random, content: bytes, other: bytes) -> bytes:
    """An extreme number over a place of 1, 2, 4 or 8 bytes."""
    width, at = rng.choice(WIDTHS), _place(rng, content)
    number = rng.choice((*EXTREMES, len(content), -1, -2)) % (1 << 8 * width)
    return content[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + content[at + width :]


def digits(rng: Random, content: bytes, other: bytes) -> bytes:
    """Another number in the place of one that is written as text."""
    found = list(re.finditer(rb"\d+", content[: rng.choice((400, 4000, 1 << 20))]))
    if not found:
        return flip(rng, content, other)
    spot = rng.choice(found)
    return content[: spot.start()] + rng.choice(NUMBERS).encode() + content[spot.end() :]


ANY = (flip, flip, insert, overwrite, delete, repeat, truncate, splice, integer, integer, digits)
TEXT: tuple[Mutation, ...] = (digits, digits, digits)


def anything(rng: Random, content: bytes, other: bytes, own: Sequence[Mutation] = ()) -> bytes:
    """One to four mutations, half of them of the format's own."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        content = rng.choice(own if own and rng.random() < 0.5 else ANY)(rng, content, other)
    return content


def gzipped(rng: Random, content: bytes, other: bytes) -> bytes:
    """What is inside is changed and packed again, so that the checksum is right."""
    try:
        inside = anything(rng, gzip.decompress(content), gzip.decompress(other), TEXT)
    except (OSError, EOFError, zlib.error):
        return flip(rng, content, other)
    return gzip.compress(inside * rng.choice((1, 1, 1, 1, 20)), 1, mtime=0)


def zipped(rng: Random, content: bytes, other: bytes) -> bytes:
    """One member of a zip archive is changed, the archive is whole."""
    out = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
            names = archive.namelist()
            chosen = rng.choice(names)
            for name in names:
                inside = archive.read(name)
                new.writestr(name, npy_header(rng, inside, inside) if name == chosen else inside)
    except (
        ValueError,
        IndexError,
        OSError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
    ):
        return flip(rng, content, other)
    return out.getvalue()


def npy_header(rng: Random, content: bytes, other: bytes) -> bytes:
    """The text of an .npy header is changed, its length is right."""
    length = int.from_bytes(content[8:10], "little")
    text = anything(rng, content[10 : 10 + length], other[10:100], TEXT)[:65535]
    return content[:8] + struct.pack("<H", len(text)) + text + content[10 + length :]


def png_chunks(rng: Random, content: bytes, other: bytes) -> bytes:
    """One chunk is changed, and what is packed inside; lengths and checksums are right."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    out = content[:8]
    chosen = rng.randrange(len(chunks)) if chunks else 0
    for i, (kind, data) in enumerate(chunks):
        if i == chosen and kind == b"IDAT" and rng.random() < 0.5:
            with contextlib.suppress(zlib.error):
                data = zlib.compress(anything(rng, zlib.decompress(data), data))
        elif i == chosen:
            data = integer(rng, data, data) if rng.random() < 0.5 else anything(rng, data, data)
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


def card(rng: Random, content: bytes, other: bytes) -> bytes:
    """The value of one FITS card is changed, all cards stay where they are."""
    spots = [m.start() for m in re.finditer(rb"[A-Z0-9_-]{1,8} *= ", content) if m.start() % 80 == 0]
    if not spots:
        return flip(rng, content, other)
    at = rng.choice(spots) + 10
    value = rng.choice((*NUMBERS, "T", "F", "'x'", "'IMAGE'", "'BINTABLE'", "'RICE_1'"))[:70].rjust(20).ljust(70)
    return content[:at] + value.encode() + content[at + 70 :]


def changed(rng: Random, value: Any) -> Any:
    """JSON with one change at some place of it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        act = rng.random()
        if act < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if act < 0.2:
            return {(rng.choice((*value, "x", "")) if k == key else k): v for k, v in value.items()}
        return {k: changed(rng, v) if k == key else v for k, v in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], *([changed(rng, value[at])] * rng.choice((0, 1, 1, 1, 2, 30))), *value[at + 1 :]]
    if isinstance(value, str) and value[:1] == "{":  # JSON inside JSON, as in a model file's header
        return json.dumps(changed(rng, json.loads(value)))
    if isinstance(value, int) and rng.random() < 0.3:
        return value + rng.choice((-1, 1, -value, value, 99 * value))
    return rng.choice(WORDS)


def tree(rng: Random, content: bytes, other: bytes) -> bytes:
    """JSON, changed as what it says."""
    try:
        value = json.loads(content)
        for _ in range(rng.choice((1, 1, 2))):
            value = changed(rng, value)
        return json.dumps(value).encode()
    except (ValueError, RecursionError):
        return flip(rng, content, other)


def nested(rng: Random, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + rng.choice((b"[", b'{"a":')) * rng.choice((100, 100_000)) + content[at:]


def json_header(rng: Random, content: bytes, other: bytes) -> bytes:
    """The JSON of a safetensors header is changed, its length is right."""
    length = int.from_bytes(content[:8], "little")
    text = rng.choice((tree, tree, tree, tree, digits, nested))(rng, content[8 : 8 + length], b"")
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


# --- what is tried --------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Files by their names beside each other, and the one that is opened: "" for the folder."""

    opened: str
    files: dict[str, bytes]


@dataclass(frozen=True)
class Target:
    seeds: Callable[[Path], list[Case]]
    use: Callable[[Path], None]
    code: Sequence[Callable[..., Any]]  # whose lines are counted, with all that they call in aekit
    own: Sequence[Mutation] = ()
    claims: bool = True  # else the file holds wishes, as flags do: for memory too, and the line names the wish


def use_data(path: Path) -> None:
    record = common.open_input(str(path))
    step = max(1, VALUES // record.values_per_row)
    for start in range(0, len(record), step):
        record.read(start, min(start + step, len(record)))
    workflows.info(str(path))
    if path.suffix in (".npz", ".h5", ".safetensors"):
        with contextlib.suppress(AekitError):
            named = formats.open_record(f"{path}:x", labels="label")
            named.read(0, len(named))


def use_model(path: Path) -> None:
    """Loaded, looked at, and asked for the scores of two rows."""
    trained = common.load_model(str(path))
    workflows.info(str(path))
    if np.prod(trained.sample_shape) < 1 << 16 and reconstructs(trained.network):
        rows = record_of(np.zeros((2, *trained.sample_shape), np.float32), "rows")
        with contextlib.suppress(AekitError):  # rows that do not fit, say
            inference.score(trained, rows, inference.default_run(trained, "cpu", None, 2), lambda done: None, True)


def use_config(path: Path) -> None:
    with contextlib.chdir(path.parent):
        workflows.train(config=path.name, dry_run=True)


def use_resume(path: Path) -> None:
    checkpoint.load_resume(path)


def good(*endings: str, odd: Sequence[str] = ()) -> Callable[[Path], list[Case]]:
    """Files of these endings as good_files writes them; a header of WFDB has its signals beside it."""

    def seeds(folder: Path) -> list[Case]:
        common, rare = folder / "common", folder / "rare"
        common.mkdir()
        rare.mkdir()
        paths = [good_files.write_good(common, ending) for ending in endings]
        paths += [path for path in good_files.write_odd(common) if path.name in odd]
        paths += [path for path in good_files.write_rare(rare) if path.suffix in endings]
        files = [(p, p.with_suffix(".dat")) if p.suffix == ".hea" else (p,) for p in paths]
        return [Case(each[0].name, {p.name: p.read_bytes() for p in each}) for each in files]

    return seeds


def ucr_seeds(folder: Path) -> list[Case]:
    rows = good_files.X.round(4)
    lines = [f"{1 + i % 2}\t" + "\t".join(map(str, row)) for i, row in enumerate(rows)]
    spaced = [f" {1 + i % 2}.0  " + "  ".join(f"{v:.7e}" for v in row) for i, row in enumerate(rows)]
    return [Case("a.txt", {"a.txt": "\n".join(text).encode()}) for text in (lines, spaced)]


def table_seeds(folder: Path) -> list[Case]:
    """With words, times, an index, labels, quotes and gaps."""
    words = "".join(
        f'{i},{["red", "green", "blue"][i % 3]},"a, {i % 2}",{i * 1.5},{"?" if i == 7 else i}\n' for i in range(24)
    )
    times = "".join(f"2024-01-{1 + i:02}T00:00:00,{i},{i % 5}.5,{i % 2}\n" for i in range(24))
    texts = {"words": "id,colour,said,x,y\n" + words, "times": "time,a,b,label\n" + times}
    files = [Case(f"{name}.csv", {f"{name}.csv": text.encode()}) for name, text in texts.items()]
    return [*good(".csv", ".tsv", odd=["table.csv"])(folder), *files]


def zarr_seeds(folder: Path) -> list[Case]:
    """A folder of files, each of which may be damaged."""
    path = good_files.write_good(folder, ".zarr")
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
    return [Case(path.name, files)]


def folder_seeds(folder: Path) -> list[Case]:
    pixels = [good_files.write_good(folder, ending).read_bytes() for ending in (".png", ".bmp")]
    return [
        Case("", {f"{kind}/{i}.png": pixels[0] for kind in ("cat", "dog") for i in range(2)}),
        Case("", {"a.bmp": pixels[1], "b.bmp": pixels[1]}),
    ]


def model_seeds(folder: Path) -> list[Case]:
    return [Case("model.safetensors", {"model.safetensors": p.read_bytes()}) for p in good_files.write_models(folder)]


def resume_seeds(folder: Path) -> list[Case]:
    tensors = {"weight": torch.ones(3, 4), "bias": torch.zeros(3)}
    state = {
        "model": tensors, "optimisers": [{f"exp_avg/{name}": value + 1 for name, value in tensors.items()}],
        "pictures": {"1": torch.zeros(2, 6)}, "epoch": 3, "step": 12, "best": 0.5, "digest": "abc", "threads": 1,
    }  # fmt: skip
    checkpoint.save_resume(state, folder / "resume.safetensors")
    return [Case("resume.safetensors", {"resume.safetensors": (folder / "resume.safetensors").read_bytes()})]


def config_seeds(folder: Path) -> list[Case]:
    data = {"data.npy": good_files.write_good(folder, ".npy").read_bytes()}
    options = {"epochs": 2, "batch_size": 4, "lr": 0.001, "seed": 0, "val": "0.2", "corrupt": ["gaussian:0.1"]}
    recipes = {
        "stacked": {"hidden": [8], "latent": 2},
        "conv": {"latent": 3, "activation": "relu"},
        "vae": {"beta": 2.0},
    }
    configs = [
        json.dumps({"recipe": recipe, "data": "data.npy", "options": {**options, **more}, "own_input": False}).encode()
        for recipe, more in recipes.items()
    ]
    return [Case("config.json", {"config.json": config, **data}) for config in configs]


def _reader(ending: str) -> list[Callable[..., Any]]:
    return [READERS[ending]]


PNG, JSON = (png_chunks, png_chunks), (json_header, json_header, json_header)
TARGETS: dict[str, Target] = {
    "npy": Target(good(".npy", odd=["fortran.npy"]), use_data, _reader(".npy"), (npy_header,)),
    "npz": Target(good(".npz", odd=["packed.npz"]), use_data, _reader(".npz"), (zipped,)),
    "hdf5": Target(good(".h5", odd=["chunked.h5"]), use_data, _reader(".h5")),
    "parquet": Target(good(".parquet"), use_data, _reader(".parquet")),
    "zarr": Target(zarr_seeds, use_data, _reader(".zarr"), (tree, digits)),
    "csv, tsv": Target(table_seeds, use_data, _reader(".csv"), TEXT),
    "csv.gz": Target(good(".csv.gz", ".tsv.gz"), use_data, _reader(".csv"), (gzipped,)),
    "arff": Target(good(".arff"), use_data, _reader(".arff"), TEXT),
    "UCR text": Target(ucr_seeds, use_data, _reader(".txt"), TEXT),
    "idx": Target(good(".idx"), use_data, _reader(".idx")),
    "idx.gz": Target(good(".idx.gz"), use_data, _reader(".idx"), (gzipped,)),
    "safetensors": Target(good(".safetensors"), use_data, _reader(".safetensors"), JSON),
    "png": Target(good(".png", odd=["grey16.png"]), use_data, _reader(".png"), PNG),
    "jpg": Target(good(".jpg"), use_data, _reader(".jpg")),
    "tif": Target(good(".tif"), use_data, _reader(".tif")),
    "bmp": Target(good(".bmp"), use_data, _reader(".bmp")),
    "webp": Target(good(".webp"), use_data, _reader(".webp")),
    "pgm, ppm": Target(good(".ppm", ".pgm"), use_data, _reader(".ppm"), TEXT),
    "folder of images": Target(folder_seeds, use_data, _reader(formats.FOLDER), PNG),
    "wav": Target(good(".wav"), use_data, _reader(".wav")),
    "miniSEED": Target(good(".mseed"), use_data, _reader(".mseed")),
    "SAC": Target(good(".sac"), use_data, _reader(".sac")),
    "WFDB": Target(good(".hea"), use_data, _reader(".hea"), TEXT),
    "FITS": Target(good(".fits"), use_data, _reader(".fits"), (card, card)),
    "FITS.gz": Target(good(".fits.gz"), use_data, _reader(".fits"), (gzipped,)),
    "model.safetensors": Target(model_seeds, use_model, [checkpoint.load, checkpoint.is_model], JSON),
    "resume.safetensors": Target(resume_seeds, use_resume, [checkpoint.load_resume], JSON),
    "config.json": Target(config_seeds, use_config, [], (tree, tree, tree, digits, nested), claims=False),
}


@cache
def seeds_of(name: str) -> list[Case]:
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        return TARGETS[name].seeds(Path(folder))


def mutant(name: str, seed: int, number: int) -> Case:
    """The same for the same three."""
    rng = Random(f"{name} {seed} {number}")
    case, other = rng.choice(seeds_of(name)), rng.choice(seeds_of(name))
    names = [file for file in case.files if not (file.endswith(".npy") and case.opened == "config.json")]
    chosen = names[0] if len(names) > 1 and rng.random() < 0.7 else rng.choice(names)
    fellow = other.files.get(chosen) or next(iter(other.files.values()))
    own = [] if chosen.endswith(".dat") else TARGETS[name].own
    return Case(case.opened, {**case.files, chosen: anything(rng, case.files[chosen], fellow, own)})


def put(case: Case, folder: Path) -> Path:
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / case.opened if case.opened else folder


# --- trying it ------------------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    number: int
    kind: str
    detail: str


@dataclass
class Tried:
    """What became of the mutants of one format."""

    count: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)
    lines: set[tuple[str, int]] = field(default_factory=set)
    seconds: float = 0.0
    memory: int = 0  # bytes beyond the process's own


class Unclear(Exception):
    """A message that is not one line, or names no file."""


def attempt(target: Target, path: Path) -> str | None:
    """The line by which a file is refused, None where it is read. Whatever else it raises is a failure."""
    try:
        target.use(path)
    except AekitError as error:
        line = str(error)
        if "\n" in line or (target.claims and path.name not in line):
            raise Unclear(line) from error
        cause: BaseException | None = error
        while cause is not None and target.claims:
            if isinstance(cause, MemoryError) or NO_MEMORY.search(str(cause)):
                raise MemoryError(line) from error
            cause = cause.__cause__ or cause.__context__
        return line
    return None


NO_MEMORY = re.compile(r"(?i)not enough memory|(unable to|can't|cannot) allocate|allocation failed|in memory")
FORBIDDEN = re.compile(
    r"(os\.(system|exec|fork|forkpty|posix_spawn|putenv|remove|rename|link|symlink|chmod|truncate|kill).*|subprocess.Popen|"
    r"socket\.(connect|getaddrinfo)|pickle.find_class|ctypes.dlopen|shutil.*|urllib.Request|ftplib.connect|webbrowser.open)"
)
HOME = (
    "/proc",
    "/sys",
    "/dev/null",
    "/usr",
    "/etc/localtime",
    sys.prefix,
    sys.base_prefix,
    str(Path(aekit.__file__).parents[0]),
)


def watch(folder: Path, tell: Callable[[str], None]) -> None:
    """From here on, what a file has no business to cause is told. Code that Python's import system runs is not."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if FORBIDDEN.fullmatch(event):
            tell(f"{event} {args!r}"[:200])
        elif event == "open" and isinstance(args[0], str | bytes):
            place, flags = os.path.abspath(os.fsdecode(args[0])), args[2] or 0
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or not place.startswith((str(folder), *HOME)):
                tell(f"open {place} {flags:o}")
        elif event == "exec" and args[0].co_filename.startswith("<") and not importing():
            tell(f"exec {args[0]} {args[0].co_names} {args[0].co_consts}"[:200])

    sys.addaudithook(hook)


def importing() -> bool:
    """Whether a module is being imported, whose own code makes classes from text."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and "importlib" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


def child(name: str, seed: int, numbers: range, at: mmap.mmap, pipe: int) -> None:
    """Tries these mutants; tells failures, and at last what else there is to tell, as lines of JSON."""
    target = TARGETS[name]
    lines = lines_of(target)
    seen: set[tuple[str, int]] = set()
    sinister: list[str] = []
    with open(pipe, "w") as out, tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libraries talk
        faulthandler.disable()  # which pytest turns on
        folder = Path(place)
        os.chdir(folder)
        for case in seeds_of(name):
            target.use(put(case, folder / "in"))  # so that what is imported late is there
            shutil.rmtree(folder / "in")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        watching = [False]
        watch(folder, lambda line: sinister.append(line) if watching[0] else None)
        for number in numbers:
            at[:8] = struct.pack("<q", number)
            inside = folder / "in"
            path = put(mutant(name, seed, number), inside)
            kind = detail = ""
            traced = number % TRACED == 0
            signal.setitimer(signal.ITIMER_PROF, SECONDS * (4 if traced else 1))  # tracing takes its time
            if traced:
                sys.settrace(tracer(lines, seen))
            mine = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mine + MEMORY, resource.RLIM_INFINITY))
            watching[0] = True
            try:
                if attempt(target, path) is not None:
                    at[8:] = struct.pack("<q", struct.unpack("<q", at[8:])[0] + 1)
            except MemoryError as error:
                kind, detail = "memory", str(error)
            except Unclear as error:
                kind, detail = "words", str(error)
            except BaseException as error:  # noqa: BLE001 (each is a finding)
                last = traceback.extract_tb(error.__traceback__)[-1]
                kind, detail = type(error).__name__, f"{error} at {last.filename}:{last.lineno}"
            watching[0] = False
            sys.settrace(None)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            signal.setitimer(signal.ITIMER_PROF, 0)
            if sinister:
                kind, detail = "execution", "; ".join(sinister)
                sinister.clear()
            if kind:
                out.write(json.dumps(["failure", number, kind, " ".join(detail.split())[:300]]) + "\n")
                out.flush()
            shutil.rmtree(inside, ignore_errors=True)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        out.write(json.dumps(["done", more, sorted(seen)]) + "\n")


def fork(name: str, seed: int, numbers: range, tried: Tried) -> int:
    """Has a child try mutants from the first of `numbers` on; returns the number behind the last that it came to."""
    at = mmap.mmap(-1, 16)  # the number that is tried, and how many were refused
    at[:8] = struct.pack("<q", numbers[0])
    come, go = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: this one's wait
        pid = os.fork()
    if pid == 0:
        try:
            os.close(come)
            child(name, seed, numbers, at, go)
        except BaseException:  # noqa: BLE001 (a fault of this script: the parent tells it)
            os.write(1, traceback.format_exc().encode())
            os._exit(70)
        os._exit(0)
    os.close(go)
    said, last, hung, lines = b"", (-1, 0.0), False, []
    while True:
        ready, _, _ = select.select([come], [], [], 1.0)
        now = struct.unpack("<q", at[:8])[0]
        if ready:
            part = os.read(come, 1 << 16)
            if not part:
                break
            said += part
        if now != last[0]:
            last = now, time.monotonic()
        elif time.monotonic() - last[1] > WAIT:
            os.kill(pid, signal.SIGKILL)
            hung = True
            break
    os.close(come)
    _, status = os.waitpid(pid, 0)
    lines = [json.loads(line) for line in said.decode().splitlines()]
    tried.refused += struct.unpack("<q", at[8:])[0]
    tried.failures += [Failure(*line[1:]) for line in lines if line[0] == "failure"]
    if lines and lines[-1][0] == "done":
        tried.memory = max(tried.memory, lines[-1][1] << 10)
        tried.lines |= {(file, line) for file, line in lines[-1][2]}
        return numbers[-1] + 1
    number = struct.unpack("<q", at[:8])[0]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 70:
        raise SystemExit(f"{name}: this script failed at mutant {number}")
    by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    kind = "hang" if hung else "seconds" if by == signal.SIGPROF else "crash"
    tried.failures.append(Failure(number, kind, signal.Signals(by).name if by else f"exit {status >> 8}"))
    return number + 1


def fuzz(name: str, count: int, seed: int = 0, first: int = 0) -> Tried:
    """`count` mutants of one format, from the given number on."""
    tried = Tried(count)
    seeds_of(name)  # before the forks, which then share them
    start = time.monotonic()
    at, end = first, first + count
    while at < end:
        at = fork(name, seed, range(at, min(end, at + CHUNK)), tried)
    tried.seconds = time.monotonic() - start
    return tried


# --- led by coverage ------------------------------------------------------------------------------------------------


def guided(name: str, seconds: int, seed: int, keep: Path) -> None:
    """libFuzzer's mutants, by way of Atheris, of a format whose files stand alone; some kinds of faults are kept.

    Several times as fast as `fuzz`, and led to lines of aekit's own code that did not run yet; without an eye on what
    else they cause, and with the limits of libFuzzer alone, 10 s and 4 GiB.
    """
    if any(len(case.files) > 1 or case.opened not in case.files for case in seeds_of(name)):
        raise SystemExit(f"{name}: a mutant of it is several files; leave --guided off")
    keep = keep.absolute()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # disks are what is slow
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        pid = os.fork()
        if pid == 0:
            _guided(name, seconds, seed, keep, Path(folder))
        os.waitpid(pid, 0)


def _guided(name: str, seconds: int, seed: int, keep: Path, folder: Path) -> None:
    """Ends the process."""
    import atheris

    target, cases, found = TARGETS[name], seeds_of(name), set()
    for module in [module for title, module in sys.modules.items() if title.startswith("aekit.formats")]:
        for function in list(vars(module).values()):
            if isinstance(function, types.FunctionType) and function.__module__ == module.__name__:
                atheris.instrument_func(function)
    (folder / "corpus").mkdir()
    for number, case in enumerate(cases):
        (folder / "corpus" / str(number)).write_bytes(case.files[case.opened])
    path = folder / f"mutant{''.join(Path(cases[0].opened).suffixes)}"

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            attempt(target, path)
        except Exception as error:  # noqa: BLE001 (each is a finding)
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {last.filename}:{last.lineno}"
            if kind not in found:
                found.add(kind)
                keep.mkdir(exist_ok=True)
                (keep / f"{name}-guided-{len(found)}{path.suffix}").write_bytes(content)
                print("   ", kind, error, flush=True)

    warnings.simplefilter("ignore")
    limits = [f"-max_total_time={seconds}", f"-seed={seed + 1}", "-timeout=10", "-rss_limit_mb=4096"]
    atheris.Setup([__file__, *limits, "-print_final_stats=1", "-verbosity=0", str(folder / "corpus")], one)
    atheris.Fuzz()


# --- lines of the reader ---------------------------------------------------------------------------------------------


def lines_of(target: Target) -> dict[types.CodeType, str]:
    """The code of a reader and of all that it names in aekit's formats and checkpoint, by the file."""
    found: dict[types.CodeType, str] = {}
    waiting: list[Any] = list(target.code)
    while waiting:
        function = waiting.pop()
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if not isinstance(function, types.FunctionType) or function.__code__ in found:
            continue
        if not function.__module__.startswith(("aekit.formats", "aekit.checkpoint")):
            continue
        codes = [function.__code__]
        for code in codes:
            found[code] = code.co_filename
            codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
            waiting += [function.__globals__[n] for n in code.co_names if n in function.__globals__]
    return found


def all_lines(target: Target) -> set[tuple[str, int]]:
    return {(file, line) for code, file in lines_of(target).items() for _, line in dis.findlinestarts(code) if line}


def tracer(codes: dict[types.CodeType, str], seen: set[tuple[str, int]]) -> Callable[..., Any]:
    """For sys.settrace: notes each line of these codes that runs."""

    def line(frame: types.FrameType, event: str, arg: object) -> Callable[..., Any]:
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def call(frame: types.FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        return line(frame, event, arg) if frame.f_code in codes else None

    return call


# --- the table -------------------------------------------------------------------------------------------------------


def row(name: str, tried: Tried) -> dict[str, object]:
    lines = all_lines(TARGETS[name])
    ran = len(lines & tried.lines)
    return {
        "format": name,
        "inputs": tried.count,
        "failures": len(tried.failures),
        "refused": tried.refused,
        "minutes": f"{tried.seconds / 60:.2f}",
        "peak_mib": tried.memory >> 20,
        "lines_run": ran or "",
        "lines": len(lines) or "",
        "coverage": f"{ran / len(lines):.3f}" if lines else "",
    }


def write(found: dict[str, object]) -> None:
    """Puts the row of one format into the table, in the place of an older one."""
    rows = {}
    if RESULTS.exists():
        with RESULTS.open() as file:
            rows = {line["format"]: line for line in csv.DictReader(file)}
    rows[str(found["format"])] = {name: str(value) for name, value in found.items()}
    with RESULTS.open("w", newline="") as file:
        table = csv.DictWriter(file, list(found), lineterminator="\n")
        table.writeheader()
        table.writerows(rows[name] for name in TARGETS if name in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutants of good files through every reader")
    parser.add_argument("formats", nargs="*", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--count", type=int, default=COUNT, help="mutants of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one mutant, by its number, in this process")
    parser.add_argument("--keep", type=Path, default=Path("mutants"), help="where failing mutants are put")
    parser.add_argument("--guided", type=int, metavar="SECONDS", help="one format, led by coverage, for so long")
    asked = parser.parse_args()
    names = asked.formats or list(TARGETS)
    if asked.guided is not None:
        guided(names[0], asked.guided, asked.seed, asked.keep)
        return
    if asked.only is not None:
        path = put(mutant(names[0], asked.seed, asked.only), asked.keep / f"{names[0]}-{asked.seed}-{asked.only}")
        print(path, attempt(TARGETS[names[0]], path))
        return
    for name in names:
        tried = fuzz(name, asked.count, asked.seed)
        found = row(name, tried)
        print(found, flush=True)
        if asked.count >= COUNT:
            write(found)
        for failure in tried.failures[:20]:
            put(mutant(name, asked.seed, failure.number), asked.keep / f"{name}-{asked.seed}-{failure.number}")
            print("   ", *failure, flush=True)
        if tried.lines:
            missed = sorted(all_lines(TARGETS[name]) - tried.lines)
            print("    not run:", ", ".join(f"{Path(file).name}:{line}" for file, line in missed)[:600], flush=True)


if __name__ == "__main__":
    main()
