"""CTC best path: the likeliest token of each frame, repeats merged, blanks dropped (Graves et al., ICML 2006, section 3.2)."""
from __future__ import annotations

from typing import Any, Literal

import torch

from asr.decode.search import SearchConfig, Unavailable
from asr.types import BLANK, EncoderOut, Hypothesis


class CtcGreedy:
    """Frames are those where a token's run starts; a token's confidence is its highest posterior in the run."""

    class Config(SearchConfig):
        type: Literal["ctc_greedy"] = "ctc_greedy"

    def __init__(self, config: "CtcGreedy.Config", model: Any, tokenizer: Any = None, lang: Any = None) -> None:
        need_ctc_head(model)
        self.model = model

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        best_BS, token_BS = self.model.ctc_log_probs(encoder_out).max(-1)
        outside_BS = torch.arange(best_BS.shape[1], device=best_BS.device) >= encoder_out.lens_B.unsqueeze(1)
        token_BS = token_BS.masked_fill(outside_BS, BLANK)
        score_B = best_BS.double().masked_fill(outside_BS, 0.0).sum(1)
        new_BS = torch.ones_like(outside_BS)
        new_BS[:, 1:] = token_BS[:, 1:] != token_BS[:, :-1]
        run_BS = new_BS.cumsum(1) - 1  # number of the run that each frame belongs to
        top_BS = torch.full_like(best_BS, -torch.inf).scatter_reduce(1, run_BS, best_BS, "amax")
        confidence_BS = top_BS.gather(1, run_BS).exp()
        emits_BS = new_BS & (token_BS != BLANK)
        results = []
        rows = zip(emits_BS.cpu(), token_BS.cpu(), confidence_BS.cpu(), score_B.tolist())
        for emits_S, token_S, confidence_S, score in rows:
            frames = tuple(emits_S.nonzero().squeeze(1).tolist())
            tokens, confidences = tuple(token_S[emits_S].tolist()), tuple(confidence_S[emits_S].tolist())
            results.append([Hypothesis(tokens, score, {"model": score}, frames=frames, confidences=confidences)])
        return results


def need_ctc_head(model: Any) -> None:
    if model.ctc is None:
        raise Unavailable("the model has no CTC head ('model.ctc: {}' with a ctc loss trains one)")
