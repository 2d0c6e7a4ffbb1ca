"""Small good files, of each ending and layout, and models: tests and bench/fuzz.py damage copies of them."""

import struct
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import recordings
import torch
from PIL import Image

from aekit import checkpoint
from aekit.baseline import PCA
from aekit.batches import Normalisation
from aekit.formats import ENDINGS, create
from aekit.models import build
from aekit.records import Array, record_of
from aekit.trained import Mixture, TrainedModel

X = np.random.default_rng(0).standard_normal((6, 40)).astype("f4")
PIXELS = np.random.default_rng(0).integers(0, 255, (24, 20, 3)).astype("u1")
ONE_ROW = (".wav", ".fits", ".fit", ".fts", ".fits.gz")  # of a series
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm")


def write_good(folder: Path, ending: str) -> Path:
    """A small file of one ending; a WFDB record is two files."""
    path = folder / f"good{ending}"
    if ending in recordings.ENDINGS:
        return recordings.write_recording(path)
    like = replace(record_of(X, labels=np.arange(6) % 2), sampling_rate=100.0)
    array: Array = PIXELS[None] if ending in PICTURES else X[:1] if ending in ONE_ROW else X
    with create(path, like, array.shape, array.dtype) as writer:
        writer.write(array)
    return path


def write_odd(folder: Path) -> list[Path]:
    """Layouts that take another way through the readers."""
    np.savez_compressed(folder / "packed.npz", x=X, y=np.arange(6))
    np.save(folder / "fortran.npy", np.asfortranarray(X))
    with h5py.File(folder / "chunked.h5", "w") as f:
        f.create_dataset("g/x", data=X, chunks=(4, 40), compression="gzip", shuffle=True)
        f["g/y"] = np.array([b"a", b"b"] * 3)  # HDF5 itself may hang on a damaged heap of strings of any length
    (folder / "table.csv").write_text("a,b,label\n" + "".join(f"{i}.5,-{i}e3,c{i % 2}\n" for i in range(9)))
    Image.fromarray(PIXELS[..., 0].astype("u2") * 200).save(folder / "grey16.png")
    return [folder / name for name in ("packed.npz", "fortran.npy", "chunked.h5", "table.csv", "grey16.png")]


def samples(folder: Path) -> list[Path]:
    """One good file of each ending, but of zarr's, which is a folder, and of the layouts that take another way."""
    return [*(write_good(folder, ending) for ending in ENDINGS if ending != ".zarr"), *write_odd(folder)]


def write_rare(folder: Path) -> list[Path]:
    """Forms of the formats that few files have."""
    fits = pytest.importorskip("astropy.io.fits")
    with h5py.File(folder / "names.h5", "w") as f:
        f.create_dataset("group/x", data=X, maxshape=(None, 40), compression="lzf", fletcher32=True)
        f["group"].attrs["sampling_rate"] = 50.0
        f["group/label"] = [f"class {i % 2}" for i in range(6)]
        f.create_dataset("group/y", data=[b"ab", b"c"] * 3, dtype=h5py.string_dtype(), chunks=(4,), compression="gzip")
        f["kind"], f["same"] = np.zeros(3, "f4,i4"), h5py.SoftLink("/group/x")
    wave = (1000 * X[:2]).astype("<i4")
    form = struct.pack("<HHIIHHHHI14s", 0xFFFE, 2, 100, 600, 6, 24, 22, 24, 3, b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38")
    sound = wave.T.copy().view("u1").reshape(-1, 4)[:, :3].tobytes()
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(sound)) + sound
    (folder / "wide.wav").write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    recordings.write_mseed(folder / "gaps.mseed", *recordings.three_channels_with_a_gap(), reclen=512)
    recordings.write_sac(folder / "picks.sac", 200, ">", a=2.0, t0=4.0)
    digital = np.random.default_rng(0).integers(-100, 100, (90, 3))
    digital[20:30] = -2048
    recordings.write_wfdb(folder / "twelve.hea", digital, "212")
    picture, colour = Image.fromarray(PIXELS[..., 0]), Image.fromarray(PIXELS)
    colour.quantize(16).save(folder / "palette.png")
    picture.convert("1").save(folder / "bits.png")
    clear = colour.copy()
    clear.putalpha(255)
    clear.save(folder / "alpha.png")
    pages = [Image.fromarray(X.astype("f4") * page) for page in (1, 2, 3)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    colour.save(folder / "lzw.tif", compression="tiff_lzw")
    picture.save(folder / "packed.tif", compression="tiff_adobe_deflate")
    picture.save(folder / "grey.jpg", progressive=True, quality=60)
    picture.convert("1").save(folder / "bits.bmp")
    colour.save(folder / "lossy.webp", quality=50)
    (folder / "grey.pgm").write_bytes(b"P5\n# said\n4 3 65535\n" + bytes(range(24)))
    parts = [fits.ImageHDU(PIXELS[..., 0].astype("i2"), name="SCI"), fits.ImageHDU(np.ones((2, 5, 5), "f4"))]
    table = fits.BinTableHDU.from_columns(
        [fits.Column("a", "E", array=X[0]), fits.Column("b", "PJ()", array=[[1], [2]])]
    )
    fits.HDUList([fits.PrimaryHDU(), parts[0], table]).writeto(folder / "parts.fits")
    for kind in ("RICE_1", "GZIP_1", "GZIP_2"):
        for dtype, values in (("i4", PIXELS[..., 0]), ("f4", np.tile(X, (8, 1)))):
            packed = fits.CompImageHDU(values.astype(dtype), compression_type=kind)
            fits.HDUList([fits.PrimaryHDU(), packed]).writeto(folder / f"{kind}-{dtype}.fits")
    fits.HDUList([fits.PrimaryHDU(), parts[1]]).writeto(folder / "cube.fits")
    return sorted(folder.iterdir())


def trained() -> TrainedModel:
    """A dense model of series (1, 6), with all that a model file can hold."""
    settings = {"hidden": (8,), "latent": 2, "output": "none"}
    normalisation = Normalisation("standard", (1.0,), (2.0,), -3.0, 5.0)
    return TrainedModel(
        build("dense", (1, 6), settings), "stacked", "dense", settings, (1, 6), "series", None, normalisation, "mse",
        corruption=("gaussian:0.1",), normal=("1",), data="x.npy", fingerprint="abc", figures={"val_error": 0.5},
        calibration=torch.rand(7), mixture=Mixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None]),
        pca=PCA(torch.zeros(6), torch.eye(6)[:2]), pca_calibration=torch.rand(7),
    )  # fmt: skip


def write_models(folder: Path) -> list[Path]:
    """Small untrained models of several kinds."""
    paths = [folder / "dense.safetensors"]
    checkpoint.save(trained(), paths[0])
    images = Normalisation("range", (0.0,), (255.0,), 0.0, 255.0)
    each = Normalisation("sample", (0.0,), (1.0,), -1.0, 1.0)
    for name, shape, settings in (
        ("conv", (1, 12, 10), {"hidden": (4, 8)}),
        ("vae", (2, 50), {"hidden": (8,), "latent": 3}),
        ("lstm", (1, 20), {"hidden": (4,), "latent": 2}),
        ("unet", (1, 64), {"hidden": (4, 6)}),
        ("mae", (1, 50), {"patch": 5}),
    ):
        picture = len(shape) == 3
        settings |= {"output": "sigmoid" if picture else "none"}
        paths.append(folder / f"{name}.safetensors")
        model = TrainedModel(
            build(name, shape, settings), "conv", name, settings, shape, "image" if picture else "series",
            None if picture else 100.0, images if picture else each, "mse", calibration=torch.rand(20),
        )  # fmt: skip
        checkpoint.save(model, paths[-1])
    return paths
