"""Small random models and encoder outputs, for every test of searches."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal, Sequence

import torch

from asr.models.ctc import CtcHead
from asr.models.joiner import Joiner
from asr.models.predictors import PREDICTORS
from asr.types import EncoderOut

VOCABULARY = 7
DIM = 12


def random_model(
    seed: int = 0, predictor: str = "stateless", sharpness: float = 6.0, durations: tuple[int, ...] = (), vocabulary: int = VOCABULARY,
    blank: Literal["softmax", "sigmoid"] = "softmax",
) -> Any:
    """All of a transducer that a search uses, without an encoder, with random weights that make distributions neither flat nor certain."""
    torch.manual_seed(seed)
    predictor_config = PREDICTORS[predictor].Config(dim=8)
    model = torch.nn.Module()
    model.vocab_size = vocabulary
    model.predictor = PREDICTORS[predictor](predictor_config, vocabulary)
    model.joiner = Joiner(Joiner.Config(dim=10, durations=durations, blank=blank), DIM, 8, vocabulary)
    model.ctc = CtcHead(CtcHead.Config(), DIM, vocabulary)
    model.ctc_log_probs = lambda out: model.ctc(out.frames_BSD)
    with torch.no_grad():
        model.joiner.output_linear.weight *= sharpness
        model.joiner.output_linear.bias[0] += 1.0
        model.ctc.output_linear.weight *= sharpness
    return model.eval()


def random_encoder_out(seed: int = 1, lens: tuple[int, ...] = (9, 23, 1, 16, 23)) -> EncoderOut:
    """Frames beyond each length are huge, so that a search that reads them is found out."""
    torch.manual_seed(seed)
    frames_BSD = torch.full((len(lens), max(lens), DIM), 1e3)
    for b, n in enumerate(lens):
        frames_BSD[b, :n] = torch.randn(n, DIM)
    return EncoderOut(frames_BSD, torch.tensor(lens))


def one_by_one(encoder_out: EncoderOut) -> list[EncoderOut]:
    return [EncoderOut(f[None, :n], torch.tensor([n])) for f, n in zip(encoder_out.frames_BSD, encoder_out.lens_B.tolist())]


def log_probs(model: Any, frame_D: torch.Tensor, tokens: list[int], blank_penalty: float = 0.0) -> torch.Tensor:
    """(V,) the slow way: the predictor runs over the whole sequence."""
    return both_log_probs(model, frame_D, tokens, blank_penalty)[0]


def both_log_probs(
    model: Any, frame_D: torch.Tensor, tokens: Sequence[int], blank_penalty: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of tokens (V,) and of durations, empty for an RNN-T. A blank apart is factorised as the paper has it."""
    out_UD = model.predictor(torch.tensor([tokens], dtype=torch.int64))[0]
    joiner = model.joiner
    hidden_J = torch.tanh(joiner.project_encoder(frame_D) + joiner.project_predictor(out_UD[-1]))
    logits, durations = joiner.split(joiner.output_linear(hidden_J).clone())
    logits[0] -= blank_penalty
    if not joiner.blank_apart:
        return logits.log_softmax(0), durations.log_softmax(0)
    blank = logits[0].sigmoid()
    return torch.cat([blank.view(1), (1 - blank) * logits[1:].softmax(0)]).log(), durations.log_softmax(0)


TOKENIZER = SimpleNamespace(vocab_size=VOCABULARY)
