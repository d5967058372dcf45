"""'asr train' and 'asr info' on the real yesno recordings."""
from __future__ import annotations

import csv
import json
import logging
import math
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml

from asr.cli.main import main
from asr.config import load_config
from asr.data import evaluation_loader, prepare_corpus, read_cuts, read_transcripts, write_cuts, write_shar
from asr.experiment import ExperimentConfig, Layout, build_model, trained_model
from asr.losses import build_losses
from asr.tokens import load_tokenizer, train_tokenizer
from asr.train.checkpoints import CheckpointConfig, CheckpointStore, average_state
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


@pytest.mark.parametrize("values", [
    ["train.batches.copies=2", "losses.ctc={type: cr_ctc, prior_scale: 0.3}"],
    ["losses.ctc={type: ctc, repeat_penalty: 0.5, max_repeats: 2}", "model.joiner.blank=sigmoid", "losses.rnnt={type: pruned_rnnt}"],
    ["losses.ctc=null", "losses.rnnt={type: mwer, likelihood: {type: pruned_rnnt}}"],
], ids=lambda values: values[-1])
def test_each_loss_trains_and_resumes_exactly(arguments, tmp_path, values):
    settings = [argument for value in values for argument in ("--set", value)]
    for name, stops in (("whole", [4]), ("resumed", [2, 4])):
        for steps in stops:
            assert main([*arguments, str(tmp_path / name), *settings, "--set", f"train.max_steps={steps}"]) == 0
    newest = [CheckpointStore(tmp_path / name / "checkpoints", CheckpointConfig()).newest() for name in ("whole", "resumed")]
    for part in ("model", "losses"):
        for name, value in newest[0][part].items():
            assert torch.equal(value, newest[1][part][name]), name
    losses = [row["loss"] for row in read_rows(tmp_path / "whole" / "train.jsonl")]
    assert all(map(math.isfinite, losses)) and len(set(losses)) > 1


def test_consistency_needs_copies(arguments, tmp_path, capsys):
    assert main([*arguments, str(tmp_path), "--set", "losses.ctc={type: cr_ctc}"]) == 2
    assert "set train.batches.copies: 2" in capsys.readouterr().err


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


def test_terminated_training_exits_with_0_and_is_not_decoded_until_it_has_finished(arguments, tmp_path, capsys):
    more = ["--set", "train.epochs=40"]
    process = FORK.Process(target=exit_with_status, args=([*arguments, str(tmp_path), *more],))
    process.start()
    while process.is_alive() and len(read_rows(tmp_path / "train.jsonl")) < 4:
        time.sleep(0.002)
    process.terminate()
    process.join()
    assert process.exitcode == 0 and (tmp_path / "unfinished").exists() and not (tmp_path / "train_summary.json").exists()
    decode = ["decode", "--exp-dir", str(tmp_path), "--data-dir", arguments[4], "--splits", "dev"]
    assert main(decode) == 2
    assert "training has not come to its end" in capsys.readouterr().err
    assert main([*decode, "--partial"]) == 0
    assert main([*arguments, str(tmp_path)]) == 0
    assert not (tmp_path / "unfinished").exists() and main(decode) == 0


def exit_with_status(arguments: list[str]) -> None:
    raise SystemExit(main(arguments))


def test_more_epochs_go_on(exp_dir, arguments):
    assert main([*arguments, str(exp_dir), "--set", "train.epochs=4"]) == 0
    assert json.loads((exp_dir / "train_summary.json").read_text())["epochs"] == 4


def test_padding_is_told_every_epoch(arguments, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert main([*arguments, str(tmp_path), "--set", "train.epochs=2"]) == 0
    told = [message for message in caplog.messages if "| padding" in message and "utterances in" in message]
    assert [message.split(" |")[0] for message in told] == ["epoch 1/2", "epoch 2/2"]
    assert all("11 utterances" in message for message in told)


def test_the_batch_size_is_found_once_and_kept(arguments, tmp_path, caplog, capsys):
    auto = ["--set", "train.batches.max_duration=auto", "--set", "train.batches.max_utterances=3"]
    assert main([*arguments, str(tmp_path), *auto]) == 2
    assert "train.batches.memory_gb" in capsys.readouterr().err
    auto += ["--set", "train.batches.memory_gb=50"]
    with caplog.at_level(logging.INFO):
        assert main([*arguments, str(tmp_path), *auto, "--set", "train.epochs=1"]) == 0
    found = load_config(ExperimentConfig, tmp_path / "config.yaml").train.batches.max_duration
    longest = max(item.duration for item in read_transcripts(Path(arguments[4]) / "manifests/train.jsonl.gz") if item.text != "MAYBE 7")
    assert found == pytest.approx(3 * longest, abs=0.011) and "fit into 50.0 GB" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert main([*arguments, str(tmp_path), *auto, "--set", "train.epochs=2"]) == 0
        assert main(["train", "--exp-dir", str(tmp_path), "--data-dir", arguments[4], "--set", "train.epochs=3"]) == 0
    assert "fit into" not in caplog.text
    assert load_config(ExperimentConfig, tmp_path / "config.yaml").train.batches.max_duration == found
    assert json.loads((tmp_path / "train_summary.json").read_text())["epochs"] == 3


def test_training_from_shards(arguments, tmp_path, capsys):
    features = ExperimentConfig.model_validate(CONFIG).features
    write_shar(Path(arguments[4]) / "manifests/train.jsonl.gz", tmp_path / "shar", features, shard_size=4, seed=1, jobs=1)
    shards = ["--set", f"train.batches.shar={{dir: {tmp_path / 'shar'}, window: 2}}", "--set", "train.batches.cache=false"]
    assert main([*arguments, str(tmp_path / "whole"), *shards]) == 0
    assert main([*arguments, str(tmp_path / "stopped"), *shards, "--set", "train.max_steps=4"]) == 0
    assert main([*arguments, str(tmp_path / "stopped"), *shards]) == 0
    there, again = average_state(tmp_path / "whole", 0), average_state(tmp_path / "stopped", 0)
    assert all(torch.equal(value, again[name]) for name, value in there.items())
    assert len(read_rows(tmp_path / "whole" / "train.jsonl")) >= 12
    assert main(["outliers", "--exp-dir", str(tmp_path / "whole"), "--data-dir", arguments[4]]) == 0
    assert len(read_table(tmp_path / "whole" / "outliers.tsv")) == 11


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_outliers_are_the_highest_losses_per_token(exp_dir, arguments, capsys):
    """Against each utterance alone."""
    data_dir = Path(arguments[4])
    assert main(["outliers", "--exp-dir", str(exp_dir), "--data-dir", str(data_dir), "--count", "8"]) == 0
    listed = read_table(exp_dir / "outliers.tsv")
    assert list(listed[0]) == ["id", "loss_per_token", "duration", "tokens", "text", "heard"]
    config, tokenizer = load_config(ExperimentConfig, exp_dir / "config.yaml"), load_tokenizer(exp_dir / "tokens")
    model = build_model(config, tokenizer).eval()
    model.load_state_dict(average_state(exp_dir))
    losses = build_losses(config.losses, model).eval()
    expected = {}
    for batch in evaluation_loader(data_dir / "manifests/train.jsonl.gz", config.features, tokenizer, max_duration=0.1):
        if batch.texts != ("MAYBE 7",):
            with torch.no_grad():
                out = model.encode(batch.features_BTF, batch.feature_lens_B)
                expected[batch.ids[0]] = float(losses(out, batch.targets, model, 0).total_B) / int(batch.targets.lens_B)
    highest = sorted(expected, key=expected.__getitem__, reverse=True)[:8]
    assert [row["id"] for row in listed] == highest
    assert [float(row["loss_per_token"]) for row in listed] == pytest.approx([expected[id] for id in highest], rel=1e-3)
    assert all(set(row["text"].split()) == {"NO", "YES"} for row in listed)
    assert f"loss per token of {len(expected)} utterances" in capsys.readouterr().out
    assert main(["outliers", "--exp-dir", str(exp_dir), "--split", "nothing"]) == 2
    assert "it has dev, train" in capsys.readouterr().err


def test_a_tuned_experiment_decodes_with_its_base_until_it_is_merged(arguments, exp_dir, tmp_path, capsys):
    base, tuned, merged = tmp_path / "base", tmp_path / "tuned", tmp_path / "merged"
    shutil.copytree(exp_dir, base)
    settings = ["--set", f"train.init_from={base}", "--set", "train.tune={type: lora, rank: 2, full: [ctc]}", "--set", "train.epochs=1"]
    assert main([*arguments, str(tuned), *settings]) == 0
    assert main([*arguments, str(tuned), *settings, "--set", "train.epochs=2"]) == 0  # resumed
    config = load_config(ExperimentConfig, tuned / "config.yaml")
    tokenizer = load_tokenizer(tuned / "tokens")
    model = trained_model(config, tuned, tokenizer).eval()
    sizes = [(path / "checkpoints" / "epoch-2.pt").stat().st_size for path in (tuned, base)]
    assert sizes[0] < sizes[1]
    frozen, own = average_state(base), model.state_dict()
    assert frozen.keys() == own.keys()
    assert torch.equal(frozen["predictor.embedding.weight"], own["predictor.embedding.weight"])
    assert not torch.equal(frozen["encoder.layers.0.attention.output.weight"], own["encoder.layers.0.attention.output.weight"])
    assert main(["merge", "--exp-dir", str(tuned), "--out", str(merged)]) == 0
    whole = trained_model(load_config(ExperimentConfig, merged / "config.yaml"), merged, tokenizer).eval()
    features, lens = torch.randn(2, 90, 20), torch.tensor([90, 70])
    assert torch.equal(whole.encode(features, lens).frames_BSD, model.encode(features, lens).frames_BSD)

    again = ["--set", f"train.init_from={merged}", "--set", "train.epochs=4", "--set", "train.tune=null", "--resume", "never"]
    assert main([*arguments, str(base), *again]) == 0  # other weights where the tuned ones were taken from
    capsys.readouterr()
    assert main(["outliers", "--exp-dir", str(tuned), "--data-dir", arguments[4]]) == 2
    assert "tune them anew" in capsys.readouterr().err


def test_what_the_base_does_not_have_is_to_be_trained(arguments, exp_dir, tmp_path, capsys):
    other = ["--set", f"train.init_from={exp_dir}", "--set", "model.ctc=null", "--set", "losses.ctc=null"]
    frozen = [*other, "--set", "model.joiner.dim=16", "--set", "train.tune={type: adapters}"]
    assert main([*arguments, str(tmp_path), *frozen]) == 2
    assert "add joiner.encoder_proj, joiner.output_linear, joiner.predictor_proj to train.tune.full" in capsys.readouterr().err
