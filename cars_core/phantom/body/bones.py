"""The skeleton of the chest: ribs, shoulder girdle, spine, sternum's manubrium and humeral heads, cm of bone."""

from __future__ import annotations

import numpy as np

from cars_core.phantom.body.grid import DOWN, Grid, Map
from cars_core.phantom.body.patient import Patient, chest_profile
from cars_core.phantom.body.tubes import Points, Tube, along, hollow, strip


def ribs(p: Patient, rng: np.random.Generator, step: float) -> list[Tube]:
    """Twelve pairs, each a bow in space from the spine round the side to the front."""
    out = []
    pitch = p.height / 9.9
    for i in range(12):
        for side in (1, -1):
            drop = p.rib_slope * np.interp(i, [0, 1, 3, 7, 11], [0.36, 0.66, 0.95, 1.1, 1.0]) * rng.normal(1, 0.04)
            start = -0.5 + pitch * i * (0.88 + 0.12 * i / 11) + rng.normal(0, 0.12)
            end = np.radians(np.interp(i, [0, 2, 6, 9, 10, 11], [140, 150, 146, 122, 92, 68]) + rng.normal(0, 4))
            phi = np.concatenate([[3e-4, 3e-3], np.linspace(0.01, end, 200)])  # from beside the vertebra
            bow = 0.62 * np.sin(np.clip(phi * 2.1, 0, np.pi))  # the posterior arc rises before it falls
            yc = start + drop * ((1 - np.cos(phi)) / 2) ** 1.12 - bow
            # Each point lies on the chest wall of its own height, so that the turns form one line down the side;
            # the chest is flatter there than an ellipse.
            reach = p.half(side) * chest_profile(p, np.maximum(yc + 0.3, 0.9)) + 0.12
            out_to = np.sin(phi) ** np.interp(i, [0, 1, 3], [0.85, 0.72, 0.52])
            back = np.sign(np.cos(phi)) * np.abs(np.cos(phi)) ** 0.75
            front = phi > np.pi / 2
            xc = np.where(front, reach * out_to, 1.9 + (reach - 1.9) * out_to)
            zc = p.depth / 2 * back
            flat = np.concatenate([[0], np.cumsum(np.hypot(np.diff(xc), np.diff(yc)))])
            deep = np.concatenate([[0], np.cumsum(np.sqrt(np.diff(xc) ** 2 + np.diff(yc) ** 2 + np.diff(zc) ** 2))])
            even = np.linspace(0, flat[-1], max(24, int(1.25 * flat[-1] / step)))
            ds = np.gradient(np.interp(even, flat, deep))
            line = np.column_stack([np.interp(even, flat, side * xc), np.interp(even, flat, yc)])
            phi = np.interp(even, flat, phi)
            size = np.interp(i, [0, 2, 9, 11], [1.12, 1.0, 0.95, 0.65]) * p.half_width / 14 * rng.normal(1, 0.04)
            half = np.interp(phi, [0, 1.4, 1.7, 2.6], [0.53, 0.59, 0.61, 0.68]) * size
            fade = np.clip((end - phi) / 0.5, 0, 1) * np.interp(phi, [0, 0.004, 0.25], [0.0, 0.6, 1.0])
            fade *= 1 - 0.6 * np.sin(phi) ** 6
            thick = 0.40 * np.interp(phi, [0, 1.3, 1.8, 2.5], [1.0, 0.9, 0.8, 0.85]) * np.interp(
                i, [0, 1, 7, 9, 11], [0.75, 1.0, 1.0, 0.75, 0.55])
            out += _blade(line, half, 2 * half * p.bone * thick * fade * ds, step)
    return out


def _blade(line: Points, half: Points, mass: Points, step: float) -> list[Tube]:
    """A rib: a hollow blade that stands upright, so that it is narrow where its course turns down the side."""
    lanes = max(3, int(np.ceil(1.5 * float(half.max()) / step)))
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    offset = np.column_stack([-0.35 * along[:, 1], along[:, 0]]) * half[:, None]
    across = (np.arange(lanes) + 0.5) / lanes * 2 - 1
    share = hollow(across, 0.8)
    none = np.zeros(len(line))
    return [Tube(line + k * offset, none, mass * w, 0.0) for k, w in zip(across, share, strict=True)]


def shoulders(p: Patient, step: float) -> list[Tube]:
    """Clavicles, scapulae and the shafts of the humeri."""
    w, out = p.half_width, []
    rng = np.random.default_rng(p.look)
    turned = 1.8 if p.view == "PA" else 0.2  # PA: the shoulders roll forward and the blades leave the lungs
    lift = rng.normal(0.0 if p.view == "PA" else -1.2, 0.8)  # a propped-up patient's clavicles ride high
    for side in (1, -1):
        tip = rng.normal(0, 0.35)
        own = 0.3 * side * p.rotation
        blade = w + turned
        elbow = w + 4.6 + 0.5 * p.wall + 1.1 * p.arm
        curves = [
            # clavicle: from the sternum, convex forwards, then concave to the acromion
            ([(1.3 + own, 3.6 + 0.5 * lift), (0.26 * w, 3.1 + 0.6 * lift), (0.52 * w, 1.9 + lift),
              (0.80 * w, 0.6 + lift), (w + 1.0, 0.1 + lift + tip), (w + 3.0, 0.2 + lift + tip)], 0.58, 0.46, 0.82),
            # lateral border, medial border, spine, coracoid and glenoid of the scapula
            ([(blade + 1.9, 4.6), (blade + 1.3, 7.5), (blade + 0.1, 10.5), (blade - 1.5, 12.6)], 0.22, 0.34, 0.3),
            ([(blade - 3.4, 1.2), (blade - 3.3, 6.0), (blade - 2.8, 10.5), (blade - 1.5, 12.6)], 0.14, 0.22, 0.0),
            ([(blade - 3.2, 3.4), (blade - 0.6, 1.6), (w + 3.4, -0.5 + 0.5 * lift)], 0.42, 0.32, 0.8),
            ([(blade + 0.2, 1.9), (blade + 1.2, 2.0), (blade + 2.0, 2.7)], 0.42, 0.36, 0.8),
            ([(blade + 1.9, 2.4), (blade + 2.3, 3.5), (blade + 2.0, 4.7)], 0.26, 0.5, 0.4),
            ([(w + 4.6, 3.6), (w + 5.0 + 0.15 * p.arm, 9.0), (elbow, 34.0)], 1.05, 0.72, 0.92),
        ]
        for points, half, thick, marrow in curves:
            line = along([(x, y + tip * 0.5) for x, y in points], step) * (side, 1)
            t = np.linspace(0, 1, len(line))
            ends = np.clip(np.minimum(t * 10, (1 - t) * 12) + 0.1, 0, 1)
            out.append(strip(line, half * (1.12 - 0.24 * t), 2.1 * thick * p.bone * ends, marrow))
        body = along([(blade - 1.9, 3.0), (blade - 1.7, 7.0), (blade - 1.9, 11.0)], step) * (side, 1)
        out.append(strip(body, np.interp(np.linspace(0, 1, len(body)), [0, 1], [1.9, 0.7]), 0.11 * p.bone, 0.0))
    return out


def add_round(p: Patient, grid: Grid, out: Map) -> None:
    """Add the heads of the humeri, the manubrium and the jaw."""
    w = p.half_width
    for side in (1, -1):
        box, chord = grid.capsule((side * (w + 4.0), 2.9), (side * (w + 4.8), 4.4), 2.4, 1.5)
        out[box] += np.float32(0.34 * p.bone) * chord
        box, chord = grid.capsule((side * (w + 4.0), 2.9), (side * (w + 4.8), 4.4), 2.15, 1.3)
        out[box] -= np.float32(0.24 * p.bone) * chord
    grid.add_bump(out, (0.6 * p.rotation, 5.4), (1.5, 1.5), 0.28 * p.bone)
    if p.chin < p.shift_y + 6:
        for side in (1, -1):
            a, b = (0.8 * p.rotation, -p.chin - 0.8), (side * 5.4 + 0.8 * p.rotation, -p.chin - 4.0)
            box, chord = grid.capsule(a, b, 0.9, 1.0)
            out[box] += np.float32(0.45 * p.bone) * chord


def spine(p: Patient, grid: Grid, rng: np.random.Generator) -> Map:
    """Vertebral bodies with pedicles, transverse and spinous processes: cm of bone."""
    pitch = 2.1 + 0.014 * np.clip(DOWN, -8, 40)
    phase = (DOWN + 0.8 + float(rng.uniform(-0.6, 0.6))) / pitch
    within = phase - np.floor(phase) - 0.5  # -0.5..0.5 from disc to disc
    half = 1.45 + 0.022 * np.clip(DOWN, -5, 40)
    curve = float(rng.normal(0, 0.4)) * np.sin((DOWN - float(rng.uniform(0, 12))) / 6.5) + 0.2 * p.rotation
    waist = half * (0.92 + 0.35 * within**2)
    plate = np.clip((0.5 - np.abs(within)) / 0.10, 0, 1)
    # Higher up and lower down than the chest the vertebrae have less lung and heart before them to hide in.
    box = grid.box(-5.5, 5.5, -20, 52)
    out = np.zeros_like(grid.x)
    sx = grid.x[box] - grid.down(curve)[box]
    near = np.abs(sx)
    r = sx / grid.down(waist)[box]
    ends = np.exp(-((np.abs(within) - 0.41) / 0.05) ** 2)
    r2 = r * r
    flat = np.sqrt(np.clip(1 - r2 * r2, 0, None)) * (np.float32(0.82) + np.float32(0.3) * r2)
    bone = flat * grid.down(0.60 * (0.72 + 0.28 * plate) + 0.22 * ends)[box]
    w = grid.down(within)[box]
    u = (near - grid.down(0.60 * half)[box]) / np.float32(0.36)
    v = (w + np.float32(0.14)) * np.float32(pitch.mean() / 0.5)
    e = u * u + v * v
    bone += np.float32(0.25) * np.exp(-((e - np.float32(0.8)) * np.float32(2)) ** 2)
    u = (sx - np.float32(0.5 * p.rotation)) / np.float32(0.24)
    bone += np.float32(0.55) * np.exp(-u * u) * grid.down(np.exp(-((within - 0.22) * pitch / 0.5) ** 2))[box]
    u = (near - np.float32(2.5)) / np.float32(0.75)
    bone += np.float32(0.20) * np.exp(-u * u) * grid.down(np.exp(-((within + 0.15) * pitch / 0.38) ** 2))[box]
    out[box] = np.float32(p.bone) * bone
    return out
