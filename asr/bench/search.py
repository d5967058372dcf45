"""Speed of the searches of a transducer without durations (RNN-T) and with them (TDT), on the same made-up speech.

With --scorers also of beam search with hot words, a token trigram, and a lexicon with a word trigram, of greedy search without the frames
that a CTC head is sure are blank, and of CTC searches.

    asr bench search [--vocabulary 500] [--dim 512] [--utterances 50] [--seconds 2] [--device cpu] [--scorers]

Utterances of 5 to 15 s at 40 ms a frame, with a token every 7 frames on average; tokens and blanks of the TDT last until the next
token, as far as its durations go. Encoder output is made so that both models find these tokens, with doubts about some.
For each search: time (the best of several runs), the same over greedy search of this model and over that of the RNN-T, calls of the
joiner, its evaluations per frame (of the TDT's greedy search: the share of frames that it visits; beams make some for confidences,
too), and token errors.
"""
from __future__ import annotations

import argparse
import resource
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kaldialign
import torch

from asr.bench.timing import best_time
from asr.decode import build_search
from asr.decode.ctc_greedy import CtcGreedy
from asr.decode.ctc_prefix_beam import CtcPrefixBeam
from asr.decode.greedy import Greedy
from asr.decode.modified_beam import ModifiedBeam
from asr.lm import estimate, write_arpa
from asr.models.ctc import CtcHead
from asr.models.joiner import Joiner
from asr.models.predictors import StatelessPredictor
from asr.tokens import BOUNDARY, WordSpan
from asr.types import BLANK, EncoderOut

DURATIONS = (0, 1, 2, 3, 4)
DOUBT = 0.9
"""How far the encoder's output is from certain: more gives beams more to do."""


class Model(torch.nn.Module):
    """What a search uses of a transducer; its encoder output has as many channels as the joiner."""

    def __init__(self, vocabulary: int, dim: int, durations: tuple[int, ...]) -> None:
        super().__init__()
        self.vocab_size = vocabulary
        self.predictor = StatelessPredictor(StatelessPredictor.Config(dim=dim), vocabulary)
        self.joiner = Joiner(Joiner.Config(dim=dim, durations=durations), dim, dim, vocabulary)
        self.ctc = CtcHead(CtcHead.Config(), dim, vocabulary)
        signs = torch.randn(vocabulary + len(DURATIONS), dim, generator=torch.Generator().manual_seed(1)).sign()
        with torch.no_grad():
            self.joiner.output_linear.weight.copy_(signs[: vocabulary + len(durations)] * (16.0 / dim))
            self.joiner.output_linear.bias.zero_()
            self.joiner.encoder_proj.weight.copy_(torch.eye(dim))
            self.joiner.encoder_proj.bias.zero_()
            self.joiner.predictor_proj.weight *= 0.2
            self.ctc.output_linear.weight.copy_(signs[:vocabulary] * (16.0 / dim))
            self.ctc.output_linear.bias.zero_()

    def ctc_log_probs(self, encoder_out: EncoderOut) -> torch.Tensor:
        return self.ctc(encoder_out.frames_BSD)


class Words:
    """A tokenizer whose every token is a word, and the language directory of that lexicon."""

    def __init__(self, vocabulary: int, texts: list[list[int]], directory: Path) -> None:
        self.symbols = ["<blk>", *(f"{BOUNDARY}w{i}" for i in range(1, vocabulary))]
        self.vocab_size = vocabulary
        self.directory = directory
        self.lexicon = {f"w{i}": [[i]] for i in range(1, vocabulary)}
        for name, symbols in (("token", self.symbols), ("word", ["", *self.lexicon])):
            write_arpa(estimate([[symbols[t] for t in text] for text in texts], 3, symbols[1:]), directory / f"{name}.arpa")

    def unknown(self, text: str) -> list[str]:
        return []

    def pronunciations(self, word: str) -> list[list[int]]:
        return self.lexicon[word]

    def word_spans(self, ids: list[int]) -> list[WordSpan]:
        return [WordSpan(self.symbols[token][1:], i, i + 1) for i, token in enumerate(ids)]


def with_scorers(texts: list[list[int]]) -> dict[str, Any]:
    """Hot words: a hundred phrases, of four tokens each, that are said."""
    phrases = {" ".join(f"w{token}" for token in text[:4]): 1.0 for text in texts[:100]}
    ngram, hot = {"type": "ngram"}, {"type": "hotwords", "phrases": phrases}
    beam = ModifiedBeam.Config.model_validate
    return {
        "beam 4, n-gram": beam({"scorers": {"ngram": ngram}}),
        "beam 4, +hot": beam({"scorers": {"ngram": ngram, "hot": hot}}),
        "beam 4, lexicon": beam({"scorers": {"lexicon": {"type": "lexicon", "scale": 0.2}}}),
        "greedy, skipping": Greedy.Config(skip_blank=0.99),
        "CTC greedy": CtcGreedy.Config(),
        "CTC beam 4": CtcPrefixBeam.Config(beam=4),
        "CTC beam 4, +hot": CtcPrefixBeam.Config.model_validate({"beam": 4, "scorers": {"ngram": ngram, "hot": hot}}),
    }


def speech(model: Model, utterances: int) -> tuple[EncoderOut, list[list[int]]]:
    """Encoder output that makes ``model``, which has durations, say the tokens that come with it."""
    generator = torch.Generator().manual_seed(2)
    lens_B = torch.randint(125, 375, (utterances,), generator=generator)
    frames_BSD = torch.zeros(utterances, int(lens_B.max()), model.joiner.output_linear.in_features)
    signs = model.joiner.output_linear.weight.detach().sign()
    texts = []
    for b, length in enumerate(lens_B.tolist()):
        starts = torch.randint(1, 14, (length,), generator=generator).cumsum(0)
        starts = starts[starts < length]
        tokens_S = torch.full((length,), BLANK)
        tokens_S[starts] = torch.randint(1, model.vocab_size, (len(starts),), generator=generator)
        texts.append(tokens_S[starts].tolist())
        ahead_S = torch.searchsorted(starts, torch.arange(length), right=True)
        until_S = torch.cat([starts, torch.tensor([length])])[ahead_S] - torch.arange(length)
        frames_BSD[b, :length] = signs[tokens_S] + signs[model.vocab_size + until_S.clamp(max=max(DURATIONS))]
    frames_BSD += DOUBT * torch.randn(frames_BSD.shape, generator=generator)
    return EncoderOut(frames_BSD, lens_B), texts


def measured(
    model: Model, encoder_out: EncoderOut, texts: list[list[int]], words: Words | None, config: Any, seconds: float
) -> tuple[float, int, float, float]:
    """(seconds, calls of the joiner, its evaluations per frame, token error rate)."""
    calls: list[int] = []
    hook = model.joiner.register_forward_hook(lambda module, inputs, logits: calls.append(logits.numel() // logits.shape[-1]))
    found = build_search(config, model, words, words).decode(encoder_out)
    hook.remove()
    search = build_search(config, model, words, words)
    errors = sum(kaldialign.edit_distance(text, list(best[0].tokens))["total"] for text, best in zip(texts, found))
    elapsed = best_time(lambda: search.decode(encoder_out), seconds)
    return elapsed, len(calls), sum(calls) / int(encoder_out.lens_B.sum()), errors / sum(map(len, texts))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vocabulary", type=int, default=500)
    parser.add_argument("--dim", type=int, default=512, help="channels of predictor and joiner")
    parser.add_argument("--utterances", type=int, default=50, help="utterances in the batch")
    parser.add_argument("--beams", type=int, nargs="*", default=[1, 4, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scorers", action="store_true", help="also the searches with scorers, and those of CTC")


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    models = {"RNN-T": Model(args.vocabulary, args.dim, ()).eval(), "TDT": Model(args.vocabulary, args.dim, DURATIONS).eval()}
    models["RNN-T"].predictor.load_state_dict(models["TDT"].predictor.state_dict())
    models["RNN-T"].joiner.predictor_proj.load_state_dict(models["TDT"].joiner.predictor_proj.state_dict())
    encoder_out, texts = speech(models["TDT"], args.utterances)
    encoder_out = EncoderOut(encoder_out.frames_BSD.to(args.device), encoder_out.lens_B.to(args.device))
    for model in models.values():
        model.to(args.device)
    frames = int(encoder_out.lens_B.sum())
    print(
        f"torch {torch.__version__} on {args.device}, {args.threads} thread(s): {args.utterances} utterances, {0.04 * frames:.0f} s, "
        f"{sum(map(len, texts))} tokens in {frames} frames, vocabulary {args.vocabulary}, dim {args.dim}"
    )
    print(f"{'search':<18}{'model':<8}{'ms':>8}{'x greedy':>10}{'x RNN-T':>9}{'calls':>8}{'per frame':>11}{'errors':>9}")
    greedy: dict[str, float] = {}
    searches: dict[str, Any] = {"greedy": Greedy.Config(), **{f"beam {k}": ModifiedBeam.Config(beam=k) for k in args.beams}}
    directory = TemporaryDirectory()
    words = Words(args.vocabulary, texts, Path(directory.name)) if args.scorers else None
    searches.update(with_scorers(texts) if args.scorers else {})
    for name, config in searches.items():
        for family, model in models.items():
            if family == "TDT" and (name.startswith("CTC") or name == "greedy, skipping"):
                continue
            elapsed, calls, evaluations, errors = measured(model, encoder_out, texts, words, config, args.seconds)
            own, rnnt = greedy.setdefault(family, elapsed), greedy["RNN-T"]
            ratios = f"{elapsed / own:>10.2f}{elapsed / rnnt:>9.2f}"
            print(f"{name:<18}{family:<8}{1e3 * elapsed:>8.1f}{ratios}{calls:>8}{evaluations:>11.2f}{errors:>9.1%}")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
