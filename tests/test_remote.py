"""Places in object stores: fetched and put whole, as files are, or one line says why not."""

import errno
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from program import QUICK, aekit, contents, fails, result, waves

from aekit import remote
from aekit.errors import AekitError
from aekit.files import check_free, together, whole
from aekit.formats import files_in, open_record

ROWS, POINTS = 60, 64


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """A folder in memory of the test's own, as an address: what is fetched is kept for as long as the process runs."""
    name = "".join(sign if sign.isalnum() else "-" for sign in request.node.name)
    memory = fsspec.filesystem("memory")
    yield f"memory://{name}"
    memory.rm(f"/{name}", recursive=True) if memory.exists(f"/{name}") else None


def put(address: str, data: bytes) -> None:
    with fsspec.open(address, "wb") as f:
        f.write(data)


def put_array(address: str, rows: np.ndarray, folder: Path) -> None:
    np.save(folder / "put.npy", rows)
    put(address, (folder / "put.npy").read_bytes())
    (folder / "put.npy").unlink()


def got(address: str) -> bytes:
    with fsspec.open(address, "rb") as f:
        data: bytes = f.read()
    return data


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces and a model of them."""
    folder = tmp_path_factory.mktemp("lab")
    np.save(folder / "traces.npy", waves(ROWS, POINTS))
    aekit(folder, "train", "unet", "--data", "traces.npy", "--corrupt", "gaussian:0.2", "--set", "hidden=4,4", *QUICK)
    return folder


MODEL = ("--model", "runs/unet-traces-1")


@pytest.mark.parametrize(
    ("verb", "name", "beside"),
    [
        (("denoise",), "clean.npy", ("clean.npy",)),
        (("denoise",), "clean.h5", ("clean.h5",)),
        (("score",), "scores.csv", ("scores.csv",)),
    ],
    ids=["npy", "h5", "csv"],
)
def test_the_bytes_are_those_of_files(
    lab: Path, store: str, tmp_path: Path, verb: tuple[str, ...], name: str, beside: tuple[str, ...]
) -> None:
    if verb[0] == "score":
        aekit(tmp_path, "train", "conv1d", "--data", str(lab / "traces.npy"), *QUICK)
        model: tuple[str, ...] = ("--model", "runs/conv1d-traces-1")
    else:
        shutil.copytree(lab / "runs", tmp_path / "runs")
        model = MODEL
    put(f"{store}/in/traces.npy", (lab / "traces.npy").read_bytes())
    here = result(tmp_path, *verb, str(lab / "traces.npy"), *model, "-o", name)
    there = result(tmp_path, *verb, f"{store}/in/traces.npy", *model, "-o", f"{store}/out/{name}")
    assert there["out"] == f"{store}/out/{name}"
    assert {k: v for k, v in there.items() if k not in ("out", "seconds")} == {
        k: v for k, v in here.items() if k not in ("out", "seconds")
    }
    for each in beside:
        assert got(f"{store}/out/{each}") == (tmp_path / each).read_bytes()


def test_all_that_a_verb_writes_goes_there_and_nothing_is_overwritten(lab: Path, store: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=waves(ROWS, POINTS), y=np.arange(ROWS) % 3)
    put(f"{store}/d.npz", (tmp_path / "d.npz").read_bytes())
    put(f"{store}/models/model.safetensors", _model(lab).read_bytes())
    aekit(tmp_path, "train", "conv1d", "--data", f"{store}/d.npz:x", *QUICK)
    assert [run.name for run in (tmp_path / "runs").iterdir()] == ["conv1d-d-1"]
    config = json.loads((tmp_path / "runs/conv1d-d-1/config.json").read_text())
    assert config["data"] == f"{store}/d.npz:x"
    words = ("embed", f"{store}/d.npz", "--maps", "pca", "--neighbours", "2", "-o", f"{store}/z/z.npy")
    figures = result(tmp_path, *words)
    names = [name.rpartition("/")[2] for name in fsspec.filesystem("memory").find(f"{store}/z")]
    assert names == ["z.labels.csv", "z.neighbours.csv", "z.npy", "z.png"]
    assert figures["labels"] == f"{store}/z/z.labels.csv"
    before = got(f"{store}/z/z.npy")
    fails(tmp_path, *words, says=f"{store}/z/z.npy: exists already")
    result(tmp_path, *words, "--force")
    assert got(f"{store}/z/z.npy") == before
    fails(tmp_path, "embed", f"{store}/d.npz", "-o", f"{store}/d.npz", "--force", says="is the input itself")
    result(tmp_path, "denoise", f"{store}/d.npz:x", "--model", f"{store}/models", "-o", "clean.npz")
    told = result(tmp_path, "info", f"{store}/models/model.safetensors")
    assert told["recipe"] == "unet"


def _model(lab: Path) -> Path:
    return lab / "runs/unet-traces-1/model.safetensors"


def test_labels_targets_and_noise_are_fetched_too(store: str, tmp_path: Path) -> None:
    x = waves(ROWS, POINTS)
    put_array(f"{store}/x.npy", x + 0.1, tmp_path)
    put_array(f"{store}/clean.npy", x, tmp_path)
    put(f"{store}/labels.csv", "\n".join(["label", *("ab"[i % 2] for i in range(ROWS))]).encode())
    record = open_record(f"{store}/x.npy", f"{store}/labels.csv", f"{store}/clean.npy")
    assert record.source == f"{store}/x.npy"
    assert list(record.labels[:3]) == ["a", "b", "a"]  # type: ignore[index]
    np.testing.assert_array_equal(record.target.read(0, ROWS), x)  # type: ignore[union-attr]
    words = ("train", "unet", "--data", f"{store}/x.npy", "--set", "hidden=4,4", *QUICK)
    aekit(tmp_path, *words, "--corrupt", f"records:{store}/clean.npy@0..5")
    figures = result(tmp_path, "denoise", f"{store}/x.npy", "--clean", f"{store}/clean.npy", "-o", "c.npy")
    assert "snr_gain_db" in figures


def test_folders_and_patterns_are_fetched_whole(lab: Path, store: str, tmp_path: Path) -> None:
    for name in ("b.npy", "a.npy", "deep/c.npy"):
        put_array(f"{store}/data/{name}", waves(4, POINTS, seed=ord(name[-5])), tmp_path)
    assert [file.name for file in files_in(f"{store}/data").files] == ["a.npy", "b.npy", "c.npy"]
    assert [file.name for file in files_in(f"{store}/data/*.npy").files] == ["a.npy", "b.npy"]
    record = open_record(f"{store}/data/*.npy")
    assert record.shape == (8, POINTS)
    shutil.copytree(lab / "runs", tmp_path / "runs")
    figures = result(tmp_path, "denoise", f"{store}/data", *MODEL, "-o", f"{store}/clean")
    assert (figures["files"], figures["out"]) == (3, f"{store}/clean")
    assert len(fsspec.filesystem("memory").find(f"{store}/clean")) == 3
    assert not [path for path in tmp_path.iterdir() if path.name != "runs"]
    fails(tmp_path, "denoise", f"{store}/data", *MODEL, "-o", f"{store}/clean", says="a.npy: exists already")


def test_an_address_of_a_file_is_that_file(lab: Path, tmp_path: Path) -> None:
    address = f"file://{lab}/traces.npy"
    result(tmp_path, "denoise", address, "--model", f"file://{_model(lab)}", "-o", f"file://{tmp_path}/clean.npy")
    assert np.load(tmp_path / "clean.npy").shape == (ROWS, POINTS)
    assert remote.fetched(address) == str(lab / "traces.npy")
    says = "clean.npy: exists already"
    fails(tmp_path, "denoise", address, "--model", str(_model(lab)), "-o", f"file://{tmp_path}/clean.npy", says=says)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://host/x.npy", "http can be read and changed on its way"),
        ("ftp://host/x.npy", "ftp:// is not known; name a file, or a place of s3, gs, az, abfs or https"),
        ("ssh://host/x.npy", "ssh:// is not known"),
        ("reference://x.npy", "reference:// is not known"),
        ("simplecache::memory://a/x.npy", "addresses within addresses (::) are not followed"),
        ("memory://a.zip::memory://x.npy", "addresses within addresses (::) are not followed"),
        ("memory://a/../../x.npy", "is no address of a file"),
        ("memory://", "is no address of a file"),
        ("https://me:secret@host/x.npy", "leave name and password out of the address"),
        ("memory://nowhere/x.npy", "memory://nowhere/x.npy: there is no such place"),
        ("memory://nowhere/*.npy", "memory://nowhere/*.npy: there are no files"),
        ("memory://nowhere/x.doc", "the ending '.doc' is not known"),
    ],
)
def test_what_may_not_be_named_or_is_not_there_is_told(address: str, says: str, tmp_path: Path) -> None:
    fails(tmp_path, "score", address, says=says)
    assert "secret" not in aekit(tmp_path, "info", address, code=1).stderr


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_missing_package_is_named(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(remote.NEEDS, scheme, f"no_{scheme}fs")
    says = f"{scheme}://b/x.npy: needs the package no_{scheme}fs; run: pip install no_{scheme}fs"
    fails(tmp_path, "score", f"{scheme}://b/x.npy", says=says)
    fails(tmp_path, "train", "conv1d", "--data", f"{scheme}://b/x.npy", says=says)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("https://host/c.npy", "https is read, not written"),
        ("memory://b/c.zarr", "folders are not put whole into an object store"),
        ("memory://b/c", "folders are not put whole into an object store"),
        ("ftp://b/c.npy", "ftp:// is not known"),
    ],
)
def test_what_cannot_be_written_there_is_told_before_any_work(lab: Path, out: str, says: str) -> None:
    fails(lab, "denoise", "traces.npy", *MODEL, "-o", out, says=f"{out}: {says}" if "known" not in says else says)


def test_parts_and_runs_are_not_written_there(lab: Path) -> None:
    words = ("denoise", "traces.npy", *MODEL, "--shard", "1/2", "-o", "memory://b/c.npy")
    fails(lab, *words, says="memory://b/c.npy: parts lie in a folder")
    fails(lab, "train", "conv1d", "--data", "traces.npy", "-o", "memory://b/run", says="a run is a folder of this")
    fails(lab, "train", "--resume", "memory://b/run", says="memory://b/run: a run that goes on lies on this machine")


def test_shards_of_an_address_are_merged(lab: Path, store: str, tmp_path: Path) -> None:
    shutil.copytree(lab / "runs", tmp_path / "runs")
    put(f"{store}/traces.npy", (lab / "traces.npy").read_bytes())
    words = ("denoise", f"{store}/traces.npy", *MODEL, "-o", "clean.npy")
    for shard in ("1/2", "2/2"):
        aekit(tmp_path, *words, "--shard", shard)
    aekit(tmp_path, "merge", "clean.npy")
    merged = (tmp_path / "clean.npy").read_bytes()
    aekit(tmp_path, *words, "--force")
    assert (tmp_path / "clean.npy").read_bytes() == merged


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_before_and_while_it_is_fetched(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_array(f"{store}/x.npy", waves(), tmp_path)

    class Full(MemoryFileSystem):
        cachable = False

        def get_file(self, *words: Any, **more: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
        fails(tmp_path, "score", f"{store}/x.npy", says="do not fit into 0.0 MB")
    with monkeypatch.context() as patch:
        patch.setitem(fsspec.registry.target if hasattr(fsspec.registry, "target") else {}, "memory", Full)
        fsspec.register_implementation("memory", Full, clobber=True)
        fails(tmp_path, "score", f"{store}/x.npy", says=f"{store}/x.npy: the disk is full")
    fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)
    assert open_record(f"{store}/x.npy").shape == (120, 64)  # what failed left nothing that is taken for it


def test_what_comes_in_part_is_not_taken_for_the_whole(store: str, tmp_path: Path) -> None:
    put_array(f"{store}/x.npy", waves(), tmp_path)

    class Cut(MemoryFileSystem):
        cachable = False

        def info(self, path: str, **more: Any) -> dict[str, Any]:
            return {**super().info(path, **more), "size": 10**5}

    fsspec.register_implementation("memory", Cut, clobber=True)
    try:
        with pytest.raises(AekitError, match="was cut off, 30,848 of 100,000 bytes came"):
            remote.fetched(f"{store}/x.npy")
    finally:
        fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)


def test_names_that_lead_out_of_their_folder_are_refused(store: str, tmp_path: Path) -> None:
    class Sly(MemoryFileSystem):
        cachable = False

        def find(self, path: str, *words: Any, **more: Any) -> Any:
            return {f"{path}/../../../evil.npy": {"type": "file", "size": 4, "name": "evil"}}

    put(f"{store}/x.npy", b"data")
    fsspec.register_implementation("memory", Sly, clobber=True)
    try:
        with pytest.raises(AekitError, match="leads out of its folder"):
            remote.fetched(store)
    finally:
        fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)


def test_an_output_that_cannot_be_put_is_kept_here(store: str) -> None:
    class Closed(MemoryFileSystem):
        cachable = False

        def put_file(self, *words: Any, **more: Any) -> None:
            raise PermissionError("denied")

    fsspec.register_implementation("memory", Closed, clobber=True)
    path = Path(f"{store}/out.csv")
    try:
        with pytest.raises(AekitError, match="the output is kept as") as fault, whole(path) as temporary:
            temporary.write_text("a\n1\n")
    finally:
        fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)
    kept = Path(str(fault.value).rpartition(" ")[2])
    assert kept.read_text() == "a\n1\n"
    shutil.rmtree(kept.parent)
    check_free(path, force=False)


def test_what_fails_in_the_middle_puts_nothing_there(store: str) -> None:
    path = Path(f"{store}/a.csv")

    def stop() -> None:
        with together():
            with whole(path) as temporary:
                temporary.write_text("a\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    check_free(path, force=False)


def test_nothing_stays_of_what_was_fetched(lab: Path, tmp_path: Path) -> None:
    code = (
        "import fsspec, os, pathlib; from aekit import remote; "
        "fsspec.filesystem('memory').pipe('/b/x.csv', b'a'); print(remote.fetched('memory://b/x.csv')); "
        "raise SystemExit(1)"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert contents(tmp_path) == {}


# --- https ------------------------------------------------------------------------------------------------------------


class Site(http.server.BaseHTTPRequestHandler):
    """A file, a name that leads to it, one that leads to http."""

    def do_GET(self) -> None:
        page = self.path.partition("?")[0]
        if page.startswith("/to-"):
            self.send_response(302)
            self.send_header("Location", "/x.csv" if page == "/to-here.csv" else "http://127.0.0.1:9/x.csv")
            self.end_headers()
        elif page == "/x.csv":
            self.send_response(200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"a,b\n1,2\n")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate by openssl")
def test_https_asks_for_a_certificate_and_is_never_left(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    at = f"https://localhost:{site.server_port}"
    code = """
import sys
import threading
from aekit.errors import AekitError
from aekit.formats import open_record
for address in sys.argv[1:]:
    try:
        record = open_record(address)
        print("read", record.shape)
    except AekitError as error:
        print(error)
"""
    asked = [f"{at}/{name}" for name in ("x.csv?key=secret", "to-here.csv", "to-http.csv?key=secret", "none.csv")]
    told = {}
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    for kind, known in (("known", {"SSL_CERT_FILE": str(certificate)}), ("unknown", {})):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *asked], capture_output=True, text=True, env={**env, **known}
        )
        assert done.returncode == 0, done.stderr
        told[kind] = done.stdout.splitlines()
    site.shutdown()
    site.server_close()
    assert told["known"][:2] == ["read (1, 2)", "read (1, 2)"]
    assert "leads away from https" in told["known"][2]
    assert "none.csv: there is no such place" in told["known"][3]
    assert all("certificate" in line.lower() for line in told["unknown"]), told
    assert not any("secret" in line for line in [*told["known"][2:], *told["unknown"]])
