"""The reader under volume: more random damage than the fast tests, and a file larger than the memory allowed for it."""

from hypothesis import given, settings

from benchmarks import measure, reading
from tests.data.test_zeek import EDITS, LABELLED, LABELS, ROWS
from tests.data.test_zeek import test_the_fast_checks_refuse_exactly_what_the_slow_ones_refuse as law


@settings(max_examples=5000, deadline=None)
@given(EDITS)
def test_much_random_damage(tmp_path_factory, edits):
    law.hypothesis.inner_test(tmp_path_factory, edits)


def test_memory_of_the_stream_does_not_grow_with_the_file(tmp_path):
    block = "".join(f"{r.replace(' ', chr(9))}   {label}\n" for r, label in zip(ROWS, LABELS, strict=True)) * 20_000
    peaks = []
    for blocks in (10, 60):  # 1 and 6 million rows, 0.1 and 0.6 GB
        path = tmp_path / f"{blocks}.log"
        with path.open("w") as file:
            file.write(LABELLED)
            file.writelines(block for _ in range(blocks))
        peak, rows = measure.peak_mb(reading.ours_parquet, str(path), repetitions=1)
        assert rows == blocks * 100_000
        peaks.append(peak)
        path.unlink()
    assert peaks[1] < 400, f"peak memory {peaks} MB"
    assert peaks[1] < 1.3 * peaks[0], f"peak memory {peaks} MB"
