from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.lang import Lang, LangConfig, graphs, make_lexicon, openfst, write_lang
from asr.lang.fst import Acceptor, Fst, Match
from asr.lang.operations import compose_ctc, remove_epsilon, unconnected
from asr.lm import NgramLm, estimate, read_arpa, write_arpa
from asr.tokens import train_tokenizer
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.phone import PhoneTokenizer
from tests.lm.test_arpa import GOOD

LEXICON = "a A\nb A B\nc B\nd C\nd A C\ne C\n"  # prefixes, homophones (d, e), two pronunciations; "a c" and "b" are spelled alike but for ▁
TEXTS = ["a b", "b c a", "d e", "e e b", "a", "c d a", "a b c", "d a"]


class SlowGrammar:
    """The best path of a word sequence through an n-gram's states, backing off at will: straight from the n-grams as tuples."""

    def __init__(self, lm: NgramLm) -> None:
        self.order = lm.order
        self.grams: dict[tuple[str, ...], tuple[float, float]] = {}
        spelled: list[tuple[str, ...]] = [()]
        for order in lm.orders:
            spelled = [(*spelled[h], lm.words[w]) for h, w in zip(order.history, order.word)]
            self.grams.update({gram: (lp, bo) for gram, lp, bo in zip(spelled, order.log_prob, order.backoff)})

    def best(self, words: tuple[str, ...]) -> float:
        """Natural log."""
        return math.log(10) * self._best(self._known(("<s>",)), (*words, "</s>"))

    def _known(self, history: tuple[str, ...]) -> tuple[str, ...]:
        """The longest suffix that has a continuation or a back-off weight."""
        while history and (len(history) >= self.order or not (
            self.grams.get(history, (0, 0))[1] or any(gram[:-1] == history for gram in self.grams)
        )):
            history = history[1:]
        return history

    def _best(self, history: tuple[str, ...], words: tuple[str, ...]) -> float:
        if not words:
            return 0.0
        result = -math.inf
        if (*history, words[0]) in self.grams:
            result = self.grams[(*history, words[0])][0] + self._best(self._known((*history, words[0])), words[1:])
        if history:
            result = max(result, self.grams.get(history, (0.0, 0.0))[1] + self._best(self._shorter(history), words))
        return result

    def _shorter(self, history: tuple[str, ...]) -> tuple[str, ...]:
        return self._known(history[1:])


def tiny(directory: Path, order: int = 3) -> tuple[Lang, NgramLm]:
    (directory / "phones.txt").write_text(LEXICON)
    tokenizer = train_tokenizer(PhoneTokenizer.Config(lexicon=str(directory / "phones.txt")), TEXTS)
    tokenizer.save(directory)
    lang = write_lang(make_lexicon(LangConfig(), tokenizer, TEXTS), tokenizer.symbols, directory)
    return lang, estimate([text.split() for text in TEXTS], order, lang.vocabulary)


def without_back_off_labels(g: Fst, disambig: int) -> Fst:
    """G with its back-off arcs as input epsilons removed by hand: for each state, the arcs of all states it backs off to."""
    arcs, scores = g.arcs_A3.tolist(), g.scores_A.tolist()
    back = {s: (d, w) for (s, d, label), w in zip(arcs, scores) if label == disambig}
    plain = [(s, d, label, w) for (s, d, label), w in zip(arcs, scores) if label != disambig]
    result = []
    for state in range(g.num_states):
        reached, cost = state, 0.0
        while True:
            result += [((state, d, label, label), cost + w) for s, d, label, w in plain if s == reached]
            if reached not in back:
                break
            reached, cost = back[reached][0], cost + back[reached][1]
    return Fst.from_arcs([arc for arc, _ in result], [w for _, w in result])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_g_equals_the_ngram_with_free_back_off(order: int, tmp_path: Path) -> None:
    lang, lm = tiny(tmp_path, order)
    slow, g = SlowGrammar(lm), graphs.grammar(lm, lang.word_ids)
    lookup = Acceptor(without_back_off_labels(g, lang.word_ids["#0"]))
    for words in itertools.chain.from_iterable(itertools.product(lang.vocabulary, repeat=n) for n in range(4)):
        match = lookup.match([lang.word_ids[word] for word in words])
        assert match is not None and match.score == pytest.approx(slow.best(words), abs=1e-4), words


def test_g_of_a_pruned_model(tmp_path: Path) -> None:
    """Without the bigram 'a b', whose trigram stays."""
    path = tmp_path / "lm.arpa"
    path.write_text(GOOD.replace("-0.2\tb </s>\n", "").replace("ngram 2=3", "ngram 2=2"))
    lm = read_arpa(path)
    ids = {"<eps>": 0, "a": 1, "b": 2, "#0": 3}
    lookup = Acceptor(without_back_off_labels(graphs.grammar(lm, ids), 3))
    for words in itertools.chain.from_iterable(itertools.product("ab", repeat=n) for n in range(5)):
        match = lookup.match([ids[word] for word in words])
        assert match is not None and match.score == pytest.approx(SlowGrammar(lm).best(words), abs=1e-4), words


def test_g_equals_kaldilm(tmp_path: Path) -> None:
    kaldilm = pytest.importorskip("kaldilm", reason="kaldilm is not installed")
    lang, lm = tiny(tmp_path)
    write_arpa(lm, tmp_path / "word.arpa")
    text = kaldilm.arpa2fst(str(tmp_path / "word.arpa"), disambig_symbol="#0", read_symbol_table=str(tmp_path / "words.txt"),
                            max_arpa_warnings=0)
    rows = [line.split() for line in text.strip().split("\n")]
    start, end = int(rows[0][0]), 1 + max(int(row[0]) for row in rows)
    number = {start: 0, 0: start}
    arcs, scores = [], []
    for row in rows:
        if len(row) <= 2:
            arcs.append((int(row[0]), end, -1, -1))
            scores.append(-float(row[1]) if len(row) == 2 else 0.0)
        else:
            arcs.append((int(row[0]), int(row[1]), int(row[2]), int(row[2])))
            scores.append(-float(row[4]) if len(row) == 5 else 0.0)
    arcs = [(number.get(s, s), number.get(d, d), i, o) for s, d, i, o in arcs]
    disambig = lang.word_ids["#0"]
    theirs = Acceptor(without_back_off_labels(Fst.from_arcs(arcs, scores), disambig))
    ours = Acceptor(without_back_off_labels(graphs.grammar(lm, lang.word_ids), disambig))
    for words in itertools.chain.from_iterable(itertools.product(lang.vocabulary, repeat=n) for n in range(4)):
        labels = [lang.word_ids[word] for word in words]
        one, other = ours.match(labels), theirs.match(labels)
        assert one is not None and other is not None and one.score == pytest.approx(other.score, abs=1e-4)


def test_grammar_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    lang, _ = tiny(tmp_path)
    with pytest.raises(ValueError, match="hardly a word in common"):
        graphs.grammar(estimate([["x", "y", "z"]], 2), lang.word_ids)


def spellings(lang: Lang, longest: int) -> dict[tuple[int, ...], list[tuple[str, ...]]]:
    """All word sequences up to ``longest`` words, by every token sequence that spells them."""
    found: dict[tuple[int, ...], list[tuple[str, ...]]] = {}
    for words in itertools.chain.from_iterable(itertools.product(lang.vocabulary, repeat=n) for n in range(longest + 1)):
        for variants in itertools.product(*(lang.lexicon[word] for word in words)):
            found.setdefault(tuple(t for tokens in variants for t in tokens), []).append(words)
    return found


@pytest.fixture(params=["k2", "openfst"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "k2":
        pytest.importorskip("k2", reason="k2 is not installed: this is the modern stack without it")
    return request.param


class TestCompiledGraphs:
    @pytest.mark.parametrize("order", [1, 2, 3])
    @pytest.mark.parametrize("topology", ["standard", "modified"])
    def test_lg_and_hlg_equal_enumeration(self, order: int, topology: str, engine: str, tmp_path: Path) -> None:
        lang, lm = tiny(tmp_path, order)
        graphs.compile_graphs(lang, lm, LangConfig(topology=topology, engine=engine), TEXTS)
        slow = SlowGrammar(lm)
        lg, hlg = Acceptor(lang.fst("LG")), Acceptor(lang.fst("HLG"))
        for tokens, candidates in spellings(lang, 3).items():
            score, words = max((slow.best(words), words) for words in candidates)
            for match in (lg.match(tokens), hlg.match([label for token in tokens for label in (0, token, token, 0)])):
                assert match is not None and match.score == pytest.approx(score, abs=1e-3)
                spelled = tuple(lang.words[i] for i in match.outputs)
                assert spelled == words or slow.best(spelled) == pytest.approx(score, abs=1e-3)
        boundary, a, b = (lang.tokens.index(symbol) for symbol in ("▁", "A", "B"))
        assert lg.match([boundary, b, a]) is None and lg.match([boundary]) is None and lg.match([a]) is None

    def test_repeated_token_needs_a_blank_in_the_standard_topology_only(self, engine: str, tmp_path: Path) -> None:
        (tmp_path / "phones.txt").write_text("a A A\nb A\n")
        tokenizer = train_tokenizer(PhoneTokenizer.Config(lexicon=str(tmp_path / "phones.txt")), ["a b"])
        tokenizer.save(tmp_path)
        lang = write_lang(make_lexicon(LangConfig(), tokenizer, ["a b"]), tokenizer.symbols, tmp_path)
        lm = estimate([["a"], ["b", "a"]], 1)
        boundary, a = lang.lexicon["b"][0]
        for topology in ("standard", "modified"):
            graphs.compile_graphs(lang, lm, LangConfig(topology=topology, engine=engine), ["a", "b"])
            hlg = Acceptor(lang.fst("HLG"))
            with_blank, without = hlg.match([boundary, a, 0, a]), hlg.match([boundary, a, a])
            assert with_blank is not None and [lang.words[i] for i in with_blank.outputs] == ["a"]
            assert without is not None
            if topology == "standard":
                assert [lang.words[i] for i in without.outputs] == ["b"]

    def test_k2_round_trip_and_search(self, engine: str, tmp_path: Path) -> None:
        """A graph read back searches: k2's best path through HLG for sharp posteriors is the words."""
        k2 = pytest.importorskip("k2", reason="k2 is not installed: this is the modern stack without it")
        lang, lm = tiny(tmp_path)
        graphs.compile_graphs(lang, lm, LangConfig(engine=engine), TEXTS)
        for name in ("L", "LG", "HLG"):
            fst = lang.fst(name)
            again = Fst.from_k2(fst.to_k2())
            assert all(torch.equal(getattr(fst, field), getattr(again, field)) for field in vars(fst)), name
        words = ["c", "d", "a"]
        labels = [label for word in words for token in lang.lexicon[word][0] for label in (token, token, 0)]
        log_probs = torch.full((1, len(labels), len(lang.tokens)), -20.0)
        log_probs[0, torch.arange(len(labels)), torch.tensor(labels)] = 0.0
        dense = k2.DenseFsaVec(log_probs, torch.tensor([[0, 0, len(labels)]], dtype=torch.int32))
        lattice = k2.intersect_dense_pruned(lang.graph("HLG"), dense, 20.0, 8.0, 30, 1000)
        best = k2.shortest_path(lattice, use_double_scores=True)
        assert [lang.words[i] for i in best.aux_labels.values.tolist() if i > 0] in (words, ["c", "e", "a"])

    def test_a_wrong_graph_does_not_pass_the_check(self, engine: str, tmp_path: Path) -> None:
        lang, lm = tiny(tmp_path)
        graphs.compile_graphs(lang, lm, LangConfig(engine=engine), TEXTS)
        lg = lang.fst("LG")
        assert graphs.check_lg(lg, lang, lm, [*TEXTS, "a x"]) == len(TEXTS), "texts with unknown words are left out"
        half = Fst(lg.arcs_A3, lg.scores_A - 1.0, lg.outputs, lg.splits)
        with pytest.raises(ValueError, match="LG is wrong: the text 'a b' scores"):
            graphs.check_lg(half, lang, lm, TEXTS)
        loops = lg.arcs_A3.clone()
        loops[:, 1] = torch.where(loops[:, 2] == -1, loops[:, 1], loops[:, 0])
        with pytest.raises(ValueError, match="not connected"):
            graphs.check_lg(Fst(loops, lg.scores_A, lg.outputs, lg.splits), lang, lm, TEXTS)
        with pytest.raises(ValueError, match="without a token"):
            graphs.check_lg(Fst(loops * 0, lg.scores_A, lg.outputs, lg.splits), lang, lm, TEXTS)

    def test_real_text_with_subwords(self, engine: str, shared: Path, tmp_path: Path) -> None:
        lang, lm, texts = real(shared, tmp_path)
        config = LangConfig(engine=engine, topology="modified")
        graphs.compile_graphs(lang, lm, config, texts[:20])
        first = {name: (tmp_path / f"{name}.pt").read_bytes() for name in ("LG", "HLG")}
        graphs.compile_graphs(lang, lm, config, texts[:20])
        assert first == {name: (tmp_path / f"{name}.pt").read_bytes() for name in ("LG", "HLG")}, "deterministic"


def real(shared: Path, directory: Path) -> tuple[Lang, NgramLm, list[str]]:
    texts = (shared / "corpora/text/librispeech_dev_clean.txt").read_text().splitlines()[:60]
    tokenizer = train_tokenizer(BpeTokenizer.Config(vocab_size=100), texts)
    tokenizer.save(directory)
    lang = write_lang(make_lexicon(LangConfig(), tokenizer, texts), tokenizer.symbols, directory)
    return lang, estimate([text.split() for text in texts], 3, lang.vocabulary), texts


def random_paths(graph: Fst, count: int) -> list[list[int]]:
    """The labels of random walks to the end."""
    generator = random.Random(0)
    begin = np.searchsorted(graph.arcs_A3[:, 0].numpy(), np.arange(graph.num_states + 1)).tolist()
    _, destination, label = graph.arcs_A3.t().tolist()
    paths = []
    for _ in range(count):
        state, labels = 0, []
        while state != graph.num_states - 1:
            finals = [arc for arc in range(begin[state], begin[state + 1]) if label[arc] == -1]
            arc = finals[0] if finals and len(labels) > 20 else generator.randrange(begin[state], begin[state + 1])
            labels.append(label[arc])
            state = destination[arc]
        paths.append(labels[:-1])
    return paths


def test_the_engines_agree_on_random_paths(shared: Path, tmp_path: Path) -> None:
    """Each engine's random token sequences have the same best score and words in the other's LG and HLG."""
    pytest.importorskip("k2", reason="k2 is not installed: this is the modern stack without it")
    lang, lm, _ = real(shared, tmp_path)
    g = graphs.grammar(lm, lang.word_ids)
    lgs = [graphs.compose_lg(lang.fst("L_disambig"), g, len(lang.tokens), len(lang.words) - 1, engine) for engine in ("k2", "openfst")]
    assert lgs[1].num_arcs < lgs[0].num_arcs, "minimised"
    for one, other in (lgs, [compose_ctc(lg, modified=False) for lg in lgs]):
        for graph in (one, other):
            for labels in random_paths(graph, 15):
                first, second = Acceptor(one).match(labels), Acceptor(other).match(labels)
                assert first is not None and second is not None
                assert first.score == pytest.approx(second.score, abs=0.01 + 1e-4 * len(labels)) and first.outputs == second.outputs


@pytest.mark.parametrize("modified", [False, True])
def test_the_ctc_topology_equals_k2s(modified: bool, tmp_path: Path) -> None:
    k2 = pytest.importorskip("k2", reason="k2 is not installed: this is the modern stack without it")
    lang, lm = tiny(tmp_path)
    lg = graphs.compose_lg(lang.fst("L_disambig"), graphs.grammar(lm, lang.word_ids), len(lang.tokens), len(lang.words) - 1, "openfst")
    topology = k2.ctc_topo(len(lang.tokens) - 1, modified=modified)
    theirs = Fst.from_k2(k2.arc_sort(k2.connect(k2.compose(topology, k2.arc_sort(lg.to_k2()), inner_labels="tokens"))))
    ours = compose_ctc(lg, modified)
    assert (ours.num_states, ours.num_arcs) == (theirs.num_states, theirs.num_arcs)
    for labels in random_paths(ours, 200):
        one, other = Acceptor(ours).match(labels), Acceptor(theirs).match(labels)
        assert one is not None and other is not None and one.score == pytest.approx(other.score, abs=1e-3)


def test_epsilons_are_removed_with_their_words_and_scores() -> None:
    """Two epsilons in a row, one before the end, and two ways of the same words, of which the better one counts."""
    arcs = [(0, 1, 1, 5), (1, 2, 0, 6), (2, 3, 0, 7), (3, 4, 2, 8), (2, 4, 2, 0), (1, 4, 2, 6), (4, 3, 0, 9), (3, 5, -1, -1)]
    scores = [-1.0, -0.5, -0.25, -2.0, -1.0, -4.0, -3.0, -0.125]
    result = remove_epsilon(Fst.from_arcs(arcs, scores))
    assert not (result.arcs_A3[:, 2] == 0).any() and not unconnected(result).any()
    found = Acceptor(result)
    assert [found.match(labels) for labels in ([1, 2], [1])] == [Match(-2.5 - 3.125, (5, 6, 9)), Match(-1.875, (5, 6, 7))]
    assert found.match([1, 2, 2]) == Match(-2.5 - 3.0 - 2.0 - 3.125, (5, 6, 9, 8, 9))


def test_openfst_round_trip() -> None:
    pywrapfst = pytest.importorskip("pywrapfst", reason="pynini is not installed")
    graph = Fst.from_arcs([(0, 1, 1, 5), (0, 0, 2, 0), (1, 0, 3, 6), (1, 2, -1, -1), (0, 2, -1, -1)], [-1.0, -0.5, -0.25, -2.0, -3.0])
    there = openfst.to_openfst(pywrapfst, graph)
    assert there.verify() and there.num_states() == 2
    assert [(a.ilabel, a.olabel, float(a.weight), a.nextstate) for a in there.arcs(0)] == [(1, 5, 1.0, 1), (2, 0, 0.5, 0)]
    assert [float(there.final(state)) for state in (0, 1)] == [3.0, 2.0]
    back = openfst.from_openfst(there)
    assert sorted(zip(back.arcs_A3.tolist(), back.scores_A.tolist())) == sorted(zip(graph.arcs_A3.tolist(), graph.scores_A.tolist()))


def test_what_does_not_fit_into_memory_is_refused_with_the_fix(tmp_path: Path) -> None:
    lang, lm = tiny(tmp_path)
    with pytest.raises(ValueError, match="would take about .* GiB of memory.*lower ngram.order"):
        graphs.compile_graphs(lang, lm, LangConfig(memory_limit=1e-9), TEXTS)
    assert not (tmp_path / "LG.pt").exists()


def test_the_forecast_is_near_what_comes_out(shared: Path, tmp_path: Path) -> None:
    lang, lm, _ = real(shared, tmp_path)
    g = graphs.grammar(lm, lang.word_ids)
    lg = graphs.compose_lg(lang.fst("L_disambig"), g, len(lang.tokens), len(lang.words) - 1)
    for topology in ("standard", "modified"):
        expected = graphs.forecast(lang, g, LangConfig(topology=topology))
        found = compose_ctc(lg, modified=topology == "modified").num_arcs
        assert 0.5 < found / expected < 2


def test_without_k2_a_graph_says_how_to_get_it(tmp_path: Path) -> None:
    from asr import fsa

    if fsa.available():
        pytest.skip("k2 is installed here; the stack without it runs this")
    lang, _ = tiny(tmp_path)
    with pytest.raises(ValueError, match="needs k2"):
        lang.graph("L")
