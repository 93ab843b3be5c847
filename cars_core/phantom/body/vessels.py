"""The arteries and veins of the lungs, from the hila to where they are too fine to be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_core.phantom.body.patient import Patient, chest_profile
from cars_core.phantom.body.tubes import Tube

Points = NDArray[np.float64]

#: Directions of the segmental vessels, degrees below the horizontal, outwards: few and thin above, many below.
_AIMS = np.array([-84, -74, -63, -52, -40, -27, -14, -2, 9, 20, 30, 39, 48, 56, 63, 70, 77, 84, 91])

#: Vessels run more or less along the ray, and arteries beside airway walls: more tissue than a flat course would show.
_OBLIQUE = 1.2


def trees(p: Patient, rng: np.random.Generator, step: float) -> list[Tube]:
    """Both lungs' vessels as arrays of points with their mass.

    Stems leave the hilum, bend, thin out and give off branches on alternate sides, which branch again; where a
    branch leaves, the cubes of the radii add up (Murray 1926).
    """
    out = []
    h = p.height / 25
    for side in (1, -1):
        root = np.array([2.9 if side > 0 else 3.1, (10.2 if side > 0 else 11.3) * h])
        out += _hilum(p, rng, step, side, root, h)
        n = len(_AIMS)
        aim = np.radians(_AIMS + rng.normal(0, 6, n))
        start = root + np.column_stack([rng.normal(0.2, 0.35, n), 1.9 * h * np.sin(aim) + rng.normal(0, 0.5, n)])
        length = _room(p, start, aim) * rng.uniform(0.75, 1.0, n)
        radius = p.vessels * rng.uniform(0.25, 0.45, n) * np.where(aim > 0.3, 1.05, 0.88)
        bend = rng.normal(0, 0.22, n) - 0.25 * np.sin(2 * aim)
        stems = _Branches.of(start, aim, length, bend, radius)
        out += stems.tubes(0.3, side, step)
        for children, share, fork in ((7, 0.65, (16, 40)), (5, 0.65, (20, 45))):
            start, aim, length, radius = _fork(stems, children, share, fork, rng)
            bend = rng.normal(0, 0.3, len(aim))
            inside = start[:, 0] + length * np.cos(aim) < 0.985 * p.half_width * chest_profile(p, start[:, 1])
            keep = inside & (radius > 0.018) & (length > 0.4) & (start[:, 1] > 0.8)
            stems = _Branches.of(start[keep], aim[keep], length[keep], bend[keep], radius[keep])
            out += stems.tubes(0.35, side, step)
        out.append(_dots(p, rng, side, root, step))
    return out


@dataclass(frozen=True)
class _Branches:
    """Quadratic curves by their start, knee and end [n, 2] in cm, with length and radius at the start [n] in cm."""

    start: Points
    knee: Points
    end: Points
    length: Points
    radius: Points

    @classmethod
    def of(cls, start: Points, aim: Points, length: Points, bend: Points, radius: Points) -> _Branches:
        """Branches that leave along `aim` - `bend` and end where a straight course along `aim` would."""
        end = start + length[:, None] * np.column_stack([np.cos(aim), np.sin(aim)])
        knee = start + 0.5 * length[:, None] * np.column_stack([np.cos(aim - bend), np.sin(aim - bend)])
        return cls(start, knee, end, length, radius)

    def at(self, t: Points) -> Points:
        """Points [n, k, 2] at the shares t [n or 1, k] of each branch."""
        t = t[..., None]
        return self.start[:, None] * (1 - t) ** 2 + 2 * t * (1 - t) * self.knee[:, None] + t * t * self.end[:, None]

    def along(self, t: Points) -> Points:
        """Derivative [n, k, 2] of `at`."""
        t = t[..., None]
        first, last = (self.knee - self.start)[:, None], (self.end - self.knee)[:, None]
        return 2 * ((1 - t) * first + t * last)

    def tubes(self, end: float, side: int, step: float) -> list[Tube]:
        """Round vessels tapering to `end` of their radius, drawn as parallel rows of points."""
        out: list[Tube] = []
        order = np.argsort(self.length, kind="stable")
        for some in np.array_split(order, min(8, max(1, len(order) // 12))):  # short ones need fewer points
            if not len(some):
                continue
            part = _Branches(self.start[some], self.knee[some], self.end[some], self.length[some], self.radius[some])
            n = max(4, int(1.2 * float(part.length[-1]) / step))
            t = (np.arange(n) + 0.5)[None] / n
            line, along = part.at(t), part.along(t)
            pace = np.hypot(along[..., 0], along[..., 1])
            half = part.radius[:, None] * (1 - (1 - end) * t)
            mass = _OBLIQUE * np.pi * half**2 * pace / n
            normal = np.stack([-along[..., 1], along[..., 0]], -1) * (half / np.maximum(pace, 1e-9))[..., None]
            lanes = max(1, int(np.ceil(1.6 * float(half.max()) / step)))
            across = (np.arange(lanes) + 0.5) / lanes * 2 - 1
            chord = np.sqrt(1 - across**2)
            for k, w in zip(across, chord / chord.sum(), strict=True):
                flat = (line + k * normal).reshape(-1, 2) * (side, 1)
                out.append(Tube(flat, np.zeros(len(flat)), (mass * w).ravel(), 0.0))
        return out


def _dots(p: Patient, rng: np.random.Generator, side: int, root: Points, step: float) -> Tube:
    """Vessels near the hilum that run along the ray, seen end on."""
    n = 9
    away, turn = rng.uniform(0.8, 4.5, n), np.radians(rng.uniform(-70, 95, n))
    at = root + np.column_stack([away * np.cos(turn), 1.3 * away * np.sin(turn)])
    radius = p.vessels * rng.uniform(0.12, 0.3, n) * (1.1 - 0.1 * away)
    grid = np.linspace(-0.9, 0.9, max(3, int(2.6 * 0.3 / step)))
    u, v = (a.ravel() for a in np.meshgrid(grid, grid))
    disc = np.sqrt(np.clip(1 - u * u - v * v, 0, None))
    line = at[:, None] + radius[:, None, None] * np.column_stack([u, v])
    mass = (np.pi * radius**2 * rng.uniform(0.3, 0.9, n))[:, None] * (disc / disc.sum())
    return Tube(line.reshape(-1, 2) * (side, 1), np.zeros(line.shape[0] * line.shape[1]), mass.ravel(), 0.0)


def _room(p: Patient, start: Points, aim: Points) -> Points:
    """How far a straight course from `start` runs before it leaves the lung: cm."""
    far = np.linspace(1, 22, 64)[:, None]
    x, y = start[:, 0] + far * np.cos(aim), start[:, 1] + far * np.sin(aim)
    inside = (x < 0.97 * p.half_width * chest_profile(p, y)) & (y > 0.6) & (y < p.height - 0.4 * p.dome)
    return far[np.clip(inside.sum(0), 1, 63), 0]


def _fork(stems: _Branches, children: int, share: float, fork: tuple[float, float], rng: np.random.Generator,
          ) -> tuple[Points, Points, Points, Points]:
    """Start, aim, length and radius of the branches that the stems give off."""
    n = len(stems.length)
    s = 0.12 + 0.85 * (np.arange(children) + rng.uniform(0.15, 0.85, (n, children))) / children
    start, along = stems.at(s), stems.along(s)
    hand = np.where((np.arange(children) + rng.integers(0, 2, (n, 1))) % 2, 1, -1)
    aim = np.arctan2(along[..., 1], along[..., 0]) + np.radians(rng.uniform(*fork, (n, children))) * hand
    reach = stems.length[:, None] * (share * (1 - s) + 0.12) * rng.uniform(0.6, 1.2, (n, children))
    thin = stems.radius[:, None] * (1 - 0.7 * s) * rng.uniform(0.6, 0.85, (n, children))
    return start.reshape(-1, 2), aim.ravel(), reach.ravel(), thin.ravel()


def _hilum(p: Patient, rng: np.random.Generator, step: float, side: int, root: Points, h: float) -> list[Tube]:
    """Pulmonary arteries and the veins that cross them, large enough to be seen one by one."""
    x, y = root
    courses: list[tuple[Points, float]]
    if side > 0:  # the left artery arches over the main bronchus, then descends behind the heart
        courses = [(np.array([[x - 1.6, y - 0.2], [x + 1.3, y - 1.9], [x + 1.6, y + 4.2]]), 0.62),
                   (np.array([[x - 1.0, y - 1.0], [x + 0.8, y - 2.2], [x + 1.2, y - 4.6]]), 0.30),
                   (np.array([[x - 1.4, y + 3.0], [x + 1.2, y + 3.4], [x + 4.0, y + 5.8]]), 0.34)]
    else:  # the right one runs down beside the intermediate bronchus
        courses = [(np.array([[x - 1.8, y - 1.2], [x + 1.0, y - 0.9], [x + 1.5, y + 4.8]]), 0.66),
                   (np.array([[x - 0.9, y - 1.6], [x + 0.2, y - 2.6], [x + 1.1, y - 4.8]]), 0.34),
                   (np.array([[x - 1.6, y + 3.3], [x + 0.8, y + 3.2], [x + 4.0, y + 5.0]]), 0.36)]
    knots = np.array([c for c, _ in courses])
    knots = knots + rng.normal(0, 0.25, knots.shape)
    length = np.hypot(*np.moveaxis(np.diff(knots, axis=1), -1, 0)).sum(1)
    radius = p.vessels * np.array([r for _, r in courses])
    return _Branches(knots[:, 0], knots[:, 1], knots[:, 2], length, radius).tubes(0.35, side, step)
