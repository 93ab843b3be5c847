"""One edit of one film: pure, and exact where it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from cars_core.anatomy.masks import Anatomy
from cars_core.anatomy.regions import Pass, crop_box, edit_region, likely_sides, mask_picture, passes
from cars_core.generate.denoiser import REGION, Condition, Denoiser
from cars_core.phantom.display import add_attenuation, to_attenuation
from cars_core.vocabulary import Vocabulary
from schemas.errors import BadInput

Film = NDArray[np.uint8]

#: Part of `edit_id`: change it when the same plan row gives other pixels.
CODE = "edit-2"


@dataclass(frozen=True)
class Edited:
    """The edited film and its mask picture (255 edit, 128 band, 0 keep), uint8 [H, W]."""

    film: Film
    mask: Film


def cut(picture: NDArray[Any], box: tuple[int, int, int], size: int, *, nearest: bool = False) -> torch.Tensor:
    """The square `box` of a picture [H, W] at size x size, float32; the film's edge is repeated outside."""
    top, left, n = box
    pad = max(0, -top, -left, top + n - picture.shape[0], left + n - picture.shape[1])
    wide = np.pad(picture, pad, mode="edge")[top + pad : top + pad + n, left + pad : left + pad + n]
    x = torch.from_numpy(np.ascontiguousarray(wide)).float()[None, None]
    if nearest:
        return F.interpolate(x, (size, size), mode="nearest-exact")[0, 0]
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def paste_weight(mask: Film) -> NDArray[np.float32]:
    """1 inside the edit, falling to 0 across the free band, exactly 0 where the film is kept."""
    edit, band = mask == 255, mask == 128
    from_edit, from_kept = ndimage.distance_transform_edt(~edit), ndimage.distance_transform_edt(edit | band)
    fade = 0.5 * (1 + np.cos(np.pi * from_edit / np.maximum(from_edit + from_kept, 1)))
    return np.where(edit, 1.0, np.where(band, fade, 0.0)).astype(np.float32)


def lay_change(film: Film, change: torch.Tensor, box: tuple[int, int, int], weight: NDArray[np.float32]) -> Film:
    """Lay a region's change of attenuation over the film at the film's own size."""
    top, left, n = box
    up = F.interpolate(change[None, None], (n, n), mode="bicubic", align_corners=False)[0, 0].numpy()
    whole = np.zeros(film.shape, np.float32)
    y0, x0, y1, x1 = max(0, top), max(0, left), min(film.shape[0], top + n), min(film.shape[1], left + n)
    y1, x1 = max(y0, y1), max(x0, x1)  # a box beside the film covers nothing of it
    whole[y0:y1, x0:x1] = up[y0 - top : y1 - top, x0 - left : x1 - left]
    return add_attenuation(film, whole * weight)


def edit_film(
    film: Film,
    *,
    operations: list[dict[str, Any]],
    anatomy: Anatomy,
    source_present: int,
    seed: int,
    denoiser: Denoiser,
    steps: int,
    guidance: float,
    vocabulary: Vocabulary,
) -> Edited:
    """Carry out operations on a film.

    Args:
        film: uint8 [H, W].
        operations: {kind insert | delete, finding, side left | right | both, severity 0..1}.
        source_present: packed mask of the findings the film shows.
        seed: all randomness of the edit.

    Raises:
        BadInput: an operation the editor does not offer, one that asks for what is already so, or a
        region this anatomy cannot hold.
    """
    film = np.ascontiguousarray(film)
    out, masks, present = film, np.zeros(film.shape, np.uint8), source_present
    for op in operations:
        name, kind = str(op["finding"]), str(op["kind"])
        if name not in denoiser.offers.get(kind, frozenset()):
            raise BadInput(
                f"{kind} {name}",
                name,
                f"one the editor can {kind}: " + ", ".join(sorted(denoiser.offers.get(kind, frozenset()))),
            )
        shown = bool(source_present >> vocabulary[name].bit & 1)
        if shown == (kind == "insert"):
            raise BadInput(
                f"{kind} {name}",
                "already " + ("present" if shown else "absent"),
                f"a film {'without' if shown else 'with'} it",
            )
    for step in _located(operations, film, anatomy, seed=seed, vocabulary=vocabulary):
        bit = 1 << vocabulary[step.finding].bit
        # Before and after this pass, with all that earlier passes did.
        before, after = (present & ~bit, present | bit) if step.kind == "insert" else (present | bit, present & ~bit)
        mask = mask_picture(edit_region(step, anatomy))
        box = crop_box(mask)
        change = denoiser.sample(
            source=torch.from_numpy(to_attenuation(cut(out, box, REGION).numpy())),
            mask=cut(mask, box, REGION, nearest=True) / 255,
            condition=Condition(
                kind=step.kind,
                finding=step.finding,
                severity=step.severity,
                side=step.side,
                source_present=before,
                target_present=after,
                box_share=box[2] / film.shape[0],
            ),
            steps=steps,
            guidance=guidance,
            seed=step.seed,
        )
        if not bool(torch.isfinite(change).all()):
            raise BadInput(f"{step.kind} {step.finding}", "not a number", "finite changes from the editor")
        out = lay_change(out, change, box, paste_weight(mask))
        masks, present = np.maximum(masks, mask), after
    return Edited(out, masks)


def _located(
    operations: list[dict[str, Any]], film: Film, anatomy: Anatomy, *, seed: int, vocabulary: Vocabulary
) -> list[Pass]:
    """The passes of an edit, without deletions from a lung that is clear of the finding."""
    out = []
    for step in passes(operations, seed):
        if step.kind == "delete" and vocabulary[step.finding].sided:
            asked = next(o["side"] for o in operations if (o["kind"], o["finding"]) == ("delete", step.finding))
            if asked == "both" and step.side not in likely_sides(to_attenuation(film), step.finding, anatomy):
                continue
        out.append(step)
    return out
