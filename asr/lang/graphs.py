"""Decoding graphs: the grammar G from an n-gram, and its compositions with the lexicon (LG) and the CTC topology (HLG).

Composition is k2's; everything else works without it. Mohri, Pereira and Riley, 2008, sections 4 and 5.
"""
from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence

import numpy as np

from asr import fsa
from asr.lang.fst import FINAL, Acceptor, Fst
from asr.lang.lang import Lang, Topology
from asr.lang.lexicon import WORD_DISAMBIG
from asr.lm.automaton import automaton
from asr.lm.ngram import BOS, EOS, UNK, NgramLm

log = logging.getLogger(__name__)

BYTES_PER_ARC = 160
"""Measured peak of composing and determinising, per arc of the result."""
HLG_ARCS_PER_LG_ARC = 4
"""With the standard topology; about two with the modified one."""
TOLERANCE = 0.02
"""Natural log, per sentence: what float32 arithmetic over a path may lose."""


def grammar(lm: NgramLm, word_ids: dict[str, int]) -> Fst:
    """G as an acceptor of word ids with ``#0`` on its back-off arcs. Words that are not in ``word_ids`` (such as ``<unk>``) are left out.

    Raises ValueError where hardly a word is left.
    """
    words = [word for word in lm.words if word not in (UNK, BOS, EOS)]
    strangers = [word for word in words if word not in word_ids]
    if len(strangers) > len(words) / 2:
        raise ValueError(f"the n-gram and words.txt have hardly a word in common ({', '.join(strangers[:5])} ... are not in words.txt)")
    if strangers:
        log.warning("%d words of the n-gram are not in words.txt and are left out: %s ...", len(strangers), ", ".join(strangers[:5]))
    graph = automaton(lm)
    ids = np.array([word_ids.get(word, -1) for word in lm.words])
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


def forecast(lang: Lang, g: Fst) -> None:
    """Says about how large LG and HLG will become, and warns where memory may not suffice."""
    tokens = {lang.word_ids[word]: min(map(len, variants)) for word, variants in lang.lexicon.items()}
    arcs = sum(tokens.get(word, 1) for word in g.arcs_A3[:, 2].tolist())
    needed = HLG_ARCS_PER_LG_ARC * arcs * BYTES_PER_ARC
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    log.info("LG will have about %d arcs, HLG %d; composing them takes about %.0f MB", arcs, HLG_ARCS_PER_LG_ARC * arcs, needed / 2**20)
    if needed > free:
        log.warning("that is more than the %.0f MB of free memory: prune the n-gram (a lower ngram.order), or set lang.topology=modified",
                    free / 2**20)


def compose_lg(lexicon: Fst, g: Fst, vocab_size: int, num_words: int) -> Fst:
    """LG: tokens in, words out, no epsilons, arcs sorted by label.

    lexicon: L with disambiguation symbols, whose token ids are ``vocab_size`` and up; word ids ``num_words`` and up are disambiguation.
    """
    k2 = fsa.k2("composing LG")
    grammar_fsa = k2.arc_sort(g.to_k2())
    del grammar_fsa.aux_labels
    lg = k2.connect(k2.compose(k2.arc_sort(lexicon.to_k2()), grammar_fsa))
    if lg.num_arcs == 0:
        raise ValueError("LG is empty: no sentence of the n-gram can be spelled by the lexicon")
    lg = k2.connect(k2.determinize(lg, k2.DeterminizeWeightPushingType.kLogWeightPushing))
    marked = Fst.from_k2(lg)
    marked.arcs_A3[:, 2].masked_fill_(marked.arcs_A3[:, 2] >= vocab_size, 0)
    marked.outputs.masked_fill_(marked.outputs >= num_words, 0)
    lg = k2.connect(k2.remove_epsilon(marked.to_k2()))
    return Fst.from_k2(k2.arc_sort(lg))


def compose_hlg(lg: Fst, vocab_size: int, modified: bool) -> Fst:
    """HLG: CTC frame labels in (0 is blank), words out. Graves et al., "Connectionist temporal classification", 2006.

    modified: the smaller topology that accepts equal tokens in a row without a blank between them.
    """
    k2 = fsa.k2("composing HLG")
    topology = k2.ctc_topo(vocab_size - 1, modified=modified)
    return Fst.from_k2(k2.arc_sort(k2.connect(k2.compose(topology, lg.to_k2(), inner_labels="tokens"))))


def check_lg(lg: Fst, lang: Lang, lm: NgramLm, texts: Sequence[str]) -> int:
    """Checks LG against the n-gram: it has no epsilons, every state lies on a path from start to end, and each text whose words are all
    known is accepted with at least the n-gram's log-probability (a back-off path, or another word of the same spelling, may beat it).

    Returns the number of texts that were looked up. Raises ValueError with the text that fails.
    """
    if bool((lg.arcs_A3[:, 2] == 0).any()):
        raise ValueError("LG has arcs without a token: the disambiguation symbols could not be removed")
    check_connected(lg)
    acceptor = Acceptor(lg)
    known = [text.split() for text in texts if all(word in lang.lexicon and word in lm.ids for word in text.split())]
    for words, scores in zip(known, lm.score(known)):
        match = acceptor.match([token for word in words for token in lang.lexicon[word][0]])
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
        if all(word in lang.lexicon for word in text.split()):
            labels = [label for word in text.split() for token in lang.lexicon[word][0] for label in (token, 0)]
            if acceptor.match(labels) is None:
                raise ValueError(f"HLG is wrong: the text '{text}' is not accepted")


def check_connected(graph: Fst) -> None:
    """Every state is reached from the start and reaches the end."""
    source, destination = graph.arcs_A3[:, 0].numpy(), graph.arcs_A3[:, 1].numpy()
    for begin, tail, head in ((0, source, destination), (graph.num_states - 1, destination, source)):
        reached = np.zeros(graph.num_states, dtype=bool)
        reached[begin] = True
        before = 0
        while (now := int(reached.sum())) > before:
            before = now
            reached[head[reached[tail]]] = True
        if not reached.all():
            raise ValueError(f"the graph is not connected: {int((~reached).sum())} of its {graph.num_states} states lie on no path")


def compile_graphs(lang: Lang, lm: NgramLm, topology: Topology, texts: Sequence[str]) -> None:
    """Writes LG.pt and HLG.pt into the language directory, each only after it passed its check with ``texts``."""
    vocab_size, num_words = len(lang.tokens), len(lang.vocabulary) + 1
    g = grammar(lm, lang.word_ids)
    log.info("L: %s; G: %s", lang.fst("L_disambig"), g)
    forecast(lang, g)
    lg = compose_lg(lang.fst("L_disambig"), g, vocab_size, num_words)
    looked_up = check_lg(lg, lang, lm, texts)
    log.info("LG: %s; %d of %d texts looked up, all accepted with the n-gram's score", lg, looked_up, len(texts))
    lg.save(lang.directory / "LG.pt")
    hlg = compose_hlg(lg, vocab_size, modified=topology == "modified")
    check_hlg(hlg, lang, texts)
    hlg.save(lang.directory / "HLG.pt")
