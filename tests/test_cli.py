"""The program as a user runs it: words, exit codes, outputs, JSON and the three promises. Faults: test_faults.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from program import QUICK, aekit, fails, result, table, waves

from aekit.errors import AekitError

WRONG_SETTINGS = (
    *("epochs=2.5", "epochs=true", "steps=many", "batch_size=10.5", "patience=0", "patience=soon", "seed=1.5"),
    *("lr=-1", "lr=nan", "warmup=-2", "warmup=word", "betas=0.9", "betas=0.9,2", "clip=abc", "clip=-1", "corrupt=3"),
    *("hidden=wide", "hidden=1.5", "latent=none", "activation=steep", "latent_activation=steep", "dropout=much"),
    *("optimiser=sgd", "schedule=linear", "error=huber", "precision=fp8"),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of traces and a model trained on it under runs/."""
    folder = tmp_path_factory.mktemp("lab")
    np.save(folder / "traces.npy", waves())
    aekit(folder, "train", "conv1d", "--data", "traces.npy", *QUICK)
    return folder


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; sys.argv = ['aekit', '{}', '--help']\n"
        "from aekit.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {{'torch', 'numpy'}} & set(sys.modules)"
    )
    of_data = ("train", "denoise", "score", "embed", "generate", "merge", "info")
    for verb in (*of_data, "recipes", "datasets", "doctor", "bench"):
        done = subprocess.run([sys.executable, "-c", code.format(verb)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Usage: aekit" in done.stdout


def test_wrong_words_exit_2(tmp_path: Path) -> None:
    for words in (
        ("train", "conv", "--data", "digits", "--no-such-flag"),
        ("train",),
        ("train", "no-such-recipe", "--data", "digits"),
        ("train", "conv", "--data", "digits", "--set", "nothing"),
        ("train", "conv", "--data", "digits", "--set", "unknown=3"),
        ("train", "conv", "--data", "digits", "--corrupt", "salt:1"),
        ("train", "conv", "--data", "digits", "--error", "huber"),
        *(("train", "stacked", "--data", "digits", "--set", pair) for pair in WRONG_SETTINGS),
        ("score", "x.npy", "--threshold", "often"),
        ("score", "x.npy", "-o", "-", "--json"),
        ("score", "x.npy", "--device", "tpu"),
        ("score", "x.npy", "--kernels", "cuda"),
        ("bench", "--kernel", "convolution"),
        ("bench", "--device", "tpu"),
        ("bench", "-o", "-", "--json"),
        ("bench", "--gpu", "h200"),
        ("bench", "--static", "--gpu", "h300"),
        ("bench", "--static", "--device", "cpu"),
    ):
        assert aekit(tmp_path, *words, code=2).stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["recipes", "datasets", "doctor"])
def test_lists_are_data_on_stdout(verb: str, tmp_path: Path) -> None:
    assert len(aekit(tmp_path, verb).stdout.splitlines()) > 4
    assert len(json.loads(aekit(tmp_path, verb, "--json").stdout)) > 4


def readme(language: str) -> list[str]:
    """Lines of the README's blocks, with small data in place of what takes minutes."""
    blocks = (Path(__file__).parent.parent / "README.md").read_text().split(f"```{language}")[1:]
    text = "".join(block.split("```")[0] for block in blocks)
    text = text.replace("mae --data mnist", "mae --data pictures/")
    return text.replace("mnist", "digits").replace("ecg5000", "heartbeats").splitlines()


def test_every_command_of_the_readme_runs_in_its_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "ecg.h5", "w") as file:
        file["x"] = waves()
    for name in ("traces", "noisy", "clean", "truth"):
        np.save(tmp_path / f"{name}.npy", waves())
    np.save(tmp_path / "mask.npy", np.arange(64) // 8 == 3)
    np.savez(tmp_path / "quakes.npz", signal=waves())
    np.savez(tmp_path / "noise.npz", noise=waves())
    records = np.random.default_rng(0).normal(size=(12, 3, 128))
    np.savez(tmp_path / "records.npz", data=records, sampling_rate=100.0)
    arrivals = {"p_index": np.full(12, 40), "s_index": np.full(12, 90)}
    np.savez(tmp_path / "picked.npz", data=records, sampling_rate=100.0, **arrivals)
    rows = ["a,b,c,class", *(f"{i},{i % 7},{i % 3},ok" for i in range(40)), "1,2,3,bad"]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    for folder in ("pictures/a", "pictures/b"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((8, 8), 10 * i, np.uint8)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "archive").mkdir()
    np.save(tmp_path / "archive" / "day.npy", waves())
    commands = [line.split("#")[0].split() for line in readme("sh") if line.startswith("aekit ")]
    assert len(commands) > 15
    for words in commands:
        if words[1] == "train":
            words += [] if "--resume" in words else ["--steps", "3"]
        elif words[1] != "info":
            words.append("--force")
        aekit(tmp_path, *words[1:])


def test_the_readme_is_right_about_python(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = "\n".join(readme("python"))
    monkeypatch.chdir(lab)
    names: dict[str, Any] = {"x": waves(10)}
    exec(block.replace("conv1d-ecg-1", "conv1d-traces-1"), names)
    assert names["scores"].shape == (10,)
    assert names["verdict"].flagged.shape == (10,)
    assert names["cleaned"].shape == (10, 64)
    assert len(names["samples"]) == len(names["latents"]) == 10
    assert names["outliers"].shape[1:] == (64,)
    assert names["worst"] in range(10)


# --- the five verbs ---------------------------------------------------------------------------------------------------


def test_train_leaves_a_run_folder(tmp_path: Path) -> None:
    figures = result(tmp_path, "train", "conv", "--data", "digits", *QUICK)
    keys = {"run", "recipe", "parameters", "epochs", "train_loss", "val_error", "test_error", "seconds"}
    assert keys <= set(figures)
    assert figures["epochs"] == 2
    run = tmp_path / figures["run"]
    files = {"model.safetensors", "resume.safetensors", "config.json", "metrics.csv", "report.html"}
    assert {p.name for p in run.iterdir()} == files
    rows = table(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["val_error"]) == pytest.approx(figures["val_error"])
    assert figures["test_error"] < 0.2
    assert b"<html" in (run / "report.html").read_bytes()


def test_config_repeats_a_run_and_flags_beat_it(tmp_path: Path) -> None:
    first = result(tmp_path, "train", "stacked", "--data", "digits", "--lr", "0.002", "--latent", "7", *QUICK)
    config = f"{first['run']}/config.json"
    again = result(tmp_path, "train", "--config", config)
    assert again["run"] != first["run"]
    assert (again["parameters"], again["val_error"]) == (first["parameters"], first["val_error"])
    other = result(tmp_path, "train", "--config", config, "--latent", "3")
    assert other["parameters"] < first["parameters"]
    assert json.loads((tmp_path / other["run"] / "config.json").read_text())["options"]["lr"] == 0.002
    none = result(tmp_path, "train", "conv", "--data", "digits", "--set", "bottleneck=none", "--dry-run")
    assert "encoder.2" not in [layer["layer"] for layer in none["layers"] if layer["kind"] == "Conv2d"]


def test_denoise_keeps_format_shape_type(lab: Path, tmp_path: Path) -> None:
    figures = result(lab, "denoise", "traces.npy", "-o", str(tmp_path / "clean.npy"))
    cleaned = np.load(tmp_path / "clean.npy")
    assert (cleaned.shape, cleaned.dtype) == ((120, 64), np.float32)
    assert figures["count"] == 120
    assert 0.01 < np.abs(cleaned - waves()).mean() < 2


def test_denoise_tells_the_gain_where_the_clean_data_is_known(lab: Path, tmp_path: Path) -> None:
    clean = np.sin(np.linspace(0, 9, 64) + np.random.default_rng(0).uniform(0, 6, (120, 1))).astype(np.float32)
    np.save(tmp_path / "truth.npy", clean)
    words = ("denoise", "traces.npy", "--clean", str(tmp_path / "truth.npy"), "-o", str(tmp_path / "c.npy"))
    figures = result(lab, *words, "--report", str(tmp_path / "r.html"))
    cleaned, noisy = np.load(tmp_path / "c.npy"), waves()
    expected = 10 * np.log10(((noisy - clean) ** 2).sum(1) / ((cleaned - clean) ** 2).sum(1))
    assert figures["snr_gain_db"] == pytest.approx(float(expected.mean()), abs=2e-3)
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_long_records_are_denoised_in_windows(lab: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", waves(2, 1000))
    model = str(lab / "runs" / "conv1d-traces-1")
    result(tmp_path, "denoise", "long.npy", "--model", model)
    assert np.load(tmp_path / "long.denoised.npy").shape == (2, 1000)
    figures = result(tmp_path, "score", "long.npy", "--model", model)
    rows = table(tmp_path / "long.scores.csv")
    assert figures["count"] == len(rows) == 2 * 16
    assert [row["start"] for row in rows[:3]] == ["0", "64", "128"]


def test_score_as_typed(lab: Path) -> None:
    with h5py.File(lab / "ecg.h5", "w") as file:
        file["x"] = np.concatenate([waves(100, seed=1), 3 * np.random.default_rng(2).normal(size=(20, 64))])
        file["labels"] = np.repeat([0, 1], [100, 20])
    done = aekit(lab, "score", "ecg.h5", "--threshold", "auto", "--json", "--map", "map.npy", "--report", "s.html")
    figures = json.loads(done.stdout)
    assert {"count", "flagged", "rule", "threshold", "auroc", "average_precision", "f1", "pca_auroc"} <= set(figures)
    assert "runs/conv1d-traces-1" in done.stderr  # what was chosen, and why
    assert figures["auroc"] > 0.95
    rows = table(lab / "ecg.scores.csv")
    assert list(rows[0]) == ["row", "score", "p_value", "anomaly", "label"]
    assert [row["row"] for row in rows] == [str(i) for i in range(120)]
    assert sum(int(row["anomaly"]) for row in rows) == figures["flagged"]
    errors = np.load(lab / "map.npy")
    np.testing.assert_allclose(errors.mean(axis=1), [float(r["score"]) for r in rows], rtol=1e-4)


def test_scores_go_to_stdout_on_a_dash(lab: Path) -> None:
    done = aekit(lab, "score", "traces.npy", "-o", "-", "--quiet")
    assert len(done.stdout.splitlines()) == 121
    assert done.stderr == ""


def test_rule_is_moved_without_training_again(lab: Path, tmp_path: Path) -> None:
    flagged = {}
    for rule in ("fpr=0.01", "fpr=0.2", "quantile=0.5", "0.0", "mean+2std"):
        out = str(tmp_path / f"{rule}.csv")
        flagged[rule] = result(lab, "score", "traces.npy", "--threshold", rule, "-o", out)["flagged"]
    assert flagged["fpr=0.01"] <= flagged["fpr=0.2"] <= flagged["quantile=0.5"] <= flagged["0.0"] == 120


def test_embed_keeps_order_and_labels(tmp_path: Path) -> None:
    aekit(tmp_path, "train", "undercomplete", "--data", "digits", *QUICK)
    figures = result(tmp_path, "embed", "digits", "--report", "e.html")
    latents = np.load(tmp_path / "digits.latents.npy")
    assert latents.shape == (figures["count"], 3)
    labels = table(tmp_path / "digits.latents.labels.csv")
    assert len(labels) == len(latents)
    assert (tmp_path / "digits.latents.png").read_bytes()[:4] == b"\x89PNG"
    result(tmp_path, "embed", "digits", "-o", "z.npz")
    with np.load(tmp_path / "z.npz") as arrays:
        assert sorted(len(arrays[k]) for k in arrays) == [len(latents)] * 2


def test_generate_from_prior_mixture_and_between(tmp_path: Path) -> None:
    for recipe in ("vae", "conv"):
        aekit(tmp_path, "train", recipe, "--data", "digits", *QUICK)
        words = ("generate", "--model", f"runs/{recipe}-digits-1", "-n", "12")
        assert result(tmp_path, *words, "-o", f"{recipe}.npy")["count"] == 12
        samples = np.load(tmp_path / f"{recipe}.npy")
        assert samples.shape == (12, 8, 8)
        assert 0 <= samples.min() <= samples.max() <= 16
        aekit(tmp_path, *words, "-o", f"{recipe}.png")
        assert (tmp_path / f"{recipe}.png").read_bytes()[:4] == b"\x89PNG"
    between = ("generate", "--between", "0", "5", "--steps", "4", "--data", "digits", "--model", "runs/conv-digits-1")
    result(tmp_path, *between, "-o", "way.npy")
    result(tmp_path, "denoise", "digits", "-o", "all.npy", "--model", "runs/conv-digits-1")
    way, reconstructed = np.load(tmp_path / "way.npy"), np.load(tmp_path / "all.npy")
    np.testing.assert_allclose(way[[0, -1]], reconstructed[[0, 5]], atol=1e-3)  # both ends are reached


def test_info_knows_files_models_and_data(lab: Path) -> None:
    assert json.loads(aekit(lab, "info", "traces.npy", "--json").stdout)["rows"] == 120
    assert json.loads(aekit(lab, "info", "runs/conv1d-traces-1", "--json").stdout)["recipe"] == "conv1d"
    assert json.loads(aekit(lab, "info", "digits", "--json").stdout)["kind"] == "image"


def test_dry_run_prints_layers_and_writes_nothing(tmp_path: Path) -> None:
    done = aekit(tmp_path, "train", "conv", "--data", "digits", "--dry-run", "--json")
    layers = json.loads(done.stdout)["layers"]
    assert sum(layer["parameters"] for layer in layers) == json.loads(done.stdout)["parameters"]
    assert list(tmp_path.iterdir()) == []


def test_from_starts_from_the_weights_of_a_model(lab: Path, tmp_path: Path) -> None:
    words = ("train", "conv1d", "--data", str(lab / "traces.npy"), "--steps", "1", "--lr", "1e-12")
    model = str(lab / "runs" / "conv1d-traces-1")
    warm, cold = result(tmp_path, *words, "--from", model), result(tmp_path, *words)
    assert warm["val_error"] < cold["val_error"]


def test_normal_trains_on_these_classes_alone(tmp_path: Path) -> None:
    done = aekit(tmp_path, "train", "stacked", "--data", "digits", "--normal", "1,7", *QUICK)
    assert "rows are of the normal class 1, 7" in done.stderr
    figures = result(tmp_path, "score", "digits")
    assert figures["auroc"] > 0.6  # the other digits count as anomalies
    fails(tmp_path, "train", "stacked", "--data", "digits", "--normal", "11", says="no row has the label '11'")


def test_python_object_has_the_verbs_on_arrays(lab: Path) -> None:
    import aekit as package

    model = package.load(str(lab / "runs" / "conv1d-traces-1"))
    x = waves(10)
    assert model.denoise(x).shape == x.shape
    assert model.score(x).shape == (10,)
    assert model.score(x, threshold="fpr=0.05").flagged.shape == (10,)
    assert model.embed(x).shape[0] == 10
    assert model.generate(3, seed=1).shape == (3, 1, 64)
    np.testing.assert_array_equal(model.generate(3, seed=1), model.generate(3, seed=1))
    with pytest.raises(AekitError, match="NaN"):
        model.score(np.full((2, 64), np.nan, np.float32))


def test_values_unlike_those_of_training_are_warned_about(lab: Path, tmp_path: Path) -> None:
    import aekit as package

    np.save(tmp_path / "loud.npy", 1000 * waves())
    model = ("--model", str(lab / "runs" / "conv1d-traces-1"))
    between = ("generate", "--between", "0", "1", "--data", "loud.npy")
    for command in (("denoise", "loud.npy"), ("score", "loud.npy"), ("embed", "loud.npy"), between):
        assert "warning: values run from" in aekit(tmp_path, *command, *model).stderr
    loaded = package.load(model[1])
    for verb in (loaded.denoise, loaded.score, loaded.embed):
        with pytest.warns(UserWarning, match="values run from"):
            verb(1000 * waves(3))
