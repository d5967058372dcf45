"""'asr train-lm' and local/perplexity.py: the trainer on text, resumed to the bit, and a model that searches can use."""
from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from lhotse import MonoCut, SupervisionSegment

from asr.cli.main import main
from asr.data import write_cuts
from asr.lm import estimate, write_arpa
from asr.lm.neural import load_lm
from asr.tokens import load_tokenizer, train_tokenizer
from asr.tokens.char import CharTokenizer
from asr.train.checkpoints import average_state
from asr.train.progress import read_rows
from asr.train.text import LmConfig, TextBatches
from local import perplexity as program

TRAIN = {"epochs": 3, "log_interval": 1, "threads": 1, "device": "cpu", "average_period": 1, "optimizer": {"lr": 0.02},
         "schedule": {"warmup_steps": 0}, "checkpoints": {"every_steps": 2}}
CONFIG = {
    "name": "tiny",
    "corpus": {"source": {"type": "table"}, "splits": {"train": "train", "dev": "dev", "test": "test"}, "text": {"case": "lower"}},
    "tokens": {"type": "char"},
    "model": {"encoder": {"type": "conformer"}, "predictor": {"type": "stateless"}},
    "losses": {"rnnt": {"type": "rnnt"}},
    "lms": {
        "rnn_lm": {"model": {"type": "lstm", "dim": 16, "dropout": 0.1}, "batch_tokens": 200, "train": TRAIN},
        "transformer_lm": {"model": {"type": "transformer", "dim": 16, "layers": 1, "heads": 2, "feedforward": 16},
                           "transcripts": False, "batch_tokens": 200, "train": TRAIN},
    },
}


def texts(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(["yes", "no", "maybe"], [5, 3, 1], k=dice.randint(1, 5))) for _ in range(count)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("lm")
    (root / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    for split, sentences in (("train", texts(40, 1)), ("dev", texts(20, 2))):
        cuts = [MonoCut(f"{split}-{i}", 0.0, 1.0, 0, supervisions=[SupervisionSegment(f"{split}-{i}", f"{split}-{i}", 0.0, 1.0, text=text)])
                for i, text in enumerate(sentences)]
        write_cuts(root / "data/manifests" / f"{split}.jsonl.gz", cuts)
    tokenizer = train_tokenizer(CharTokenizer.Config(), texts(40, 1))
    tokenizer.save(root / "data/lang_char")
    (root / "more.txt").write_text("\n".join(text.upper() for text in texts(60, 3)))
    return root


def train_lm(root: Path, *arguments: str) -> int:
    files = ["--config", str(root / "config.yaml"), "--data-dir", str(root / "data"), "--text", str(root / "more.txt")]
    return main(["train-lm", *files, *arguments])


@pytest.fixture(scope="module")
def trained(prepared) -> Path:
    assert train_lm(prepared) == 0
    return prepared


@pytest.mark.parametrize("name", CONFIG["lms"])
def test_a_model_is_an_experiment_in_the_language_directory(trained, name, capsys):
    directory, tokenizer = trained / "data/lang_char" / name, load_tokenizer(trained / "data/lang_char")
    rows = read_rows(directory / "train.jsonl")
    assert rows[-1]["kind"] == "validation" and rows[-1]["loss"] < 0.7 * math.log(tokenizer.vocab_size)
    assert all(row["speed"] > 0 for row in rows if row["kind"] == "train"), "in tokens a second, for text lasts no time"
    assert json.loads((directory / "train_summary.json").read_text())["epochs"] == 3
    assert {"checkpoints", "tensorboard", "config.yaml"} <= {path.name for path in directory.iterdir()}
    state = average_state(directory)
    assert all(torch.equal(value, state[key]) for key, value in load_lm(directory / "lm.pt", tokenizer.symbols).state_dict().items())


def test_done_is_done_and_a_lost_file_comes_back(trained, capsys):
    file = trained / "data/lang_char/rnn_lm/lm.pt"
    before = file.read_bytes()
    file.unlink()
    assert train_lm(trained, "--lms", "rnn_lm") == 0
    assert file.read_bytes() == before
    assert "rnn_lm, tokens: perplexity" in capsys.readouterr().out


def test_resumed_equals_uninterrupted_to_the_bit(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "again")
    root = tmp_path / "again"
    shutil.rmtree(root / "data/lang_char/rnn_lm")
    for steps in ("3", "4", "null"):  # in the middle of an epoch, one step on, to the end
        assert train_lm(root, "--lms", "rnn_lm", "--set", f"lms.rnn_lm.train.max_steps={steps}",
                        "--set", "lms.rnn_lm.train.schedule={type: constant}") == 0
    assert train_lm(trained, "--lms", "rnn_lm", "--resume", "never", "--set", "lms.rnn_lm.train.schedule={type: constant}") == 0
    symbols = load_tokenizer(trained / "data/lang_char").symbols
    here, there = (load_lm(path / "data/lang_char/rnn_lm/lm.pt", symbols).state_dict() for path in (root, trained))
    assert all(torch.equal(value, there[name]) for name, value in here.items())


def test_other_text_is_refused_until_asked_for(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "other")
    (tmp_path / "other/more.txt").write_text("no no no")
    assert train_lm(tmp_path / "other", "--lms", "transformer_lm") == 2
    assert "trained with another config:\n  text: " in capsys.readouterr().err
    assert train_lm(tmp_path / "other", "--lms", "transformer_lm", "--resume", "never") == 0


def test_refusals(trained, capsys):
    assert train_lm(trained, "--lms", "gpt") == 2
    assert "'gpt' is not one of the config's lms: rnn_lm, transformer_lm" in capsys.readouterr().err
    with pytest.raises(ValueError, match="batch_tokens"):
        LmConfig.model_validate({"train": {"batches": {"max_duration": 10}}})


def test_perplexity_of_any_model(trained, capsys, tmp_path):
    tokenizer, dev = load_tokenizer(trained / "data/lang_char"), texts(20, 2)
    arguments = ["--config", str(trained / "config.yaml"), "--data-dir", str(trained / "data")]
    write_arpa(estimate([text.split() for text in texts(40, 1)], 2), trained / "data/lang_char/word.arpa")
    write_arpa(estimate([[tokenizer.symbols[t] for t in tokenizer.encode(text)] for text in texts(40, 1)], 3, tokenizer.symbols[1:]),
               tmp_path / "token.arpa")
    assert program.program(program.add_arguments, program.run, None, [*arguments, "word.arpa", str(tmp_path / "token.arpa"), "rnn_lm"]) == 0
    word, token, neural = capsys.readouterr().out.splitlines()
    words, tokens = sum(len(text.split()) for text in dev), sum(len(tokenizer.encode(text)) for text in dev)
    assert word.startswith("word.arpa, words: perplexity ") and f"(20 sentences, {words} words" in word
    assert token.endswith(f"(20 sentences, {tokens} words, 0 of them unknown)") and "token.arpa, tokens: " in token
    assert neural.startswith("rnn_lm, tokens: perplexity ") and f"{tokens} words" in neural


def test_batches_of_text_are_all_of_it_in_an_order_of_the_epoch():
    sentences = [[1] * n for n in [3, 0, 7, 7, 2, 30, 1, 1, 4]]
    epochs = [list(TextBatches(sentences, 16, seed=1, epoch=epoch)) for epoch in (0, 0, 1)]
    ids = [[batch.ids for batch in epoch] for epoch in epochs]
    assert ids[0] == ids[1] != ids[2]
    for epoch in epochs:
        assert sorted(id for batch in epoch for id in batch.ids) == [f"sentence {n}" for n in range(1, 10)]
        assert all(len(batch) == 1 or batch.features_BTF.shape[:2].numel() <= 16 for batch in epoch)
    assert [b.ids for b in TextBatches(sentences, 16, seed=1, epoch=0, skip=2)] == ids[0][2:]
