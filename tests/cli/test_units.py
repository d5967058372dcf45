"""Units through the programs: extraction, training, decoding with times, transcription, quality; and what is refused."""
from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from asr import hypotheses
from asr.cli.main import main
from asr.config import load_config
from asr.experiment import ExperimentConfig, Layout
from asr.features import Units
from asr.files import load_tensors, save_tensors
from asr.tokens import train_tokenizer
from tests.cli.test_decode import CONFIG, RATE, TEXTS, _corpus, save_random_model
from tests.conftest import ROOT

UNITS: dict[str, Any] = {
    **CONFIG, "name": "units",
    "features": {"type": "units", "sample_rate": RATE, "deduplicate": True, "bpe": 40,
                 "extractor": {"type": "kmeans", "source": {"type": "fbank", "num_mel_bins": 20}, "clusters": 30}},
    "model": {**CONFIG["model"], "frontend": {"type": "embedding", "dim": 16},
              "encoder": {**CONFIG["model"]["encoder"], "subsampling": {"type": "frames", "factor": 2}}},
    "train": {"epochs": 1, "batches": {"max_duration": 10, "workers": 0}, "average_period": 1},
    "decode": {"searches": {"greedy": {"type": "greedy"}}},
}


def compute_features(*arguments: str) -> None:
    """local/compute_features.py, in this process."""
    spec = importlib.util.spec_from_file_location("compute_features", ROOT / "local/compute_features.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.run(parser.parse_args([*arguments, "--jobs", "1"]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With corpus, features of ``config.yaml``, and a model trained on them for an epoch."""
    path = tmp_path_factory.mktemp("units")
    (path / "config.yaml").write_text(yaml.safe_dump(UNITS))
    for split in ("train", "dev", "test"):
        _corpus(path, split)
    config = load_config(ExperimentConfig, path / "config.yaml")
    train_tokenizer(config.tokens, TEXTS).save(path / "data/lang_char")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        compute_features("--config", "config.yaml")
        assert main(["train", "--config", "config.yaml"]) == 0
    return path


@pytest.fixture(autouse=True)
def inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def layout() -> Layout:
    return Layout(load_config(ExperimentConfig, Path("config.yaml")), Path("data"), Path("exp/units"))


def test_decoded_times_lie_within_the_audio(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that says something: random weights, of units that last several frames each."""
    config = load_config(ExperimentConfig, Path("config.yaml"))
    exp = Path("exp/loud")
    exp.mkdir(parents=True)
    (exp / "config.yaml").write_text(Path("exp/units/config.yaml").read_text())
    for name in ("tokens", "units"):
        (exp / name).symlink_to(Path.cwd() / "exp/units" / name)
    save_random_model(exp, config, train_tokenizer(config.tokens, TEXTS))
    assert main(["decode", "--exp-dir", str(exp), "--splits", "test"]) == 0
    utterances = hypotheses.read(exp / "decode/test/greedy.jsonl").utterances
    words = {utterance.id: utterance.words for utterance in utterances}
    assert any(words.values())
    latest = 0.0
    for utterance in utterances:
        times = [time for word in utterance.words for time in (word.start, word.end)]
        assert times == sorted(times) and all(0 <= time <= utterance.duration + 0.01 for time in times)
        latest = max([latest, *(time / utterance.duration for time in times)])
    assert latest > 0.5
    capsys.readouterr()
    assert main(["transcribe", "--exp-dir", str(exp), "--json", *(f"audio/test-{k}.wav" for k in range(5))]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        assert [(word["text"], word["start"], word["end"]) for word in line["words"]] == [
            (word.text, word.start, word.end) for word in words[Path(line["file"]).stem]]


def test_the_experiment_keeps_its_extractor() -> None:
    config, where = load_config(ExperimentConfig, Path("exp/units/config.yaml")).features, layout()
    own, stored = Units(config, where.own_extractor(config)), Units(config, where.extractor(config))
    assert own.identity == stored.identity
    samples = torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own.view(own(samples)).units_TQ, stored.view(stored(samples)).units_TQ)


def test_up_to_date_then_other_settings(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        compute_features("--config", "config.yaml")
    assert all("up to date" in record.message for record in caplog.records) and len(caplog.records) == 5
    caplog.clear()
    with caplog.at_level("INFO"):
        compute_features("--config", "config.yaml", "--set", "features.bpe=50")  # of the same extraction
    assert [record.message for record in caplog.records if "up to date" not in record.message][0].startswith("subwords bpe_50")


def test_quality(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dmel.yaml").write_text(yaml.safe_dump({**UNITS, "name": "dmel", "features": {
        "type": "units", "sample_rate": RATE, "extractor": {"type": "dmel", "num_mel_bins": 20}}}))
    compute_features("--config", "dmel.yaml", "--splits", "dev")
    ctm = [f"dev-{k} 1 {start} 0.1 {'ab'[start > 0.2]}\n" for k in range(5) for start in (0.0, 0.1, 0.3, 0.4)]
    Path("dev.ctm").write_text("".join(ctm))
    assert main(["unit-quality", "config.yaml", "dmel.yaml", "--ctm", "dev.ctm", "--utterances", "3"]) == 0
    assert "pnmi" in capsys.readouterr().out
    kmeans, dmel = json.loads(Path("data/unit_quality.json").read_text())
    assert kmeans["units"] == "units"
    assert (dmel["per second"], dmel["bits by vocabulary"]) == pytest.approx((100, 8000), rel=0.02)
    assert kmeans["per second"] < 100 and kmeans["bits by entropy"] < kmeans["bits by vocabulary"] < 600
    assert 0 < kmeans["pnmi"] <= 1 and 0.5 <= kmeans["purity"] <= 1
    assert 0 < kmeans["noise 20 dB"] < kmeans["noise 10 dB"]
    assert Path("data/unit_quality.png").stat().st_size > 1000


def test_epochs_are_measured_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(Path("config.yaml").read_text())
    features = {**values["features"], "deduplicate": False, "bpe": None}
    Path("frames.yaml").write_text(yaml.safe_dump({**values, "name": "frames", "features": features}))
    capsys.readouterr()
    assert main(["bench", "training", "frames.yaml", "config.yaml", "--data-dir", "data", "--steps", "2"]) == 0
    frames, subwords = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert (frames[0], frames[-1], subwords[0]) == ("frames", "1.00x", "units")
    assert float(frames[1]) == pytest.approx(100, rel=0.02) and float(subwords[1]) < 90


def test_other_units_than_the_model_s_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The same config, but clustered anew: whatever has the model's name on it is refused."""
    where = layout()
    path = where.extractor(where.config.features) / "codebooks.pt"
    content = path.read_bytes()
    tensors = load_tensors(path)
    save_tensors({**tensors, "codebooks": tensors["codebooks"].flip(1)}, path)
    try:
        with pytest.raises(ValueError, match="its units are of other weights than 'kmeans_30x1_fbank_20' has now"):
            Units(where.config.features, path.parent)(torch.zeros(RATE))
    finally:
        path.write_bytes(content)
    manifest = path.parent / "extractor.yaml"
    content = manifest.read_bytes()
    manifest.write_text(content.decode().replace("fingerprint: ", "fingerprint: 0"))
    try:
        assert main(["decode", "--exp-dir", "exp/units", "--splits", "test"]) == 2
        assert "was trained on other units than those of" in capsys.readouterr().err
        assert main(["train", "--config", "config.yaml", "--set", "train.epochs=2"]) == 2
        assert "extractors" in capsys.readouterr().err
    finally:
        manifest.write_bytes(content)
