"""How good discrete units are, measured without training a recogniser on them.

Purity and PNMI: Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units", 2021,
section V-B. Unit edit distance: Gat et al., "Augmentation Invariant Discrete Representation for Generative Spoken Language Modeling",
IWSLT 2023. Bitrate from vocabulary and entropy: Chang et al., "The Interspeech 2024 Challenge on Speech Processing Using Discrete Units".
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Sequence

import kaldialign
import numpy as np


@dataclass(frozen=True)
class Alignment:
    """Labels (phones, characters) of an utterance: ``labels[k]`` from ``starts[k]`` to ``ends[k]``, in seconds, in order."""

    labels: tuple[str, ...]
    starts: tuple[float, ...]
    ends: tuple[float, ...]

    def at(self, seconds: float) -> str | None:
        """The label of a moment, None where there is none."""
        index = int(np.searchsorted(self.starts, seconds, side="right")) - 1
        return self.labels[index] if index >= 0 and seconds < self.ends[index] else None


@dataclass(frozen=True)
class Agreement:
    """Of units and labels of the same frames.

    purity: how often the label is the most frequent one of its unit; cluster_purity: how often the unit is that of its label.
    pnmi: the fraction of the labels' entropy that the units tell, I(label; unit) / H(label).
    """

    purity: float
    cluster_purity: float
    pnmi: float


@dataclass(frozen=True)
class Rate:
    """Per second of audio: units (rows of ids), and bits, by the vocabulary's size and by the entropy of single ids.

    usage: perplexity of the ids, as a fraction of the vocabulary: 1 where all are as frequent.
    """

    units: float
    bits_by_vocabulary: float
    bits_by_entropy: float
    usage: float


def agreement(units: Iterable[int], labels: Iterable[str]) -> Agreement:
    """Of one codebook. Raises ValueError where there is no frame."""
    _, unit_N = np.unique(np.fromiter(units, dtype=np.int64), return_inverse=True)
    _, label_N = np.unique(np.array(list(labels)), return_inverse=True)
    if not len(unit_N):
        raise ValueError("no frame has both a unit and a label: do the alignment's ids and times fit the utterances?")
    joint_UL = np.zeros((unit_N.max() + 1, label_N.max() + 1))
    np.add.at(joint_UL, (unit_N, label_N), 1 / len(unit_N))
    label_L = joint_UL.sum(0)
    mutual = entropy(joint_UL.sum(1)) + entropy(label_L) - entropy(joint_UL)
    return Agreement(float(joint_UL.max(1).sum()), float(joint_UL.max(0).sum()), mutual / entropy(label_L) if len(label_L) > 1 else 1.0)


def entropy(probabilities: np.ndarray) -> float:
    """In bits."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log2(positive)).sum())


def rate(sequences: Sequence[np.ndarray], vocabulary: int, seconds: float) -> Rate:
    """sequences: of each utterance, ids (T, Q). seconds: of all of them together."""
    units_NQ = np.concatenate(sequences)
    entropies = [entropy(np.bincount(column, minlength=vocabulary) / len(column)) for column in units_NQ.T]
    per_second = len(units_NQ) / seconds
    return Rate(per_second, per_second * units_NQ.shape[1] * float(np.log2(vocabulary)), per_second * sum(entropies),
                float(np.mean(np.exp2(entropies))) / vocabulary)


def edit_distance(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Edits from units (T, Q) of audio to those of the same audio changed, repetitions left out of both, per unit of the first."""
    edits = total = 0
    for clean_TQ, changed_TQ in pairs:
        clean, changed = _runs(clean_TQ), _runs(changed_TQ)
        edits += kaldialign.edit_distance(clean, changed)["total"]
        total += len(clean)
    return edits / max(total, 1)


def _runs(units_TQ: np.ndarray) -> list[str]:
    kept = np.ones(len(units_TQ), dtype=bool)
    kept[1:] = (units_TQ[1:] != units_TQ[:-1]).any(1)
    return [" ".join(map(str, row)) for row in units_TQ[kept]]


def read_ctm(path: str) -> dict[str, Alignment]:
    """Alignments by utterance, of lines ``utterance channel start duration label``. Raises ValueError naming a line that is none."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if not fields or line.startswith(";;"):
                continue
            try:
                utterance, start, duration, label = fields[0], float(fields[2]), float(fields[3]), fields[4]
            except (IndexError, ValueError):
                raise ValueError(f"{path}:{number}: expected 'utterance channel start duration label', got {line.strip()!r}") from None
            found.setdefault(utterance, []).append((start, start + duration, label))
    return {
        utterance: Alignment(*(tuple(column[k] for column in sorted(rows)) for k in (2, 0, 1)))  # type: ignore[arg-type]
        for utterance, rows in found.items()
    }


def plot(rows: Sequence[dict[str, Any]], changes: Sequence[str], path: Path) -> None:
    """Bitrate and agreement on the left, edit distance under each change of the audio on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5))
    for index, row in enumerate(rows):
        left.scatter(row["bits by entropy"], row.get("pnmi", row["usage"]), label=row["units"])
        right.bar([k + 0.8 * index / len(rows) for k in range(len(changes))], [row[name] for name in changes], 0.8 / len(rows))
    left.set(xscale="log", xlabel="bits per second (entropy)", ylabel="PNMI" if "pnmi" in rows[0] else "usage of the vocabulary")
    left.legend()
    right.set(ylabel="unit edit distance in %")
    right.set_xticks([k + 0.4 for k in range(len(changes))], changes, rotation=30)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
