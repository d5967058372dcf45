from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from asr.data.audio import read_audio
from asr.data.recordings import duration, feature_pieces
from asr.features import FEATURES


@pytest.mark.parametrize("rate, wanted", [(8000, 8000), (16000, 8000), (11025, 8000), (8000, 11025)])
@pytest.mark.parametrize("samples", [200000, 16003, 800, 79])
def test_pieces_equal_the_features_of_the_whole(tmp_path, rate, wanted, samples):
    path = tmp_path / "audio.wav"
    generator = np.random.default_rng(0)
    soundfile.write(path, 0.1 * generator.normal(size=(samples, 2)), rate)
    config = FEATURES["fbank"].Config(sample_rate=wanted, num_mel_bins=20, engine="lhotse")
    extractor = FEATURES["fbank"](config)
    pieces = list(feature_pieces(path, config, extractor, 1.0))
    assert duration(path) == pytest.approx(samples / rate)
    expected = extractor(read_audio(path, wanted)) if samples > 79 else torch.zeros(0, 20)
    assert sum(map(len, pieces)) == pytest.approx(len(expected), abs=0 if samples > 79 else 1)
    if samples > 79:
        torch.testing.assert_close(torch.cat(pieces), expected, rtol=1e-3, atol=2e-2)
    assert len(pieces) > 1 if samples == 200000 else len(pieces) <= 2
