"""'asr train' and 'asr info' on the real yesno recordings."""
from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
import yaml

from asr.cli.main import main
from asr.config import load_config
from asr.data import prepare_corpus, read_cuts, read_transcripts, write_cuts
from asr.experiment import ExperimentConfig, Layout
from asr.tokens import load_tokenizer, train_tokenizer
from asr.train.checkpoints import average_state
from asr.train.progress import read_rows

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["asr.cli.train", "torch.utils.tensorboard", *(["torch._dynamo"] if torch.__version__ >= "2" else [])])

CONFIG = {
    "name": "tiny",
    "corpus": {
        "source": {"type": "lhotse", "recipe": "yesno"},
        "splits": {"train": {"from": ["train", "test"], "range": [0, 12]}, "dev": {"from": ["train", "test"], "range": [12, 14]}},
        "sample_rate": 8000,
    },
    "features": {"num_mel_bins": 20, "sample_rate": 8000, "stored": False},
    "tokens": {"type": "char"},
    "model": {
        "encoder": {
            "type": "conformer", "dim": 16, "layers": 1, "heads": 2, "feedforward": 16, "kernel": 3, "subsampling": {"channels": 4},
        },
        "predictor": {"type": "stateless", "dim": 8}, "joiner": {"dim": 8}, "ctc": {},
    },
    "losses": {"rnnt": {"type": "rnnt"}, "ctc": {"type": "ctc", "weight": 0.2}},
    "train": {
        "optimizer": {"type": "scaled_adam"}, "epochs": 3, "log_interval": 1, "threads": 1, "device": "cpu", "average_period": 1,
        "checkpoints": {"every_steps": 2}, "batches": {"max_duration": 20, "num_buckets": 2, "workers": 0, "cache": True},
    },
}


@pytest.fixture(scope="module")
def arguments(shared, tmp_path_factory) -> list[str]:
    """Arguments of an experiment whose manifests and tokens are ready; one training transcript has an unknown character."""
    root = tmp_path_factory.mktemp("yesno")
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    config = load_config(ExperimentConfig, path)
    layout = Layout(config, root / "data", root / "exp")
    prepare_corpus(config.corpus, shared / "corpora" / "yesno", layout.manifests)
    tokenizer = train_tokenizer(config.tokens, [item.text for item in read_transcripts(layout.cuts("train"))])
    tokenizer.save(layout.lang)
    cuts = read_cuts(layout.cuts("train"))
    cuts[3].supervisions[0].text = "MAYBE 7"
    write_cuts(layout.cuts("train"), cuts)
    return ["train", "--config", str(path), "--data-dir", str(layout.data), "--exp-dir"]


@pytest.fixture(scope="module")
def exp_dir(arguments, tmp_path_factory) -> Path:
    exp_dir = tmp_path_factory.mktemp("trained")
    assert main([*arguments, str(exp_dir)]) == 0
    return exp_dir


def test_what_a_run_leaves_is_enough_to_decode_from(exp_dir):
    config = load_config(ExperimentConfig, exp_dir / "config.yaml")
    assert config.model_dump()["train"]["epochs"] == 3
    assert load_tokenizer(exp_dir / "tokens").vocab_size > 4
    from asr.experiment import build_model

    build_model(config, load_tokenizer(exp_dir / "tokens")).load_state_dict(average_state(exp_dir))
    rows = read_rows(exp_dir / "train.jsonl")
    assert rows[-1]["kind"] == "validation" and {"rnnt", "ctc"} <= rows[-1]["parts"].keys()
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert json.loads((exp_dir / "train_summary.json").read_text())["epochs"] == 3


def test_an_utterance_with_unknown_characters_is_left_out_by_id(exp_dir, arguments):
    reported = [json.loads(line) for line in (exp_dir / "problems.jsonl").read_text().splitlines()]
    assert len(reported) == 1 and "unknown characters" in reported[0]["problem"] and "MAYBE 7" in reported[0]["problem"]


def test_a_finished_run_is_up_to_date_and_another_config_is_refused(exp_dir, arguments, caplog, capsys):
    before = (exp_dir / "config.yaml").read_text()
    with caplog.at_level("INFO"):
        assert main([*arguments, str(exp_dir)]) == 0
    assert "up to date" in caplog.text
    assert main([*arguments, str(exp_dir), "--set", "train.optimizer.lr=1"]) == 2
    assert "train.optimizer.lr: 0.045 there, 1.0 now" in capsys.readouterr().err
    assert (exp_dir / "config.yaml").read_text() == before


def test_a_token_and_duration_transducer_learns(arguments, tmp_path, capsys):
    values = ["losses.rnnt=null", "losses.tdt={type: pruned_tdt}", "model.joiner.durations=[0, 1, 2, 3, 4]", "train.epochs=12",
              "train.checkpoints.every_steps=50"]
    settings = [argument for value in values for argument in ("--set", value)]
    assert main([*arguments, str(tmp_path), *settings]) == 0
    steps = [row["parts"]["tdt_simple"] for row in read_rows(tmp_path / "train.jsonl") if row["kind"] == "validation"]
    assert len(steps) == 12 and steps[-1] < 0.8 * steps[0]
    assert main([*arguments, str(tmp_path / "other"), "--set", "model.joiner.durations=[0, 1]"]) == 2
    assert "rnnt is for models without durations" in capsys.readouterr().err


def test_info_tells_it_and_draws_it(exp_dir, capsys):
    assert main(["info", str(exp_dir)]) == 0
    told = capsys.readouterr().out
    assert "conformer" in told and "validation loss" in told and "parameters" in told
    assert (exp_dir / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_info_without_an_experiment(tmp_path, capsys):
    assert main(["info", str(tmp_path)]) == 2
    assert "asr train" in capsys.readouterr().err


def test_killed_and_run_again_it_ends_with_the_same_weights(exp_dir, arguments, tmp_path):
    process = FORK.Process(target=main, args=([*arguments, str(tmp_path)],))
    process.start()
    while process.is_alive() and len(read_rows(tmp_path / "train.jsonl")) < 6:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not (tmp_path / "train_summary.json").exists()
    assert main([*arguments, str(tmp_path)]) == 0
    expected = average_state(exp_dir, 0)
    for name, value in average_state(tmp_path, 0).items():
        assert torch.equal(value, expected[name]), name


def test_more_epochs_go_on(exp_dir, arguments):
    assert main([*arguments, str(exp_dir), "--set", "train.epochs=4"]) == 0
    assert json.loads((exp_dir / "train_summary.json").read_text())["epochs"] == 4
