"""Small pictures of regular textures, some with a planted defect, and the masks of the defects.

After the textures of MVTec AD (Bergmann, Fauser, Sattlegger & Steger 2019, CVPR 9592-9600): the training part is
normal throughout, half of the test part has one defect each, and a mask tells its pixels. All numbers are ours.

Textures are functions of places (a, b) on a lattice of threads or dots, 64 x 64 pixels of it seen at some phase,
period, angle, contrast and illumination, under noise. A defect is a region and what lies there instead: a scratch or a
blob of one grey, a stain that darkens, a missing thread, or cells that sit in the wrong place. The mask is the region.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aekit.records import Record, record_of
from aekit.synthetic import streams

SIZE = 64
ROWS = 50  # of a block
OPTIONS = ("pictures", "masks")
DEFECT_SHARE = 0.5  # of the test part

# a pair is the range of an even distribution; lengths in pixels, greys from 0, the texture's ground, to 1, its top
PERIOD, ANGLE = (7.75, 8.25), (-0.03, 0.03)  # radians; as of a camera that stands fast
GROUND, CONTRAST = (0.2, 0.35), (0.35, 0.5)  # of white
SLOPE = (-0.12, 0.12)  # of illumination, from the centre to an edge
NOISE = (0.015, 0.03)  # standard deviation, of white
CENTRE = (-22.0, 22.0)  # of a defect, from the picture's
SPOT = (-0.4, 1.3)  # greys of dark and bright scratches and blobs
SCRATCH_LENGTH, SCRATCH_WIDTH, BEND = (8.0, 18.0), (0.7, 1.2), (-0.02, 0.02)  # the first two halved; 1/pixels
BLOB, STAIN, UNEVEN, STAIN_DARK = (2.5, 5.0), (6.0, 11.0), 0.25, (0.25, 0.5)  # radii; share of them; share of light
MISSING, MISPLACED = (2.0, 4.0), (1.0, 1.6)  # half a length of thread and half a side of a square, in periods

X = np.arange(SIZE)[None, None, :] - (SIZE - 1) / 2
Y = X.swapaxes(1, 2)

Floats = NDArray[np.floating[Any]]
Masks = NDArray[np.bool_]


class View(NamedTuple):
    """What is seen of B textures."""

    texture: NDArray[np.int64]  # (B,), which of TEXTURES
    period: Floats  # (B, 1, 1)
    a: Floats  # (B, H, W), places on the lattice, whose period is 1
    b: Floats

    def of(self, rows: Masks) -> "View":
        return View(self.texture[rows], self.period[rows], self.a[rows], self.b[rows])


def patterns(part: str, seed: int, count: int, option: str = "pictures") -> Record:
    """`count` grey pictures (count, 64, 64), uint8, or the masks of their defects, 0 and 255.

    Both are labelled with one of DEFECTS, or normal.
    """
    made = np.empty((count, SIZE, SIZE), np.uint8)
    labels = np.empty(count, np.array(LABELS).dtype)
    for rows, (rng, defect_rng) in streams(part, seed, count, 2, ROWS):
        kind = defect_rng.integers(len(DEFECTS), size=ROWS)
        kind[(defect_rng.random(ROWS) >= DEFECT_SHARE) | (part == "train")] = len(DEFECTS)
        pictures, masks = _made(kind, rng, defect_rng)
        kept = rows.stop - rows.start
        made[rows] = (masks if option == "masks" else pictures)[:kept]
        labels[rows] = np.array(LABELS)[kind[:kept]]
    return record_of(made, f"patterns:{option} ({part})", labels=labels)


def _made(
    kind: NDArray[np.int64], rng: np.random.Generator, defect_rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures and masks (B, H, W) with what `kind` (B,) names of LABELS."""
    angle, period = _even(rng, ANGLE, ROWS), _even(rng, PERIOD, ROWS)
    a = (X * np.cos(angle) + Y * np.sin(angle)) / period + rng.random((ROWS, 1, 1))
    b = (Y * np.cos(angle) - X * np.sin(angle)) / period + rng.random((ROWS, 1, 1))
    view = View(rng.integers(len(TEXTURES), size=ROWS), period, a, b)
    grey, region = _grey(view.texture, a, b), np.zeros((ROWS, SIZE, SIZE))
    for number, defect in enumerate(DEFECTS.values()):
        here = kind == number
        region[here], instead = defect(view.of(here), grey[here], defect_rng)
        grey[here] += region[here] * (instead - grey[here])
    light = 1 + (_even(rng, SLOPE, ROWS) * X + _even(rng, SLOPE, ROWS) * Y) / (SIZE / 2)
    pictures = light * (_even(rng, GROUND, ROWS) + _even(rng, CONTRAST, ROWS) * grey)
    pictures += _even(rng, NOISE, ROWS) * rng.standard_normal(pictures.shape)
    return (255 * pictures.clip(0, 1) + 0.5).astype(np.uint8), (255 * (region > 0.5)).astype(np.uint8)


def _even(rng: np.random.Generator, ends: tuple[float, float], rows: int) -> Floats:
    return np.asarray(rng.uniform(*ends, (rows, 1, 1)))


# --- textures: places (B, H, W) on the lattice -> greys --------------------------------------------------------------


def _weave(a: Floats, b: Floats) -> Floats:
    """Plain weave: threads along b and along a, over each other in turns, each highest in the middle."""
    along, across = np.abs(np.sin(np.pi * a)), np.abs(np.sin(np.pi * b))
    over = (np.floor(a) + np.floor(b)) % 2 == 0
    return np.asarray(np.where(over, along * (0.6 + 0.4 * across), 0.75 * across * (0.6 + 0.4 * along)))


def _stripes(a: Floats, b: Floats) -> Floats:
    return np.asarray(0.5 - 0.5 * np.tanh(2 * np.cos(2 * np.pi * a)) / np.tanh(2))


def _dots(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.exp(1.25 * (-2 - np.cos(2 * np.pi * a) - np.cos(2 * np.pi * b))))


def _hatching(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.maximum(*(np.exp(3 * (-1 - np.cos(2 * np.pi * c))) for c in (a, b))))


TEXTURES = (_weave, _stripes, _dots, _hatching)


def _grey(texture: NDArray[np.int64], a: Floats, b: Floats) -> Floats:
    grey: Floats = np.empty(a.shape)
    for number, function in enumerate(TEXTURES):
        here = texture == number
        grey[here] = function(a[here], b[here])
    return grey


# --- defects: a view and its greys -> where (B, H, W), from 0 to 1, and what is there instead ---------------


def _blob(view: View, grey: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    u, v = _turned(len(grey), rng)
    radius = _even(rng, BLOB, len(grey))
    return _inside(radius - np.hypot(u, v * _even(rng, (1.0, 1.5), len(grey)))), _spot(len(grey), rng)


def _scratch(view: View, grey: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    u, v = _turned(len(grey), rng)
    beyond = np.maximum(np.abs(u) - _even(rng, SCRATCH_LENGTH, len(grey)), 0)
    distance = np.hypot(beyond, v + _even(rng, BEND, len(grey)) * u**2)
    return _inside(_even(rng, SCRATCH_WIDTH, len(grey)) - distance), _spot(len(grey), rng)


def _stain(view: View, grey: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    u, v = _turned(len(grey), rng)
    theta, phase = np.arctan2(v, u), _even(rng, (0, 2 * np.pi), len(grey))
    radius = _even(rng, STAIN, len(grey)) * (1 + UNEVEN * np.sin(theta - phase) * np.cos(2 * theta + phase))
    dark = _even(rng, STAIN_DARK, len(grey))
    return _inside(radius - np.hypot(u, v)), (1 - dark) * grey - dark / 2


def _missing(view: View, grey: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A thread, or a row of dots, is gone for a part of its length."""
    a, b = _chosen(view, rng)
    across, along = np.abs(view.a - np.floor(a) - 0.5), np.abs(view.b - b)
    inside = np.minimum(0.5 - across, _even(rng, MISSING, len(grey)) - along)
    return _inside(inside * view.period), np.zeros(1)


def _misplaced(view: View, grey: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A square of the texture sits half a period off."""
    a, b = _chosen(view, rng)
    inside = _even(rng, MISPLACED, len(grey)) - np.maximum(np.abs(view.a - a), np.abs(view.b - b))
    return _inside(inside * view.period), _grey(view.texture, view.a + 0.5, view.b + 0.5)


def _turned(rows: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Pixels (B, H, W) from a chosen centre, along a chosen direction and across."""
    x, y, angle = X - _even(rng, CENTRE, rows), Y - _even(rng, CENTRE, rows), _even(rng, (0, np.pi), rows)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _chosen(view: View, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The lattice's places (B, 1, 1) at a chosen pixel of each row."""
    rows = np.arange(len(view.a))
    row, column = rng.integers(SIZE // 2 + int(CENTRE[0]), SIZE // 2 + int(CENTRE[1]), (2, len(rows)))
    return view.a[rows, row, column][:, None, None], view.b[rows, row, column][:, None, None]


def _spot(rows: int, rng: np.random.Generator) -> Floats:
    return rng.choice(SPOT, (rows, 1, 1))


def _inside(pixels: Floats) -> Floats:
    """From how far inside a region's edge a pixel's centre lies to how much of it lies inside."""
    return np.asarray((pixels + 0.5).clip(0, 1))


DEFECTS = {"blob": _blob, "misplaced": _misplaced, "missing": _missing, "scratch": _scratch, "stain": _stain}
LABELS = (*DEFECTS, "normal")
