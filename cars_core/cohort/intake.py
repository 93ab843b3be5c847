"""One film from its file to the lake: read, decoded, looked at, turned upright, shrunk, kept. Runs in a worker."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cars_core.cohort.films import MAX_BYTES, Decoded, Film, UnusableFilm, colours, decode_bytes, image_id, normalise
from cars_core.cohort.near import reframed_hashes
from cars_core.cohort.reading import paused
from cars_core.cohort.screen.judge import MAY_BE_NEGATIVE, MAY_BE_ROTATED, screen
from cars_core.cohort.screen.photo import is_photograph, nearly_blank
from cars_core.cohort.screen.text import burned_in_text
from cars_core.cohort.sources.tree import Tree, away
from cars_core.lake.objects import Objects
from schemas.recipe import Screens

Grey = NDArray[np.uint8] | NDArray[np.uint16]

TEXT, PHOTO = "words are burned into the picture", "a photograph of a film, not the film"
BLANK = "the film is blank"


@dataclass(frozen=True)
class Kept:
    """A film in the lake. flags: what was repaired or noticed. spacing: mm, side of a pixel of the kept film.
    hashes: the film's perceptual hash, then those of its other framings; none of a simulated film."""

    image_id: str
    object: str
    width: int
    height: int
    spacing: float | None = None
    flags: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()

    @property
    def phash(self) -> str | None:
        """The film's own perceptual hash."""
        return self.hashes[0] if self.hashes else None


@dataclass(frozen=True)
class SetAside:
    """A film that can be read and is not to be used. `object` is its picture, where that may be kept: one with words
    on it may name somebody."""

    reason: str
    image_id: str
    object: str | None
    width: int
    height: int


class Item(Protocol):
    """What is sent to a worker. `what`: the film's path in the tree, or a simulated film's truth."""

    @property
    def what(self) -> str: ...


@dataclass(frozen=True)
class Intake:
    """What turns a film into its kept form; can be sent to another process.

    tree: of the source; None for simulated films, which are drawn from their truth and not looked at.
    objects: where films go. size: short side of the kept film, pixels. bits: of grey kept, 8 or 16.
    """

    tree: Tree | None
    objects: Objects
    size: int
    bits: int
    screens: Screens

    def __call__(self, item: Item) -> Kept | SetAside:
        """Take a film in.

        Raises:
            UnusableFilm: it cannot be read; the message says why and names nothing.
            OSError: the lake does not take it, or the source's store is away.
        """
        what = item.what
        if self.tree is None:
            from cars_core.phantom.truth import render_truth  # the readers of files need not load it

            drawn = render_truth(what).pixels
            return self._keep(normalise(drawn, size=self.size), image_id(drawn))
        data = self._bytes(self.tree, what)
        decoded = decode_bytes(data, bits=self.bits)
        aside, flags, turns = self._looked_at(decoded, data)
        if turns:
            decoded = replace(decoded, pixels=cast(Grey, np.ascontiguousarray(np.rot90(decoded.pixels, turns))))
        pixels: Grey = decoded.pixels
        film = normalise(decoded, size=self.size, bits=self.bits)
        if aside is not None:
            shown = None if aside in (TEXT, PHOTO) else self._put(film.png)
            return SetAside(aside, decoded.image_id, shown, film.width, film.height)
        spacing = decoded.spacing_mm and decoded.spacing_mm[0] * min(pixels.shape) / min(film.width, film.height)
        hashes = () if self.screens.near == "off" else reframed_hashes(_eight(pixels))
        return self._keep(film, decoded.image_id, spacing, flags, hashes)

    def _keep(self, film: Film, of: str, spacing: float | None = None, flags: tuple[str, ...] = (),
              hashes: tuple[str, ...] = ()) -> Kept:
        return Kept(of, self._put(film.png), film.width, film.height, spacing, flags, hashes)

    def _put(self, png: bytes) -> str:
        with paused():  # a store that is slow is not the film's fault
            return self.objects.put(png)

    def _bytes(self, tree: Tree, path: str) -> bytes:
        try:
            with paused():
                return tree.read(path, most=MAX_BYTES)
        except FileNotFoundError:
            raise UnusableFilm("image is missing") from None
        except OSError as e:
            if e.errno == errno.EFBIG:
                raise UnusableFilm(f"image file is over {MAX_BYTES >> 20} MB") from None
            if away(e, tree):  # not the film's fault: the run is tried again
                raise
            raise UnusableFilm("image cannot be read") from None

    def _looked_at(self, film: Decoded, data: bytes) -> tuple[str | None, tuple[str, ...], int]:
        """(why it is set aside, flags, counter-clockwise quarter turns that make it upright)."""
        pixels, screens, flags = _eight(film.pixels), self.screens, []  # type: NDArray[np.uint8], Screens, list[str]
        for policy, word in self._not_to_be_shown(pixels, film.header, data):
            if policy == "set_aside":
                return word, (), 0  # before anything else, for the picture of such a film is not kept
            flags.append(word)
        if screens.blank != "off" and nearly_blank(pixels):
            if screens.blank == "set_aside":
                return BLANK, (), 0  # nothing else can be told of it
            flags.append(BLANK)
        seen = screen(pixels) if {screens.chest, screens.rotated} != {"off"} else None
        if seen is None or seen.verdict == "upright":
            return None, tuple(flags), 0
        word = str(seen.reason)
        if seen.verdict == "set aside":
            if screens.chest == "set_aside":
                return word, (), 0
            flags += [word] if screens.chest == "flag" else []
        elif word == MAY_BE_NEGATIVE:
            if screens.negative == "set_aside":
                return word, (), 0
            flags += [word] if screens.negative == "flag" else []
        elif seen.verdict == "flagged" and word != MAY_BE_ROTATED:
            flags += [word] if screens.chest != "off" else []
        elif screens.rotated == "set_aside":
            return word, (), 0
        elif screens.rotated == "repair" and seen.verdict == "repaired":
            return None, (*flags, f"repaired: {word}"), seen.judgement.quarter_turns
        elif screens.rotated != "off":
            flags.append(word)
        return None, tuple(flags), 0

    def _not_to_be_shown(self, pixels: NDArray[np.uint8], header: Mapping[str, str],
                         data: bytes) -> Iterator[tuple[str, str]]:
        """(policy, what it is) of a film whose picture may not be passed on: words on it, a photograph of a film.

        A DICOM film was written by a detector and not by a camera, and its header may say that words are burned in."""
        screens = self.screens
        if screens.photo != "off" and not header:
            colour = colours(data)
            if is_photograph(pixels if colour is None else colour).photograph:
                yield screens.photo, PHOTO
        if screens.text and screens.text != "off" and (
                header.get("BurnedInAnnotation") == "YES" or burned_in_text(pixels).suspicious):
            yield screens.text, TEXT


def _eight(pixels: Grey) -> NDArray[np.uint8]:
    return pixels.astype(np.uint8, copy=False) if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
