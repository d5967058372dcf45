"""Graph search and lattices on small random graphs: against enumeration of all paths, one by one, k2 and kaldi-decoder."""
from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from asr.decode.graph import DecodingGraph
from asr.decode.lattice import Lattices, SecondPass
from asr.decode.token_passing import Beams, OnTheFly, pass_tokens
from asr.lang import LangConfig, graphs
from asr.lang.fst import FINAL, Fst
from asr.lang.operations import compose_ctc, connect
from asr.lm import NgramLm, WordNgram, estimate
from tests.lang.test_graphs import TEXTS, tiny

WIDE = Beams(search=1e6, output=1e6, min_active=0, max_active=1_000_000)
WORDS = ["<eps>", "a", "b", "c", "d"]
LABELS = 4


class Found(NamedTuple):
    score: float
    model: float
    labels: tuple[int, ...]
    words: tuple[int, ...]


def random_graph(seed: int, states: int = 5, arcs: int = 18) -> Fst:
    """Connected, with labels that are not deterministic, arcs of no, one and two words, also into the final state."""
    generator = np.random.default_rng(seed)
    rows = np.stack([
        generator.integers(0, states, arcs), generator.integers(0, states, arcs), generator.integers(0, LABELS, arcs), np.zeros(arcs, int),
    ], axis=1)
    ends = [(state, states, FINAL, FINAL) for state in range(1, states, 2)]
    plain = Fst.from_arcs(np.concatenate([rows, ends, [(0, 1, 1, 0)]]), generator.normal(0, 2, arcs + len(ends) + 1))
    outputs: list[int] = []
    splits = [0]
    for label in plain.arcs_A3[:, 2].tolist():
        outputs += generator.integers(1, len(WORDS), generator.choice(3, p=[0.6, 0.3, 0.1])).tolist() + ([FINAL] if label == FINAL else [])
        splits.append(len(outputs))
    graph = connect(Fst(plain.arcs_A3, plain.scores_A, torch.tensor(outputs).int(), torch.tensor(splits).int()))
    assert graph.num_states > 3
    return graph


def random_log_probs(seed: int, lens: tuple[int, ...], labels: int = LABELS) -> np.ndarray:
    torch.manual_seed(seed)
    return (torch.randn(len(lens), max(lens), labels) * 2).log_softmax(-1).double().numpy()


def enumerate_paths(graph: DecodingGraph, log_probs_SV: np.ndarray) -> Iterator[Found]:
    def extend(state: int, path: Found) -> Iterator[Found]:
        frame = len(path.labels)
        for arc in range(graph.begin_S1[state], graph.begin_S1[state + 1]):
            label, score = int(graph.label_A[arc]), path.score + graph.score_A[arc]
            words = (*path.words, *graph.words_of(arc))
            if frame == len(log_probs_SV) and label == FINAL:
                yield Found(score, path.model, path.labels, words)
            elif frame < len(log_probs_SV) and label != FINAL:
                gain = log_probs_SV[frame, label]
                yield from extend(int(graph.target_A[arc]), Found(score + gain, path.model + gain, (*path.labels, label), words))

    return extend(0, Found(0.0, 0.0, (), ()))


def best_by_words(paths: list[Found]) -> list[Found]:
    """The best path of each word sequence, best first."""
    best: dict[tuple[int, ...], Found] = {}
    for path in paths:
        if path.words not in best or path.score > best[path.words].score:
            best[path.words] = path
    return sorted(best.values(), key=lambda path: -path.score)


LENS = (4, 5, 1, 3, 5)


@pytest.mark.parametrize("seed", range(6))
def test_equals_enumeration(seed: int) -> None:
    graph, log_probs_BSV = DecodingGraph(random_graph(seed), scale=0.7), random_log_probs(seed, LENS)
    for output in (0.0, 1e6):
        lattices = pass_tokens(graph, log_probs_BSV, np.array(LENS), Beams(1e6, output, 0, 1_000_000))
        for n in (1, 5, 1000) if output else (1,):
            for found, log_probs_SV, length in zip(lattices.n_best(n), log_probs_BSV, LENS):
                expected = best_by_words(list(enumerate_paths(graph, log_probs_SV[:length])))
                assert [p.score for p in found] == pytest.approx([p.score for p in expected[:n]])
                by_words = {p.words: p for p in expected}
                for path in found:  # there may be several of one score
                    other = by_words.pop(path.words)
                    assert path.score == pytest.approx(other.score) == path.model_score + path.graph_score
                    gains = log_probs_SV[np.arange(length), path.labels]
                    assert len(path.labels) == length and path.model_score == pytest.approx(gains.sum())


@pytest.mark.parametrize("seed", range(4))
def test_batched_equals_one_by_one_with_every_beam_at_work(seed: int) -> None:
    graph, log_probs_BSV = DecodingGraph(random_graph(seed, states=40, arcs=300)), random_log_probs(seed, (20, 7, 13))
    for beams in (Beams(4.0, 2.0, 3, 1000), Beams(50.0, 5.0, 0, 6)):
        together = pass_tokens(graph, log_probs_BSV, np.array([20, 7, 13]), beams)
        for b, length in enumerate((20, 7, 13)):
            alone = pass_tokens(graph, log_probs_BSV[b : b + 1, :length], np.array([length]), beams)
            assert together.n_best(4)[b] == alone.n_best(4)[0]
            assert int((together.utterance_N[together.source_A] == b).sum()) == len(alone.arc_A) > 0


def test_a_lattice_has_exactly_the_arcs_on_paths_within_its_beam() -> None:
    graph, log_probs_BSV = DecodingGraph(random_graph(2)), random_log_probs(2, (4,))
    paths = sorted(enumerate_paths(graph, log_probs_BSV[0]), key=lambda path: -path.score)
    lattices = pass_tokens(graph, log_probs_BSV, np.array([4]), Beams(1e6, 3.0, 0, 1_000_000))
    expected = {path.words for path in paths if path.score >= paths[0].score - 3.0}
    found = lattices.n_best(1000)[0]
    assert expected <= {path.words for path in found} and 1 < len(expected) < len({path.words for path in paths})
    assert len(lattices.arc_A) < len(pass_tokens(graph, log_probs_BSV, np.array([4]), WIDE).arc_A)


def test_no_path() -> None:
    graph = DecodingGraph(Fst.from_arcs([(0, 1, 1, 0), (1, 2, 2, 3), (2, 3, FINAL, FINAL)], torch.zeros(3)))
    lattices = pass_tokens(graph, random_log_probs(0, (1, 2, 3)), np.array([1, 2, 3]), WIDE)
    assert [[path.words for path in paths] for paths in lattices.n_best(3)] == [[], [(3,)], []]


def bigram() -> NgramLm:
    return estimate([["a", "b"], ["b", "c", "d"], ["a", "a", "c"]], 2, ["a", "b", "c", "d"])


@pytest.mark.parametrize("n", [1, 3])
def test_a_second_pass_equals_rescoring_of_all_paths(n: int) -> None:
    graph, log_probs_BSV, lm = DecodingGraph(random_graph(3)), random_log_probs(3, LENS), bigram()
    second = SecondPass(WordNgram(lm, WORDS), scale=0.8)
    lattices = pass_tokens(graph, log_probs_BSV, np.array(LENS), WIDE)
    for found, log_probs_SV, length in zip(lattices.n_best(n, second), log_probs_BSV, LENS):
        rescored = []
        for path in enumerate_paths(graph, log_probs_SV[:length]):
            ngram = math.log(10) * float(lm.score([[WORDS[word] for word in path.words]])[0].sum())
            rescored.append((path._replace(score=path.model + 0.8 * ngram), ngram))
        expected = best_by_words([path for path, _ in rescored])[:n]
        assert [p.score for p in found] == pytest.approx([p.score for p in expected])
        by_words = {path.words: ngram for path, ngram in rescored}
        assert len({p.words for p in found}) == len(found)
        assert [p.ngram_score for p in found] == pytest.approx([by_words[p.words] for p in found])


@pytest.mark.parametrize("n", [1, 4])
def test_on_the_fly_composition_equals_a_second_pass_over_everything(n: int, tmp_path: Path) -> None:
    """With wide beams; with narrow ones, it finds what a second pass over unigrams' lattice has lost."""
    lang, lm = tiny(tmp_path)
    graphs.compile_graphs(lang, lm, LangConfig(graph_order=1, engine="openfst"), TEXTS)
    graph, lens = DecodingGraph(lang.fst("HLG")), (9, 14, 12, 6)
    second = SecondPass(WordNgram(lm, lang.words), 3.0)
    on_the_fly = OnTheFly(graph, second.ngram, second.scale)
    log_probs_BSV = sharp(5, lens, len(lang.tokens))
    expected = pass_tokens(graph, log_probs_BSV, np.array(lens), WIDE).n_best(n, second)
    output = 0.0 if n == 1 else 1e6
    found = pass_tokens(graph, log_probs_BSV, np.array(lens), Beams(1e6, output, 0, 1_000_000), on_the_fly).n_best(n, second)
    for one, other in zip(found, expected):
        assert [p.score for p in one] == pytest.approx([p.score for p in other]) and len(one) == n
        assert [p.words for p in one] == [p.words for p in other] or n > 1
    unigrams = pass_tokens(graph, log_probs_BSV, np.array(lens), WIDE).n_best(n)
    assert [p.words for paths in expected for p in paths] != [p.words for paths in unigrams for p in paths]
    narrow = pass_tokens(graph, log_probs_BSV, np.array(lens), Beams(14.0, 0.0, 0, 1000), on_the_fly).n_best(1, second)
    lost = pass_tokens(graph, log_probs_BSV, np.array(lens), Beams(14.0, 0.0, 0, 1000)).n_best(1, second)
    assert sum(paths[0].score for paths in narrow if paths) >= sum(paths[0].score for paths in lost if paths)


def sharp(seed: int, lens: tuple[int, ...], labels: int) -> np.ndarray:
    torch.manual_seed(seed)
    return (torch.randn(len(lens), max(lens), labels) * 4).log_softmax(-1).double().numpy()


def ctc_graph(seed: int) -> Fst:
    """The CTC topology over a random graph of tokens."""
    return compose_ctc(without_blank(random_graph(seed, states=12, arcs=60)), modified=False)


def without_blank(graph: Fst) -> Fst:
    arcs_A3 = graph.arcs_A3.clone()
    arcs_A3[:, 2] = torch.where(arcs_A3[:, 2] == 0, torch.ones_like(arcs_A3[:, 2]), arcs_A3[:, 2])
    return Fst(arcs_A3, graph.scores_A, graph.outputs, graph.splits)


@pytest.mark.parametrize("seed", range(3))
def test_equals_k2(seed: int) -> None:
    """The same n-best lists and second passes from k2's lattices and from ours, arc for arc as many."""
    k2 = pytest.importorskip("k2", reason="k2 is not installed: this is the modern stack without it")
    graph, lens = DecodingGraph(ctc_graph(seed), scale=0.9), (25, 9, 16)
    log_probs_BSV = sharp(seed, lens, LABELS)
    dense = k2.DenseFsaVec(torch.from_numpy(log_probs_BSV).float(), torch.tensor([[b, 0, n] for b, n in enumerate(lens)]).int())
    for output, second in ((6.0, None), (40.0, SecondPass(WordNgram(bigram(), WORDS), 0.5))):
        lattice = k2.intersect_dense_pruned(graph.to_k2(k2, "cpu"), dense, 50.0, output, 30, 10000)
        theirs, ours = Lattices.from_k2(lattice, graph), pass_tokens(graph, log_probs_BSV, np.array(lens), Beams(50.0, output, 30, 10000))
        assert len(ours.arc_A) <= len(theirs.arc_A) < 1.2 * len(ours.arc_A), "k2 prunes a little less"
        for one, other in zip(ours.n_best(8, second), theirs.n_best(8, second)):
            assert [p.score for p in one] == pytest.approx([p.score for p in other], abs=1e-3) and len(one) > 1
            assert {p.words for p in one[:-1]} <= {p.words for p in other}, "the last may be one of several with its score"
    best = Lattices.from_k2(k2.shortest_path(lattice, use_double_scores=True), graph).n_best()
    assert [paths[0].labels for paths in best] == [paths[0].labels for paths in ours.n_best()]
