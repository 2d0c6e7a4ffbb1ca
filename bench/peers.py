"""`score` without a model beside the detectors of PyOD and scikit-learn, on the same rows -> results/peers.csv.

    python bench/peers.py --keep kept                           # everything, hours on one core; a second call goes on
    python bench/peers.py --only tables,ecg --peers ae,pca      # some of it: other rows of the file stay as they are
    python bench/peers.py --adbench FOLDER --series FOLDER      # X and y in .npz, series with a label per point in .csv

No method learns from a label, though the file of a series has them, or is told the share of anomalies. Peers have their
defaults: those of PyOD flag what scores as the highest tenth of what they learn from, PCA has no threshold. Of a series
they see windows.
`--keep` holds a file for each case and method: what is removed there is done again.
"""

import argparse
import contextlib
import csv
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from anomalies import GROUPS, Case, Flags, adbench, series_files
from common import RESULTS, Array, Row, row
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aekit import workflows
from aekit.thresholds import anomaly_figures
from aekit.workflows import Options

WINDOW, HOP = 64, 8  # points of a series that the peers see at a time
COMPONENTS = 20  # of PCA, at most, and at most a quarter of the values
FDR = 0.05
CLOSE = 0.02  # of AUROC
FEW_FLAGGED = 0.01  # of rows without an anomaly
FILE = RESULTS / "peers.csv"
FLAGGED, FEW = "share flagged by auto", f"share of seeds that flag at most {FEW_FLAGGED:.0%}"
STRICT = {
    "flagged": f"share flagged at fdr={FDR:g}",
    "rate": f"false discovery rate at fdr={FDR:g}",
    "recall": f"recall at fdr={FDR:g}",
    "oracle": f"recall at fdr={FDR:g} of an oracle",
}
Found = dict[str, float]  # figure -> value
Judged = tuple[Array, float | None]  # scores, and the threshold above which a row is flagged
Peer = Callable[[Array, Array], Judged]  # rows to learn from and rows to score, (N, values) each


# --- aekit ------------------------------------------------------------------------------------------------------------


def ours(case: Case) -> Found:
    """By the verb, which learns in an empty folder; then by the strict rule, which must find that run again."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        data = _written(case, case.x, "data")
        learnt = None if case.train is None else _written(case, case.train, "learnt")
        options = Options(seed=case.seed)
        started = time.perf_counter()
        if learnt is not None:
            workflows.score(learnt, "learnt.scores.csv", options=options)
            options = replace(options, model=str(*Path("runs").iterdir()))
        workflows.score(data, "auto.csv", options=options)
        seconds = time.perf_counter() - started
        scores, flagged = _read("auto.csv", case)
        found = {FLAGGED: float(flagged.mean()), "seconds": seconds}
        if case.protocol == "clean":
            return found
        workflows.score(data, "fdr.csv", f"fdr={FDR}", options=options)
        assert len(list(Path("runs").iterdir())) == 1, "nothing is trained for another rule"
        strict = _read("fdr.csv", case)[1]
        return found | _figures(scores, case.anomalous, flagged) | _strict(scores, case.anomalous, strict)


def _written(case: Case, x: Array, name: str) -> str:
    if case.kind == "rows":
        np.save(f"{name}.npy", x)
        return f"{name}.npy"
    columns = {f"v{i}": x[:, i] for i in range(x.shape[1])}
    if case.kind == "series":
        columns = {"time": np.arange(len(x)), **columns, "label": case.anomalous.astype(int)}
    with open(f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
    return f"{name}.csv"


def _read(path: str, case: Case) -> tuple[Array, Flags]:
    """Scores and verdicts (N,) of a table that `score` wrote: one for each row, or point of a series."""
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    scores, flagged = (np.array([float(line[name]) for line in lines]) for name in ("score", "anomaly"))
    assert len(scores) == len(case.x), f"{path}: {len(scores)} scores for {len(case.x)} rows"
    return scores, flagged == 1


def _strict(scores: Array, anomalous: Flags, flagged: Flags) -> Found:
    """What a rule keeps of the false discovery rate that it promises; its recall beside one that knows the labels."""
    found = anomaly_figures(scores, anomalous, flagged)
    told = {
        STRICT["flagged"]: float(flagged.mean()),
        STRICT["rate"]: found["false_discovery_rate"],
        STRICT["recall"]: found["recall"],
        STRICT["oracle"]: oracle_recall(scores, anomalous, FDR),
    }
    return {figure: value for figure, value in told.items() if value is not None}


def oracle_recall(scores: Array, anomalous: Flags, rate: float) -> float:
    """Recall of the largest set of highest scores of which at most this share is normal; equal scores go together."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)
    found, taken = np.cumsum(anomalous[order])[ends], np.flatnonzero(ends) + 1
    return float(found[found >= (1 - rate) * taken - 1e-9].max(initial=0) / anomalous.sum())


# --- peers ------------------------------------------------------------------------------------------------------------


def theirs(peer: Peer, case: Case) -> Found:
    """Of a series, the score of a point is the mean over the windows that it lies in."""
    starts = window_starts(len(case.x))
    x = _rows(case.x, case, starts)
    train = x if case.train is None else _rows(case.train, case, starts)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores, threshold = peer(train, x)
    seconds = time.perf_counter() - started
    if case.kind == "series":
        scores = over_points(scores, starts, len(case.x))
    return {**_figures(scores, case.anomalous, None if threshold is None else scores > threshold), "seconds": seconds}


def _rows(x: Array, case: Case, starts: Array) -> Array:
    if case.kind == "series":
        x = x[starts[:, None] + np.arange(WINDOW)]
    return x.reshape(len(x), -1).astype(np.float32)


def window_starts(points: int) -> Array:
    """Of windows that cover a series, the last of which ends where it ends."""
    return np.unique([*range(0, points - WINDOW, HOP), max(points - WINDOW, 0)])


def over_points(scores: Array, starts: Array, points: int) -> Array:
    """The mean score (points,) of the windows that a point lies in."""
    places = starts[:, None] + np.arange(WINDOW)
    total, count = np.zeros(points), np.zeros(points)
    np.add.at(total, places, scores[:, None])
    np.add.at(count, places, 1)
    return total / count


def _figures(scores: Array, anomalous: Flags, flagged: Flags | None) -> Found:
    found = anomaly_figures(scores, anomalous, np.zeros(len(scores)) if flagged is None else flagged)
    told = {"AUROC": "auroc", "average precision": "average_precision", "best F1": "best_f1"}
    told |= {} if flagged is None else {"F1": "f1"}
    return {figure: value for figure, key in told.items() if (value := found[key]) is not None}


def _pyod(module: str, name: str, **settings: Any) -> Peer:
    def judge(train: Array, x: Array) -> Judged:
        detector = getattr(import_module(f"pyod.models.{module}"), name)(**settings).fit(train)
        scores = detector.decision_scores_ if x is train else detector.decision_function(x)
        return scores, float(detector.threshold_)

    return judge


def _isolation(train: Array, x: Array) -> Judged:
    forest = IsolationForest(random_state=0).fit(train)
    return -forest.score_samples(x), -float(forest.offset_)


def _pca(train: Array, x: Array) -> Judged:
    pca = PCA(max(1, min(COMPONENTS, train.shape[1] // 4, len(train))), random_state=0)
    scaled = make_pipeline(StandardScaler(), pca).fit(train)
    z = scaled[0].transform(x)
    return np.square(pca.inverse_transform(pca.transform(z)) - z).mean(axis=1), None


OURS = "aekit"
PEERS: dict[str, tuple[str, Peer]] = {
    "ae": ("PyOD AutoEncoder", _pyod("auto_encoder", "AutoEncoder", verbose=0)),
    "vae": ("PyOD VAE", _pyod("vae", "VAE", verbose=0)),
    "iforest": ("PyOD IForest", _pyod("iforest", "IForest", random_state=0)),
    "ecod": ("PyOD ECOD", _pyod("ecod", "ECOD")),
    "isolation": ("scikit-learn IsolationForest", _isolation),
    "pca": ("PCA", _pca),
}
TO_BEAT = [PEERS[name][0] for name in ("ae", "iforest", "isolation", "pca")]


# --- results ----------------------------------------------------------------------------------------------------------


def compare(case: Case, peers: list[str], keep: Path) -> list[Row]:
    """A row for each method and figure; what lies in `keep` already is taken from there."""
    data = f"{case.name}, {case.protocol}"
    note = f"{len(case.x):,} rows, {case.anomalous.mean():.1%} anomalous"
    methods: dict[str, Callable[[Case], Found]] = {OURS: ours}
    methods |= {method: partial(theirs, peer) for method, peer in (PEERS[name] for name in peers)}
    rows = []
    for method, judge in methods.items():
        found = _kept(keep / f"{data}, {method}.json", judge, case)
        print(f"{data:32} {method:28} AUROC {found['AUROC']:.4f} {found['seconds']:7.1f} s", flush=True)
        rows += [row(data, method, figure, value, note=note, shown=False) for figure, value in found.items()]
    return rows


def compare_clean(cases: Iterable[Case], keep: Path) -> list[Row]:
    """Of normal rows alone: what `auto` flags, over the seeds of each kind."""
    shares: dict[str, list[float]] = {}
    for case in cases:
        found = _kept(keep / f"{case.name}, clean, seed {case.seed}, {OURS}.json", ours, case)
        print(f"{case.name:32} seed {case.seed:<23} flagged {found[FLAGGED]:.4f} {found['seconds']:7.1f} s", flush=True)
        shares.setdefault(case.name, []).append(found[FLAGGED])
    rows = []
    for name, values in shares.items():
        few, note = fmean(value <= FEW_FLAGGED for value in values), f"{len(values)} seeds"
        rows.append(row(f"{name}, clean", OURS, FEW, few, ">= 0.95", note))
        rows.append(row(f"{name}, clean", OURS, FLAGGED, fmean(values), note=f"at most {max(values):g}"))
    return rows


def _kept(file: Path, judge: Callable[[Case], Found], case: Case) -> Found:
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(judge(case)))
        part.rename(file)
    found: Found = json.loads(file.read_text())
    return found


Cases = dict[str, dict[str, Found]]  # data -> method -> figures


def summary(rows: list[Row]) -> list[Row]:
    """Of both protocols together and of each: means over the cases that all methods have, and where the worst lies."""
    cases: Cases = {}
    for line in rows:
        methods = cases.setdefault(str(line["data"]), {})
        methods.setdefault(str(line["model"]), {})[str(line["figure"])] = float(str(line["value"]))
    judged = {data: methods for data, methods in cases.items() if "AUROC" in methods.get(OURS, {})}
    found = []
    for protocol in ("", ", mixed", ", held out"):
        some = {data: methods for data, methods in judged.items() if data.endswith(protocol)}
        if some:
            found += [*_ranks(f"all{protocol}", some), *_verdicts(f"all{protocol}", some)]
    runs = {data: methods[OURS][FEW] for data, methods in cases.items() if FEW in methods.get(OURS, {})}
    if runs:
        least = min(runs, key=lambda data: runs[data])
        note = f"mean of {len(runs)} kinds of data; the least is {runs[least]:g}, {least}"
        found.append(row("all, clean", OURS, FEW, fmean(runs.values()), ">= 0.95", note))
    return found


def _ranks(name: str, cases: Cases) -> list[Row]:
    """By AUROC."""
    methods = list(dict.fromkeys(method for found in cases.values() for method in found))
    shared = {data: found for data, found in cases.items() if len(found) == len(methods)}
    if not shared or methods == [OURS]:
        return []
    note = f"{len(shared)} cases"
    means = {method: fmean(found[method]["AUROC"] for found in shared.values()) for method in methods}
    rows = [row(name, method, "AUROC", value, note=note) for method, value in means.items()]
    times = {method: fmean(found[method]["seconds"] for found in shared.values()) for method in methods}
    rows += [row(name, method, "seconds", value, note=note) for method, value in times.items()]
    peers = [method for method in methods if method != OURS]
    for peer in peers:
        target = f">= {CLOSE}" if peer in TO_BEAT else ""
        rows.append(row(name, OURS, f"AUROC above {peer}", means[OURS] - means[peer], target, note))
    scores = {data: {method: found[method]["AUROC"] for method in methods} for data, found in shared.items()}
    together: dict[str, list[dict[str, float]]] = {}
    for data, values in scores.items():
        together.setdefault(re.sub(r"-(whole|\d+)(?=, )", "", data), []).append(values)
    sets = {data: {m: fmean(one[m] for one in some) for m in methods} for data, some in together.items()}
    return [*rows, *_below(name, "case", scores), *_below(name, "data set", sets)]


def _below(name: str, what: str, scores: dict[str, dict[str, float]]) -> list[Row]:
    """How far aekit's AUROC lies below that of the peer that is best there: at worst, and how often it is too far."""
    best = {data: max((m for m in values if m != OURS), key=lambda m: values[m]) for data, values in scores.items()}
    below = {data: values[best[data]] - values[OURS] for data, values in scores.items()}
    worst = max(below, key=lambda data: below[data])
    where = f"{worst}: {scores[worst][OURS]:.4f}, {best[worst]} {scores[worst][best[worst]]:.4f}"
    far = [data for data, value in below.items() if value > CLOSE]
    return [
        row(name, OURS, f"AUROC below the best peer of a {what}, at worst", below[worst], f"<= {CLOSE}", where),
        row(name, OURS, f"{what}s more than {CLOSE} below the best peer", len(far), "0", f"of {len(below)}"),
    ]


def _verdicts(name: str, cases: Cases) -> list[Row]:
    """By thresholds: F1 at its own over the best possible one, and what the strict rule keeps of its promise."""
    rows = []
    ratios: dict[str, list[float]] = {}
    for found in cases.values():
        for method, figures in found.items():
            if "F1" in figures:
                ratios.setdefault(method, []).append(figures["F1"] / figures["best F1"])
    for method, values in ratios.items():
        target = ">= 0.85" if method == OURS else ""
        rows.append(row(name, method, "F1 over the best F1", fmean(values), target, f"{len(values)} cases"))
    strict = [found[OURS] for found in cases.values()]
    flagging = [found for found in strict if found[STRICT["flagged"]] > 0]
    note = f"{len(flagging)} cases where it flags"
    for figure, target in (("rate", "0.02 to 0.07"), ("recall", ""), ("oracle", "")):
        if flagging:
            rows.append(row(name, OURS, STRICT[figure], fmean(f[STRICT[figure]] for f in flagging), target, note))
    nothing = 1 - len(flagging) / len(strict)
    return [
        *rows,
        row(name, OURS, f"share of cases without a flag at fdr={FDR:g}", nothing, note=f"{len(strict)} cases"),
    ]


def write(rows: list[Row]) -> None:
    """Into the file, in the place of what it had of the same data and methods, with the summary of all of it."""
    new = {(line["data"], line["model"]) for line in rows}
    if FILE.exists():
        with FILE.open(newline="") as file:
            old = [line for line in csv.DictReader(file) if line["data"].partition(",")[0] != "all"]
        rows = [*(line for line in old if (line["data"], line["model"]) not in new), *rows]
    rows = [*rows, *summary(rows)]
    with FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="GROUPS", help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--peers", metavar="PEERS", default=",".join(PEERS), help="some of them: %(default)s")
    parser.add_argument("--adbench", type=Path, metavar="FOLDER", help="instead, or with --only besides: .npz files")
    parser.add_argument("--series", type=Path, metavar="FOLDER", help="likewise: .csv files")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where finished work is left, and taken from")
    asked = parser.parse_args()
    files = [(adbench, asked.adbench), (series_files, asked.series)]
    everything = asked.only is None and not any(folder for _, folder in files)
    groups = list(GROUPS) if everything else asked.only.split(",") if asked.only else []
    peers = asked.peers.split(",") if asked.peers else []
    for word, known in ((groups, GROUPS), (peers, PEERS)):
        if unknown := set(word) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    with contextlib.ExitStack() as stack:
        keep = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keep.mkdir(parents=True, exist_ok=True)
        cases = [GROUPS[name]() for name in groups if name != "clean"]
        cases += [read(folder) for read, folder in files if folder is not None]
        rows = [line for case in chain(*cases) for line in compare(case, peers, keep)]
        if "clean" in groups:
            rows += compare_clean(GROUPS["clean"](), keep)
    write(rows)


if __name__ == "__main__":
    main()
