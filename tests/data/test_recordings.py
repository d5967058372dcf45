"""Features of audio files: whole ones in batches, long ones in pieces."""
from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from asr.data.audio import read_audio
from asr.data.recordings import audio_batches, duration, feature_pieces
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


def test_utterances_come_in_order_in_batches_of_limited_length():
    generator = torch.Generator().manual_seed(0)
    seconds = {"a": 1.0, "b": 0.5, "c": 2.5, "d": 0.2, "e": 0.3}
    audio = {id: 0.1 * torch.randn(int(8000 * s), generator=generator) for id, s in seconds.items()}
    extractor = FEATURES["fbank"](FEATURES["fbank"].Config(sample_rate=8000, num_mel_bins=20))
    batches = list(audio_batches(audio.items(), extractor, 2.0))
    assert [batch.ids for batch in batches] == [("a", "b"), ("c",), ("d", "e")]
    for batch in batches:
        assert batch.durations == pytest.approx([seconds[id] for id in batch.ids])
        for id, features_TF, length in zip(batch.ids, batch.features_BTF, batch.feature_lens_B.tolist()):
            torch.testing.assert_close(features_TF[:length], extractor(audio[id]))
            assert (features_TF[length:] == extractor.config.padding_value).all()
    with pytest.raises(ValueError, match="f: .*"):
        list(audio_batches([("f", torch.zeros(3))], extractor, 2.0))
