"""A verb by many workers: its shards run as a Ray Data pipeline, one actor per GPU, or CPU, and are merged.

The cluster is that of RAY_ADDRESS, else this machine. Files lie where every worker sees them. A worker that dies is
started again and does its shard anew; parts that are there already, of an earlier try, are not made twice.
"""

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aekit import remote
from aekit.errors import AekitError
from aekit.formats import files_in
from aekit.workflows import common, shards
from aekit.workflows.common import Clock, Options, Talk
from aekit.workflows.denoise import denoise
from aekit.workflows.embed import embed
from aekit.workflows.merge import merge
from aekit.workflows.score import score

SHARDS_EACH = 4  # of a worker: one that is slow, or begins anew, holds up the others little
VERBS: dict[str, Callable[..., dict[str, Any]]] = {"denoise": denoise, "score": score, "embed": embed}
OUTPUTS = {"denoise": ("denoised", None), "score": ("scores", ".csv"), "embed": ("latents", ".npy")}


class Worker:
    """An actor that runs shards of one job."""

    def __init__(self, verb: str, words: dict[str, Any], of: int) -> None:
        self.verb, self.words, self.of = verb, words, of

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The one shard of the batch; its fault is given back in words, as Ray keeps no exception whole."""
        (number,) = batch["item"]
        try:
            VERBS[self.verb](**self.words, shard=f"{number}/{self.of}")
        except AekitError as error:
            return {"fault": [str(error)]}
        return {"fault": [""]}


def _is_file(value: object) -> bool:
    return isinstance(value, str) and os.path.exists(value)


def by_ray(
    verb: str, data: str, out: str | None, options: Options | None = None, talk: Talk | None = None, **more: Any
) -> dict[str, Any]:
    """What the verb writes to `out`, the same bytes, by all workers of a Ray cluster; `more` are words of the verb.

    Raises AekitError for what shards raise, and where Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise AekitError('--engine ray: needs the package ray; run: pip install "aekit[ray]"')
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    shards.asked("1/1", options, {"-o -": out == "-"})
    if verb != "embed" and files_in(data).files:
        raise AekitError(
            f"{data}: is a folder of files, each of which is a job by itself; name one, or say --shard I/N"
        )
    suffix, ending = OUTPUTS[verb]
    path = Path(out) if out is not None else common.default_out(data, suffix, ending)
    record = common.open_input(data, more.get("labels"))
    shards.check_local(path)
    common.check_outputs(options, data, path)
    if options.force:
        shutil.rmtree(shards.folder_of(path), ignore_errors=True)
    shards.begun(path)  # raises where parts of two jobs lie there
    trained, _ = common.find_model(data, record, verb, options, talk)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # read at import; what fails is told by its exceptions
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        DataContext.get_current().enable_progress_bars = False
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        kind = "GPU" if there.get("GPU", 0) >= 1 and options.device != "cpu" else "CPU"
        workers = min(len(record), max(1, int(there.get(kind, 1))))
        of = shards.begun(path) or min(len(record), SHARDS_EACH * workers)
        words = {
            "data": data if common.is_dataset(data) or remote.is_remote(data) else os.path.abspath(data),
            "out": str(path.absolute()),
            "options": replace(options, model=remote.told(os.path.abspath(trained.source)), force=False),
            **{name: os.path.abspath(value) if _is_file(value) else value for name, value in more.items()},
        }
        talk.say(f"{data}: {of} shards by {workers} workers of Ray, each with a {kind}")
        jobs = ray.data.from_items(list(range(1, of + 1)), override_num_blocks=of).map_batches(
            Worker,
            fn_constructor_args=(verb, words, of),
            batch_size=1,
            compute=ActorPoolStrategy(size=workers),
            num_gpus=1 if kind == "GPU" else None,
            num_cpus=1 if kind == "CPU" else None,
        )
        with talk.track("shards", of) as bar:
            for done, told in enumerate(jobs.iter_rows(), start=1):
                if told["fault"]:
                    raise AekitError(told["fault"])
                bar(done)
    except ray.exceptions.RayError as error:
        raise AekitError(f"a worker of Ray failed ({str(error).strip().splitlines()[0][:200]})") from error
    finally:
        ray.shutdown()
        shards.sweep(path)
    figures = merge(str(path), options=options, talk=Talk())
    shutil.rmtree(shards.folder_of(path))
    return {**figures, "workers": workers, "seconds": clock.seconds}
