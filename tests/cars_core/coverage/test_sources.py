"""Without these, films of a large cohort could be offered twice, or never."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from cars_core.coverage.sources import Films, Level, Queue
from cars_core.vocabulary import load_vocabulary

V = load_vocabulary()


def test_a_queue_gives_every_film_once_in_an_order_a_new_film_does_not_disturb() -> None:
    n, seed, salt = 3000, 5, 0x1234_5678_9ABC_DEF0
    ids = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]

    def drained(which: list[str]) -> list[str]:
        m = len(which)
        text = dict.fromkeys(("image_id", "object", "patient", "record", "licence", "truth"), which)
        vectors = {c: pa.array([0] * m, pa.int64()) for c in ("present", "absent", "uncertain")}
        films = Films(pa.table({**text, "source": ["nih"] * m, **vectors}), seed=seed, vocabulary=V, uncertain="absent")
        queue = Queue(films, [Level(1.0, {0: (("insert", "mass"),)})], salt=salt, passes=1)
        taken = []
        while (pick := queue.take(lambda film, operations: None)) is not None:
            assert (pick.operations, pick.cost) == ((("insert", "mass"),), 1.0)
            taken.append(films.ids[pick.film])
        return taken

    def place(image_id: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{seed} {image_id}".encode()).digest()[:8], "big") ^ salt

    every = drained(ids)
    assert every == sorted(ids, key=place)
    assert [i for i in every if i != ids[7]] == drained(ids[:7] + ids[8:])
