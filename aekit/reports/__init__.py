"""Figures and the one-file HTML report: arrays in, sections and one string out. Nothing here reads or writes data."""

from aekit.reports.charts import MOST_CLUSTERS, latent_picture
from aekit.reports.embedding import clusters_section, neighbours_section, probe_section
from aekit.reports.generated import coverage_section, drawn_section, filling_section, nearest_section, samples_section
from aekit.reports.images import sample_grid
from aekit.reports.page import Picture, Section, Table, page
from aekit.reports.scored import contributions_section, points_section
from aekit.reports.sections import (
    classes_section,
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
    "MOST_CLUSTERS",
    "Found",
    "Picture",
    "Section",
    "Table",
    "classes_section",
    "clusters_section",
    "contributions_section",
    "coverage_section",
    "data_section",
    "denoising_section",
    "drawn_section",
    "embedding_section",
    "filling_section",
    "latent_picture",
    "nearest_section",
    "neighbours_section",
    "page",
    "picks_section",
    "points_section",
    "probe_section",
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
