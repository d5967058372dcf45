"""Units of real and of hopeless audio, against the models they come from."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from asr.config import validate
from asr.features import Fbank
from asr.features.units import ENCODER_FILE, Units, fit_extractor, kmeans
from asr.features.units.sources import SOURCES
from asr.files import load_tensors, save_tensors
from asr.models.transducer import Transducer

RATE = 8000
SSL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (8,) * 7,
       "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}


@pytest.fixture(scope="module")
def speech(shared: Path) -> Tensor:
    """Three seconds at 8 kHz."""
    samples, rate = soundfile.read(sorted((shared / "corpora/yesno").glob("*.wav"))[0], dtype="float32")
    assert rate == RATE
    return torch.from_numpy(samples[: 3 * RATE])


def config(extractor: dict[str, Any], sample_rate: int = RATE) -> Units.Config:
    return validate(Units.Config, {"type": "units", "sample_rate": sample_rate, "extractor": extractor}, "test")


def fitted(extractor: dict[str, Any], directory: Path, *audio: Tensor, sample_rate: int = RATE) -> Units:
    directory.mkdir(exist_ok=True)
    fit_extractor(config(extractor, sample_rate), directory, "cpu", lambda: [(f"u{k}", samples) for k, samples in enumerate(audio)])
    return Units(config(extractor, sample_rate), directory)


def test_dmel_is_the_rounded_fbank(speech: Tensor, tmp_path: Path) -> None:
    units = fitted({"type": "dmel", "num_mel_bins": 20, "intensities": 8, "lowest": -12, "highest": 4}, tmp_path)
    found_TQ = units(speech)
    energies_TF = Fbank(Fbank.Config(num_mel_bins=20, sample_rate=RATE))(speech)
    assert found_TQ.shape == energies_TF.shape and found_TQ.dtype == torch.int64
    for unit, energy in zip(found_TQ.flatten().tolist(), energies_TF.flatten().tolist()):
        assert unit == min(max(math.floor((energy + 12) / 2), 0), 7)
    assert units.config.vocabulary == 8 and units.config.codebooks == 20 and found_TQ.unique().numel() == 8


def test_clusters_of_fbank(speech: Tensor, tmp_path: Path) -> None:
    units = fitted({"type": "kmeans", "source": {"type": "fbank", "num_mel_bins": 20}, "clusters": 16, "codebooks": 2}, tmp_path, speech)
    energies_TF = Fbank(Fbank.Config(num_mel_bins=20, sample_rate=RATE))(speech)
    codebooks_QKD = load_tensors(tmp_path / "codebooks.pt")["codebooks"]
    assert torch.equal(units(speech), kmeans.quantise(energies_TF, codebooks_QKD))
    assert units(speech).shape == (300, 2) and len(units(speech).unique()) == 16
    assert units.config.num_frames(3 * RATE) >= 300 and units.config.frame_shift == 0.01


@pytest.mark.parametrize("extractor", [
    {"type": "dmel", "num_mel_bins": 20}, {"type": "kmeans", "source": {"type": "fbank", "num_mel_bins": 20}, "clusters": 16},
])
def test_hopeless_audio(speech: Tensor, tmp_path: Path, extractor: dict[str, Any]) -> None:
    """Silence is one unit all the time; what is not a number, or too short, is said to be so."""
    units = fitted(extractor, tmp_path, speech)
    silence_TQ = units(torch.zeros(RATE))
    assert (silence_TQ == silence_TQ[0]).all() and len(silence_TQ) == 100
    with pytest.raises(ValueError, match="not numbers"):
        units(torch.full((RATE,), math.nan))
    with pytest.raises(ValueError, match="less than one frame"):
        units(torch.zeros(10))


def test_what_cannot_be_clustered_is_named(speech: Tensor, tmp_path: Path) -> None:
    extractor = {"type": "kmeans", "source": {"type": "fbank", "num_mel_bins": 20}, "clusters": 16}
    with pytest.raises(ValueError, match="utterance 'u1': values that are not numbers"):
        fitted(extractor, tmp_path, speech, torch.full((RATE,), math.nan))
    with pytest.raises(ValueError, match="16 clusters need at least as many frames, there are 10"):
        fitted(extractor, tmp_path, speech[:800])


CONFORMER = {"type": "conformer", "dim": 16, "layers": 2, "heads": 2, "feedforward": 16, "kernel": 3}
ZIPFORMER = {"type": "zipformer", "layers": [1, 1], "dims": [16, 24], "unmasked_dims": [12, 16], "feed_forward": [24, 32], "heads": [2, 2],
             "kernels": [7, 7], "downsampling": [1, 2], "query_head_dim": 6, "value_head_dim": 4, "pos_dim": 12,
             "frontend_channels": [2, 4, 8]}


def packed(encoder: dict[str, Any], directory: Path) -> Transducer:
    torch.manual_seed(0)
    values = {"encoder": encoder, "predictor": {"type": "stateless", "dim": 8}, "joiner": {"dim": 8}}
    model = Transducer(validate(Transducer.Config, values, "test"), 20, 5).eval()
    directory.mkdir(exist_ok=True)
    configs = {"features": {"type": "fbank", "num_mel_bins": 20, "sample_rate": RATE}, "model": values}
    save_tensors({"configs": json.dumps(configs), "state": model.encoder.state_dict()}, directory / ENCODER_FILE)
    return model


def source(values: dict[str, Any], directory: Path, sample_rate: int = RATE) -> Any:
    kind = SOURCES[values["type"]]
    return kind(validate(kind.Config, values, "test"), sample_rate, directory, "cpu")


def test_layers_of_an_encoder(speech: Tensor, tmp_path: Path) -> None:
    model = packed(CONFORMER, tmp_path / "conformer")
    features_BTF = Fbank(Fbank.Config(num_mel_bins=20, sample_rate=RATE))(speech).unsqueeze(0)
    with torch.no_grad():
        last_SD = model.encode(features_BTF, torch.tensor([features_BTF.shape[1]])).frames_BSD[0]
    values = {"type": "encoder", "exp_dir": "exp/x"}
    assert torch.equal(source(values, tmp_path / "conformer")(speech), last_SD)
    first_SD = source({**values, "layer": 0}, tmp_path / "conformer")(speech)
    assert first_SD.shape == last_SD.shape and not torch.allclose(first_SD, last_SD)
    with pytest.raises(ValueError, match="layer: 2 is not one of the 2"):
        source({**values, "layer": 2}, tmp_path / "conformer")
    with pytest.raises(ValueError, match="gives a frame every 0.04 s: set features.extractor.source.frame_shift"):
        source({**values, "frame_shift": 0.02}, tmp_path / "conformer")
    with pytest.raises(ValueError, match="trained on audio of 8000 Hz, but features.sample_rate is 16000"):
        source(values, tmp_path / "conformer", sample_rate=16000)
    with pytest.raises(ValueError, match="too few for the encoder"):
        source(values, tmp_path / "conformer")(speech[:300])


def test_stacks_of_a_zipformer(speech: Tensor, tmp_path: Path) -> None:
    """At 50 Hz, without the frames that fill up a multiple of the stacks' factors."""
    packed(ZIPFORMER, tmp_path / "zipformer")
    values = {"type": "encoder", "exp_dir": "exp/x", "frame_shift": 0.02}
    for samples in (speech, speech[:-160]):
        frames = Fbank(Fbank.Config(sample_rate=RATE)).config.num_frames(len(samples))
        assert source({**values, "layer": 0}, tmp_path / "zipformer")(samples).shape == ((frames - 7) // 2, 16)
        assert source(values, tmp_path / "zipformer")(samples).shape == ((frames - 7) // 2, 24)


def ssl_model(kind: str, directory: Path, seed: int = 0) -> Any:
    """A small model of random weights, as the library saves it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[ssl]'")
    torch.manual_seed(seed)
    layer_norm = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"} if kind == "Wav2Vec2" else {}  # as XLS-R has
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**SSL, **layer_norm)).eval()
    model.save_pretrained(directory)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=kind == "Wav2Vec2").save_pretrained(directory)
    return model


@pytest.mark.parametrize("kind", ["Hubert", "WavLM", "Wav2Vec2"])
def test_layers_of_self_supervised_models(speech: Tensor, tmp_path: Path, kind: str) -> None:
    model = ssl_model(kind, tmp_path)
    samples = (speech - speech.mean()) / (speech.var(unbiased=False) + 1e-7).sqrt() if kind == "Wav2Vec2" else speech
    with torch.no_grad():
        hidden = model(samples.unsqueeze(0), output_hidden_states=True).hidden_states
    for layer in (0, 2, 3):
        found_TD = source({"type": "ssl", "model": str(tmp_path), "layer": layer}, tmp_path, 16000)(speech)
        assert torch.allclose(found_TD, hidden[layer][0], atol=1e-4), layer
    with pytest.raises(ValueError, match="has 3 layers, 4 was asked for"):
        source({"type": "ssl", "model": str(tmp_path), "layer": 4}, tmp_path, 16000)
    with pytest.raises(ValueError, match="takes audio of 16000 Hz and features.sample_rate is 8000: set it"):
        source({"type": "ssl", "model": str(tmp_path), "layer": 1}, tmp_path, 8000)
    with pytest.raises(ValueError, match="gives a frame every 0.02 s"):
        source({"type": "ssl", "model": str(tmp_path), "layer": 1, "frame_shift": 0.04}, tmp_path, 16000)


def test_weights_that_changed_are_refused(speech: Tensor, tmp_path: Path) -> None:
    """Elsewhere they may lie, but they must be the same."""
    ssl_model("Hubert", tmp_path / "one")
    extractor = {"type": "kmeans", "source": {"type": "ssl", "model": str(tmp_path / "one"), "layer": 2}, "clusters": 8}
    expected = fitted(extractor, tmp_path / "units", speech, sample_rate=16000)(speech)
    (tmp_path / "one").rename(tmp_path / "two")
    moved = {**extractor, "source": {"type": "ssl", "model": str(tmp_path / "two"), "layer": 2}}
    assert torch.equal(Units(config(moved, 16000), tmp_path / "units")(speech), expected)
    ssl_model("Hubert", tmp_path / "two", seed=1)
    with pytest.raises(ValueError, match="the clusters are of other weights"):
        Units(config(moved, 16000), tmp_path / "units")(speech)
    with pytest.raises(ValueError, match="transformers cannot load it .*; name a folder that holds config.json"):
        Units(config(extractor, 16000), tmp_path / "units")(speech)


def test_codec(speech: Tensor, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[ssl]'")
    torch.manual_seed(0)
    codec = transformers.EncodecModel(transformers.EncodecConfig(
        num_filters=4, hidden_size=8, codebook_size=32, codebook_dim=8, num_lstm_layers=1, target_bandwidths=[1.5, 3.0])).eval()
    codec.save_pretrained(tmp_path / "codec")
    most = len(codec.quantizer.layers)
    with torch.no_grad():
        expected_QT = codec.encode(speech.view(1, 1, -1), bandwidth=3.0).audio_codes.view(most, -1)
    values = {"type": "codec", "model": str(tmp_path / "codec"), "codebooks": most, "vocabulary": 32}
    assert torch.equal(fitted(values, tmp_path / "all", sample_rate=24000)(speech).T, expected_QT)
    two = fitted({**values, "codebooks": 2}, tmp_path / "two", sample_rate=24000)
    assert torch.equal(two(speech).T, expected_QT[:2])
    for wrong in ({"codebooks": most + 1}, {"vocabulary": 1024}, {"frame_shift": 0.02}):
        with pytest.raises(ValueError, match=f"{most} codebooks of 32 ids, a frame every 0.0133333 s; set codebooks"):
            fitted({**values, **wrong}, tmp_path / "wrong", sample_rate=24000)
    with pytest.raises(ValueError, match="takes audio of 24000 Hz"):
        fitted(values, tmp_path / "wrong", sample_rate=16000)
