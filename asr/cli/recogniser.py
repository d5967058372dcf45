"""What recognises: an experiment's weights, tokenizer and language directory, as the commands that use a trained model load them."""
from __future__ import annotations

import argparse
from typing import Any

import torch

from asr.decode.driver import Recogniser
from asr.files import digest_of, fingerprint


def recogniser_arguments(parser: argparse.ArgumentParser) -> None:
    """``--partial`` and ``--device``, for :func:`load_recogniser`."""
    parser.add_argument("--partial", action="store_true", help="use the weights there are, though training has not come to its end")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda or cuda:N")


def load_recogniser(config: Any, layout: Any, device: str, partial: bool = False) -> Recogniser:
    """The experiment's averaged model on ``device``, its tokenizer and, where there is one, its language directory.

    Raises ValueError where training has not come to its end, unless ``partial``.
    """
    from asr.experiment import experiment_tokenizer, trained_model
    from asr.lang import Lang

    if layout.unfinished.exists() and not partial:
        raise ValueError(f"{layout.exp}: training has not come to its end: let the same 'asr train' command go on, "
                         "or add --partial to use the weights there are")
    tokenizer = experiment_tokenizer(layout)
    model = trained_model(config, layout.exp, tokenizer)
    epochs = "the last third of the" if config.decode.average_epochs is None else f"the last {config.decode.average_epochs}"
    digest = digest_of(model.state_dict())
    weights = f"{config.decode.average} average of {epochs} epochs, {digest[:12]}"
    return Recogniser(
        model=model.to(device).eval(), tokenizer=tokenizer, lang=Lang(layout.lang) if layout.lang.is_dir() else None,
        frame_shift=config.features.frame_shift, checkpoint=weights, chunk=config.decode.chunk,
        digest=fingerprint(digest, config.model.model_dump(mode="json"), *([] if config.decode.chunk is None else ["chunks"])),
    )
