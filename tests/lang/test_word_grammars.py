"""Unknown words, subword grammars, reduced words and several segmentations: graphs against enumeration, by both engines."""
from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from asr.lang import Lang, LangConfig, build_lang, graphs
from asr.lang.fst import Acceptor
from asr.lang.lang import UnknownConfig
from asr.lang.subwords import SubwordConfig, Subwords
from asr.lm import NgramLm, estimate
from asr.tokens import Tokenizer, train_tokenizer
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.tokens.phone import PhoneTokenizer
from asr.tokens.reduced import ReducedTokenizer
from tests.lang.test_graphs import SlowGrammar, engine  # noqa: F401 - a fixture

UNKNOWN = UnknownConfig(log_prob=-1.5)


def prepare(
    tokenizer: Tokenizer, config: LangConfig, texts: list[str], directory: Path, more: tuple[str, ...] = (),
) -> tuple[Lang, NgramLm]:
    """more: texts for the n-gram, to which words out of the lexicon are ``<unk>``."""
    tokenizer.save(directory)
    lang = build_lang(config, tokenizer, texts, directory)
    return lang, estimate([lang.split(text) for text in (*texts, *more)], 2, lang.vocabulary, map_unknown=bool(more))


def readings(lang: Lang, tokens: tuple[int, ...], place: str = "start") -> list[tuple[str, ...]]:
    """All word (or unit) sequences that a token sequence may stand for: the slow twin of L. Unknown words are ``<unk>``."""
    found: list[tuple[str, ...]] = [()] if not tokens and place != "inside" else []
    for word, variants in lang.lexicon.items():
        for variant in variants:
            begins = lang.tokens[variant[0]].startswith("▁")
            fits = place == "after" if word.startswith("‿") else begins == (place != "inside")
            if fits and tokens[: len(variant)] == tuple(variant):
                following = readings(lang, tokens[len(variant) :], "inside" if word.endswith("‿") else "after")
                found += [(word, *rest) for rest in following]
    if {"<unk>", "<spelled>"} & set(lang.words) and place != "inside":
        for n in range(1, len(tokens) + 1):
            first, *rest = [lang.tokens[token] for token in tokens[:n]]
            if first.startswith("▁") and not any(symbol.startswith("▁") for symbol in rest) and (rest or first != "▁"):
                found += [("<unk>", *more) for more in readings(lang, tokens[n:], "after")]
    return found


def equals_enumeration(lang: Lang, lm: NgramLm, config: LangConfig, texts: list[str], longest: int) -> int:
    """Checks LG and HLG on every token sequence of up to so many tokens; how many of them have a reading."""
    graphs.compile_graphs(lang, lm, config, texts)
    slow, lg, hlg = SlowGrammar(lm), Acceptor(lang.fst("LG")), Acceptor(lang.fst("HLG"))

    def score(words: tuple[str, ...]) -> float:
        return slow.best(words) + words.count("<unk>") * UNKNOWN.log_prob

    accepted = 0
    for tokens in itertools.chain.from_iterable(itertools.product(range(2, len(lang.tokens)), repeat=n) for n in range(longest + 1)):
        candidates = readings(lang, tokens)
        accepted += bool(candidates)
        for match in (lg.match(tokens), hlg.match([label for token in tokens for label in (0, token, token, 0)])):
            if not candidates:
                assert match is None, tokens
                continue
            assert match is not None and match.score == pytest.approx(max(map(score, candidates)), abs=1e-3), tokens
            words = tuple(lang.words[i].replace("<spelled>", "<unk>") for i in match.outputs)
            assert words in candidates and score(words) == pytest.approx(match.score, abs=1e-3)
    return accepted


def random_texts(seed: int, words: list[str]) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(words, k=generator.randint(1, 4))) for _ in range(12)]


@pytest.mark.parametrize("boundary", ["alone", "attached"])
@pytest.mark.parametrize("seed, output", [(0, "spelling"), (1, "symbol")])
def test_unknown_words(seed: int, output: str, boundary: str, engine: str, tmp_path: Path) -> None:  # noqa: F811
    texts = random_texts(seed, ["a", "ab", "ba", "bb"])
    config = LangConfig(unknown=UnknownConfig(log_prob=UNKNOWN.log_prob, output=output), engine=engine)
    more = ("a xx ab xx", "xx ba", "ab xx xx") if seed else ()
    lang, lm = prepare(train_tokenizer(CharTokenizer.Config(boundary=boundary), texts), config, texts, tmp_path, more)
    assert lang.words == ["<eps>", *lang.vocabulary, "<spelled>" if output == "spelling" else "<unk>", "#0"]
    assert lang.vocabulary == list(lang.lexicon)
    assert equals_enumeration(lang, lm, config, texts, 5 if boundary == "alone" else 4) > 20


def test_unknown_words_want_an_ngram_that_knows_them(tmp_path: Path) -> None:
    texts = ["a ab", "ab"]
    lang, lm = prepare(train_tokenizer(CharTokenizer.Config(), texts), LangConfig(unknown=UNKNOWN), texts, tmp_path)
    known = NgramLm(["<other>" if word == "<unk>" else word for word in lm.words], lm.orders)
    with pytest.raises(ValueError, match="lang.unknown: the n-gram has no <unk>"):
        graphs.grammar(known, lang.word_ids)


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_several_segmentations(model: str, engine: str, tmp_path: Path) -> None:  # noqa: F811
    texts = ["aba ab", "abab aba", "ba ab ba", "abba"]
    config = LangConfig(segmentations=3, engine=engine)
    lang, lm = prepare(train_tokenizer(BpeTokenizer.Config(vocab_size=8, model=model), texts), config, texts, tmp_path)
    assert max(map(len, lang.lexicon.values())) == 3
    assert equals_enumeration(lang, lm, config, texts, 4) > 20


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("unknown", [None, UNKNOWN], ids=["closed", "open"])
def test_subword_grammar(seed: int, unknown: UnknownConfig | None, engine: str, tmp_path: Path) -> None:  # noqa: F811
    generator = random.Random(seed)
    prefixes, suffixes = (["".join(generator.choices("ab", k=n)) for n in (1, 2)] for _ in range(2))
    (tmp_path / "prefixes.txt").write_text("\n".join(prefixes))
    (tmp_path / "suffixes.txt").write_text("\n".join(suffixes))
    (tmp_path / "stems.txt").write_text("bab")
    subwords = SubwordConfig(prefixes=str(tmp_path / "prefixes.txt"), suffixes=str(tmp_path / "suffixes.txt"),
                             stems=str(tmp_path / "stems.txt"), min_stem=1)
    config = LangConfig(subwords=subwords, unknown=unknown, engine=engine)
    texts = random_texts(seed, ["a", "ab", f"{prefixes[1]}a", f"ab{suffixes[1]}", f"{prefixes[0]}ab{suffixes[0]}"])
    lang, lm = prepare(train_tokenizer(CharTokenizer.Config(), texts), config, texts, tmp_path)
    assert {"bab", *(f"{p}‿" for p in prefixes), *(f"‿{s}" for s in suffixes)} <= set(lang.lexicon)
    assert equals_enumeration(lang, lm, config, texts, 5) > 20


def test_reduced_words_are_told_apart_by_the_ngram(engine: str, tmp_path: Path) -> None:  # noqa: F811
    texts = ["pa ba", "ba pa", "pa ba", "bap ba", "bab"]
    tokenizer = train_tokenizer(ReducedTokenizer.Config(merge={"b": "p"}), texts)
    lang, lm = prepare(tokenizer, LangConfig(engine=engine), texts, tmp_path)
    assert lang.tokens == ["<blk>", "<unk>", "▁", "a", "p"] and lang.lexicon["bab"] == lang.lexicon["bap"]
    assert equals_enumeration(lang, lm, LangConfig(engine=engine), texts, 7) == 6
    match = Acceptor(lang.fst("LG")).match(tokenizer.encode("ba ba"))
    assert match is not None and [lang.words[i] for i in match.outputs] in (["pa", "ba"], ["ba", "pa"])


class TestSubwords:
    WORDS = [prefix + stem + suffix for stem in ("walk", "talk", "jump", "climb", "print", "knock", "follow")
             for prefix in ("", "re", "un") for suffix in ("", "ing", "ed", "s", "er")]

    def test_affixes_are_learnt(self) -> None:
        learnt = Subwords.learn([*self.WORDS, "<lang:en>"], SubwordConfig(min_words=5))
        assert learnt.split("reprinting") == ("re‿", "print", "‿ing") and learnt.split("climb") == ("climb",)
        assert learnt.split("unrefollows") == ("un‿", "re‿", "follow", "‿s"), "a word that was not there"
        assert learnt.split("sing") == ("sing",), "no stem of it"
        assert learnt.split("<lang:en>") == ("<lang:en>",)
        assert {unit for unit in learnt.costs if "‿" in unit} == {"re‿", "un‿", "‿ing", "‿ed", "‿s", "‿er"}
        assert learnt.costs == Subwords.learn(reversed([*self.WORDS, "<lang:en>"]), SubwordConfig(min_words=5)).costs

    def test_the_split_is_the_cheapest(self) -> None:
        """Against all ways of cutting."""
        generator = random.Random(0)
        for _ in range(200):
            units = {mark.replace("x", "".join(generator.choices("ab", k=generator.randint(1, 3)))): generator.random()
                     for mark in ("x‿", "x‿", "x", "x", "x", "‿x", "‿x")}
            word = "".join(generator.choices("ab", k=generator.randint(1, 6)))
            ways = []
            for n in range(1, len(word) + 1):
                for cuts in itertools.combinations(range(1, len(word)), n - 1):
                    parts = [word[i:j] for i, j in zip((0, *cuts), (*cuts, len(word)))]
                    for stem in range(n):
                        way = tuple(p + "‿" if i < stem else p if i == stem else "‿" + p for i, p in enumerate(parts))
                        if all(unit in units for unit in way) and (len(parts[stem]) > 1 or n == 1):
                            ways.append((sum(units[unit] for unit in way), way))
            assert Subwords(units, min_stem=2).split(word) == (min(ways)[1] if ways else (word,))

    def test_a_directory_keeps_the_grammar(self, tmp_path: Path) -> None:
        tokenizer = train_tokenizer(CharTokenizer.Config(), self.WORDS)
        tokenizer.save(tmp_path)
        build_lang(LangConfig(subwords=SubwordConfig(min_words=5)), tokenizer, self.WORDS, tmp_path)
        lang = Lang(tmp_path)
        assert lang.split("reprinting unfollows") == ["re‿", "print", "‿ing", "un‿", "follow", "‿s"]
        assert lang.spell(lang.split("reprinting unfollows")) == tokenizer.encode("reprinting unfollows")

    def test_what_cannot_be_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="leave out either lexicon or subwords"):
            LangConfig(subwords=SubwordConfig(), lexicon="lexicon.txt")
        with pytest.raises(ValueError, match="contain ‿ .*a‿b"):
            Subwords.learn(["a‿b"], SubwordConfig())
        with pytest.raises(ValueError, match="none.txt cannot be read"):
            Subwords.learn(["ab"], SubwordConfig(stems=str(tmp_path / "none.txt")))
        (tmp_path / "lexicon.txt").write_text("one W AH N\n")
        phones = train_tokenizer(PhoneTokenizer.Config(lexicon=str(tmp_path / "lexicon.txt")), ["one"])
        with pytest.raises(ValueError, match="spelled by their letters, and the tokens are of type 'phone'"):
            build_lang(LangConfig(subwords=SubwordConfig()), phones, ["one"], tmp_path)
        with pytest.raises(ValueError, match="contain a‿ as words"):
            build_lang(LangConfig(), train_tokenizer(CharTokenizer.Config(), ["a‿ b"]), ["a‿ b"], tmp_path)
