"""Faults, in every verb that they concern: one line that says what to do, exit 1, nothing written, nothing lost."""

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from program import QUICK, aekit, contents, fails, start, waves
from safetensors import safe_open
from safetensors.numpy import save_file

USING = ("denoise", "score", "embed", "generate")  # a model and data
READING = ("train", *USING, "info")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, trained on series of 64 points."""
    folder = tmp_path_factory.mktemp("model")
    np.save(folder / "traces.npy", waves())
    aekit(folder, "train", "conv1d", "--data", "traces.npy", "-o", "run", *QUICK)
    return folder / "run"


def words(verb: str, data: str, model: Path | str) -> tuple[str, ...]:
    """A command of `verb` that reads `data`."""
    if verb == "train":
        return "train", "conv1d", "--data", data, *QUICK
    if verb == "info":
        return "info", data
    if verb == "generate":
        return "generate", "--between", "0", "1", "--data", data, "--model", str(model)
    return verb, data, "--model", str(model)


def outputs(verb: str) -> tuple[str, ...]:
    """What `verb` writes by the words of `writing`."""
    names = {"denoise": ("o.npy", "r.html"), "score": ("o.csv", "m.npy", "r.html"), "generate": ("o.npy",)}
    return names.get(verb, ("o.npy", "o.png", "r.html"))


def writing(verb: str, model: Path, data: str = "traces.npy") -> tuple[str, ...]:
    """A command of `verb` with all its outputs."""
    report = () if verb == "generate" else ("--report", "r.html")
    maps = ("--map", "m.npy") if verb == "score" else ()
    return *words(verb, data, model), "-o", outputs(verb)[0], *report, *maps


# --- data -------------------------------------------------------------------------------------------------------------

BAD = {
    "missing.npy": (None, "no such file"),
    "empty.npy": (b"", "empty"),
    "noise.npy": (b"\x93NUMPY what", "noise.npy"),
    "named.h5": (b"not hdf5 at all", "named.h5"),
    "named.png": (b"1,2,3\n", "named.png"),
    "text.csv": (b"1,2,3\n4,five,6\n", "text.csv"),
    "ragged.csv": (b"1,2,3\n4,5\n", "ragged.csv"),
    "strange.xyz": (b"1", "strange.xyz"),
    "short.npz": (b"PK\x03\x04 and no more", "short.npz"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("verb", READING)
def test_bad_files_are_told(model: Path, tmp_path: Path, name: str, verb: str) -> None:
    content, says = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    fails(tmp_path, *words(verb, name, model), says=says)


def bad_values(folder: Path) -> dict[str, str]:
    """Files that no verb takes, and what is said of them."""
    x = waves()
    x[70, 3] = np.nan
    np.save(folder / "nan.npy", x)
    x[70, 3] = np.inf
    np.save(folder / "infinite.npy", x)
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "none.npy", waves()[:0])
    np.savez(folder / "several.npz", a=waves(), b=waves())
    with h5py.File(folder / "mixed.h5", "w") as file:
        lengths = file.create_dataset("x", 2, h5py.vlen_dtype(np.float32))
        lengths[0], lengths[1] = np.zeros(5), np.zeros(7)
    return {
        "nan.npy": "row 70, value 3 is NaN",
        "infinite.npy": "row 70, value 3 is infinity",
        "pickled.npy": "pickled.npy",
        "none.npy": "none.npy",
        "several.npz": "holds several arrays: a (120, 64), b (120, 64)",
        "mixed.h5": "mixed.h5",
    }


@pytest.mark.parametrize("verb", ["train", *USING])
def test_bad_values_are_told(model: Path, tmp_path: Path, verb: str) -> None:
    for name, says in bad_values(tmp_path).items():
        command = words(verb, name, model)
        if verb == "generate":  # reads these two rows alone
            command = tuple("70" if word == "1" else word for word in command)
        fails(tmp_path, *command, says=says)


@pytest.mark.parametrize("verb", USING)
def test_samples_of_another_shape_are_told(model: Path, tmp_path: Path, verb: str) -> None:
    np.save(tmp_path / "narrow.npy", waves()[:, :30])
    np.save(tmp_path / "channels.npy", np.stack([waves()] * 3, axis=1))
    np.save(tmp_path / "images.npy", waves().reshape(120, 8, 8))
    for name in ("narrow", "channels", "images"):
        fails(tmp_path, *words(verb, f"{name}.npy", model), says="1x64")


def test_one_row_is_enough_for_a_model_but_not_for_training(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", waves()[:1])
    for verb in ("denoise", "score", "embed"):
        assert json.loads(aekit(tmp_path, *words(verb, "one.npy", model), "--json").stdout)["count"] == 1
    fails(tmp_path, *words("generate", "one.npy", model), says="there is no row 1")
    fails(tmp_path, *words("train", "one.npy", model), says="at least 2 are needed")


def test_constant_data_is_no_data_to_train_on_but_to_score(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.ones((50, 64)))
    fails(tmp_path, *words("train", "flat.npy", model), says="constant data")
    for verb in ("denoise", "score", "embed"):
        assert json.loads(aekit(tmp_path, *words(verb, "flat.npy", model), "--json").stdout)["count"] == 50


# --- models -----------------------------------------------------------------------------------------------------------


def bad_models(folder: Path, run: Path) -> dict[str, str]:
    """Files that are no model of this aekit, and what is said of them."""
    good = run / "model.safetensors"
    (folder / "short.safetensors").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "empty.safetensors").write_bytes(b"")
    with safe_open(good, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        header = json.loads(file.metadata()["aekit"])
    save_file(tensors, folder / "foreign.safetensors")
    save_file(tensors, folder / "newer.safetensors", {"aekit": json.dumps({**header, "format": 99})})
    save_file(tensors, folder / "unknown.safetensors", {"aekit": json.dumps({**header, "model": "transformer"})})
    fewer = {name: value for name, value in tensors.items() if not name.endswith("bias")}
    save_file(fewer, folder / "fewer.safetensors", {"aekit": json.dumps(header)})
    return {
        "gone": "gone",
        "traces.npy": "not a model file",
        "short.safetensors": "damaged",
        "empty.safetensors": "damaged",
        "foreign.safetensors": "not an aekit model",
        "newer.safetensors": "newer",
        "unknown.safetensors": "update aekit",
        "fewer.safetensors": "damaged",
    }


@pytest.mark.parametrize("verb", ["train", *USING])
def test_files_that_are_no_model_are_told(model: Path, tmp_path: Path, verb: str) -> None:
    np.save(tmp_path / "traces.npy", waves())
    for name, says in bad_models(tmp_path, model).items():
        command = words(verb, "traces.npy", name)
        fails(tmp_path, *command, *(("--from", name) if verb == "train" else ()), says=says)


def test_without_a_model_two_commands_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "traces.npy", waves())
    fails(tmp_path, "embed", "traces.npy", says="then `aekit embed traces.npy`")
    fails(tmp_path, "embed", "traces.npy", says="`aekit train ")
    fails(tmp_path, "generate", says="aekit train vae")


def test_resume_and_config_of_what_is_no_run(tmp_path: Path) -> None:
    fails(tmp_path, "train", "conv", "--resume", "x", says="give it alone", code=2)
    fails(tmp_path, "train", "--resume", "gone", says="config.json")
    (tmp_path / "config.json").write_text("{}")
    fails(tmp_path, "train", "--config", "config.json", says="not the config of a run")


# --- outputs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with traces, to write into."""
    np.save(tmp_path / "traces.npy", waves())
    return tmp_path


@pytest.mark.parametrize("verb", USING)
def test_no_output_is_overwritten_unasked(model: Path, place: Path, verb: str) -> None:
    for name in outputs(verb):
        (place / name).write_text("precious")
        fails(place, *writing(verb, model), says=f"{name}: exists already")
        (place / name).unlink()
    (place / "folder.npy").mkdir()
    (place / "folder.npy" / "thesis.txt").write_text("precious")
    folder = "folder.csv" if verb == "score" else "folder.npy"
    (place / "folder.npy").rename(place / folder)
    fails(place, *words(verb, "traces.npy", model), "-o", folder, "--force", says="is a folder")
    (place / outputs(verb)[0]).write_text("old")
    aekit(place, *writing(verb, model), "--force")
    assert (place / outputs(verb)[0]).read_bytes() != b"old"


def test_a_run_is_not_trained_over(model: Path, place: Path) -> None:
    aekit(place, *words("train", "traces.npy", model), "-o", "run")
    fails(place, *words("train", "traces.npy", model), "-o", "run", says="exists already")
    fails(place, *words("score", "traces.npy", model), "-o", "scores.npy", says="scores are a table")


@pytest.mark.parametrize("verb", ["train", *USING])
def test_a_folder_that_is_missing_or_not_writable_is_told(model: Path, place: Path, verb: str) -> None:
    ending = "" if verb == "train" else Path(outputs(verb)[0]).suffix
    command = words(verb, "traces.npy", model)
    fails(place, *command, "-o", f"gone/x{ending}", says="the folder gone does not exist")
    if Path("/proc/self").exists():  # where not even root may write
        fails(place, *command, "-o", f"/proc/x{ending}", says="/proc/x")
    if os.geteuid() != 0:
        (place / "locked").mkdir(mode=0o500)
        fails(place, *command, "-o", f"locked/x{ending}", says="not writable")


@pytest.mark.parametrize("verb", USING)
def test_an_output_that_outgrows_its_place_leaves_nothing(model: Path, place: Path, verb: str) -> None:
    """The system refuses to write on just before the end of each output."""
    aekit(place, *writing(verb, model))
    sizes = [(place / name).stat().st_size for name in outputs(verb)]
    for name in outputs(verb):
        (place / name).unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in sizes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, hard))
        try:
            fails(place, *writing(verb, model), says="cannot be written")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_and_leaves_nothing(model: Path, place: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "plain = Path.with_name\n"
        "Path.with_name = lambda self, name: Path('/dev/full') if name[:5] == '.full' else plain(self, name)\n"
        f"sys.argv = ['aekit', 'score', 'traces.npy', '-o', 'full.csv', '--model', {str(model)!r}]\n"
        "from aekit.cli import main; main()"
    )
    before = contents(place)
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "disk is full" in done.stderr
    assert contents(place) == before


# --- stopped ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", USING)
def test_ctrl_c_at_the_last_moment_leaves_the_old_outputs(
    model: Path, place: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    for name in outputs(verb):
        (place / name).write_text("old")
    before = contents(place)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        aekit(place, *writing(verb, model), "--force", code=130)
    assert contents(place) == before


def test_ctrl_c_that_breaks_a_pipe_of_a_library_is_ctrl_c_still(
    model: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(os, "access", broken)
    try:
        aekit(place, *writing("score", model), code=130)
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("verb", ["denoise", "score", *(pytest.param(v, marks=pytest.mark.slow) for v in USING[2:])])
def test_killed_while_writing_leaves_old_outputs_or_new_ones(model: Path, place: Path, verb: str) -> None:
    np.save(place / "big.npy", np.tile(waves(), (100, 1)))
    for name in outputs(verb):
        (place / name).write_text("old")
    process = start(place, *writing(verb, model, "big.npy"), "--force")
    while process.poll() is None and not list(place.glob(".*")):
        time.sleep(0.002)  # until a temporary file is there
    process.kill()
    process.communicate()
    for name in outputs(verb):
        assert (place / name).read_bytes() == b"old" or is_whole(place / name), name


def is_whole(path: Path) -> bool:
    if path.suffix == ".npy":
        return len(np.load(path)) in (10, 12_000)
    ends = {".csv": b"\n", ".html": b"</html>\n", ".png": b"IEND\xaeB`\x82"}
    return path.read_bytes().endswith(ends[path.suffix])


LONG = ("train", "stacked", "--data", "digits", "--epochs", "15", "--batch-size", "16")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of LONG that nobody stopped."""
    folder = tmp_path_factory.mktemp("straight")
    aekit(folder, *LONG, "-o", "run")
    return folder / "run"


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_training_resumes_to_the_same_run(
    straight: Path, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    process = start(tmp_path, *LONG, "-o", "stopped")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 3/"):
            process.send_signal(stop)
            break
    process.communicate()
    if process.returncode == 0:
        pytest.skip("training was over before the signal came")
    assert process.returncode == code
    aekit(tmp_path, "train", "--resume", "stopped")
    runs = straight, tmp_path / "stopped"
    never, resumed = ((run / "model.safetensors").read_bytes() for run in runs)
    size = int.from_bytes(never[:8], "little")
    assert never[8 + size :] == resumed[8 + int.from_bytes(resumed[:8], "little") :]
    pages = [(run / "report.html").read_text() for run in runs]
    assert (
        pages[0].count("<image") == pages[1].count("<image") > 5
    )  # the pictures of epochs before it stopped are there
