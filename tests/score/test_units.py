"""Measures of units, against their definitions."""
from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asr.score.units import Alignment, agreement, edit_distance, rate, read_ctm


def test_agreement_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    labels = [str(n) for n in rng.integers(4, size=500)]
    units = [3 * int(label) + int(noise) for label, noise in zip(labels, rng.integers(5, size=500))]
    joint, per_unit, per_label = Counter(zip(units, labels)), Counter(units), Counter(labels)
    purity = sum(max(count for (u, _), count in joint.items() if u == unit) for unit in per_unit) / 500
    cluster = sum(max(count for (_, y), count in joint.items() if y == label) for label in per_label) / 500
    mutual = sum(count / 500 * math.log(500 * count / per_unit[u] / per_label[y]) for (u, y), count in joint.items())
    found = agreement(units, labels)
    assert (found.purity, found.cluster_purity) == pytest.approx((purity, cluster))
    assert found.pnmi == pytest.approx(mutual / -sum(n / 500 * math.log(n / 500) for n in per_label.values()))
    assert 0 < found.pnmi < 1


def test_agreement_at_its_ends() -> None:
    assert agreement([5, 5, 9, 9], ["a", "a", "b", "b"]) == agreement([5, 6, 9, 7], list("abcd"))
    assert agreement([0, 1, 0, 1], ["a", "a", "b", "b"]).pnmi == pytest.approx(0)
    with pytest.raises(ValueError, match="no frame has both a unit and a label"):
        agreement([], [])


def test_rate() -> None:
    found = rate([np.array([[0, 0], [1, 0]]), np.array([[2, 0], [3, 0]])], vocabulary=4, seconds=2.0)
    assert (found.units, found.bits_by_vocabulary, found.bits_by_entropy) == (2.0, 8.0, 4.0)
    assert found.usage == pytest.approx((1 + 0.25) / 2)


def test_edit_distance_leaves_repetitions_out() -> None:
    def column(*units: int) -> np.ndarray:
        return np.array(units).reshape(-1, 1)

    assert edit_distance([(column(1, 1, 2, 3), column(1, 2, 2, 3, 3))]) == 0
    assert edit_distance([(column(1, 1, 2, 3), column(1, 4, 3)), (column(7), column(7, 8))]) == 2 / 4
    assert edit_distance([(np.array([[1, 2], [1, 3]]), np.array([[1, 2], [1, 2]]))]) == 1 / 2


def test_labels_of_moments(tmp_path: Path) -> None:
    (tmp_path / "a.ctm").write_text(";; comment\nu1 1 0.50 0.25 b\nu1 1 0.10 0.20 a 0.9\nu2 1 0 1 c\n")
    found = read_ctm(str(tmp_path / "a.ctm"))
    assert found["u2"] == Alignment(("c",), (0.0,), (1.0,))
    assert [found["u1"].at(seconds) for seconds in (0.05, 0.1, 0.29, 0.4, 0.5, 0.8)] == [None, "a", "a", None, "b", None]
    (tmp_path / "a.ctm").write_text("u1 1 0.5 b\n")
    with pytest.raises(ValueError, match="a.ctm:1: expected 'utterance channel start duration label'"):
        read_ctm(str(tmp_path / "a.ctm"))
