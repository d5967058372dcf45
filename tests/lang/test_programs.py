"""Stages 3 to 5 on texts alone: the programs, their errors, and that what is up to date is left alone."""
from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

from asr.cli.program import program
from asr.lang import Lang
from asr.lm import read_arpa
from asr.tokens import load_tokenizer
from tests.conftest import ROOT

CONFIG = ROOT / "egs/yesno/conf/base.yaml"
TRAIN = ["YES NO YES", "NO NO YES NO", "YES", "NO YES YES"]


def run(name: str, *arguments: str | Path) -> int:
    spec = importlib.util.spec_from_file_location(name, ROOT / "local" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return program(module.add_arguments, module.run, module.__doc__, [str(argument) for argument in arguments])


class Recipe:
    def __init__(self, directory: Path, tokens: str) -> None:
        self.data = directory / "data"
        self.experiment = ["--config", CONFIG, "--data-dir", self.data, "--set", f"tokens={tokens}"]
        self.write("train", TRAIN)
        self.write("dev", ["NO YES", "YES YES YES"])

    def write(self, split: str, texts: list[str]) -> None:
        path = self.data / "manifests" / f"{split}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            for number, text in enumerate(texts):
                file.write(json.dumps({"id": f"{split}{number}", "duration": 1.0, "supervisions": [{"text": text}]}) + "\n")

    def stage(self, name: str, *more: str | Path) -> int:
        return run(name, *self.experiment, *more)


@pytest.mark.parametrize("tokens, name", [("{type: char}", "lang_char"), ("{type: bpe, vocab_size: 12}", "lang_bpe_12")])
def test_stages(tokens: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe(tmp_path, tokens)
    text = tmp_path / "lm.txt"
    text.write_text("\nNO NO NO\nSO NO\n")
    names = ["train_tokens", "prepare_lang", "train_ngram", "compile_graph"]
    for stage in names:
        assert recipe.stage(stage, *([] if stage == "compile_graph" else ["--text", text])) == 0
    lang = Lang(recipe.data / name)
    assert lang.vocabulary == ["NO", "SO", "YES"] and load_tokenizer(lang.directory).symbols == lang.tokens
    output = capsys.readouterr().out
    assert "words: perplexity" in output and "tokens: perplexity" in output and "2 sentences, 5 words, 0 of them unknown" in output
    assert set(read_arpa(lang.directory / "word.arpa").words) == {"<unk>", "<s>", "</s>", "NO", "SO", "YES"}
    assert set(lang.tokens[1:]) < set(read_arpa(lang.directory / "token.arpa").words)
    assert lang.fst("LG").num_arcs and lang.fst("HLG").num_arcs

    before = {path: path.stat().st_mtime_ns for path in lang.directory.iterdir()}
    for stage in names:
        assert recipe.stage(stage, *([] if stage == "compile_graph" else ["--text", text])) == 0
    assert before == {path: path.stat().st_mtime_ns for path in lang.directory.iterdir()}, "up to date: nothing is written"

    recipe.write("train", [*TRAIN, "ON"])
    for stage in names:
        assert recipe.stage(stage, *([] if stage == "compile_graph" else ["--text", text])) == 0
    assert lang.directory.name == name and Lang(lang.directory).vocabulary == ["NO", "ON", "SO", "YES"], "new transcripts: built again"


WORD_GRAMMARS = {  # of tokens, lang; the directory, its vocabulary
    "espeak": ("{type: phone, lexicon: null, espeak: en-us}", "{}", "lang_phone_en-us", ["NO", "SO", "YES"]),
    "reduced": ("{type: reduced, merge: {S: O}}", "{}", "lang_reduced_char", ["NO", "SO", "YES"]),
    "unknown": ("{type: char}", "{oov: skip, unknown: {output: symbol}}", "lang_char", ["NO", "SO", "YES"]),
    "segmentations": ("{type: bpe, vocab_size: 12}", "{segmentations: 3}", "lang_bpe_12", ["NO", "SO", "YES"]),
    "subwords": ("{type: char}", "{subwords: {suffixes: TEXT, min_stem: 1}}", "lang_char_subwords", ["NO", "SO", "YES", "‿NO", "‿SO"]),
}


@pytest.mark.parametrize("name", WORD_GRAMMARS)
def test_word_grammars(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens, settings, directory, vocabulary = WORD_GRAMMARS[name]
    recipe = Recipe(tmp_path, tokens)
    text = tmp_path / "lm.txt"
    recipe.experiment += ["--set", f"lang={settings.replace('TEXT', str(text))}"]
    text.write_text("NO NO NO\nSO NO\n")
    for stage in ("train_tokens", "prepare_lang", "train_ngram", "compile_graph"):
        assert recipe.stage(stage, *([] if stage == "compile_graph" else ["--text", text])) == 0, capsys.readouterr().err
    lang = Lang(recipe.data / directory)
    assert lang.vocabulary == vocabulary
    assert lang.fst("LG").num_arcs and lang.fst("HLG").num_arcs
    written = {path: path.stat().st_mtime_ns for path in lang.directory.iterdir()}
    assert recipe.stage("prepare_lang", "--text", text) == 0
    assert written == {path: path.stat().st_mtime_ns for path in lang.directory.iterdir()}, "up to date"
    words = read_arpa(lang.directory / "word.arpa").words
    assert set(words) == {"<unk>", "<s>", "</s>", *vocabulary}
    assert run("perplexity", *recipe.experiment, "word.arpa") == 0
    assert ("units of words: " if name == "subwords" else "word.arpa, words: ") in capsys.readouterr().out


def test_errors_are_one_line_and_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe(tmp_path, "{type: char}")

    def fails(stage: str, message: str, *more: str | Path) -> None:
        assert recipe.stage(stage, *more) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ") and "\n" not in error and message in error, error

    fails("prepare_lang", "run stage 3")
    fails("train_tokens", "12", "--set", "tokens={type: bpe, vocab_size: 1200}")
    fails("train_tokens", "none.txt: no such file", "--text", tmp_path / "none.txt")
    assert recipe.stage("train_tokens") == 0
    fails("train_ngram", "no such file")
    text = tmp_path / "lm.txt"
    text.write_text("YES QUIT\n")
    fails("prepare_lang", "cannot spell 1 words: QUIT", "--text", text)
    assert recipe.stage("prepare_lang") == 0
    fails("train_ngram", "1 words of the text are not in the vocabulary: QUIT", "--text", text)
    assert recipe.stage("train_ngram", "--text", text, "--set", "lang.oov=skip") == 0
    recipe.write("train", ["", " "])
    fails("train_tokens", "no text")
    (recipe.data / "lang_char" / "word.arpa").write_text("garbage")
    fails("compile_graph", "word.arpa:1: no '\\data\\' line")
