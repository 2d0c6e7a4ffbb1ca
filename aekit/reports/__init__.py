"""Figures and the one-file HTML report: arrays in, sections and one string out. Nothing here reads or writes data."""

from aekit.reports.charts import latent_picture
from aekit.reports.generated import coverage_section, filling_section, nearest_section, samples_section
from aekit.reports.images import sample_grid
from aekit.reports.page import Picture, Section, Table, page
from aekit.reports.sections import (
    data_section,
    denoising_section,
    embedding_section,
    picks_section,
    progress_section,
    reconstruction_section,
    scores_section,
    stretches_section,
    training_section,
    units_section,
)
from aekit.reports.signals import Found
from aekit.reports.style import save_figure

__all__ = [
    "Found",
    "Picture",
    "Section",
    "Table",
    "coverage_section",
    "data_section",
    "denoising_section",
    "embedding_section",
    "filling_section",
    "latent_picture",
    "nearest_section",
    "page",
    "picks_section",
    "progress_section",
    "reconstruction_section",
    "sample_grid",
    "samples_section",
    "save_figure",
    "scores_section",
    "stretches_section",
    "training_section",
    "units_section",
]
