"""Words for long work: how far, how fast, how much longer."""

from __future__ import annotations


def rate_words(unit: str, done: int, total: int, seconds: float) -> str:
    """`120 of 400 films, 14.2 films/s, 20 s left`."""
    words = f"{done} of {total} {unit}"
    if done and seconds > 0.5:
        rate = done / seconds
        words += f", {rate:.3g} {unit}/s"
        if done < total:
            words += f", {(total - done) / rate:.0f} s left"
    return words
