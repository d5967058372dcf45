"""What ``train.batches.max_duration: auto`` stands for: the number of the run that is resumed, or one that is found by trying."""
from __future__ import annotations

from asr.data import extremes
from asr.experiment import ExperimentConfig, Layout, build_model, experiment_losses, load_experiment, split_cuts, unusable
from asr.tokens import Tokenizer
from asr.train.batch_size import find_max_duration
from asr.train.distributed import Ranks


def with_batch_size(config: ExperimentConfig, layout: Layout, tokenizer: Tokenizer, ranks: Ranks, resume: str) -> ExperimentConfig:
    """The config with a number in place of ``auto``. Raises ValueError as ``find_max_duration`` does."""
    if config.train.batches.max_duration != "auto":
        return config
    if resume == "auto" and layout.config_file.exists() and any(layout.checkpoints.glob("*.pt")):
        seconds = load_experiment(layout.exp).train.batches.seconds
    elif any(loss.type == "mvq" for loss in config.losses.values()):
        raise ValueError("train.batches.max_duration: auto cannot try an mvq loss, whose codes it does not have: set a number of seconds")
    else:
        model = build_model(config, tokenizer)
        exclude = {item.id for item in unusable(config, layout, "train", tokenizer, model)}
        worst = extremes(split_cuts(config, layout, "train"), config.train.batches, config.features, tokenizer, exclude)
        seconds = find_max_duration(config.train, model, experiment_losses(config, model, tokenizer), worst, ranks)
    batches = config.train.batches.model_copy(update={"max_duration": seconds})
    return config.model_copy(update={"train": config.train.model_copy(update={"batches": batches})})
