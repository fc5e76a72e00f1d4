"""The table of variants: figures by hand, and no verdict that an interval does not carry."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import variants
from benchmarks.__main__ import names
from fliot_lab.evaluation import Interval

AROUND = Interval(0.0, -0.1, 0.1, 5)


def test_what_is_won_is_paired_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {seed: variants.Judged(0.1 * seed, 2.0 * seed) for seed in variants.SEEDS}
    monkeypatch.setattr(variants, "plain", lambda settings, seed, data: before[seed])

    def way(setting, seed: int, data: str) -> variants.Judged:
        return variants.Judged(before[seed].accuracy + 0.25, before[seed].loss - 1 - seed)

    plain, found, accuracy, loss = variants.compared(way, {"skew": "none"}, "sample")
    assert plain.accuracy == pytest.approx(np.mean([0.1 * seed for seed in variants.SEEDS]))
    assert found.loss == pytest.approx(np.mean([seed - 1 for seed in variants.SEEDS]))
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((0.25, 0.25, 0.25))
    assert loss.value == pytest.approx(-1 - np.mean(variants.SEEDS))


@pytest.mark.parametrize(
    ("accuracy", "loss", "found"),
    [
        (AROUND, AROUND, "undecided"),
        (replace(AROUND, low=0.01), AROUND, "helps"),
        (AROUND, replace(AROUND, high=-0.01), "helps"),
        (replace(AROUND, high=-0.01), AROUND, "hurts"),
        (AROUND, replace(AROUND, low=0.01), "hurts"),
        (replace(AROUND, low=0.01), replace(AROUND, low=0.01), "both"),
    ],
)
def test_a_verdict_needs_an_interval_without_nothing(accuracy: Interval, loss: Interval, found: str) -> None:
    row = variants.line("way", "alike", "helps", (variants.Judged(0.5, 1), variants.Judged(0.5, 1), accuracy, loss))
    assert row[-1] == found
    assert len(row) == 8


def test_the_section_is_part_of_the_page_and_its_settings_are_the_studys() -> None:
    assert "variants" in names()
    for variant in variants.VARIANTS.values():
        for _, setting in (variant.helps, variant.hurts):
            assert set(setting) | set(variant.change) | set(variants.COMMON) <= set(variants.study.DEFAULTS)
