"""Where devices run in a chest: their strands as curves in the patient's frame.

Frame and units are those of `thorax`: cm, x to the patient's left from the midline, y down from the lung apices.
Courses are laid by landmarks measured on the thorax (windpipe, lung borders, domes), so they follow its anatomy,
and are sampled at one pitch, so they are the same at every film size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from cars_core.digest import seed_from
from cars_core.phantom.body.patient import Patient
from cars_core.phantom.body.thorax import Thorax
from cars_core.phantom.placed import Device

Points = NDArray[np.float64]

_PITCH = 0.02  # cm between the samples of a course, about a pixel of the largest film
#: Of endotracheal tubes, those pushed on into the right main bronchus.
TOO_LOW = 0.1
#: Of chest drains, those led to the apex; the others lie along the base.
APICAL = 0.65
_WIRE_CM = 1.5  # least space from one sternal wire to the next: an intercostal space at the breastbone
_RIGHT_MAIN = 0.85  # cm the right main bronchus moves aside per cm down


@dataclass(frozen=True)
class Strand:
    """A part of a device: centreline [n, 2] in cm, half width in cm, log attenuation averaged across it, and how
    hollow it is, 0..1."""

    line: Points
    half: float
    log: float
    hollow: float = 0.0


@dataclass(frozen=True)
class Can:
    """A pacemaker's can: its centre in cm and its turn in radians, clockwise on the picture."""

    x: float
    y: float
    turn: float


Parts = list[Strand | Can]


class Landmarks:
    """What courses are laid by, measured on a thorax. Lengths in cm; side +1 is the patient's left."""

    def __init__(self, thorax: Thorax) -> None:
        p = thorax.patient
        self.patient: Patient = p
        self.top = -p.shift_y - 1.0  # just above the film
        self.heart = p.heart_ratio * thorax.width
        self._pixel = p.field / thorax.x.shape[1]
        self._medial: dict[int, tuple[Points, Points]] = {}
        self._wall: dict[int, tuple[Points, Points]] = {}
        self._floor: dict[int, tuple[Points, Points]] = {}
        for side, lung in ((1, thorax.left_lung), (-1, thorax.right_lung)):
            rows, columns = (np.flatnonzero(lung.any(axis)) for axis in (1, 0))
            rows, columns = (np.arange(a[0], a[-1] + 1) for a in (rows, columns))
            inside = lung[rows[0]:rows[-1] + 1]
            first, last = inside.argmax(1), lung.shape[1] - 1 - inside[:, ::-1].argmax(1)
            for borders, column, out in ((self._medial, (last, first)[side > 0], -0.5),
                                         (self._wall, (first, last)[side > 0], 0.5)):
                x = side * thorax.x[rows, column] + out * self._pixel
                borders[side] = _sorted(thorax.y[rows, column], x)
            lowest = lung.shape[0] - 1 - lung[::-1, columns[0]:columns[-1] + 1].argmax(0)
            self._floor[side] = _sorted(side * thorax.x[lowest, columns], thorax.y[lowest, columns] + 0.5 * self._pixel)
        self._trachea, self.carina = self._windpipe(thorax)

    def _windpipe(self, thorax: Thorax) -> tuple[tuple[float, float], float]:
        """The trachea as a line x = a + b y, and the height of the carina, where the air begins to part."""
        size = thorax.x.shape[0]
        rows = np.flatnonzero((thorax.y[:, size // 2] > -3) & (thorax.y[:, size // 2] < 14))
        columns = np.flatnonzero(np.abs(thorax.x[rows[len(rows) // 2]]) < 6)
        near = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        x, y, air = (m[near].astype(np.float64) for m in (thorax.x, thorax.y, thorax.airways))
        weight = np.where((y < 6) & (np.abs(x) < 3), air, 0)
        total = weight.sum()
        mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
        slope = (weight * (x - mean_x) * (y - mean_y)).sum() / (weight * (y - mean_y) ** 2).sum()
        wide = ((air > 0.2 * air.max()) & (np.abs(x) < 5)).sum(1) * self._pixel
        middle = y[:, y.shape[1] // 2]
        usual = np.median(wide[(middle > -2) & (middle < 6)])
        parts = (middle > 6) & (wide > 1.35 * usual)
        return (mean_x - slope * mean_y, slope), float(middle[int(parts.argmax())])

    def windpipe(self, y: float) -> float:
        """x of the trachea's axis."""
        return self._trachea[0] + self._trachea[1] * y

    def medial(self, side: int, y: float) -> float:
        """Distance of the lung's inner border from the midline."""
        return float(np.interp(y, *self._medial[side]))

    def wall(self, side: int, y: float) -> float:
        """Distance of the lung's outer border from the midline."""
        return float(np.interp(y, *self._wall[side]))

    def floor(self, side: int, out: float) -> float:
        """y of the lung's lower border at a distance from the midline."""
        return float(np.interp(out, *self._floor[side]))

    def dome(self, side: int) -> float:
        """y of the dome's peak."""
        out, y = self._floor[side]
        inner = (out > 0.25 * self.patient.half_width) & (out < 0.7 * self.patient.half_width)
        return float(y[inner].min())


def _sorted(at: NDArray[np.float32], value: NDArray[np.floating]) -> tuple[Points, Points]:
    order = np.argsort(at, kind="stable")
    return at[order].astype(np.float64), value[order].astype(np.float64)


def course(knots: Sequence[tuple[float, float]]) -> Points:
    """A smooth curve through knots, [n, 2]; centripetal, so that unequal spans do not make it swing out."""
    at = np.array(knots, float)
    spans = np.hypot(*np.diff(at, axis=0).T)
    t = np.concatenate([[0], np.cumsum(np.sqrt(spans))])
    n = int(1.3 * spans.sum() / _PITCH) + 8
    fine = CubicSpline(t, at, bc_type="natural")(np.linspace(0, t[-1], n))
    arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    even = np.linspace(0, arc[-1], int(arc[-1] / _PITCH) + 4)
    return np.column_stack([np.interp(even, arc, fine[:, 0]), np.interp(even, arc, fine[:, 1])])


def beside(line: Points, offset: float | Points) -> Points:
    """The curve moved across its own direction by `offset` cm."""
    return line + across(line) * np.asarray(offset)[..., None]


def across(line: Points) -> Points:
    """Unit normals of a curve, [n, 2]: to the picture's left where it runs down."""
    ends = np.concatenate([line[:1], line, line[-1:]])
    along = ends[2:] - ends[:-2]
    length = np.maximum(np.sqrt((along**2).sum(1)), 1e-9)
    return np.column_stack([-along[:, 1], along[:, 0]]) / length[:, None]


def from_tip(line: Points) -> Points:
    """Length along the course from its end, cm, [n]."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])


def _tube(line: Points, rng: np.random.Generator, *, half: float, log: float, stripe: float, hollow: float = 0.9,
          holes: Sequence[float] = (), hole: float = 0.5) -> Parts:
    """A plastic tube with a dense stripe in its wall, interrupted for `hole` cm at lengths `holes` from the tip."""
    left = from_tip(line)
    turn = rng.uniform(0, 2 * np.pi) + left / rng.uniform(9, 16)
    marked = beside(line, 0.7 * half * np.sin(turn))
    open_ = np.zeros(len(line), bool)
    for at in holes:
        open_ |= np.abs(left - at) < hole / 2
    out: Parts = [Strand(line, half, log, hollow)]
    for run in np.split(np.arange(len(line)), np.flatnonzero(np.diff(open_)) + 1):
        if not open_[run[0]] and len(run) > 4:
            out.append(Strand(marked[run], 0.06, stripe))
    return out


def lie_of(device: Device) -> str:
    """How a device lies where there is more than one way, whoever the patient: an endotracheal tube "high" in the
    trachea or "low" in the right main bronchus, a chest drain at the "apex" or the "base"; "" for other kinds."""
    return _lie(device.kind, generator(device))


def generator(device: Device) -> np.random.Generator:
    """The generator a device's course is drawn from, at its start."""
    return np.random.default_rng(seed_from("device", device.kind, device.side, device.seed))


def _lie(kind: str, rng: np.random.Generator) -> str:
    """`lie_of`, from a generator at its start: the first draw of a course is how it lies."""
    if kind == "endotracheal_tube":
        return "low" if rng.random() < TOO_LOW else "high"
    if kind == "chest_drain":
        return "apex" if rng.random() < APICAL else "base"
    return ""


def _endotracheal_tube(c: Landmarks, rng: np.random.Generator, side: int) -> Parts:
    low = _lie("endotracheal_tube", rng) == "low"
    tip = c.carina - rng.uniform(3.0, 6.0)
    lean = rng.uniform(-0.2, 0.2)
    beyond = rng.uniform(0.8, 2.0)
    if low:
        tip = c.carina - 1.2
    heights = np.linspace(c.top, tip, 4)
    knots = [(c.windpipe(y) + lean * w, float(y)) for y, w in zip(heights, (0.5, -1.0, 0.6, 1.0), strict=True)]
    if low:
        at = c.windpipe(c.carina)
        knots.append((at - _RIGHT_MAIN * beyond, c.carina + beyond))
    return _tube(course(knots), rng, half=0.4, log=0.14, stripe=0.6)


def _nasogastric_tube(c: Landmarks, rng: np.random.Generator, side: int) -> Parts:
    w, dome = c.patient.half_width, c.dome(1)
    aside = rng.uniform(0.2, 0.7)
    hiatus = rng.uniform(1.0, 1.8)
    fundus = rng.uniform(0.30, 0.42) * w
    knots = [(c.windpipe(c.top) + rng.uniform(-0.3, 0.5), c.top), (c.windpipe(1) + aside, 1.0),
             (c.windpipe(c.carina) + aside + 0.3, c.carina), (0.5 * hiatus + 0.2, c.carina + 0.6 * (dome - c.carina)),
             (hiatus, dome + 0.6), (0.6 * hiatus + 0.4 * fundus, dome + 2.2),
             (fundus, dome + rng.uniform(3.2, 4.2))]
    if rng.random() < 0.6:  # along the greater curve, else the tip stays in the fundus
        knots.append((fundus + rng.uniform(-1.2, 0.4), knots[-1][1] + rng.uniform(2.0, 4.0)))
    else:
        knots[-1] = (fundus, dome + rng.uniform(2.8, 3.6))
    holes = [0.8, 2.0, 3.2, 4.4, rng.uniform(5.6, 7.0)]
    return _tube(course(knots), rng, half=0.25, log=0.10, stripe=0.65, hollow=0.8, holes=holes, hole=0.32)


def _cava(c: Landmarks, side: int, rng: np.random.Generator, to: float) -> list[tuple[float, float]]:
    """Knots from behind the inner end of a clavicle to the superior vena cava at height `to`."""
    inside = rng.uniform(0.45, 0.8)
    lines = [(-(c.medial(-1, min(y, c.carina)) - inside), y)
             for y in np.linspace(c.carina - (3.0 if side < 0 else 1.6), to, 3)]
    if side < 0:
        return [(-rng.uniform(2.3, 2.8), min(3.4, c.carina - 3.8)), *lines]
    # In a short chest the carina stands high and the brachiocephalic vein lies flatter; it never climbs.
    high = min(3.2, c.carina - 4.2)
    return [(rng.uniform(2.3, 2.8), high), (1.4, max(c.carina - 4.4, high + 0.5)),
            (-0.2, max(c.carina - 3.2, high + 1.1)), *lines]


def _central_line(c: Landmarks, rng: np.random.Generator, side: int) -> Parts:
    w = c.patient.half_width
    to = c.carina + rng.uniform(1.0, 4.0)
    out: Parts = []
    if rng.random() < 0.6:  # jugular
        start = [(side * rng.uniform(3.2, 4.2), c.top), (side * 3.1, 0.5 * c.top)]
    else:  # subclavian: under the collar bone from its middle third, the hub on the skin
        skin = (side * rng.uniform(0.58, 0.66) * w, rng.uniform(3.6, 4.6))
        start = [skin, (side * 0.5 * w, 2.8), (side * 0.34 * w, 2.3)]
        hub = course([(skin[0] + side * 1.6, skin[1] + 1.3), (skin[0] + side * 0.8, skin[1] + 0.7), skin])
        out.append(Strand(hub, 0.2, 0.25, 0.3))
    out.append(Strand(course(start + _cava(c, side, rng, to)), 0.12, 0.42, 0.2))
    return out


def _pacemaker(c: Landmarks, rng: np.random.Generator, side: int) -> Parts:
    w, heart = c.patient.half_width, c.heart
    y = rng.uniform(5.0, 6.2)
    x, turn = side * (c.wall(side, y) - rng.uniform(1.2, 2.4)), side * rng.uniform(0.1, 0.5)
    dual = rng.random() < 0.6
    apex = 0.42 * heart * rng.uniform(0.9, 1.1)
    bottom = c.dome(1) - rng.uniform(0.2, 1.0)
    coil = rng.uniform(2.5, 2.9)
    turns = ((35, 95, 150, 205, 262, 315), (-30,))[int(rng.random() < 0.35)]
    out: Parts = [Can(x, y, turn)]
    for lead in range(2 if dual else 1):
        r = coil + 0.3 * lead
        header = (x + 1.5 * np.sin(turn) - side * (0.9 - 0.4 * lead), y - 1.5 * np.cos(turn))
        # Slack lies in a turn round the can, if any; then the lead enters the subclavian vein.
        angles = np.radians(np.array(turns) + rng.normal(0, 6, len(turns)))
        around = [(x + side * r * np.sin(a), y - r * np.cos(a) * 0.85) for a in angles]
        vein = [(side * (0.42 + 0.02 * lead) * w, 2.6 - 0.2 * lead), (side * 0.3 * w, 2.5)]
        knots = [header, *around, *vein, *_cava(c, side, rng, c.carina + 1.5)]
        if lead == 0:  # right ventricle: through the right atrium, over the valve, along the floor to the apex
            knots += [(-0.19 * heart, c.carina + 0.55 * (bottom - c.carina)), (-0.10 * heart, bottom - 1.4),
                      (0.12 * heart, bottom - 0.4), (apex, bottom)]
        else:  # right atrial appendage: a hook, the tip pointing up
            low = c.carina + rng.uniform(0.46, 0.56) * (bottom - c.carina)
            knots += [(-0.20 * heart, low - 1.6), (-0.14 * heart, low), (-0.04 * heart, low - 0.3),
                      (0.0, low - rng.uniform(1.6, 2.2))]
        line = course(knots)
        left = from_tip(line)
        out.append(Strand(line, 0.09, 0.7))
        out += [Strand(line[left < 0.25], 0.12, 1.8), Strand(line[(left > 1.1) & (left < 1.4)], 0.12, 1.8)]
    return out


def _sternal_wires(c: Landmarks, rng: np.random.Generator, side: int) -> Parts:
    n = int(rng.integers(5, 8))
    # The breastbone lies in front: a turn of the patient moves it further than the heart.
    middle = 0.7 * c.patient.rotation
    lower = c.carina + rng.uniform(0.7, 0.92) * (c.dome(-1) - c.carina)
    upper = rng.uniform(4.0, 5.0) * min(1.0, c.patient.height / 22)
    n = max(3, min(n, 1 + int((lower - upper) / _WIRE_CM)))
    heights = np.linspace(upper, lower, n) + rng.normal(0, 0.2, n)
    out: Parts = []
    for y in heights:
        wide, high = rng.uniform(0.9, 1.4), rng.uniform(0.15, 0.5)
        tilt = rng.normal(0, 0.12)
        crossed = rng.random() < 0.15  # a figure of eight
        angle = np.pi / 2 + np.linspace(0, 2 * np.pi, int(6 * wide / _PITCH))
        aside = np.cos(angle)
        dx = wide * np.sign(aside) * np.abs(aside) ** 0.8
        dy = high * np.sin(2 * angle if crossed else angle)
        loop = np.column_stack([middle + dx, y + dy + tilt * dx])
        for k, amount in zip((2, 3, 5), rng.normal(0, 0.05, (3, 2)), strict=True):  # bent by hand
            loop += amount * np.cos(k * angle + 6 * amount[0] / 0.05)[:, None]
        out.append(Strand(loop, 0.045, 1.7))
        # The ends are wound round each other and bent down.
        knee, tail, long = rng.normal(0, 0.2), rng.normal(0, 0.25), rng.uniform(0.3, 0.6)
        t = np.linspace(0, 1, 48)[:, None]
        twist = loop[0] + 2 * t * (1 - t) * (knee, 0.5 * long) + t**2 * (tail, long)
        wound = 0.05 * np.sin(2 * np.pi * from_tip(twist) / 0.25)
        out += [Strand(beside(twist, wound), 0.045, 1.9), Strand(beside(twist, -wound), 0.045, 1.9)]
    return out


def _chest_drain(c: Landmarks, rng: np.random.Generator, side: int) -> Parts:
    p = c.patient
    apical = _lie("chest_drain", rng) == "apex"
    entry = rng.uniform(0.48, 0.58) * p.height if apical else rng.uniform(0.56, 0.64) * p.height
    half = rng.uniform(0.4, 0.5)
    edge = c.wall(side, entry)
    outside = [(edge + p.wall + rng.uniform(1.5, 3.0), entry + rng.uniform(2.0, 4.0)), (edge + 0.5, entry + 0.5)]
    if apical:
        end = rng.uniform(1.8, 3.2)
        upper = 0.42 * entry + 0.58 * end
        inside = [(c.wall(side, entry - 3) - rng.uniform(0.8, 1.6), entry - 3.2),
                  (c.wall(side, upper) - rng.uniform(1.2, 2.2), upper),
                  (0.55 * c.wall(side, end) + 0.45 * c.medial(side, end), end)]
    else:
        near = rng.uniform(0.36, 0.46) * p.half_width
        far = 0.76 * edge
        outside[0] = (outside[0][0], entry + rng.uniform(-0.5, 1.0))
        inside = [(far, min(entry + 3.0, c.floor(side, far) - 1.5)),
                  (0.5 * (far + near), c.floor(side, 0.5 * (far + near)) - rng.uniform(1.2, 1.8)),
                  (near, c.floor(side, near) - rng.uniform(0.8, 1.2))]
    line = course([(side * x, y) for x, y in outside + inside])
    return _tube(line, rng, half=half, log=0.22, stripe=0.75, holes=[rng.uniform(3.5, 5.5)], hole=0.8)


#: kind -> its parts, from landmarks, a generator and the side (+1 left, -1 right; of no use to the midline's).
COURSES: dict[str, Callable[[Landmarks, np.random.Generator, int], Parts]] = {
    "endotracheal_tube": _endotracheal_tube,
    "nasogastric_tube": _nasogastric_tube,
    "central_line": _central_line,
    "pacemaker": _pacemaker,
    "sternal_wires": _sternal_wires,
    "chest_drain": _chest_drain,
}
