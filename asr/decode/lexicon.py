"""A lexicon and a word n-gram in any beam search: what composing L and G does for a graph search, done hypothesis by hypothesis.

Every word begins with a token that bears the boundary mark and only its first token does, so that the tokens tell where words end.
A hypothesis is at a node of the lexicon's prefix tree and in a state of the n-gram; a word is scored when it ends. Until then the
hypothesis has, in advance, the score of the likeliest word it may become, by itself: Ortmanns, Ney and Eiden, "Language-model
look-ahead for large vocabulary speech recognition", ICSLP 1996. Of words with the same tokens the one that the n-gram prefers is taken.
Shape legend: asr/types.py; C counts nodes, H words with the same tokens.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.decode.scorer import BaseScorerConfig, State
from asr.decode.search import Unavailable, need_lang
from asr.lm import NgramLm, StateTables, WordNgram, read_arpa
from asr.lm.ngram import UNK
from asr.tokens import BOUNDARY
from asr.types import BLANK, Hypothesis

NO_WORD = -1


class Lexicon:
    class Config(BaseScorerConfig):
        """ngram: over words, a file of the language directory; null for the lexicon alone.
        unknown: log-probability that a word out of the lexicon has besides ``<unk>``'s; null forbids such words."""

        type: Literal["lexicon"] = "lexicon"
        scale: float = Field(default=1.0, ge=0)
        ngram: str | None = "word.arpa"
        unknown: float | None = None

        def lang_files(self) -> tuple[str, ...]:
            return ("lexicon.txt",) if self.ngram is None else ("lexicon.txt", self.ngram)

    def __init__(self, config: "Lexicon.Config", tokenizer: Any, lang: Any, model: Any = None) -> None:
        self.config = config
        self.tokenizer = tokenizer
        lang = need_lang(lang, "the lexicon")
        self.words = list(lang.lexicon)
        begins_V = np.array([symbol.startswith(BOUNDARY) for symbol in tokenizer.symbols])
        self.begins_V = torch.from_numpy(begins_V)
        self.ngram: WordNgram | None = None
        known, log_probs, unknown = np.ones(len(self.words) + 1, dtype=bool), np.zeros(len(self.words)), config.unknown
        if config.ngram is not None:
            lm, self.ngram = _word_ngram(lang.directory / config.ngram, tuple(self.words))
            ids = np.array([lm.ids.get(word, lm.ids.get(UNK, NO_WORD)) for word in [*self.words, UNK]])
            known = ids != NO_WORD
            log_probs = lm.orders[0].log_prob[ids[:-1]] * math.log(10)
            if unknown is not None and known[-1]:
                unknown += float(lm.orders[0].log_prob[ids[-1]]) * math.log(10)
        self.known_W = torch.from_numpy(known)  # the last of them: a word out of the lexicon
        spellings = [(w, tokens) for w, word in enumerate(self.words) if known[w] for tokens in lang.lexicon[word]]
        self.tree = PrefixTree(spellings, log_probs, begins_V, unknown)
        self.words_CH = self.tree.words_CH

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        for name in ("begins_V", "known_W", "words_CH"):
            setattr(self, name, getattr(self, name).to(device))
        node_N = self.tree.start(n, device)
        return self._scored(node_N, torch.full_like(node_N, 0 if self.ngram is None else self.ngram.start))

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        node_N, history_N, _, after_N, _ = state
        return self._scored(self.tree.advance(node_N, tokens_N), torch.where(self.begins_V[tokens_N], after_N, history_N))

    def final(self, state: State) -> Tensor:
        node_N, _, word_score_N, after_N, _ = state
        end_N = self.tree.final(node_N) + word_score_N
        return end_N if self.ngram is None else end_N + torch.from_numpy(self.ngram.final(after_N.cpu().numpy())).to(end_N)

    def with_words(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """The same with words, those of the n-gram's choice where several have the same tokens, and the frames where they start."""
        if not hypotheses:
            return []
        sequences = [torch.tensor(h.tokens, dtype=torch.int64) for h in hypotheses]
        tokens_NU = pad_sequence(sequences, batch_first=True, padding_value=BLANK).to(self.begins_V.device)
        _, state = self.start(len(tokens_NU), tokens_NU.device)
        found = []  # per step, the words that end before it
        for u in range(tokens_NU.shape[1]):
            found.append(state[4].masked_fill(~self.begins_V[tokens_NU[:, u]], NO_WORD))
            _, state = self.step(tokens_NU[:, u], state)
        rows = torch.stack([*found, state[4]], dim=1).tolist()
        return [self._with_words(row, h) for row, h in zip(rows, hypotheses)]

    def _with_words(self, found: list[int], h: Hypothesis) -> Hypothesis:
        spans = self.tokenizer.word_spans(list(h.tokens))
        ends = [found[-1 if span.end == len(h.tokens) else span.end] for span in spans]
        words = tuple(span.word if word in (NO_WORD, len(self.words)) else self.words[word] for word, span in zip(ends, spans))
        return replace(h, words=words, word_frames=None if h.frames is None else tuple(h.frames[span.first] for span in spans))

    def _scored(self, node_N: Tensor, history_N: Tensor) -> tuple[Tensor, State]:
        word_score_N, after_N, word_N = self._ended(node_N, history_N)
        scores_NV = self.tree.scores(node_N) + word_score_N.unsqueeze(1) * self.begins_V
        return scores_NV, (node_N, history_N, word_score_N, after_N, word_N)

    def _ended(self, node_N: Tensor, history_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """If the word at a node ends there: its score, the n-gram's state after it, and which it is; 0 where no word can."""
        words_NH = self.words_CH[node_N]
        scores_NH = (self.config.unknown or 0.0) * (words_NH == len(self.words)).float()
        after_NH = history_N.unsqueeze(1).expand_as(words_NH)
        if self.ngram is not None:
            known_NH = (words_NH != NO_WORD) & self.known_W[words_NH]
            after, log_probs = self.ngram.advance(after_NH[known_NH].cpu().numpy(), words_NH[known_NH].cpu().numpy())
            after_NH = torch.zeros_like(words_NH).masked_scatter_(known_NH, torch.from_numpy(after).to(words_NH))
            scores_NH[known_NH] += torch.from_numpy(log_probs).to(scores_NH)
        best_N1 = scores_NH.masked_fill(words_NH == NO_WORD, -torch.inf).argmax(1, keepdim=True)
        word_N, score_N, after_N = (values_NH.gather(1, best_N1).squeeze(1) for values_NH in (words_NH, scores_NH, after_NH))
        no_word_N = word_N == NO_WORD
        return score_N.masked_fill(no_word_N, 0.0), torch.where(no_word_N, history_N, after_N), word_N


class PrefixTree(StateTables):
    """States are the nodes: 0 is the root, where only a hypothesis without tokens is. The last one, where words out of the lexicon
    are allowed, is where they are. Scores are those of the likeliest word to come, given in advance and taken back when it ends.

    words_CH: which words end at each node, NO_WORD beyond; the number of words stands for one out of the lexicon.
    """

    def __init__(
        self, spellings: Sequence[tuple[int, Sequence[int]]], log_probs: np.ndarray, begins_V: np.ndarray, unknown: float | None
    ) -> None:
        """spellings: words, by number, and their tokens. log_probs: of each word by itself. unknown: of one out of the lexicon."""
        self._begins_V = begins_V
        vocab_size, lowest = len(begins_V), -np.inf if unknown is None else unknown
        children: dict[int, int] = {}
        hoped = [0.0]
        ends: dict[int, list[int]] = {}
        for word, tokens in spellings:
            if not begins_V[tokens[0]] or begins_V[tokens[1:]].any():
                raise Unavailable(f"a lexicon scorer needs words whose first token, and no other, begins with '{BOUNDARY}'")
            node = 0
            for token in tokens:
                child = children.setdefault(node * vocab_size + token, len(hoped))
                if child == len(hoped):
                    hoped.append(lowest)
                hoped[child] = max(hoped[child], log_probs[word])
                node = child
            ends.setdefault(node, []).append(word)
        self._strange = len(hoped) if unknown is not None else None
        if unknown is not None:
            hoped.append(unknown)
        self._hoped = np.array(hoped)
        self.words_CH = torch.full((len(hoped), max(map(len, ends.values()), default=1)), NO_WORD)
        if unknown is not None:
            self.words_CH[1:, 0] = len(log_probs)
        for node, words in ends.items():
            self.words_CH[node, : len(words)] = torch.tensor(words)
        self._keys = np.array(sorted(children), dtype=np.int64)
        self._child = np.array([children[key] for key in self._keys.tolist()], dtype=np.int64)
        super().__init__(len(hoped), 0, vocab_size)

    def rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        vocab_size = len(self._begins_V)
        following = np.full((len(states), vocab_size), -1)
        for row, state in enumerate([0, *states.tolist()]):
            first, end = np.searchsorted(self._keys, [state * vocab_size, (state + 1) * vocab_size])
            tokens, nodes = self._keys[first:end] - state * vocab_size, self._child[first:end]
            if row == 0:
                following[:, tokens] = nodes
            elif state != 0:
                following[row - 1, tokens] = nodes
        ended = (self.words_CH[states, 0].numpy() != NO_WORD) | (states == 0)
        if self._strange is not None:
            following[following < 0] = self._strange
        allowed = (following >= 0) & (ended[:, None] | ~self._begins_V)
        following = np.maximum(following, 0)
        scores = np.where(allowed, self._hoped[following] - self._hoped[states, None], -np.inf)
        return scores, following, np.where(ended, -self._hoped[states], -np.inf)


def _word_ngram(path: Path, words: tuple[str, ...]) -> tuple[NgramLm, WordNgram]:
    return _read(path, path.stat().st_mtime_ns if path.exists() else 0, words)


@lru_cache(maxsize=1)
def _read(path: Path, modified: int, words: tuple[str, ...]) -> tuple[NgramLm, WordNgram]:
    """Read once for all the scales that are tried. modified: the file's time, so that a new file is read anew."""
    lm = read_arpa(path)
    return lm, WordNgram(lm, [*words, UNK])
