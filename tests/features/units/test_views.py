"""How a model reads units: without repetitions, as subwords, and the time of each."""
from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from asr.config import validate
from asr.features.units import Units, UnitSubwords, fit_extractor, fit_subwords

RATE = 8000


def config(**values: Any) -> Units.Config:
    extractor = {"type": "kmeans", "source": {"type": "fbank", "num_mel_bins": 20}, "clusters": 12}
    return validate(Units.Config, {"type": "units", "sample_rate": RATE, "extractor": extractor, **values}, "test")


def sequences() -> list[Tensor]:
    """Texts of 25 words, three to seven units each, every unit twice."""
    generator = torch.Generator().manual_seed(0)
    words = [torch.randint(12, (3 + k % 5,), generator=generator) for k in range(25)]
    texts = [torch.cat([words[k] for k in torch.randint(25, (12,), generator=generator)]) for _ in range(60)]
    return [text.repeat_interleave(2).unsqueeze(1) for text in texts]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extractor")
    noise = [("a", torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0)))]
    fit_extractor(config(), path, "cpu", lambda: noise)
    for deduplicate in (False, True):
        for kind in ("bpe", "unigram"):
            fit_subwords(config(deduplicate=deduplicate, bpe=30, bpe_model=kind), path, sequences())
    return path


def test_every_frame(directory: Path) -> None:
    view = Units(config(), directory).view(sequences()[0].int())
    assert torch.equal(view.units_TQ, sequences()[0]) and view.units_TQ.dtype == torch.int64
    assert view.starts_T.tolist() == list(range(len(view.units_TQ) + 1))


def test_without_repetitions(directory: Path) -> None:
    read = Units(config(deduplicate=True), directory).view
    for units_TQ in [*sequences(), torch.tensor([[3]]), torch.tensor([[3], [3], [3]])]:
        runs = [(unit, len(list(run))) for unit, run in groupby(units_TQ[:, 0].tolist())]
        view = read(units_TQ)
        assert view.units_TQ[:, 0].tolist() == [unit for unit, _ in runs]
        assert view.starts_T.diff().tolist() == [length for _, length in runs] and view.starts_T[0] == 0


def test_rows_of_several_codebooks_repeat_as_a_whole(directory: Path) -> None:
    many = config(deduplicate=True, extractor={"type": "dmel", "num_mel_bins": 20})
    reader = Units.__new__(Units)
    reader.config = many
    view = reader.view(torch.tensor([[1, 2], [1, 2], [1, 3], [1, 2]]))
    assert view.units_TQ.tolist() == [[1, 2], [1, 3], [1, 2]] and view.starts_T.tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("deduplicate", [False, True])
def test_subwords_and_their_frames(directory: Path, kind: str, deduplicate: bool) -> None:
    """Of the same units, as many frames each; units that never followed one another in training included."""
    reader = Units(config(deduplicate=deduplicate, bpe=30, bpe_model=kind), directory)
    plain = Units(config(deduplicate=deduplicate), directory)
    subwords = reader.subwords
    assert subwords is not None and len(subwords) == 30
    for units_TQ in [*sequences(), torch.arange(11, -1, -1).unsqueeze(1), torch.tensor([[7]])]:
        view, below = reader.view(units_TQ), plain.view(units_TQ)
        ids = view.units_TQ[:, 0].tolist()
        assert min(ids) >= 1 and max(ids) < 30
        assert subwords.decode(ids) == below.units_TQ[:, 0].tolist()
        position, starts = 0, []
        for id in ids:
            starts.append(int(below.starts_T[position]))
            position += len(subwords.units[id])
        assert view.starts_T.tolist() == [*starts, len(units_TQ)]
    longest = sequences()[0]
    assert len(reader.view(longest).units_TQ) < 0.7 * len(plain.view(longest).units_TQ)


def test_too_many_subwords() -> None:
    with pytest.raises(ValueError, match="features.bpe: sentencepiece cannot make 500 ids of these units: .* at most"):
        UnitSubwords.train([[0, 1, 0]], 2, 500, "unigram")


@pytest.mark.parametrize("values, message", [
    ({"bpe": 12}, "12 subwords cannot hold the 12 units themselves"),
    ({"bpe": 100, "extractor": {"type": "dmel"}}, "the extractor has 80 codebooks"),
    ({"stored": False}, "stored"),
    ({"extractor": {"type": "kmeans"}}, "source"),
])
def test_contradictions(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)


def test_another_extractor_is_refused(directory: Path, tmp_path: Path) -> None:
    other = config(extractor={"type": "kmeans", "source": {"type": "fbank", "num_mel_bins": 20}, "clusters": 13})
    with pytest.raises(ValueError, match="its extractor is not that of the config: run the stage of features again"):
        Units(other, directory)
    with pytest.raises(ValueError, match="no extractor of units here"):
        Units(config(), tmp_path)
    with pytest.raises(ValueError, match="bpe_99.model: no such file; run the stage of features"):
        Units(config(bpe=99), directory).view(sequences()[0])


def test_a_model_knows_what_it_reads(directory: Path) -> None:
    identities = {Units(config(**values), directory).identity for values in (
        {}, {"deduplicate": True}, {"bpe": 30}, {"bpe": 30, "bpe_model": "unigram"}, {"bpe": 30, "deduplicate": True})}
    assert len(identities) == 5
