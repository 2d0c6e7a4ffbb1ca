"""What a file, a model or a name in the data cannot do: the promises of SECURITY.md."""

import ast
import gzip
import json
import shutil
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import recordings
import torch
from format_files import fault, read_all
from good_files import PIXELS, X, write_models
from PIL import Image
from program import QUICK, aekit, result, waves
from safetensors import safe_open
from safetensors.torch import save_file
from test_formats_sizes import npy_of, npz_of

from aekit import checkpoint
from aekit.errors import AekitError
from aekit.formats import _raw, open_record
from aekit.formats.images import PASSES
from aekit.models import rebuild

ROOT = Path(__file__).parent.parent
CODE = [path for folder in ("aekit", "kernels", "cli") for path in sorted((ROOT / folder).rglob("*.py"))]
EVIL = "<script>alert(1)<"  # a slash would end a file's name
RUNS_CODE = ("eval", "exec", "compile", "__import__", "execfile")
PICKLES = ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "yaml", "tarfile")


# --- the code ---


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles_or_runs_text(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & set(PICKLES), f"line {node.lineno}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert called not in RUNS_CODE, f"line {node.lineno}: {called}"
        assert called not in ("os.system", "os.popen"), f"line {node.lineno}: {called}"
        assert given.get("shell", "False") == "False", f"line {node.lineno}"
        if called in ("np.load", "numpy.load", "np.lib.format.read_array"):
            assert given.get("allow_pickle") == "False", f"line {node.lineno}"
        if called == "torch.load":
            assert given.get("weights_only") == "True", f"line {node.lineno}"
        if called.endswith((".extractall", ".extract", "unpack_archive")):
            pytest.fail(f"line {node.lineno}: an archive is unpacked to files")


def test_addresses_in_the_code_are_https() -> None:
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "http://" not in node.value.replace("http://www.w3.org/", ""), f"{path}: line {node.lineno}"


# --- names and labels in reports ---


def labelled(folder: Path) -> Path:
    """A table whose name, columns and labels are tags."""
    path = folder / f"{EVIL}.csv"
    rows = waves(60, 3)
    lines = [",".join(map(str, row)) + f",{EVIL}{i % 2}" for i, row in enumerate(rows)]
    path.write_text(f"{EVIL}a,{EVIL}b,{EVIL}c,label\n" + "\n".join(lines))
    return path


@pytest.mark.filterwarnings("ignore:Glyph")
def test_reports_escape_names_labels_and_columns(tmp_path: Path) -> None:
    path = labelled(tmp_path).name
    result(tmp_path, "info", path, "--report", "info.html")
    aekit(tmp_path, "train", "stacked", "--data", path, *QUICK, "--out", EVIL)
    result(tmp_path, "score", path, "--model", EVIL, "--report", "score.html", "-o", "s.csv")
    pages = {name: (tmp_path / name).read_text() for name in ("info.html", f"{EVIL}/report.html", "score.html")}
    for name, page in pages.items():
        assert "<script" not in page.lower(), name
        assert "script&gt;alert(1)" in page, name
        assert "default-src 'none'" in page, name


# --- files that name others ---


def test_hdf5_reads_nothing_outside_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    X.tofile(tmp_path / "secret")
    shutil.copy(tmp_path / "secret", inside / "part")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = X
    size = X.nbytes
    with h5py.File(inside / "a.h5", "w") as f:
        f.create_dataset("raw", X.shape, "f4", external=[(str(tmp_path / "secret"), 0, size)])
        f.create_dataset("up", X.shape, "f4", external=[("../secret", 0, size)])
        f.create_dataset("near", X.shape, "f4", external=[("part", 0, size)])
        layout = h5py.VirtualLayout(X.shape, "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", X.shape)
        f.create_virtual_dataset("virtual", layout)
        f["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    for name in ("raw", "up", "virtual", "linked"):
        assert "what lies outside its folder" in fault(f"{inside}/a.h5:{name}"), name
    assert open_record(f"{inside}/a.h5:near").shape == X.shape


@pytest.mark.parametrize("name", ["../good.dat", "/etc/passwd", "s3::good.dat"])
def test_wfdb_reads_signals_beside_its_header_alone(name: str, tmp_path: Path) -> None:
    path = recordings.write_recording(tmp_path / "inner.hea")
    path.write_text(path.read_text().replace("inner.dat", name))
    fault(path)


def test_a_config_names_settings_and_no_code(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", waves(20))
    for more in (
        {"activation": "os.system"},
        {"__class__": "os"},
        {"optimizer": "subprocess.Popen"},
        {"hidden": "9" * 9},
    ):
        config = {"recipe": "stacked", "data": "a.npy", "options": more}
        (tmp_path / "config.json").write_text(json.dumps(config))
        done = aekit(tmp_path, "train", "--config", "config.json", "--dry-run", code=2)
        assert "Traceback" not in done.stderr
    for wrong in ({"recipe": 3}, {"data": ["a.npy"]}, {"options": []}, "[" * 100_000):
        text = wrong if isinstance(wrong, str) else json.dumps({"recipe": "conv", "data": "a", "options": {}, **wrong})
        (tmp_path / "config.json").write_text(text)
        done = aekit(tmp_path, "train", "--config", "config.json", code=1)
        assert "config.json: not" in done.stderr


# --- the model file ---


def rewritten(path: Path, change: dict[str, object]) -> Path:
    """The same tensors under another header."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["aekit"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    for key, value in change.items():
        *groups, last = key.split("/")
        inner = header
        for group in groups:
            inner = inner[group]
        inner[last] = value
    out = path.with_name("changed.safetensors")
    save_file(tensors, out, {"aekit": json.dumps(header)})
    return out


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.stem: path for path in write_models(tmp_path_factory.mktemp("models"))}


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("dense", {"settings/hidden": [1 << 28, 1 << 28]}),
        ("dense", {"settings/hidden": [1] * 1_000_000}),
        ("conv", {"sample_shape": [1, 1 << 20, 1 << 20]}),
        ("mae", {"settings/patch": 1}),
        ("mae", {"sample_shape": [1, 1 << 40]}),
        ("unet", {"settings/hidden": [1 << 20, 6]}),
        ("dense", {"model": "classifier", "settings": {"classes": 1 << 30}}),
        ("dense", {"model": "classifier", "settings": {"encoder": "dense", "encoder_settings": {"hidden": [1 << 26]}}}),
    ],
)
def test_a_model_file_cannot_ask_for_more_memory_than_its_weights(
    model: str, change: dict[str, object], models: dict[str, Path]
) -> None:
    resource = pytest.importorskip("resource")
    path = rewritten(models[model], change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AekitError, match=r"changed\.safetensors: the model file is damaged"):
        checkpoint.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize(
    "change",
    [
        {"settings/latent": 1.5},
        {"sample_shape": [1]},
        {"sample_shape": [1, -6]},
        {"sample_shape": "16"},
        {"sampling_rate": -1},
        {"sampling_rate": 10**400},
        {"kind": "sound"},
        {"error": "os.system"},
        {"missing": "none"},
        {"classes": 3},
        {"figures": []},
        {"corruption": {"a": 1}},
        {"settings": []},
        {"normalisation/kind": "eval"},
        {"normalisation/scale": [0.0]},
        {"normalisation/scale": [1.0, 1.0]},
        {"normalisation/offset": [float("nan")]},
        {"normalisation": None},
        {"model": ["dense"]},
    ],
)
def test_a_header_that_save_would_not_write_is_told(change: dict[str, object], models: dict[str, Path]) -> None:
    with pytest.raises(AekitError, match=r"changed\.safetensors: |no model") as caught:
        checkpoint.load(rewritten(models["dense"], change))
    assert "\n" not in str(caught.value)


def test_tensors_that_do_not_fit_the_network_are_told(models: dict[str, Path]) -> None:
    with safe_open(models["dense"], framework="pt") as file:
        header = {"aekit": file.metadata()["aekit"]}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    path = models["dense"].with_name("tensors.safetensors")
    for name, value in (
        ("calibration", torch.zeros(0)),
        ("calibration", torch.zeros(2, 2)),
        ("pca/mean", torch.zeros(5)),
        ("pca/components", torch.zeros(6)),
        ("mixture/means", torch.zeros(2, 2)),
        ("mixture/factors", torch.zeros(1, 3, 2)),
        ("mixture/weights", -torch.ones(1)),
        ("mixture/classes", torch.tensor([7])),
    ):
        save_file({**tensors, name: value}, path, header)
        with pytest.raises(AekitError, match="damaged"):
            checkpoint.load(path)


def test_rebuilding_a_network_leaves_no_hooks_behind() -> None:
    with pytest.raises(ValueError, match="larger network"):
        rebuild("dense", (1, 6), {"hidden": (1 << 28, 1 << 28)}, {})
    assert torch.nn.Linear(9000, 9000).weight.device.type == "cpu"


# --- sizes that are declared ---


def png_of(width: int, height: int, colour: int, interlaced: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("black", [False, True])
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (3, 2), (24, 20)])
def test_a_png_has_all_its_pixels(height: int, width: int, interlaced: int, black: bool, tmp_path: Path) -> None:
    pixels = PIXELS[:height, :width] * (not black)
    passes = PASSES if interlaced else ((0, 1, 0, 1),)
    rows = b"".join(b"\0" + row.tobytes() for x, dx, y, dy in passes for row in pixels[y::dy, x::dx] if row.size)
    (tmp_path / "a.png").write_bytes(png_of(width, height, 2, interlaced, rows))
    np.testing.assert_array_equal(open_record(tmp_path / "a.png").read(0, 1)[0], pixels)
    (tmp_path / "a.png").write_bytes(png_of(width, height, 2, interlaced, rows[: -3 * width - 1]))
    fault(tmp_path / "a.png")


def test_a_png_chunk_is_no_longer_than_its_file(tmp_path: Path) -> None:
    content = bytearray(png_of(5, 1, 2, 0, bytes(16)))
    at = content.index(b"IDAT") - 4
    content[at : at + 4] = b"\x7f\xff\xff\xff"
    (tmp_path / "a.png").write_bytes(content)
    assert "its chunks declare" in fault(tmp_path / "a.png")


@pytest.mark.parametrize("chunks", [None, (4,)])
@pytest.mark.parametrize("length", [(1 << 64) - 16, (1 << 64) - 1, 1 << 40])
def test_a_heap_of_strings_is_checked_before_hdf5_reads_on_in_it(
    length: int, chunks: tuple[int, ...] | None, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["x"] = X
        f.create_dataset("label", data=["a", "b", "c"] * 2, dtype=h5py.string_dtype(), chunks=chunks)
    assert open_record(tmp_path / "a.h5").labels.tolist() == ["a", "b", "c"] * 2
    content = bytearray((tmp_path / "a.h5").read_bytes())
    at = content.index(b"GCOL") + 16 + 24 + 8  # the second part's length
    content[at : at + 8] = length.to_bytes(8, "little")
    (tmp_path / "a.h5").write_bytes(content)
    assert "heap of strings" in fault(tmp_path / "a.h5")


def test_a_picture_fits_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_of(20, 8_000_000, 2, 0, bytes(1000)))
    assert "cannot hold them" in fault(tmp_path / "a.png")
    Image.new("L", (2000, 2000)).save(tmp_path / "blank.webp", lossless=True)
    read_all(tmp_path / "blank.webp")


def test_what_unzips_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_raw, "ALWAYS_UNZIPPED", 1 << 16)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as f:
        f.write("1,1\n" * 100_000)
    assert "unzips to more than 100 times its size" in fault(tmp_path / "a.csv.gz")
    with gzip.open(tmp_path / "a.fits.gz", "wb") as f:
        f.write(b"SIMPLE  = T".ljust(1 << 20))
    assert "unzips to more than 100 times its size" in fault(tmp_path / "a.fits.gz")


def test_an_npz_member_is_no_longer_than_the_file_allows(tmp_path: Path) -> None:
    packed = bytearray(npz_of(npy_of(f"({1 << 29},)"), 128 + (1 << 31)))
    at = packed.index(b"PK\x01\x02") + 20
    packed[at : at + 4] = struct.pack("<I", 1 << 30)  # as if so many bytes were packed
    (tmp_path / "a.npz").write_bytes(packed)
    assert "cannot unzip to" in fault(tmp_path / "a.npz")


def test_the_shape_in_an_npy_header_is_read_in_linear_time(tmp_path: Path) -> None:
    """An expression with two ways to read a digit took longer than the universe for this."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, " + b"9" * 400 + b"), }\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(64))
    assert "its header is" in fault(tmp_path / "a.npy")


def test_fits_headers_are_checked_before_astropy_counts(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")

    def cards(**values: object) -> bytes:
        text = "".join(f"{name:8}= {value!s:>20}".ljust(80) for name, value in values.items())
        return (text + "END").ljust(2880).encode()

    for count in (1 << 30, -1, "T", "9" * 60):
        (tmp_path / "a.fits").write_bytes(cards(SIMPLE="T", BITPIX=8, NAXIS=count))
        assert "no possible NAXIS" in fault(tmp_path / "a.fits")
    (tmp_path / "a.fits").write_bytes(cards(SIMPLE="T", BITPIX=8, NAXIS=1, NAXIS1=1 << 40, GCOUNT="'IMAGE'"))
    assert "no possible GCOUNT" in fault(tmp_path / "a.fits")  # which astropy would repeat so many times
    for kind, change in (("RICE_1", {"ZVAL2": 1 << 24}), ("RICE_1", {"ZTILE1": 1 << 20}), ("HCOMPRESS_1", {})):
        packed = fits.CompImageHDU(PIXELS[..., 0].astype("i4"), compression_type=kind)
        fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "p.fits", overwrite=True)
        with fits.open(tmp_path / "p.fits", mode="update", disable_image_compression=True) as hdus:
            hdus[1].header.update(change)
        line = fault(tmp_path / "p.fits")
        assert "no possible" in line or "are not read" in line
