"""One function per verb: paths in, paths out, figures back as a dict."""

from aekit.workflows.bench import bench, bench_static
from aekit.workflows.common import Options, Talk, load_model
from aekit.workflows.denoise import denoise
from aekit.workflows.embed import embed
from aekit.workflows.engine import by_ray
from aekit.workflows.fill import fill
from aekit.workflows.generate import Words, generate
from aekit.workflows.info import doctor, info, list_datasets, list_recipes
from aekit.workflows.merge import merge
from aekit.workflows.score import score
from aekit.workflows.train import train

__all__ = [
    "Options",
    "Talk",
    "Words",
    "bench",
    "bench_static",
    "by_ray",
    "denoise",
    "doctor",
    "embed",
    "fill",
    "generate",
    "info",
    "list_datasets",
    "list_recipes",
    "load_model",
    "merge",
    "score",
    "train",
]
