"""CTC best path: the likeliest token of each frame, repeats merged, blanks dropped (Graves et al., ICML 2006, section 3.2)."""
from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from asr.decode.search import SearchConfig, Unavailable
from asr.types import BLANK, EncoderOut, Hypothesis


class CtcGreedy:
    """A token's frame is where its run starts, its duration the length of the run, its confidence the highest posterior in it."""

    class Config(SearchConfig):
        type: Literal["ctc_greedy"] = "ctc_greedy"

    def __init__(self, config: "CtcGreedy.Config", model: Any, tokenizer: Any = None, lang: Any = None) -> None:
        need_ctc_head(model)
        self.model = model

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        best_BS, token_BS = (part.cpu().numpy() for part in self.model.ctc_log_probs(encoder_out).max(-1))
        inside_BS = np.arange(best_BS.shape[1]) < encoder_out.lens_B.cpu().numpy()[:, None]
        token_BS = np.where(inside_BS, token_BS, BLANK)
        score_B = best_BS.sum(axis=1, where=inside_BS, dtype=np.float64)
        starts_BS = np.ones_like(inside_BS)  # whether a run of equal labels starts here
        starts_BS[:, 1:] = token_BS[:, 1:] != token_BS[:, :-1]
        top_BS = np.zeros_like(best_BS)
        top_BS[starts_BS] = np.maximum.reduceat(best_BS.ravel(), np.flatnonzero(starts_BS))
        ends_BS = np.ones_like(inside_BS)  # whether it ends here
        ends_BS[:, :-1] = starts_BS[:, 1:]
        results = []
        for row, score in enumerate(score_B.tolist()):
            frames = np.flatnonzero(starts_BS[row] & (token_BS[row] != BLANK))
            durations = np.flatnonzero(ends_BS[row] & (token_BS[row] != BLANK)) - frames + 1
            confidences = np.exp(top_BS[row, frames]).tolist()
            tokens = token_BS[row, frames].tolist()
            results.append([Hypothesis(tuple(tokens), score, {"model": score}, tuple(frames.tolist()), tuple(confidences),
                                       durations=tuple(durations.tolist()))])
        return results


def need_ctc_head(model: Any) -> None:
    if model.ctc is None:
        raise Unavailable("the model has no CTC head ('model.ctc: {}' with a ctc loss trains one)")
