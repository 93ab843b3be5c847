"""Simulated pictures that are not one frontal chest film, for the screen to learn what to set aside.

Hardly any such film is openly at hand, so these are made: limbs, hands, skulls, pelves, abdomens, shoulders, spines and
chests from the side as superposed shapes, drawn by the law of Beer and Lambert (what a ray meets adds up); body slices,
mammograms and fans of ultrasound as plain shapes; pages, gradients, noise and shaded scenes; and from real or simulated
chest films details too small to show a chest, several films on one picture, and films cut up and put together wrongly.
They are crude: they teach what a chest is by what it is not, and measure little of how real other films are told.

Coordinates run from -1 to 1 from left to right and from top to bottom. Pictures are uint8 [size, size].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Picture = NDArray[np.uint8]
Map = NDArray[np.float64]
Point = tuple[float, float]

#: Attenuation a unit of length; only their ratios matter. Cortical and spongy bone beside soft tissue, about 60 keV
#: (NIST XCOM: cortical bone 0.6 /cm, soft tissue 0.2 /cm, fat and marrow little less).
SOFT, CORTEX, SPONGE = 1.0, 3.0, 1.5


@dataclass(frozen=True)
class _Sheet:
    """What a scene is drawn on: coordinates [S, S] and the generator all chance comes from."""

    x: Map
    y: Map
    rng: np.random.Generator

    def u(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def ellipsoid(self, at: Point, radii: Point, turn: float = 0.0, depth: float | None = None) -> Map:
        """Chord through an ellipsoid; `depth` its half-axis along the beam, default the lesser radius."""
        dx, dy, c, s = self.x - at[0], self.y - at[1], np.cos(turn), np.sin(turn)
        rest = 1 - ((c * dx + s * dy) / radii[0]) ** 2 - ((c * dy - s * dx) / radii[1]) ** 2
        return np.asarray(2 * (min(radii) if depth is None else depth) * np.sqrt(np.clip(rest, 0, None)))

    def rod(self, a: Point, b: Point, radius: float, flare: float = 0.0) -> Map:
        """Chord through a round rod from a to b, wider by `flare` at its ends."""
        d, t = self._from_line(a, b)
        return _chord(d, radius * (1 + flare * np.abs(2 * t - 1) ** 5))

    def bone(self, a: Point, b: Point, radius: float, flare: float = 0.4) -> Map:
        """Attenuation a long bone adds to the flesh it lies in: a cortex round marrow."""
        d, t = self._from_line(a, b)
        outer = radius * (1 + flare * np.abs(2 * t - 1) ** 5)
        inner = outer * np.clip(0.65 + 0.25 * np.abs(2 * t - 1) ** 3, 0, 0.92)
        return (CORTEX - SOFT) * _chord(d, outer) - (CORTEX - SPONGE) * _chord(d, inner)

    def _from_line(self, a: Point, b: Point) -> tuple[Map, Map]:
        (ax, ay), (bx, by) = a, b
        long = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-6)
        t = np.clip(((self.x - ax) * (bx - ax) + (self.y - ay) * (by - ay)) / long, 0, 1)
        return np.hypot(self.x - ax - t * (bx - ax), self.y - ay - t * (by - ay)), t


def _chord(distance: Map, radius: Map | float) -> Map:
    return np.asarray(2 * np.sqrt(np.clip(np.square(radius) - np.square(distance), 0, None)))


def _field(rng: np.random.Generator, size: int, power: float) -> Map:
    """Noise [S, S] whose amplitude falls with frequency to `power`; zero mean, unit deviation."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    f[0, 0] = 1
    wave = rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape)
    out = np.fft.irfft2(wave / f**power, s=(size, size))
    return np.asarray((out - out.mean()) / max(float(out.std()), 1e-9))


# Scenes of attenuation


def _limb(s: _Sheet) -> Map:
    turn, bend = s.u(0, np.pi), s.u(-0.7, 0.7) * (s.rng.random() < 0.5)
    joint: Point = (s.u(-0.4, 0.4), s.u(-0.4, 0.4))
    thick = s.u(0.22, 0.6)
    out, flesh = np.zeros_like(s.x), np.zeros_like(s.x)
    for half, angle in enumerate((turn, turn + np.pi + bend)):
        end: Point = (joint[0] + 2.6 * np.cos(angle), joint[1] + 2.6 * np.sin(angle))
        flesh = np.maximum(flesh, s.rod(joint, end, thick * s.u(0.9, 1.1), 0.1))
        near: Point = (joint[0] + 0.06 * np.cos(angle), joint[1] + 0.06 * np.sin(angle))
        if half and s.rng.random() < 0.6:  # forearm and lower leg hold two bones
            for side in (-1, 1):
                shift: Point = (side * thick * 0.35 * -np.sin(angle), side * thick * 0.35 * np.cos(angle))
                out += s.bone((near[0] + shift[0], near[1] + shift[1]), (end[0] + shift[0], end[1] + shift[1]),
                              thick * s.u(0.15, 0.26))
        else:
            out += s.bone(near, end, thick * s.u(0.28, 0.42), s.u(0.3, 0.9))
    if s.rng.random() < 0.3:
        out += 0.5 * s.ellipsoid(joint, (thick * 0.4, thick * 0.4))
    return SOFT * flesh * s.u(0.6, 1.1) + out


def _hand(s: _Sheet) -> Map:
    at, turn, out = (s.u(-0.2, 0.2), s.u(0.1, 0.5)), s.u(-0.4, 0.4), np.zeros_like(s.x)
    flesh = s.ellipsoid(at, (s.u(0.32, 0.45), s.u(0.4, 0.55)), depth=0.15)
    flesh = np.maximum(flesh, s.rod(at, (at[0] - 1.5 * np.sin(-turn), at[1] + 1.5), s.u(0.2, 0.3)))
    foot = s.rng.random() < 0.4
    for i in range(5):
        angle = -np.pi / 2 + turn + (i - 2) * s.u(0.12, 0.26) * (0.5 if foot else 1)
        start = np.array([at[0] + 0.13 * (i - 2), at[1] + 0.05])
        for length in (0.42, 0.3, 0.2, 0.14):
            length *= s.u(0.8, 1.1) * (0.6 if foot and length < 0.4 else 1)
            end = start + length * np.array([np.cos(angle), np.sin(angle)])
            out += s.bone((start[0], start[1]), (end[0], end[1]), s.u(0.04, 0.06), 0.4)
            flesh = np.maximum(flesh, s.rod((start[0], start[1]), (end[0], end[1]), s.u(0.075, 0.1)))
            start = end + 0.03 * np.array([np.cos(angle), np.sin(angle)])
    for _ in range(7):
        out += (SPONGE - SOFT) * s.ellipsoid((at[0] + s.u(-0.2, 0.2), at[1] + s.u(0.1, 0.35)),
                                             (s.u(0.05, 0.09), s.u(0.05, 0.09)))
    return SOFT * flesh + out


def _skull(s: _Sheet) -> Map:
    at, rx, ry = (s.u(-0.15, 0.15), s.u(-0.3, 0)), s.u(0.5, 0.75), s.u(0.55, 0.8)
    out = 2.2 * (s.ellipsoid(at, (rx, ry), depth=0.7) - s.ellipsoid(at, (rx * 0.93, ry * 0.93), depth=0.64))
    out += s.ellipsoid(at, (rx, ry), depth=0.7) * 0.7
    if s.rng.random() < 0.5:  # from the front
        for side in (-1, 1):
            out -= 0.9 * s.ellipsoid((at[0] + side * rx * 0.42, at[1] + ry * 0.3), (0.16, 0.13))
            out += s.bone((at[0] + side * rx * 0.75, at[1] + ry * 0.5), (at[0], at[1] + ry * 1.35), 0.08)
        out -= 0.8 * s.ellipsoid((at[0], at[1] + ry * 0.6), (0.09, 0.2))
    else:  # from the side
        face = 1 if s.rng.random() < 0.5 else -1
        out -= 0.9 * s.ellipsoid((at[0] + face * rx * 0.75, at[1] + ry * 0.45), (0.16, 0.14))
        out += s.bone((at[0] + face * rx * 0.2, at[1] + ry * 0.75), (at[0] + face * rx * 0.9, at[1] + ry * 1.25), 0.09)
    out += s.rod((at[0], at[1] + ry), (at[0] + s.u(-0.1, 0.1), 1.5), s.u(0.25, 0.4)) * 0.6
    return out + _spine(s, at[0], at[1] + ry * 0.9, 1.3, s.u(0.09, 0.13))


def _spine(s: _Sheet, x: float, top: float, bottom: float, width: float, lean: float = 0.0) -> Map:
    """A column of vertebral bodies with discs between them."""
    out, y, step = np.zeros_like(s.x), top, width * s.u(1.3, 1.7)
    while y < bottom:
        middle = x + lean * (y - top) + 0.02 * s.u(-1, 1)
        box = np.clip(1 - ((s.x - middle) / width) ** 8 - ((s.y - y) / (0.42 * step)) ** 8, 0, 1) ** 0.5
        out += 1.5 * width * (SPONGE - 0.6) * box
        y += step
    return out


def _trunk(s: _Sheet, half: float, taper: float = 0.0, depth: float = 0.6) -> Map:
    wide = half * (1 + taper * s.y)
    return np.asarray(2 * depth * np.sqrt(np.clip(1 - (s.x / wide) ** 2, 0, None)))


def _gas(s: _Sheet, low: float, high: float, most: int) -> Map:
    out = np.zeros_like(s.x)
    for _ in range(int(s.rng.integers(2, most))):
        at: Point = (s.u(-0.7, 0.7), s.u(low, high))
        out += s.ellipsoid(at, (s.u(0.06, 0.28), s.u(0.05, 0.16)), s.u(0, np.pi)) * s.u(0.6, 1)
    return out


def _pelvis(s: _Sheet) -> Map:
    y, wide = s.u(-0.35, 0.1), s.u(0.5, 0.75)
    out = SOFT * _trunk(s, s.u(0.9, 1.5), s.u(0, 0.2)) - 0.5 * _gas(s, y - 0.6, y + 0.2, 7)
    out += _spine(s, 0, -1.2, y + 0.15, s.u(0.13, 0.18)) + s.ellipsoid((0, y + 0.2), (0.22, 0.3)) * 0.6
    for side in (-1, 1):
        wing: Point = (side * wide * 0.72, y)
        out += 0.8 * s.ellipsoid(wing, (0.3, 0.42), side * 0.5, 0.25)
        out -= 0.5 * s.ellipsoid(wing, (0.2, 0.3), side * 0.5, 0.2)
        hip: Point = (side * wide, y + 0.5)
        out += 0.9 * s.ellipsoid(hip, (0.16, 0.16)) + s.bone((hip[0] + side * 0.1, hip[1] + 0.15),
                                                             (hip[0] + side * 0.02, 1.6), 0.12)
        out += s.bone((side * 0.05, y + 0.62), (side * wide * 0.85, y + 0.5), 0.06)
        out += s.bone((side * 0.08, y + 0.68), (side * wide * 0.55, y + 0.9), 0.06)
    return out


def _abdomen(s: _Sheet) -> Map:
    out = SOFT * _trunk(s, s.u(0.85, 1.6), s.u(-0.1, 0.1)) - 0.7 * _gas(s, -0.5, 0.95, 14)
    out += _spine(s, s.u(-0.08, 0.08), -1.2, s.u(0.5, 1.3), s.u(0.12, 0.19))
    for side in (-1, 1):
        for i in range(int(s.rng.integers(0, 4))):  # the lowest ribs
            out += s.bone((side * 0.15, -1 + 0.22 * i), (side * 0.85, -0.75 + 0.25 * i), 0.045)
        out += 0.3 * s.ellipsoid((side * 0.42, s.u(-0.3, 0)), (0.16, 0.3), side * 0.2)
        if s.rng.random() < 0.5:
            out += 0.7 * s.ellipsoid((side * 0.65, 1.05), (0.35, 0.35), side * 0.5, 0.2)
    return out


def _shoulder(s: _Sheet) -> Map:
    side, head = (1 if s.rng.random() < 0.5 else -1), (s.u(-0.1, 0.2), s.u(-0.3, 0.1))
    out = SOFT * s.ellipsoid((-0.3, 0.5), (1.3, 1.0), 0.2, 0.4) + 0.9 * s.ellipsoid(head, (0.24, 0.24))
    out += SOFT * s.rod(head, (head[0] + 0.45, 1.6), 0.4) * 0.5 + s.bone(head, (head[0] + 0.35, 1.6), 0.15)
    out += s.bone((-1.1, head[1] - 0.25), (head[0] - 0.05, head[1] - 0.3), 0.07)
    out += s.bone((head[0] - 0.25, head[1] + 0.1), (head[0] - 0.5, head[1] + 1.0), 0.09)
    lung = s.ellipsoid((-1.15, 0.9), (0.6, 0.9), depth=0.5)
    out -= 0.7 * lung
    for i in range(4):
        out += 0.6 * s.bone((-1.2, 0.1 + 0.3 * i), (-0.55, 0.3 + 0.3 * i), 0.05) * (lung > 0)
    return out if side > 0 else out[:, ::-1]


def _back(s: _Sheet) -> Map:
    """A spine alone, from the front or the side."""
    out = SOFT * _trunk(s, s.u(0.4, 1.8), depth=0.5) + 1.4 * _spine(s, s.u(-0.3, 0.3), -1.3, 1.3, s.u(0.15, 0.3),
                                                                   s.u(-0.2, 0.2))
    return out - 0.4 * _gas(s, -1, 1, 4)


def _lateral(s: _Sheet) -> Map:
    """A chest from the side, facing left: spine behind, lungs over each other, heart low in front, sternum."""
    half, belly = s.u(0.55, 0.85), s.u(0.15, 0.45)
    edge = half * (1 - 0.25 * np.clip(-s.y - 0.4, 0, 1) ** 1.5)
    out = SOFT * 2 * 0.75 * np.sqrt(np.clip(1 - np.abs(s.x / edge) ** 3, 0, None))
    for _ in range(2):  # the lungs, one a little off the other
        at: Point = (s.u(-0.06, 0.1), s.u(-0.15, -0.05))
        lung = s.ellipsoid(at, (half * s.u(0.72, 0.85), s.u(0.75, 0.95)), s.u(-0.12, 0.12), s.u(0.3, 0.42))
        dome = s.y > belly + s.u(-0.05, 0.05) + 0.25 * (s.x - 0.1) ** 2 + s.u(0.1, 0.4) * np.clip(s.x, 0, 1)
        out -= s.u(0.7, 0.95) * ndimage.gaussian_filter(np.where(dome, 0.0, lung), s.x.shape[0] / 90)
    heart: Point = (-half * s.u(0.25, 0.45), belly - s.u(0.15, 0.35))
    out += 0.7 * s.ellipsoid(heart, (half * s.u(0.35, 0.5), s.u(0.25, 0.4)), s.u(-0.5, 0.2))
    out += _spine(s, half * s.u(0.6, 0.8), -1.3, 1.3, s.u(0.1, 0.15), s.u(-0.08, 0.08)) * s.u(0.5, 1)
    out += s.bone((-half * 0.75, -0.5), (-half * 0.92, belly - 0.1), 0.05) * s.u(0.3, 1)
    for i in range(9):
        y = -0.75 + 0.16 * i
        out += s.u(0.2, 0.6) * s.bone((half * 0.7, y), (-half * 0.7, y + s.u(0.25, 0.45)), 0.03)
    if s.rng.random() < 0.6:  # arms held up
        out += s.rod((0, -0.8), (-0.6, -1.6), 0.25) * 0.7 + s.bone((0, -0.85), (-0.6, -1.6), 0.09)
    return np.asarray(out)


# Pictures that are no projection


def _slice(s: _Sheet) -> Map:
    rx, ry = s.u(0.65, 0.95), s.u(0.5, 0.75)
    body = s.ellipsoid((0, 0), (rx, ry)) > 0
    out = np.where(body, 0.5, 0.0) + 0.25 * (s.ellipsoid((0, ry * 0.65), (0.14, 0.14)) > 0)
    if s.rng.random() < 0.7:
        for side in (-1, 1):
            out -= 0.45 * (s.ellipsoid((side * rx * 0.48, 0), (rx * 0.36, ry * 0.65), side * 0.15) > 0)
    for _ in range(14):
        at: Point = (s.u(-0.6, 0.6), s.u(-0.5, 0.5))
        out += s.u(-0.1, 0.3) * body * (s.ellipsoid(at, (s.u(0.03, 0.2), s.u(0.03, 0.2)), s.u(0, 3)) > 0)
    return out + 0.35 * body * ~(s.ellipsoid((0, 0), (rx * 0.93, ry * 0.92)) > 0)


def _breast(s: _Sheet) -> Map:
    tissue = s.ellipsoid((-1, s.u(-0.2, 0.2)), (s.u(0.9, 1.5), s.u(0.7, 0.95)), depth=0.5)
    out = np.sqrt(tissue) * (0.6 + 0.25 * _field(s.rng, s.x.shape[0], 1.6)) * (tissue > 0)
    return out if s.rng.random() < 0.5 else out[:, ::-1]


def _fan(s: _Sheet) -> Map:
    r, angle = np.hypot(s.x, s.y + 1), np.abs(np.arctan2(s.x, s.y + 1))
    inside = (angle < s.u(0.4, 0.8)) & (r < s.u(1.5, 1.95)) & (r > s.u(0.05, 0.4))
    speckle = 0.4 + 0.3 * _field(s.rng, s.x.shape[0], 1.3) + 0.2 * s.rng.normal(size=s.x.shape)
    return np.where(inside, np.clip(speckle, 0, 1), 0.0)


def _page(s: _Sheet) -> Map:
    size = s.x.shape[0]
    image = Image.new("L", (size, size), 255)
    draw, y, step = ImageDraw.Draw(image), 4, int(s.rng.integers(4, 10))
    while y < size - 4:
        x = 5
        while x < size - 8 and s.rng.random() < 0.96:
            word = int(s.rng.integers(3, 16))
            draw.rectangle((x, y, min(x + word, size - 6), y + step // 2), fill=int(s.rng.integers(0, 120)))
            x += word + 3
        y += step
    if s.rng.random() < 0.4:
        x, y = (int(v) for v in s.rng.integers(5, size // 2, size=2))
        draw.rectangle((x, y, x + size // 3, y + size // 3), fill=int(s.rng.integers(60, 220)))
    page = np.asarray(image, float) / 255
    return page if s.rng.random() < 0.7 else 1 - page


def _plain(s: _Sheet) -> Map:
    turn = s.u(0, 2 * np.pi)
    slope = np.cos(turn) * s.x + np.sin(turn) * s.y
    out = slope if s.rng.random() < 0.5 else np.hypot(s.x - s.u(-1, 1), s.y - s.u(-1, 1))
    return out + s.u(0, 0.6) * _field(s.rng, s.x.shape[0], s.u(0, 2.5)) + s.u(0, 0.3) * s.rng.normal(size=s.x.shape)


def _noise(s: _Sheet) -> Map:
    out = _field(s.rng, s.x.shape[0], s.u(0, 2.8))
    return np.abs(out) if s.rng.random() < 0.3 else out


def _scene(s: _Sheet) -> Map:
    """Shaded shapes over each other, as photographs have them."""
    out = 0.3 * _field(s.rng, s.x.shape[0], 2)
    for _ in range(int(s.rng.integers(3, 25))):
        shape = s.ellipsoid((s.u(-1, 1), s.u(-1, 1)), (s.u(0.05, 0.8), s.u(0.05, 0.8)), s.u(0, np.pi), 0.5)
        if s.rng.random() < 0.4:
            x, y = s.u(-1, 1), s.u(-1, 1)
            shape = ((np.abs(s.x - x) < s.u(0.03, 0.6)) & (np.abs(s.y - y) < s.u(0.03, 0.6))).astype(float)
        light = s.u(-1, 1) + s.u(-0.4, 0.4) * s.x + s.u(-0.4, 0.4) * s.y
        out = np.where(shape > 0, light + s.u(0, 0.5) * shape, out)
    return out


_RAYS: tuple[Callable[[_Sheet], Map], ...] = (
    _limb, _limb, _limb, _hand, _skull, _pelvis, _abdomen, _abdomen, _shoulder, _back,
)
_PLAIN: tuple[Callable[[_Sheet], Map], ...] = (_slice, _breast, _fan, _page, _plain, _noise, _scene)


def _shown(amount: Map, rng: np.random.Generator) -> Picture:
    """Amounts of any scale [S, S] as grey: a window, a curve, quantum noise."""
    low, high = np.percentile(amount, (rng.uniform(0, 3), rng.uniform(96, 100)))
    grey = np.clip((amount - low) / max(float(high - low), 1e-6), 0, 1) ** rng.uniform(0.6, 1.6)
    grey = ndimage.gaussian_filter(grey, rng.uniform(0.2, 0.9)) + rng.uniform(0, 0.03) * rng.normal(size=grey.shape)
    return np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)


def _sheet(rng: np.random.Generator, size: int) -> _Sheet:
    at = (np.arange(size) + 0.5) / size * 2 - 1
    zoom = rng.uniform(0.85, 1.25)
    return _Sheet(np.broadcast_to(at * zoom, (size, size)), np.broadcast_to((at * zoom)[:, None], (size, size)), rng)


def lateral(rng: np.random.Generator, size: int) -> Picture:
    """A chest from the side, facing either way, upright."""
    grey = _shown(_lateral(_sheet(rng, size)), rng)
    return grey if rng.random() < 0.5 else np.ascontiguousarray(grey[:, ::-1])


def body_part(rng: np.random.Generator, size: int) -> Picture:
    """A limb, hand, foot, skull, pelvis, abdomen, shoulder or spine."""
    draw = _RAYS[int(rng.integers(len(_RAYS)))]
    return _shown(draw(_sheet(rng, size)), rng)


def no_projection(rng: np.random.Generator, size: int) -> Picture:
    """A slice, mammogram, fan of ultrasound, page, gradient, noise or shaded scene."""
    draw = _PLAIN[int(rng.integers(len(_PLAIN)))]
    return _shown(draw(_sheet(rng, size)), rng)


def spoilt(rng: np.random.Generator, size: int, chests: Sequence[Picture]) -> Picture:
    """A detail too small to show a chest (at most 0.38 of its side), several films on one picture, or a film whose
    parts are in the wrong places. `chests` are square films of one size."""

    def pick() -> Picture:
        return chests[int(rng.integers(len(chests)))]

    kind = rng.random()
    if kind < 0.5:
        film = pick()
        side = max(8, int(film.shape[0] * rng.uniform(0.15, 0.38)))
        y, x = (int(v) for v in rng.integers(0, film.shape[0] - side + 1, size=2))
        return _fit(film[y : y + side, x : x + side], size)
    if kind < 0.75:
        rows, columns = ((1, 2), (2, 1), (2, 2), (1, 3), (2, 3), (3, 3))[int(rng.integers(6))]
        return _fit(np.vstack([np.hstack([pick() for _ in range(columns)]) for _ in range(rows)]), size)
    n = int(rng.integers(2, 5))
    film = pick()
    side = film.shape[0] // n
    tiles = [film[i * side : (i + 1) * side, j * side : (j + 1) * side] for i in range(n) for j in range(n)]
    order = rng.permutation(n * n)
    while n == 2 and (np.sort(order[:2]) == (0, 1)).all():  # swapped sides alone leave a chest
        order = rng.permutation(n * n)
    return _fit(np.vstack([np.hstack([tiles[order[i * n + j]] for j in range(n)]) for i in range(n)]), size)


def _fit(picture: Picture, size: int) -> Picture:
    shrinks = max(picture.shape) >= size
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((size, size), method), np.uint8)
