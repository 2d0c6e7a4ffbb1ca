"""Colour pictures of elliptical, spiral and barred spiral galaxies, as the Sloan Digital Sky Survey would take them.

One pixel of the 128 is 0.396 arcsec, the colours red, green and blue are the bands i, r and g. What follows is taken
from the literature, or said to be our choice. Galaxies fill the picture as in Galaxy Zoo's cut-outs (sizes ours).

- Profiles: Sersic 1963, Bol. Asoc. Argentina Astron. 6, 41, with b_n of Ciotti & Bertin 1999, A&A 352, 447.
- Ellipticals: n about 4 (de Vaucouleurs 1948, Ann. Astrophys. 11, 247; 2 to 8 in Kormendy et al. 2009, ApJS 182, 216),
  axis ratios 0.55 to 1, surface brightness at the half-light radius 21.4 +- 0.5 mag/arcsec^2 in r, and brighter the
  smaller it is (slope 3 mag per factor of 10: Kormendy 1977, ApJ 218, 333).
- Discs: n = 1, central surface brightness 20.5 +- 0.35 mag/arcsec^2 in r, which is B's 21.65 of Freeman 1970, ApJ 160,
  811, of any orientation up to 65 degrees from face-on (beyond it arms hide; ours) and transparent. Bulges: n 1 to 4
  (Fisher & Drory 2008, AJ 136, 773), 4 to 35 % of the light (Graham & Worley 2008, MNRAS 388, 1708), half-light radius
  0.15 to 0.35 scale lengths (MacArthur, Courteau & Holtzman 2003, ApJ 582, 689).
- Arms: logarithmic spirals, pitch angle 10 to 30 degrees (Savchenko & Reshetnikov 2013, MNRAS 436, 1074), mostly two
  (Hart et al. 2016, MNRAS 461, 3663; shares ours); width and strength, dust on their inner side and knots of young
  stars along them are ours.
- Bars: (1 - x^2 / a^2 - y^2 / b^2)^(3/2), a Ferrers bar from above (Athanassoula 1992, MNRAS 259, 328), half-length 1.1
  to 1.8 scale lengths (Erwin 2005, MNRAS 364, 283), axis ratio 0.2 to 0.4, 10 to 25 % of the light (Gadotti 2011, MNRAS
  415, 3308); the arms start at its ends.
- Colours of old stars, discs and arms: near those of ellipticals, Sab and Im in Fukugita, Shimasaku & Ichikawa 1995,
  PASP 107, 945, with a common reddening by dust and redshift (ours).
- Seeing: Moffat 1969, A&A 3, 455, with FWHM 1.1 to 1.6 arcsec and beta 3.5, between the 2.5 and 4.765 of Trujillo et
  al. 2001, MNRAS 328, 977, for there its transform is (1 + t + t^2 / 3) exp(-t), t = 2 pi alpha |frequency|.
- Noise: photons of sky and galaxy at SDSS's sky and sensitivity (Gunn et al. 1998, AJ 116, 3040; rounded): under a star
  within 0.2 mag of the noise in Stoughton et al. 2002, AJ 123, 485, table 21. Stars of our Galaxy: number ours.
- Stretch: asinh of the mean of the three bands, which keeps colours (Lupton et al. 2004, PASP 116, 133).

Small pictures (`galaxies:32`) are the same ones: the light is averaged over squares of pixels before the stretch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from aekit.records import Record, record_of
from aekit.synthetic import streams

SIZE = 128
SIZES = ("128", "64", "32")
CLASSES = ("barred spiral", "elliptical", "spiral")
ROWS = 10  # of a block
PIXEL = 0.396  # arcsec

# a pair is the range of an even distribution unless told; light is in units of a star of magnitude 20 in each band
OFFSET = (-1.5, 1.5)  # pixels, of the centre
ELLIPTICAL_RADIUS, ELLIPTICAL_RATIO = (8.0, 17.0), (0.55, 1.0)  # half-light, pixels
ELLIPTICAL_INDEX = (4.0, 0.25)  # median, and deviation of the logarithm
ELLIPTICAL_BRIGHTNESS, KORMENDY = (21.4, 0.5), 3.0  # mean and deviation; magnitudes per factor of 10 in radius
SCALE_LENGTH, INCLINATION = (10.0, 15.0), 65.0  # pixels; degrees at most, the cosine is even
DISC_BRIGHTNESS, CLIPPED = (20.5, 0.35), (19.6, 21.2)  # mean and deviation
BULGE_INDEX, BULGE_SHARE = (1.0, 4.0), (0.04, 0.35)  # the share is even in its logarithm
BULGE_RADIUS, BULGE_RATIO = (0.15, 0.35), 0.7  # scale lengths; seen from the side
BAR_LENGTH, BAR_RATIO, BAR_SHARE = (1.1, 1.8), (0.2, 0.4), (0.1, 0.25)
ARM_START, PITCH, ARMS = (0.4, 0.7), (10.0, 30.0), (0.7, 0.2, 0.1)  # scale lengths; degrees; shares of 2, 3 and 4
ARM_STRENGTH, ARM_NARROWNESS = (0.45, 0.85), (1.0, 3.0)
DUST, DUST_LAG, DUST_NARROWNESS = (0.0, 0.5), 0.9, 3.0  # share of g taken; radians of phase on the inner side of arms
KNOTS, KNOT_LIGHT, KNOT_SCATTER = 40, 0.08, 0.4  # number; share of the disc's light; radians of phase
STARS, STAR_CHANCE = 4, 0.25  # at most, and of each
STAR_MAGNITUDE, STAR_COLOUR = (18.0, 22.0), (0.2, 1.3)  # in r; g - r
COLOURS = np.array([[0.76, 0.38], [0.58, 0.31], [0.22, 0.05]])  # g - r and r - i of old stars, disc, arms
COLOUR_SPREAD, REDDENING = 0.05, (0.04, 0.07)  # of g - r, twice that of r - i; mean and deviation, of all alike
SEEING, BETA = (1.1, 1.6), 3.5  # arcsec
EXTINCTION = np.array([0.53, 0.7, 1.0], np.float32)  # of i, r and g over that of g
ELECTRONS = np.array([7e3, 9.5e3, 10.5e3], np.float32)  # of magnitude 20 in i, r and g
SKY = 10 ** (-0.4 * (np.array([20.2, 20.9, 21.9], np.float32) - 20)) * PIXEL**2
BALANCE = np.array([0.78, 1.0, 1.62], np.float32)  # g - r of 0.52 and r - i of 0.27 are grey
SOFTENING, WHITE = 0.009, 0.6  # of the stretch
SOFT_CENTRE = 0.3  # pixels, added to the radius in square: a cusp is not sampled at its tip
EDGE = 5  # pixels without points of light, for seeing would carry them round to the other side

Floats = NDArray[np.floating[Any]]


class Spheroid(NamedTuple):
    """B ellipticals or bulges, each value (B, 1); lengths in pixels."""

    light: Floats
    radius: Floats  # half-light
    sersic: Floats  # index n
    ratio: Floats


class Disc(NamedTuple):
    """B discs with arms and B bars, which may have no light, each value (B, 1); lengths in pixels."""

    light: Floats
    scale: Floats
    ratio: Floats
    start: Floats  # radius at which the arms begin
    winding: Floats  # cotangent of the pitch angle
    arms: Floats
    strength: Floats
    narrowness: Floats
    dust: Floats
    bar: Floats  # half-length
    bar_ratio: Floats
    bar_light: Floats


def galaxies(part: str, seed: int, count: int, size: str = "128") -> Record:
    """`count` pictures (count, H, W, 3), uint8, H and W `size`, labelled with CLASSES, each with the same chance."""
    side = int(size)
    pictures = np.empty((count, side, side, 3), np.uint8)
    labels = np.empty(count, np.array(CLASSES).dtype)
    for rows, (rng, noise_rng) in streams(part, seed, count, 2, ROWS):
        kind = rng.integers(len(CLASSES), size=ROWS)
        light = _observed(_light(kind, rng), noise_rng)
        kept = rows.stop - rows.start
        pictures[rows] = _stretched(light[:kept], side)
        labels[rows] = np.array(CLASSES)[kind[:kept]]
    return record_of(pictures, f"galaxies:{size} ({part})", labels=labels)


# --- light -----------------------------------------------------------------------------------------------------------


def _light(kind: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """What reaches the telescope, (B, 3, H * W), bands i, r and g, of galaxies of the classes `kind` (B,)."""
    centre, angle = _even(rng, OFFSET, (ROWS, 2, 1)), _even(rng, (0, np.pi))
    disc, bulge = _drawn_disc(kind == CLASSES.index("barred spiral"), rng)
    elliptical = kind == CLASSES.index("elliptical")
    pairs = zip(_drawn_elliptical(rng), bulge, strict=True)
    spheroid = Spheroid(*(np.where(elliptical[:, None], value, of_bulge) for value, of_bulge in pairs))
    populations = np.zeros((ROWS, 3, SIZE * SIZE), np.float32)  # old stars, disc, arms
    populations[:, 0] = _spheroid_light(spheroid, _places(_frame(angle, spheroid.ratio), centre))
    mirrored = rng.choice([-1, 1], (ROWS, 1))
    frame = _frame(angle, mirrored * disc.ratio, _even(rng, (0, 2 * np.pi)))
    spiral = np.flatnonzero(~elliptical)
    visible = Disc(*(value[spiral].astype(np.float32) for value in disc))
    discs, lanes = _disc_light(visible, _places(frame[spiral], centre[spiral]))
    populations[spiral] += discs
    places, knots = _knots(disc, rng)
    _add_points(populations[:, 2], np.linalg.solve(frame, places) + centre, knots * ~elliptical[:, None])
    light: Floats = np.matmul(_colours(rng), populations)
    light[spiral] *= 1 - EXTINCTION[:, None] * lanes[:, None]
    places, magnitudes = _stars(rng)
    for band in range(3):
        _add_points(light[:, band], places, 10 ** (-0.4 * (magnitudes[:, band] - 20)))
    return light


def _drawn_elliptical(rng: np.random.Generator) -> Spheroid:
    radius, ratio = _even(rng, ELLIPTICAL_RADIUS), _even(rng, ELLIPTICAL_RATIO)
    (median, spread), (mean, deviation) = ELLIPTICAL_INDEX, ELLIPTICAL_BRIGHTNESS
    index = (median * np.exp(spread * rng.standard_normal((ROWS, 1)))).clip(2, 8)
    magnitude = mean + KORMENDY * np.log10(radius / np.mean(ELLIPTICAL_RADIUS)) + rng.normal(0, deviation, (ROWS, 1))
    return Spheroid(_of_magnitude(magnitude) * _sersic_area(index) * radius**2 * ratio, radius, index, ratio)


def _drawn_disc(barred: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Disc, Spheroid]:
    scale, ratio = _even(rng, SCALE_LENGTH), _even(rng, (np.cos(np.radians(INCLINATION)), 1))
    magnitude = rng.normal(*DISC_BRIGHTNESS, (ROWS, 1)).clip(*CLIPPED)
    light = 2 * np.pi * _of_magnitude(magnitude) * scale**2
    bulge_share, bar_share = np.exp(_even(rng, np.log(BULGE_SHARE))), _even(rng, BAR_SHARE) * barred[:, None]
    bulge_ratio = np.sqrt(1 - (1 - BULGE_RATIO**2) * (1 - ratio**2))
    bulge = Spheroid(light * bulge_share, _even(rng, BULGE_RADIUS) * scale, _even(rng, BULGE_INDEX), bulge_ratio)
    bar = _even(rng, BAR_LENGTH) * scale
    disc = Disc(
        light * (1 - bulge_share - bar_share),
        scale,
        ratio,
        np.where(barred[:, None], bar, _even(rng, ARM_START) * scale),
        1 / np.tan(np.radians(_even(rng, PITCH))),
        rng.choice([2, 3, 4], (ROWS, 1), p=ARMS),
        _even(rng, ARM_STRENGTH),
        _even(rng, ARM_NARROWNESS),
        _even(rng, DUST),
        bar,
        _even(rng, BAR_RATIO),
        light * bar_share,
    )
    return disc._replace(arms=np.where(barred[:, None], 2, disc.arms)), bulge


def _spheroid_light(spheroid: Spheroid, places: Floats) -> Floats:
    """(B, H * W) of Sersic profiles, at `places` (2, B, H * W) in frames that make them round."""
    light, radius, index, ratio = spheroid
    b = _sersic_b(index)
    peak = np.log(light / (_sersic_area(index) * radius**2 * ratio)) + b
    x, y = places
    shape = np.log(x * x + y * y + np.float32(SOFT_CENTRE**2))
    shape -= (2 * np.log(radius)).astype(np.float32)
    shape *= (0.5 / index).astype(np.float32)
    np.exp(shape, out=shape)
    shape *= -b.astype(np.float32)
    shape += peak.astype(np.float32)
    return np.asarray(np.exp(shape, out=shape))


def _disc_light(disc: Disc, places: Floats) -> tuple[Floats, Floats]:
    """Light of old stars, disc and arms (B, 3, H * W), and the share of g's light that dust takes (B, H * W)."""
    x, y = places
    square = x * x + y * y
    light = np.exp(np.sqrt(square) / -disc.scale)
    light *= disc.light / (2 * np.pi * disc.scale**2 * disc.ratio)
    square /= disc.start**2
    phase = np.arctan2(y, x)
    phase -= np.log(square + np.float32(1e-6)) * (disc.winding / 2)
    phase *= disc.arms
    square *= square
    begun = square / (1 + square)
    crest = np.exp(disc.narrowness * (np.cos(phase) - 1))
    crest *= disc.strength / special.i0e(disc.narrowness)
    crest *= begun
    phase -= np.float32(DUST_LAG)
    lane = np.exp(DUST_NARROWNESS * (np.cos(phase) - 1))
    lane *= begun
    lane *= disc.dust
    depth = 1 - (x / disc.bar) ** 2 - (y / (disc.bar * disc.bar_ratio)) ** 2
    depth = depth.clip(0)
    bar = depth * np.sqrt(depth)
    bar *= disc.bar_light * 2.5 / (np.pi * disc.bar**2 * disc.bar_ratio * disc.ratio)
    return np.stack([bar, light * (1 - disc.strength * begun), light * crest], axis=1), lane


def _knots(disc: Disc, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Clusters of young stars along the arms: places in the plane of the disc (B, 2, K) and light (B, K)."""
    radius = rng.gamma(2, 1, (ROWS, KNOTS)) * disc.scale  # as the disc's light
    arm = rng.integers(12, size=(ROWS, KNOTS)) / disc.arms
    theta = disc.winding * np.log(radius / disc.start) + 2 * np.pi * arm
    theta += rng.normal(0, KNOT_SCATTER, (ROWS, KNOTS)) / disc.arms
    light = np.exp(rng.normal(-0.5, 1, (ROWS, KNOTS))) * (radius > disc.start) * KNOT_LIGHT * disc.light / KNOTS
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=1), light


def _stars(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Places (B, 2, K), and magnitudes in i, r and g (B, 3, K), infinite where there is no star."""
    places = rng.uniform(-SIZE / 2, SIZE / 2, (ROWS, 2, STARS))
    magnitude = rng.uniform(*STAR_MAGNITUDE, (ROWS, STARS))
    magnitude[rng.random((ROWS, STARS)) >= STAR_CHANCE] = np.inf
    colour = rng.uniform(*STAR_COLOUR, (ROWS, STARS))
    return places, np.stack([magnitude - 0.4 * colour, magnitude, magnitude + colour], axis=1)


def _add_points(light: Floats, places: Floats, values: Floats) -> None:
    """Add `values` (B, K) to the pixels of `light` (B, H * W) at `places` (B, 2, K), but for the edge."""
    x, y = np.floor(places + SIZE / 2).astype(np.int64).swapaxes(0, 1)
    inside = (x >= EDGE) & (x < SIZE - EDGE) & (y >= EDGE) & (y < SIZE - EDGE)
    row = np.broadcast_to(np.arange(ROWS)[:, None], x.shape)
    np.add.at(light, (row[inside], (y * SIZE + x)[inside]), values[inside].astype(np.float32))


def _colours(rng: np.random.Generator) -> Floats:
    """Light in i, r and g of each population per its light in r, (B, band, population)."""
    redder = rng.normal(0, COLOUR_SPREAD, (ROWS, len(COLOURS), 1)) + rng.normal(*REDDENING, (ROWS, 1, 1))
    g_r, r_i = np.moveaxis(COLOURS + redder * [1.0, 0.5], 2, 0)
    return (10 ** (-0.4 * np.stack([-r_i, 0 * g_r, g_r], axis=1))).astype(np.float32)


def _sersic_b(index: Floats) -> Floats:
    return np.asarray(2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2))


def _sersic_area(index: Floats) -> Floats:
    """Light of a round Sersic profile over the square of its half-light radius and its brightness there."""
    b = _sersic_b(index)
    return np.asarray(2 * np.pi * index * np.exp(b) * b ** (-2 * index) * special.gamma(2 * index))


def _of_magnitude(magnitude: Floats) -> Floats:
    """Light per pixel of a surface brightness in mag/arcsec^2."""
    return np.asarray(10 ** (-0.4 * (magnitude - 20)) * PIXEL**2)


def _even(rng: np.random.Generator, ends: Sequence[float] | Floats, shape: tuple[int, ...] = (ROWS, 1)) -> Floats:
    return np.asarray(rng.uniform(ends[0], ends[1], shape))


# --- geometry and telescope ------------------------------------------------------------------------------------------


def _frame(angle: Floats, ratio: Floats, turn: Floats | None = None) -> Floats:
    """(B, 2, 2), from the sky to a frame with the long axis at `angle` along x, stretched to be round, then turned."""
    rows = [[np.cos(angle), np.sin(angle)], [-np.sin(angle) / ratio, np.cos(angle) / ratio]]
    frame = np.array(rows)[..., 0].transpose(2, 0, 1)
    if turn is None:
        return frame
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])[..., 0].transpose(2, 0, 1)
    return np.asarray(turned @ frame)


def _places(frame: Floats, centre: Floats) -> Floats:
    """Coordinates of all pixels in the frames of galaxies at `centre` (B, 2, 1), as (2, B, H * W) float32."""
    axis = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    sky = np.stack([np.tile(axis, SIZE), np.repeat(axis, SIZE)])
    places = np.matmul(frame.astype(np.float32), sky) - (frame @ centre).astype(np.float32)
    return np.asarray(places.swapaxes(0, 1))


def _observed(light: Floats, rng: np.random.Generator) -> Floats:
    """The light (B, 3, H * W) after seeing, with photon noise, the sky taken off: (B, 3, H, W)."""
    fwhm = _even(rng, SEEING, (ROWS, 1, 1, 1)) / PIXEL
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    t = (2 * np.pi * alpha * frequency).astype(np.float32)
    waves = fft.rfft2(light.reshape(ROWS, 3, SIZE, SIZE), overwrite_x=True)
    waves *= (1 + t + t * t / 3) * np.exp(-t)  # the transform of a Moffat profile of BETA
    seen = fft.irfft2(waves, overwrite_x=True)
    np.maximum(seen, 0, out=seen)  # beside a bright star the sampled profile swings below
    spread = seen + SKY[:, None, None]
    spread /= ELECTRONS[:, None, None]
    np.sqrt(spread, out=spread)
    spread *= rng.standard_normal(seen.shape, np.float32)
    seen += spread
    return np.asarray(seen)


def _stretched(light: Floats, side: int) -> NDArray[np.uint8]:
    """Pictures (B, side, side, 3) of light (B, 3, H, W), the mean over squares of pixels; `light` is overwritten."""
    step = SIZE // side
    if step > 1:
        light = light.reshape(-1, 3, side, step, side, step).mean(axis=(3, 5))
    light *= BALANCE[:, None, None]
    mean = np.abs(light.mean(axis=1, keepdims=True)) / SOFTENING + 1e-6  # arsinh(x) / x is even, and 1 at 0
    gain = np.arcsinh(mean)
    gain /= mean
    gain *= 255 / (SOFTENING * np.arcsinh(WHITE / SOFTENING))
    light *= gain
    brightest = light.max(axis=1, keepdims=True)
    light *= 255 / np.maximum(brightest, 255)  # a pixel too bright keeps its colour
    np.maximum(light, 0, out=light)
    return np.asarray(np.rint(light, out=light).astype(np.uint8).transpose(0, 2, 3, 1))
