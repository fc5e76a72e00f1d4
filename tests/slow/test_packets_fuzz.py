"""A hundred thousand mutated captures: none may crash the reader or the conversion, hang them, or fill the memory."""

import tracemalloc
from pathlib import Path

from tests.data.test_packets import mutants, survive

COUNT = 100_000
MEGABYTES = 32


def test_a_hundred_thousand_mutated_captures_are_read_or_refused(tmp_path: Path) -> None:
    read, most = 0, 0
    for number, mutant in enumerate(mutants(seed=1, count=COUNT)):
        watched = number % 100 == 0  # watching memory takes several times as long
        if watched:
            tracemalloc.start()
        read += survive(mutant, tmp_path)
        if watched:
            most = max(most, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert COUNT / 10 < read < COUNT
    assert most < MEGABYTES << 20
