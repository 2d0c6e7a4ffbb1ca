"""score: one anomaly score, p-value and verdict per sample, and what they are worth where labels are known."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, inference, thresholds
from aekit.errors import AekitError
from aekit.files import together
from aekit.picks import THRESHOLDS
from aekit.records import Record
from aekit.thresholds import Verdict
from aekit.trained import TrainedModel
from aekit.training import classifies, finds_picks
from aekit.workflows import common, contributions, judging, own_input, shards
from aekit.workflows.classes import write_classes
from aekit.workflows.common import Clock, Options, Talk
from aekit.workflows.contributions import Columns
from aekit.workflows.folders import over_folder
from aekit.workflows.judging import Measured, judge, table
from aekit.workflows.picks import write_picks
from aekit.workflows.score_report import Found, write_report
from aekit.workflows.shards import Shard


def score(
    data: str,
    out: str | None = None,
    rule: str = "auto",
    labels: str | None = None,
    normal: str | None = None,
    error_map: str | None = None,
    options: Options | None = None,
    talk: Talk | None = None,
    pick_thresholds: tuple[float, float, float] = THRESHOLDS,
    shard: str | None = None,
) -> dict[str, Any]:
    """Writes a row per sample (or window) to `out` (<name>.scores.csv by default, "-" is stdout).

    A model that finds picks writes a row per detection and pick instead, above `pick_thresholds`, a classifier the
    class of each sample and its probability. A folder of files gives a folder of tables. With `shard`, as in 2/8,
    writes the scores of that part of the rows beside `out`, for `merge`, which judges all of them by the rule.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    thresholds.parse_rule(rule)
    alone = {"--map": error_map, "-o -": out == "-"}
    part = None if shard is None else shards.asked(shard, options, alone)
    inside = formats.files_in(data)
    if inside.files:
        if out == "-" or labels is not None or error_map is not None:
            raise AekitError(f"{data}: is a folder of files; leave --labels, --map and -o - off, or name one file")
        return _score_folder(data, inside, out, rule, normal, options, talk, pick_thresholds, part)
    record = common.open_input(data, labels)
    maps = None if error_map is None else Path(error_map)

    def place(record: Record, suffix: str) -> Path | None:
        """Of the table; raises AekitError where it, or what is written beside it, cannot be."""
        path = None if out == "-" else Path(out) if out is not None else common.default_out(data, suffix, ".csv")
        if path is not None and not path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
            raise AekitError(f"{path}: scores are a table; name a .csv or .tsv file with -o")
        ranges = None if path is None or not record.by_point else _ranges_file(path)
        if part is None or path is None:
            common.check_outputs(options, data, path, maps, ranges)
        else:
            shards.check_places(part, record, data, path, options)
        return path

    def learn() -> TrainedModel:
        place(own_input.as_points(record, 1), "scores")
        common.parse_normal(normal, data, record)
        return own_input.learn(data, record, labels, options, talk)

    trained, run = common.find_model(data, record, "score", options, talk, learn if part is None else None)
    given = record
    is_own = trained.own_input and trained.fingerprint == common.fingerprint(record)
    of_table = contributions.columns_of(trained, record)
    record = common.as_model_takes(trained, record, options.missing, talk)
    record = own_input.as_points(record, trained.sample_shape[-1]) if trained.own_input else record
    suffix = "picks" if finds_picks(trained.network) else "classes" if classifies(trained.network) else "scores"
    path = place(record, suffix)
    if part is not None and suffix != "scores":
        raise AekitError(f"{trained.source}: writes {suffix}, which are not cut into parts; leave --shard off")
    if finds_picks(trained.network):
        if error_map is not None or normal is not None or rule != "auto":
            raise AekitError(
                f"{trained.source}: finds picks (--pick-thresholds); leave --threshold, --normal, --map off"
            )
        with together():
            figures = write_picks(trained, run, record, path, pick_thresholds, options, talk)
        return {**figures, "seconds": clock.seconds}
    if classifies(trained.network):
        if error_map is not None or normal is not None or rule != "auto":
            raise AekitError(f"{trained.source}: tells classes; leave --threshold, --normal, --map off")
        with together():
            figures = write_classes(trained, run, record, path, options, talk)
        return {**figures, "seconds": clock.seconds}
    if trained.calibration is None:
        raise AekitError(
            f"{trained.source}: its training did not end, so it has no calibration; finish it with --resume"
        )
    classes = common.parse_normal(normal or _known_normal(trained, record), data, record)
    anomalous = common.anomalous_rows(record, classes)
    if anomalous is not None:
        talk.say(f"anomalies by label: {'all but ' + ', '.join(classes) if classes else '1'} (--normal for others)")
    elif common.labels_of(record) is not None:
        talk.say("the labels do not say what is normal; --normal CLASS does, and gives AUROC, average precision and F1")
    if part is not None and path is not None:
        words = {"rule": rule, "labels": labels, "normal": normal}
        shape = (len(record) * _scores_each(trained, record),)
        job = shards.job_of("score", part, data, given, trained, run, shape, np.float32, options, **words)

        def compute(place: Path) -> None:
            judging.save(place, _part(part, trained, run, record, anomalous, is_own, talk))

        return {**shards.write_part(job, part, path, run, compute, options, talk), "seconds": clock.seconds}
    with together():
        figures = _score(trained, run, record, path, rule, anomalous, error_map, is_own, of_table, options, talk)
    return {**figures, "seconds": clock.seconds}


def _score_folder(
    data: str,
    inside: formats.Files,
    out: str | None,
    rule: str,
    normal: str | None,
    options: Options,
    talk: Talk,
    pick_thresholds: tuple[float, float, float],
    shard: Shard | None,
) -> dict[str, Any]:
    if options.model is not None:
        common.check_serves(common.load_model(options.model), "score")
    place = Path(out) if out is not None else Path(f"{formats.name_of(data)}.scores")

    def model_for(record: Record) -> str:
        def learn() -> TrainedModel:
            return own_input.learn(data, record, None, options, talk)

        return common.find_model(data, record, "score", options, talk, learn if shard is None else None)[0].source

    def one(file: Path, places: list[Path], options: Options, talk: Talk) -> dict[str, Any]:
        return score(inside.address(file), str(places[0]), rule, None, normal, None, options, talk, pick_thresholds)

    return over_folder(one, model_for, data, inside, [place], ".csv", options, talk, shard)


def _score(
    trained: TrainedModel,
    run: inference.Run,
    record: Record,
    path: Path | None,
    rule: str,
    anomalous: NDArray[np.bool_] | None,
    error_map: str | None,
    is_own: bool,
    of_table: Columns | None,
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    scores = _scores(trained, record, run, error_map, anomalous is not None, options, talk)
    common.warn(scores.seen, trained, talk)
    measured, scores = _measured(trained, record, run, scores, anomalous, is_own)
    places = {"model": trained.source, "out": "-" if path is None else str(path)}
    verdict, figures, pca = judge(measured, rule, places, talk)
    ranges = (
        _ranges(verdict, scores, max(1, trained.sample_shape[-1] // inference.POINT_HOPS)) if record.by_point else {}
    )
    if options.report is not None:
        found = Found(trained, record, run, scores, verdict, measured.truth, measured.calibration, of_table, ranges)
        figures["report"] = write_report(found, figures, pca, options)
    named = None if of_table is None else contributions.named(trained, record, run, verdict.flagged, of_table)
    columns = table(measured, verdict, named)
    if path is None:
        formats.write_csv(sys.stdout, columns)
    else:
        formats.write_columns(path, columns, options.force)
    if record.by_point:
        figures["ranges"] = [
            dict(zip(ranges, each, strict=True)) for each in zip(*(v.tolist() for v in ranges.values()), strict=True)
        ]
        if "time" in columns:
            ranges |= {f"{end}_time": columns["time"][ranges[end]] for end in ("start", "end")}
        if path is not None:
            figures["ranges_out"] = str(_ranges_file(path))
            formats.write_columns(_ranges_file(path), ranges, options.force)
    return figures


def _in_pieces(trained: TrainedModel, record: Record, each: int) -> bool:
    """Whether pictures are scored by their worst piece: where a model of the input itself takes `each` of one."""
    return trained.own_input and record.kind == "image" and each > 1


def _scores_each(trained: TrainedModel, record: Record) -> int:
    """Scores of a row."""
    each = inference.samples_each(trained, record)
    return 1 if _in_pieces(trained, record, each) else each


def _part(
    shard: Shard,
    trained: TrainedModel,
    run: inference.Run,
    record: Record,
    anomalous: NDArray[np.bool_] | None,
    is_own: bool,
    talk: Talk,
) -> Measured:
    """What is known of the rows of a shard, which are numbered as in the whole."""
    span = shards.span_of(shard, trained, record, run)
    with talk.track("rows", len(span.record)) as bar:
        scores = inference.score(trained, span.record, run, bar, with_pca=anomalous is not None)
    common.warn(scores.seen, trained, talk)
    each = len(scores.score) // len(span.record)
    own = slice(span.before * each, (span.before + span.rows) * each)
    row = scores.row[own] + span.start - span.before
    scores = replace(scores, score=scores.score[own], pca=scores.pca[own], row=row, start=scores.start[own])
    return _measured(trained, record, run, scores, anomalous, is_own)[0]


def _worst_pieces(scores: inference.Scores) -> inference.Scores:
    """Of each picture that was scored in pieces the highest score, and where that piece lies."""
    rows = len(np.unique(scores.row))
    each = scores.score.reshape(rows, -1)
    worst = np.arange(rows) * each.shape[1] + each.argmax(axis=1)
    pca = scores.pca.reshape(rows, -1).max(axis=1) if len(scores.pca) else scores.pca
    return replace(
        scores, score=scores.score[worst], pca=pca, row=scores.row[worst], start=[scores.start[i] for i in worst]
    )


def _ranges_file(path: Path) -> Path:
    """Beside the scores of each point: ecg.ranges.csv beside ecg.scores.csv."""
    name, dot, ending = path.name.rpartition(".csv" if ".csv" in path.name else ".tsv")
    return path.with_name(f"{name.removesuffix('.scores')}.ranges{dot}{ending}")


def _ranges(verdict: Verdict, scores: inference.Scores, apart: int) -> dict[str, NDArray[Any]]:
    """Stretches of flagged points, joined where they lie at most so many points apart: first, last, highest score."""
    points = np.flatnonzero(verdict.flagged)
    cuts = np.flatnonzero(np.diff(points) > apart) + 1
    stretches = [part for part in np.split(points, cuts) if len(part)]
    return {
        "start": np.array([part[0] for part in stretches], np.int64),
        "end": np.array([part[-1] for part in stretches], np.int64),
        "score": np.array([scores.score[part].max() for part in stretches], np.float32),
    }


def _known_normal(trained: TrainedModel, record: Record) -> str | None:
    """The classes that the model was trained on as normal, where the record's labels are of the same kind.

    Labels 0 and 1 say anomalous or not, unless those of the training data were no others.
    """
    labels = common.labels_of(record)
    if trained.normal is None or trained.classes is None or labels is None:
        return None
    names = set(map(str, labels))
    if names <= {"0", "1"} and not set(trained.classes) <= {"0", "1"}:
        return None
    return ",".join(sorted(set(trained.normal) & names)) or None


def _scores(
    trained: TrainedModel,
    record: Record,
    run: inference.Run,
    error_map: str | None,
    with_pca: bool,
    options: Options,
    talk: Talk,
) -> inference.Scores:
    if record.by_point:
        with (
            talk.track("points", record.sample_shape[-1]) as bar,
            nullcontext()
            if error_map is None
            else formats.create(Path(error_map), record, record.shape, np.dtype(np.float32), options.force) as writer,
        ):
            return inference.score_points(trained, record, run, bar, None if writer is None else writer.write)
    with talk.track("rows", len(record)) as bar:
        if error_map is None:
            return inference.score(trained, record, run, bar, with_pca=with_pca)
        with formats.create(Path(error_map), record, record.shape, np.dtype(np.float32), options.force) as writer:
            return inference.score(trained, record, run, bar, with_pca=with_pca, on_map=writer.write)


def _measured(
    trained: TrainedModel,
    record: Record,
    run: inference.Run,
    scores: inference.Scores,
    anomalous: NDArray[np.bool_] | None,
    is_own: bool,
) -> tuple[Measured, inference.Scores]:
    """The scores with what the file tells of each, and, where a picture was scored in pieces, one for each picture.

    `scores` may be of some of the record's rows.
    """
    assert trained.calibration is not None, "score has checked it"
    in_pieces = _in_pieces(trained, record, inference.samples_each(trained, record))
    if in_pieces:
        scores = _worst_pieces(scores)
    by_itself = is_own or in_pieces or record.by_point  # the scores of windows say nothing of those of points
    columns: dict[str, NDArray[Any]] = {"row": scores.row}
    files = formats.names_of(record.header)
    columns |= {"file": np.array(files)[scores.row]} if files else {}
    times = formats.times_of(record.header) if record.by_point else None
    columns |= {} if times is None else {"time": np.array(times)}
    if scores.start:
        starts = np.array(scores.start)
        names = ("start",) if starts.shape[1] == 1 else ("top", "left")
        columns |= {name: starts[:, i] for i, name in enumerate(names)}
    if record.recorded is not None:
        columns |= _where_and_when(trained, record, scores)
    labels = common.labels_of(record)
    measured = Measured(
        columns,
        scores.score,
        None if labels is None else labels[scores.row],
        None if anomalous is None else anomalous[scores.row],
        scores.pca,
        scores.score[:0] if by_itself else trained.calibration.numpy(),
        None if trained.pca_calibration is None else trained.pca_calibration.numpy(),
        trained.own_input or by_itself,
        (trained.precision, run.precision),
        trained.figures.get("rank_agreement"),
    )
    return measured, scores


def _where_and_when(trained: TrainedModel, record: Record, scores: inference.Scores) -> dict[str, NDArray[Any]]:
    """Of each row, window or point: the station, the time of its first point, and how much of it lies in gaps."""
    row, first = scores.row, np.array(scores.start)[:, 0] if scores.start else np.zeros_like(scores.row)
    length = trained.sample_shape[-1]
    if record.by_point:
        row, first, length = np.zeros_like(row), row, 1
    columns = common.where_and_when(record, row, first / (record.sampling_rate or 1))
    if record.recorded is not None and len(record.recorded.gaps):
        columns["in_gap"] = common.gap_share(record, row, first, np.full_like(first, length))
    return columns
