"""Decoding with a trained model: real-time factors of its components, searches beside greedy search, and memory.

    asr bench decode --exp-dir exp/x [--split test] [--minutes 5]
    asr bench decode --exp-dir exp/x --hours 3 --recording-hours 1

The first --minutes of the split, in batches as 'asr decode' makes them. A time is the best of several runs: in CPU seconds on one thread,
which other programs disturb less, else by the clock. Hot words are the first two words of twenty transcripts, the n-gram is token.arpa.
--hours: 'asr decode' of a test set that long, which is the split again and again, with the last of the searches.
--recording-hours: 'asr transcribe' of a recording that long: by chunks where the encoder can stream, else cut at pauses.
Of both, the memory of the process is printed after each quarter; it should not grow.
"""
from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from asr.bench.timing import best_time, resident
from asr.data import evaluation_loader, iterate_transcripts, read_cuts
from asr.data.recordings import audio_batches, feature_pieces
from asr.decode import DecodeConfig, StreamingSearch, Unavailable, build_search
from asr.decode.driver import Driver, Recogniser, Reference, Split
from asr.decode.streaming import can_stream, recognise
from asr.decode.words import to_text
from asr.features import Units, open_features
from asr.lang import Lang
from asr.types import Batch

PHRASES = 20
BEAM, BEAM_AND_ALL = "beam 4", "beam 4, hot words, n-gram"
TARGETS = {BEAM: 4, BEAM_AND_ALL: 6}
"""How many times the time of greedy search a search may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--exp-dir", type=Path, required=True, help="a trained experiment")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="its manifests, features and language (default: data)")
    parser.add_argument("--split", default="test")
    parser.add_argument("--minutes", type=float, default=5.0, help="of audio that speeds are measured on")
    parser.add_argument("--hours", type=float, default=0.0, help="length of a test set to decode (default: none)")
    parser.add_argument("--recording-hours", type=float, default=0.0, help="length of a recording to transcribe (default: none)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> None:
    from asr.experiment import Layout, beside, experiment_tokenizer, load_experiment, trained_model

    torch.set_num_threads(args.threads)
    config = load_experiment(args.exp_dir)
    layout = Layout(config, args.data_dir, args.exp_dir)
    tokenizer, lang = experiment_tokenizer(layout), Lang(layout.lang) if layout.lang.is_dir() else None
    model = trained_model(config, args.exp_dir, tokenizer).to(args.device).eval()
    recogniser = Recogniser(model, tokenizer, lang, config.features.frame_shift, "", "", config.decode.chunk)
    extractor = open_features(config.features, layout.own_extractor(config.features), args.device)
    audio, texts = utterances(layout.cuts(args.split), 60 * args.minutes)
    searches = searches_for(texts)
    build = partial(build_search, model=model, tokenizer=tokenizer, lang=lang)
    print(f"torch {torch.__version__} on {args.device}, {args.threads} thread(s): {args.exp_dir}, {len(audio)} utterances of {args.split}")
    with torch.no_grad():
        last = speed(args, recogniser, extractor, searches, build, audio, config.decode.max_duration)
        with TemporaryDirectory() as name:
            directory = Path(name)
            if args.hours:
                cuts, wanted = layout.features(args.split), beside(config, layout, args.split, targets=False)
                loader = evaluation_loader(cuts, config.features, max_duration=config.decode.max_duration, beside=wanted)
                driver = Driver(recogniser, {last: searches[last]}, build, directory / "tuned.json")
                long_test_set(driver, cuts, loader, args.hours, directory)
            if args.recording_hours:
                hours, search = args.recording_hours, build(searches[BEAM])
                long_recording(recogniser, search, extractor, audio.values(), hours, config.decode.max_duration, directory)


def utterances(cuts: Path, seconds: float) -> tuple[dict[str, Tensor], list[str]]:
    """Samples by id of the first utterances of a split that have so many seconds together, the longest first; and their transcripts."""
    audio: dict[str, Tensor] = {}
    texts = []
    for cut in read_cuts(cuts):
        audio[cut.id] = torch.from_numpy(cut.load_audio()[0])
        texts.append(cut.supervisions[0].text)
        seconds -= cut.duration
        if seconds <= 0:
            break
    return dict(sorted(audio.items(), key=lambda item: -len(item[1]))), texts


def searches_for(texts: list[str]) -> dict[str, Any]:
    """Greedy search, modified beam search, and that with hot words from ``texts`` and an n-gram."""
    phrases = list(dict.fromkeys(" ".join(text.split()[:2]) for text in texts if text))[:PHRASES]
    scorers = {"ngram": {"type": "ngram"}, "hot": {"type": "hotwords", "phrases": dict.fromkeys(phrases, 1.0)}}
    beam = {"type": "modified_beam", "beam": 4}
    searches = {"greedy": {"type": "greedy"}, BEAM: beam, BEAM_AND_ALL: {**beam, "scorers": scorers}}
    return DecodeConfig.model_validate({"searches": searches}).searches


def speed(
    args: argparse.Namespace, recogniser: Recogniser, extractor: Any, searches: dict[str, Any], build: Callable[[Any], Any],
    audio: dict[str, Tensor], max_duration: float,
) -> str:
    """Prints a row for each component, and gives the name of the last search."""
    seconds = sum(map(len, audio.values())) / extractor.config.sample_rate
    timed = partial(best_time, seconds=args.seconds, device=args.device)
    batches = [batch.to(args.device) for batch in audio_batches(audio.items(), extractor, max_duration)]

    def encode(batch: Batch) -> Any:
        return recogniser.model.encode(batch.features_BTF, batch.feature_lens_B)

    def decode(search: Any) -> Any:
        return [search.decode(out) for out in encoded]

    encoded = [encode(batch) for batch in batches]
    print(f"{seconds:.0f} s in {len(batches)} batches, {sum(int(out.lens_B.sum()) for out in encoded)} encoder frames\n")
    print(f"{'':<28}{'seconds':>9}{'real-time factor':>18}{'x greedy':>10}")

    def report(part: str, elapsed: float, greedy: float | None = None, target: int | None = None) -> None:
        ratio = "" if greedy is None else f"{elapsed / greedy:>10.2f}" + ("" if target is None else f"  (at most {target})")
        print(f"{part:<28}{elapsed:>9.3f}{elapsed / seconds:>18.5f}{ratio}", flush=True)

    report("features", timed(lambda: [extractor(samples) for samples in audio.values()]))
    report("encoder", timed(lambda: [encode(batch) for batch in batches]))
    greedy, last = math.nan, ""
    for name, config in searches.items():
        try:
            search = build(config)
        except Unavailable as error:
            print(f"{name:<28}skipped: {error}")
            continue
        elapsed = timed(partial(decode, search))
        greedy, last = elapsed if name == "greedy" else greedy, name
        report(name, elapsed, greedy, TARGETS.get(name))
    print(f"peak memory of the process: {resident('VmHWM') / 2**20:.0f} MiB")
    return last


def long_test_set(driver: Driver, cuts: Path, loader: Iterable[Batch], hours: float, directory: Path) -> None:
    """Decodes the split of ``loader`` as often as fills so many hours, under other ids each time, as 'asr decode' does."""
    once = list(iterate_transcripts(cuts))
    passes = math.ceil(3600 * hours / sum(transcript.duration for transcript in once))
    references = {f"{t.id}#{n}": Reference(t.text, t.speaker, t.duration) for n in range(passes) for t in once}
    renamed = (replace(batch, ids=tuple(f"{id}#{n}" for id in batch.ids)) for n in range(passes) for batch in loader)
    total = sum(reference.duration for reference in references.values())
    print(f"\n{', '.join(driver.searches)}: {total / 3600:.2f} h in {len(references)} utterances")
    started = time.process_time()
    driver.decode(Split("repeated", references, "", directory), lambda: watched(renamed, lambda b: sum(b.durations), total), tune=False)
    print(f"real-time factor of all of it {(time.process_time() - started) / total:.5f}")


def long_recording(
    recogniser: Recogniser, search: Any, extractor: Any, audio: Iterable[Tensor], hours: float, max_duration: float, directory: Path
) -> None:
    """Recognises the utterances of ``audio``, again and again without pauses, as one recording, as 'asr transcribe' does."""
    import soundfile

    if isinstance(extractor, Units):
        print("\nno recording: units are made of whole files")
        return
    path, config = directory / "recording.wav", extractor.config
    samples = round(3600 * hours * config.sample_rate)
    with soundfile.SoundFile(path, "w", config.sample_rate, 1) as file:
        for utterance in cycle(audio):
            file.write(utterance[: samples - file.frames].numpy())
            if file.frames >= samples:
                break
    way = "streamed" if can_stream(recogniser.model) and isinstance(search, StreamingSearch) else "cut at pauses"
    print(f"\na recording of {hours:g} h, {way}")
    pieces = watched(feature_pieces(path, config, extractor), lambda piece: len(piece) * config.frame_shift, 3600 * hours)
    started = time.process_time()
    found = recognise(recogniser, search, pieces, config.padding_value, max_duration)
    words = len(to_text(found, recogniser.tokenizer).split())
    print(f"real-time factor of all of it {(time.process_time() - started) / (3600 * hours):.5f}, {words} words")


T = TypeVar("T")


def watched(items: Iterable[T], seconds: Callable[[T], float], total: float) -> Iterator[T]:
    """The items with a progress bar, and the memory of the process after each quarter of ``total`` seconds."""
    done, quarters = 0.0, 0
    with tqdm(total=round(total), unit="s", disable=None) as bar:
        for item in items:
            yield item
            done += seconds(item)
            bar.update(round(done) - bar.n)
            while quarters < 4 and done >= 0.999 * total * (quarters + 1) / 4:
                quarters += 1
                tqdm.write(f"after {quarters}/4: {resident('VmRSS') / 2**20:.0f} MiB")
