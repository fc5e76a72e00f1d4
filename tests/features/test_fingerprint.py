"""Fingerprints, their matrix and their fusion."""

import numpy as np
import pytest

from fliot_lab.features.devices import Fingerprint, fuse, matrix


def made(channel: str, *values: float, source: str = "Aria/Setup-A-1-STA.pcap") -> Fingerprint:
    return Fingerprint(channel, tuple(f"f{i}" for i in range(len(values))), np.array(values, dtype=float), source)


def test_a_matrix_has_a_row_for_each_fingerprint_in_order() -> None:
    X, names = matrix([made("packets", 1, 2), made("packets", np.nan, 4)])
    assert np.array_equal(X, [[1, 2], [np.nan, 4]], equal_nan=True)
    assert names == ["f0", "f1"]


def test_fusing_keeps_every_value_under_its_channels_name() -> None:
    parts = [made("packets", 1, 2), made("hosts", 3, source="host.csv")]
    fused = fuse(parts)
    assert dict(zip(fused.names, fused.values.tolist(), strict=True)) == {"packets: f0": 1, "packets: f1": 2, "hosts: f0": 3}
    assert fused.provenance == "Aria/Setup-A-1-STA.pcap; host.csv"
    assert matrix([fused, fuse(parts)])[0].shape == (2, 3)


def test_what_is_not_the_same_measurement_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no fingerprints"):
        matrix([])
    with pytest.raises(ValueError, match=r"host.csv have fingerprints of different kinds"):
        matrix([made("packets", 1), made("hosts", 1, source="host.csv")])
    with pytest.raises(ValueError, match="different kinds"):
        matrix([made("packets", 1), made("packets", 1, 2)])
    with pytest.raises(ValueError, match=r"\['packets', 'packets'\]"):
        fuse([made("packets", 1), made("packets", 2)])
    with pytest.raises(ValueError, match="given are"):
        fuse([])
    with pytest.raises(ValueError, match=r"2 names and values of shape \(3,\)"):
        Fingerprint("packets", ("a", "b"), np.zeros(3), "somewhere")
