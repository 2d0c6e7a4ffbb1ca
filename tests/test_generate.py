"""The generate verb: every way to samples, every form of output, figures beside real rows, and what excludes what."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from program import aekit, fails, result, waves

from aekit import load

QUICK = ("--steps", "100", "--batch-size", "32")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of labelled images, of labelled series at 100 Hz, of a table, and adversarial ones."""
    folder = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(0)
    level = np.repeat([0.5, 2.0], 60)
    series = waves(120) * level[:, None]
    np.savez(folder / "series.npz", x=series, y=np.repeat(["calm", "wild"], 60), sampling_rate=100.0)
    rows = np.round(rng.normal(size=(80, 3)), 3)
    lines = [",".join([*map(str, row), "ok"]) for row in rows.tolist()]
    (folder / "table.csv").write_text("\n".join(["a,b,c,class", *lines]) + "\n")
    for recipe, data in (("conv", "digits"), ("conv1d", "series.npz"), ("vae", "table.csv"), ("acgan", "digits")):
        name = {"digits": recipe, "series.npz": "series", "table.csv": "table"}[data]
        aekit(folder, "train", recipe, "--data", data, "-o", name, *QUICK)
    return folder


def made(lab: Path, folder: Path, run: str, out: str, *words: str) -> np.ndarray:
    result(folder, "generate", "--model", str(lab / run), "-o", out, *words)
    return np.asarray(np.load(folder / out)) if out.endswith(".npy") else np.zeros(0)


# --- ways -------------------------------------------------------------------------------------------------------------


def test_classes_are_drawn_by_name_and_told(lab: Path, tmp_path: Path) -> None:
    figures = result(
        tmp_path, "generate", "--model", str(lab / "series"), "--label", "wild,calm", "-n", "41", "-o", "s.npz"
    )
    assert figures["labels"] == {"calm": 20, "wild": 21}
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["y"].tolist() == ["wild"] * 21 + ["calm"] * 20
        assert arrays["sampling_rate"] == 100
        size = arrays["x"].std(axis=1)
    assert size[:21].mean() > 2 * size[21:].mean()
    model = load(str(lab / "series"))
    assert 2 * model.generate(30, label="calm").std(axis=2).mean() < size[:21].mean()


def test_latents_of_embed_decode_to_the_reconstructions(lab: Path, tmp_path: Path) -> None:
    model = ("--model", str(lab / "conv"))
    result(tmp_path, "embed", "digits", *model, "-o", "z.npz")
    decoded = made(lab, tmp_path, "conv", "x.npy", "--from", "z.npz")
    result(tmp_path, "denoise", "digits", *model, "-o", "d.npy")
    np.testing.assert_allclose(decoded, np.load(tmp_path / "d.npy"), atol=2e-3)


@pytest.mark.parametrize("path", ["straight", "spherical"])
def test_ways_between_rows_and_between_samples_reach_both_ends(lab: Path, tmp_path: Path, path: str) -> None:
    model = ("--model", str(lab / "conv"))
    result(tmp_path, "denoise", "digits", *model, "-o", "d.npy")
    way = made(
        lab, tmp_path, "conv", "w.npy", "--between", "3", "8", "--data", "digits", "--path", path, "--steps", "5"
    )
    assert len(way) == 5
    np.testing.assert_allclose(way[[0, -1]], np.load(tmp_path / "d.npy")[[3, 8]], atol=2e-3)
    for run in ("acgan", "conv"):
        drawn = made(lab, tmp_path, run, f"{run}.npy", "-n", "9", "--seed", "4")
        words = ("--between", "2", "8", "-n", "9", "--seed", "4", "--path", path)
        way = made(lab, tmp_path, run, f"{run}-way.npy", *words)
        np.testing.assert_allclose(way[[0, -1]], drawn[[2, 8]], atol=1e-4)


def test_a_way_along_a_direction_leads_through_a_row(lab: Path, tmp_path: Path) -> None:
    result(tmp_path, "denoise", "digits", "--model", str(lab / "conv"), "-o", "d.npy")
    way = made(lab, tmp_path, "conv", "w.npy", "--along", "0", "--about", "5", "--data", "digits", "--steps", "7")
    np.testing.assert_allclose(way[3], np.load(tmp_path / "d.npy")[5], atol=2e-3)
    spans = [np.abs(np.ptp(made(lab, tmp_path, "conv", f"{k}.npy", "--along", str(k)), axis=0)).mean() for k in (0, 19)]
    assert spans[0] > spans[1] > 0


def test_words_that_exclude_each_other_exit_2(lab: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((2, 20), np.float32))
    for words, says in (
        (("--between", "0", "1", "--along", "0"), "--between and --along exclude each other"),
        (("--from", "z.npy", "--along", "0"), "--along and --from exclude each other"),
        (("--from", "z.npy", "-n", "3"), "--count is of samples that are drawn"),
        (("--from", "z.npy", "--label", "3"), "--label is of samples that are drawn"),
        (("--from", "z.npy", "--prior", "mixture"), "--prior is what samples are drawn from"),
        (("--between", "0", "1", "--data", "digits", "-n", "3"), "--count is of samples that are drawn"),
        (("--between", "0", "99"), "there are samples 0 to 63"),
        (("--along", "0", "--label", "3"), "--label is of samples that are drawn"),
        (("--along", "0", "--data", "digits"), "needs --about ROW"),
        (("--about", "3", "--data", "digits"), "--about names a row"),
        (("--steps", "4"), "goes with --between or --along"),
        (("--path", "spherical"), "--path goes with --between"),
        (("--prior", "model"), "none of its own"),
        (("--between", "0", "1", "--report", "r.html"), "--report is of single samples"),
        (("-o", "x.png/"), "a folder's name has no ending"),
    ):
        out = () if "-o" in words else ("-o", "o.npy")
        fails(tmp_path, "generate", "--model", str(lab / "conv"), *words, *out, code=2, says=says)


def test_what_does_not_fit_the_model_is_told_in_one_line(lab: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((2, 21), np.float32))
    np.save(tmp_path / "nan.npy", np.full((2, 20), np.nan, np.float32))
    np.save(tmp_path / "few.npy", np.random.default_rng(0).random((9, 8, 8)))
    for run, words, says in (
        ("conv", ("--from", "wide.npy"), "wide.npy: has shape 2x21, the model"),
        ("conv", ("--from", "nan.npy"), "nan.npy: row 0, value 0 is NaN"),
        ("conv", ("--from", "gone.npy"), "there is no such file"),
        ("conv", ("--label", "3,12"), "knows no class '12'; its classes are 0, 1"),
        ("conv", ("--along", "20"), "they run from 0 to 19"),
        ("conv", ("--along", "0", "--about", "999", "--data", "digits"), "there is no row 999"),
        ("acgan", ("--between", "0", "1", "--data", "digits"), "has no encoder"),
        ("acgan", ("--prior", "mixture"), "has no fitted mixture"),
        ("conv", ("--data", "few.npy"), "9 rows are too few"),
        ("conv", ("--from", "nan.npy", "-o", "nan.npy", "--force"), "is the input itself"),
        ("series", ("-o", "folder"), "only images are written as a folder"),
        ("table", ("-o", "x.wav"), "sound is of series with a sampling rate"),
    ):
        out = () if "-o" in words else ("-o", "o.npy")
        fails(tmp_path, "generate", "--model", str(lab / run), *words, *out, says=says)


# --- outputs ----------------------------------------------------------------------------------------------------------


def test_arrays_of_every_format_hold_the_same_samples(lab: Path, tmp_path: Path) -> None:
    x = made(lab, tmp_path, "series", "x.npy", "-n", "5", "--label", "calm")
    assert (x.shape, x.dtype) == ((5, 64), np.float32)
    for out in ("x.npz", "x.h5", "x.csv", "x.wav"):
        made(lab, tmp_path, "series", out, "-n", "5", "--label", "calm")
    with np.load(tmp_path / "x.npz") as arrays, h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(arrays["x"], x)
        np.testing.assert_array_equal(file["x"][()], x)
        assert file["y"].asstr()[()].tolist() == arrays["y"].tolist() == ["calm"] * 5
    cells = [line.split(",") for line in (tmp_path / "x.csv").read_text().splitlines()]
    assert {row[0] for row in cells} == {"calm"}
    np.testing.assert_array_equal(np.array([row[1:] for row in cells], np.float32), x)
    sound = result(tmp_path, "info", "x.wav")
    assert (sound["sample_shape"], sound["sampling_rate"], sound["type"]) == ("1x320", 100, "float32")


def test_sound_in_counts_is_whole_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=(3000 * waves(60)).astype(np.int16), sampling_rate=8000.0)
    aekit(tmp_path, "train", "conv1d", "--data", "x.npz", "--epochs", "1", "-o", "run")
    result(tmp_path, "generate", "--model", "run", "-o", "x.wav", "-n", "3")
    assert result(tmp_path, "info", "x.wav")["type"] == "int16"


def test_a_table_has_its_column_names(lab: Path, tmp_path: Path) -> None:
    made(lab, tmp_path, "table", "t.csv", "-n", "4", "--label", "ok")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "a,b,c,label"
    assert [line.split(",")[3] for line in lines[1:]] == ["ok"] * 4


def test_a_folder_holds_numbered_pictures_by_class(lab: Path, tmp_path: Path) -> None:
    x = made(lab, tmp_path, "conv", "x.npy", "-n", "4", "--label", "3,8")
    made(lab, tmp_path, "conv", "plain", "-n", "4", "--label", "3")
    assert sorted(p.name for p in (tmp_path / "plain").iterdir()) == ["0001.png", "0002.png", "0003.png", "0004.png"]
    made(lab, tmp_path, "conv", "classes/", "-n", "4", "--label", "3,8")
    found = sorted(str(p.relative_to(tmp_path / "classes")) for p in (tmp_path / "classes").rglob("*.png"))
    assert found == ["3/0001.png", "3/0002.png", "8/0003.png", "8/0004.png"]
    for row, name in enumerate(found):
        with Image.open(tmp_path / "classes" / name) as image:
            pixels = np.asarray(image).astype(float)
        np.testing.assert_allclose(pixels, 255 / 16 * x[row], atol=0.51)  # 0 to 16 become 0 to 255
    fails(tmp_path, "generate", "--model", str(lab / "conv"), "-o", "plain", says="exists already")


def test_a_grid_has_titles_where_classes_are_asked_for(lab: Path, tmp_path: Path) -> None:
    made(lab, tmp_path, "conv", "plain.png", "-n", "9")
    made(lab, tmp_path, "conv", "titled.png", "-n", "9", "--label", "3")
    sizes = []
    for name in ("plain", "titled"):
        with Image.open(tmp_path / f"{name}.png") as image:
            sizes.append(image.size)
    assert sizes[1][1] > sizes[0][1]
    assert sizes[1][0] == sizes[0][0]


# --- beside real rows -------------------------------------------------------------------------------------------------


def test_figures_and_a_page_beside_real_rows(lab: Path, tmp_path: Path) -> None:
    words = ("generate", "--model", str(lab / "acgan"), "-n", "60", "--data", "digits", "-o", "x.npz")
    figures = result(tmp_path, *words, "--report", "r.html")
    assert {
        "memorised",
        "nearest_ratio",
        "precision",
        "recall",
        "kid",
        "kid_rows",
        "kid_floor",
        "label_accuracy",
    } <= set(figures)
    assert (figures["count"], figures["real_rows"], figures["classes"], figures["precision_rows"]) == (60, 1437, 10, 60)
    assert figures["feature_accuracy"] > 0.9
    assert sum(figures["shares"].values()) == pytest.approx(1)
    assert figures["kid"] > figures["kid_floor"]
    page = (tmp_path / "r.html").read_text()
    assert "Nearest real rows" in page
    assert "kernel inception distance" in page


def test_series_are_compared_with_the_rows_of_their_file(lab: Path, tmp_path: Path) -> None:
    words = ("generate", "--model", str(lab / "series"), "-n", "40", "--data", str(lab / "series.npz"))
    figures = result(tmp_path, *words, "-o", "x.npy", "--report", "r.html")
    assert figures["classes"] == 2
    assert set(figures["shares"]) == {"calm", "wild"}


def test_latents_of_one_value_come_back_from_text(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 8)))
    aekit(tmp_path, "train", "stacked", "--data", "x.npy", "--latent", "1", *QUICK)
    aekit(tmp_path, "embed", "x.npy", "-o", "z.csv", "--maps", "none")
    result(tmp_path, "generate", "--from", "z.csv", "-o", "decoded.npy")
    result(tmp_path, "denoise", "x.npy", "-o", "reconstructed.npy")
    decoded, reconstructed = (np.load(tmp_path / f"{name}.npy") for name in ("decoded", "reconstructed"))
    np.testing.assert_allclose(decoded, reconstructed, atol=1e-5)
