"""Decoding graphs: the grammar G from an n-gram, and its compositions with the lexicon (LG) and the CTC topology (HLG).

L and G are composed and determinised by k2, or by OpenFst, which also minimises. Mohri, Pereira and Riley, 2008, sections 4 and 5.
"""
from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from asr import fsa
from asr.lang import openfst
from asr.lang.fst import FINAL, Acceptor, Fst
from asr.lang.lang import Engine, Lang, LangConfig
from asr.lang.lexicon import SPELLED, WORD_DISAMBIG
from asr.lang.operations import compose_ctc, expand, remove_epsilon, unconnected, without_symbols
from asr.lm.automaton import automaton
from asr.lm.ngram import BOS, EOS, UNK, NgramLm
from asr.tokens import BOUNDARY

log = logging.getLogger(__name__)

BYTES_PER_ARC = 160
"""Measured peak of composing and determinising, per arc of the result."""
HLG_ARCS_PER_LG_ARC = 2.2
"""Measured, of either topology."""
TOLERANCE = 0.02
"""Natural log, per sentence: what float32 arithmetic over a path may lose."""


def grammar(lm: NgramLm, word_ids: dict[str, int]) -> Fst:
    """G as an acceptor of word ids with ``#0`` on its back-off arcs. Words that are not in ``word_ids`` are left out.

    Raises ValueError where hardly a word is left, and where unknown words are wanted of an n-gram without ``<unk>``.
    """
    words = [word for word in lm.words if word not in (UNK, BOS, EOS)]
    strangers = [word for word in words if word not in word_ids]
    if len(strangers) > len(words) / 2:
        raise ValueError(f"the n-gram and words.txt have hardly a word in common ({', '.join(strangers[:5])} ... are not in words.txt)")
    if strangers:
        log.warning("%d words of the n-gram are not in words.txt and are left out: %s ...", len(strangers), ", ".join(strangers[:5]))
    unknown = word_ids.get(SPELLED, word_ids.get(UNK, -1))
    if unknown >= 0 and UNK not in lm.ids:
        raise ValueError(f"lang.unknown: the n-gram has no {UNK}, and with it no place for unknown words; set lang.unknown=null")
    graph = automaton(lm)
    ids = np.array([unknown if word == UNK else word_ids.get(word, -1) for word in lm.words])
    ids[lm.ids[EOS]] = FINAL
    label = np.where(graph.word == lm.ids[EOS], FINAL, ids[graph.word])
    kept = (ids[graph.word] >= 0) | (graph.word == lm.ids[EOS])
    following = np.where(label == FINAL, graph.num_states, graph.following)
    backing = np.arange(1, graph.num_states)
    # k2 wants the start in state 0: the state after <s> and the empty history change places.
    number = np.arange(graph.num_states + 1)
    number[[0, graph.start]] = graph.start, 0
    source = number[np.concatenate([graph.state[kept], backing])]
    destination = number[np.concatenate([following[kept], graph.backoff[1:]])]
    labels = np.concatenate([label[kept], np.full(len(backing), word_ids[WORD_DISAMBIG])])
    scores = np.concatenate([graph.log_prob[kept], graph.weight[1:]]) * math.log(10)
    return Fst.from_arcs(np.stack([source, destination, labels, labels], axis=1), scores)


def forecast(lang: Lang, g: Fst, config: LangConfig) -> int:
    """About how many arcs HLG will have: counted, short of minimisation, up to LG, and ``HLG_ARCS_PER_LG_ARC`` from there.

    LG has, for each state of G, the tree of its words' tokens, and the first tokens of all states it backs off to.
    Raises ValueError with the fix where composing would take more memory than ``config.memory_limit`` or what is available.
    """
    node_N, first_N, word_N = _tree(lang)
    source, destination, label = g.arcs_A3.numpy().T.astype(np.int64)
    begin_W = np.searchsorted(word_N, np.arange(len(lang.words) + 1))
    word = (label > 0) & (label != lang.word_ids[WORD_DISAMBIG])
    row, place = expand((begin_W[1:] - begin_W[:-1])[label[word]])
    entry = begin_W[label[word]][row] + place
    states, nodes = source[word][row], node_N[entry]
    tree_S, first_S = (
        np.bincount(np.unique(states[chosen] * (len(node_N) + 1) + nodes[chosen]) // (len(node_N) + 1), minlength=g.num_states)
        for chosen in (np.ones(len(entry), dtype=bool), first_N[entry])
    )
    back = np.flatnonzero(label == lang.word_ids[WORD_DISAMBIG])
    below_S = np.full(g.num_states, -1)
    below_S[source[back]] = destination[back]
    lg_arcs, reached = int(tree_S.sum()), below_S[source[back]]
    while len(reached):
        lg_arcs += int(first_S[reached].sum())
        reached = below_S[reached]
        reached = reached[reached >= 0]
    arcs = round(lg_arcs * HLG_ARCS_PER_LG_ARC)
    needed = arcs * BYTES_PER_ARC / 2**30
    limit = config.memory_limit or available_memory() / 2**30
    log.info("LG will have about %d arcs, HLG %d; composing them takes about %.2f GiB", lg_arcs, arcs, needed)
    if needed > limit:
        raise ValueError(
            f"composing HLG would take about {needed:.1f} GiB of memory, and {limit:.1f} may be used: take fewer n-grams "
            "(a lower ngram.order); or set lang.graph_order=1, and ngram.on_the_fly in the ctc_graph searches, which compose as they go"
        )
    return arcs


def _tree(lang: Lang) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens of all words as a tree, by word: (number of each node on the word's paths, whether it is a first token, the word's id)."""
    number: dict[tuple[int, int], int] = {}
    rows: list[tuple[int, bool, int]] = []
    for word, variants in lang.lexicon.items():
        for tokens in variants:
            node = 0
            for place, token in enumerate(tokens):
                node = number.setdefault((node, token), len(number) + 1)
                rows.append((node, place == 0, lang.word_ids[word]))
    if lang.unknown is not None:
        rows += [(len(number) + 1 + t, symbol.startswith(BOUNDARY), lang.unknown) for t, symbol in enumerate(lang.tokens)]
    node_N, first_N, word_N = np.array(rows, dtype=np.int64).T
    order = np.argsort(word_N, kind="stable")
    return node_N[order], first_N[order].astype(bool), word_N[order]


def available_memory() -> int:
    """Bytes that programs may take without swapping."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))


def compose_lg(lexicon: Fst, g: Fst, vocab_size: int, num_words: int, engine: Engine = "auto") -> Fst:
    """LG: tokens in, words out, no epsilons, arcs sorted by label. The engines' graphs differ in states, never in the best paths.

    lexicon: L with disambiguation symbols, whose token ids are ``vocab_size`` and up; word ids ``num_words`` and up are disambiguation.
    """
    lg = ENGINES[engine_for(engine)](lexicon, g)
    if lg.num_arcs == 0:
        raise ValueError("LG is empty: no sentence of the n-gram can be spelled by the lexicon")
    return remove_epsilon(without_symbols(lg, vocab_size, num_words))


def _compose_lg_k2(lexicon: Fst, g: Fst) -> Fst:
    """L composed with G and determinised."""
    k2 = fsa.k2("composing LG by engine k2")
    grammar_fsa = k2.arc_sort(g.to_k2())
    del grammar_fsa.aux_labels
    lg = k2.connect(k2.compose(k2.arc_sort(lexicon.to_k2()), grammar_fsa))
    return Fst.from_k2(k2.connect(k2.determinize(lg, k2.DeterminizeWeightPushingType.kLogWeightPushing)))


ENGINES = {"k2": _compose_lg_k2, "openfst": openfst.compose_lg}


def engine_for(engine: Engine) -> Literal["k2", "openfst"]:
    """What ``auto`` stands for here: k2 where it is installed."""
    if engine == "auto":
        return "k2" if fsa.available() else "openfst"
    return engine


def check_lg(lg: Fst, lang: Lang, lm: NgramLm, texts: Sequence[str]) -> int:
    """Checks LG against the n-gram: it has no epsilons, every state lies on a path from start to end, and each text whose words are all
    known is accepted with at least the n-gram's log-probability (a back-off path, or another word of the same spelling, may beat it).

    Returns the number of texts that were looked up. Raises ValueError with the text that fails.
    """
    if bool((lg.arcs_A3[:, 2] == 0).any()):
        raise ValueError("LG has arcs without a token: the disambiguation symbols could not be removed")
    check_connected(lg)
    acceptor = Acceptor(lg)
    known = [words for words in map(lang.split, texts) if all(word in lang.lexicon and word in lm.ids for word in words)]
    for words, scores in zip(known, lm.score(known)):
        match = acceptor.match(lang.spell(words))
        expected = float(scores.sum()) * math.log(10)
        if match is None or match.score < expected - TOLERANCE:
            found = "is not accepted" if match is None else f"scores {match.score:.3f}"
            raise ValueError(f"LG is wrong: the text '{' '.join(words)}' {found}, the n-gram says {expected:.3f}")
    return len(known)


def check_hlg(hlg: Fst, lang: Lang, texts: Sequence[str]) -> None:
    """Checks that HLG is connected and accepts each text of known words as CTC spells it, a blank after every token."""
    check_connected(hlg)
    acceptor = Acceptor(hlg)
    for text in texts:
        words = lang.split(text)
        if all(word in lang.lexicon for word in words):
            labels = [label for token in lang.spell(words) for label in (token, 0)]
            if acceptor.match(labels) is None:
                raise ValueError(f"HLG is wrong: the text '{text}' is not accepted")


def check_connected(graph: Fst) -> None:
    """Every state is reached from the start and reaches the end."""
    if useless := int(unconnected(graph).sum()):
        raise ValueError(f"the graph is not connected: {useless} of its {graph.num_states} states lie on no path")


def compile_graphs(lang: Lang, lm: NgramLm, config: LangConfig, texts: Sequence[str]) -> None:
    """Writes LG.pt and HLG.pt into the language directory, each only after it passed its check with ``texts``.

    Raises ValueError, before composing anything, where the forecast exceeds the memory.
    """
    vocab_size, num_words = len(lang.tokens), len(lang.words) - 1
    lm = NgramLm(lm.words, lm.orders[: config.graph_order])
    g = grammar(lm, lang.word_ids)
    log.info("L: %s; G: %s", lang.fst("L_disambig"), g)
    forecast(lang, g, config)
    lg = compose_lg(lang.fst("L_disambig"), g, vocab_size, num_words, config.engine)
    looked_up = check_lg(lg, lang, lm, texts)
    log.info("LG: %s; %d of %d texts looked up, all accepted with the n-gram's score", lg, looked_up, len(texts))
    lg.save(lang.directory / "LG.pt")
    hlg = compose_ctc(lg, modified=config.topology == "modified")
    check_hlg(hlg, lang, texts)
    hlg.save(lang.directory / "HLG.pt")
