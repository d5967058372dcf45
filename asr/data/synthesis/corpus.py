"""The numbers corpus on disk: synthesised speech of many voices with light channel noise, laid out like any other corpus.

    corpus_dir/
      settings.json      what it was made from
      audio/<speaker>/<id>.wav          16 kHz, 16-bit, mono
      speakers.tsv       speaker voice variant pitch rate split
      transcripts.tsv    id audio text speaker split      (audio relative to corpus_dir; written last)
      lm_text.txt        more sentences of the same grammar, for language models
      README.md          its size, and how much of dev and test is seen in training

Every file is a function of the settings alone: which utterances exist already, and how many jobs write them, changes nothing.
"""
from __future__ import annotations

import difflib
import io
import json
import random
import shutil
import zlib
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Iterable, Sequence

import numpy as np
import soundfile
from pydantic import Field
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import resample_poly
from tqdm import tqdm

from asr.config import Config
from asr.data.synthesis import espeak
from asr.data.synthesis.grammar import Grammar, build_grammar
from asr.files import atomic_dir, atomic_write
from asr.tokens.espeak import SAMPLE_RATE as ESPEAK_RATE

SPLITS = ("train", "dev", "test")
SAMPLE_RATE = 16000

VARIANTS = (
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco",
    "Mario", "Michael", "Mike", "Nguyen", "Reed", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb",
    "david", "ed", "edward", "edward2", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa", "gustave", "ian", "iven", "iven2",
    "iven3", "iven4", "john", "kaukovalta", "klatt", "klatt3", "klatt5", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8",
    "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro",
    "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac",
)
"""eSpeak's voice variants without its robots, whisperers and other special effects."""

_EVALUATION_SHARE = 0.15  # of the speakers, for dev and for test each
_REDRAWS = 30
_ESPEAK_LANGUAGE = {"no": "nb", "kz": "kk"}  # where num2words names a language otherwise
_OTHER_SCRIPTS = ("latn", "shaw")  # voices that read a language in a script num2words does not write


class SynthesisConfig(Config):
    """What the corpus is made from. Utterance counts are per split; speakers are shared out 70/15/15."""

    lang: str = "en"
    utterances: int = Field(2000, ge=1)
    dev_utterances: int = Field(200, ge=1)
    test_utterances: int = Field(350, ge=1)
    speakers: int = Field(72, ge=3)
    lm_sentences: int = Field(20000, ge=0)
    seed: int = Field(0, ge=0)
    snr_db: tuple[float, float] = (10.0, 30.0)
    rate: tuple[int, int] = (120, 180)
    """Words per minute, range over speakers."""
    pitch: tuple[int, int] = (30, 70)


@dataclass(frozen=True)
class Speaker:
    speaker: str
    voice: str
    variant: str
    pitch: int
    rate: int
    split: str


@dataclass(frozen=True)
class Item:
    """One utterance of the plan."""

    id: str
    text: str
    speaker: Speaker

    @property
    def audio(self) -> str:
        return f"audio/{self.speaker.speaker}/{self.id}.wav"


@dataclass(frozen=True)
class Language:
    """A language both programs know: num2words's code, and the eSpeak voices that speak it."""

    num2words: str
    voices: tuple[str, ...]


@dataclass(frozen=True)
class Texts:
    """Sentences of each split, and those for language models."""

    splits: dict[str, list[str]]
    lm: list[str]

    def seen(self, split: str, texts: Sequence[str]) -> str:
        """Share of the split's utterances whose sentence occurs in ``texts`` too."""
        known = set(texts)
        return f"{sum(text in known for text in self.splits[split]) / len(self.splits[split]):.1%}"


def synthesise(config: SynthesisConfig, corpus_dir: Path, jobs: int = 1) -> None:
    """Writes the corpus; what an interrupted run has finished is kept.

    Raises ValueError for a language that eSpeak or num2words lacks, and where ``corpus_dir`` holds something else.
    """
    language = find_language(config.lang)
    _claim(corpus_dir, config)
    if (corpus_dir / "transcripts.tsv").exists():
        return
    texts = draw_texts(config, build_grammar(language.num2words))
    speakers = draw_speakers(config, language)
    items = plan(texts, speakers)
    _write_audio(items, corpus_dir, config, jobs)
    with atomic_write(corpus_dir / "lm_text.txt") as file:
        file.writelines(f"{text}\n" for text in texts.lm)
    with atomic_write(corpus_dir / "README.md") as file:
        file.write(_readme(language, texts, speakers, items, corpus_dir))
    columns = ("speaker", "voice", "variant", "pitch", "rate", "split")
    _write_table(corpus_dir / "speakers.tsv", columns, ([getattr(s, c) for c in columns] for s in speakers))
    _write_table(corpus_dir / "transcripts.tsv", ("id", "audio", "text", "speaker", "split"),
                 ([i.id, i.audio, i.text, i.speaker.speaker, i.speaker.split] for i in items))


def find_language(lang: str) -> Language:
    """``lang`` as a language tag of eSpeak ("pt-br") or a code of num2words ("pt_BR")."""
    from num2words import CONVERTER_CLASSES

    voices = next(espeak.in_fresh_processes(espeak.list_voices, [()]))
    codes = {code.lower().replace("_", "-"): code for code in CONVERTER_CLASSES}

    def speakers_of(tag: str) -> tuple[str, ...]:
        tag = _ESPEAK_LANGUAGE.get(tag, tag)
        return tuple(name for name, of in sorted(voices.items())
                     if f"{of}-".startswith(f"{tag}-") and not any(script in of for script in _OTHER_SCRIPTS))

    tag = lang.lower().replace("_", "-")
    primary = tag.partition("-")[0]
    code = codes.get(tag) or codes.get(primary)
    found = speakers_of(tag) or (speakers_of(primary) if tag in codes else ())
    if code and found:
        return Language(code, found)
    both = sorted(tag for tag in codes if speakers_of(tag))
    lacking = "num2words" if found else "eSpeak NG" if code else "neither eSpeak NG nor num2words"
    verb = "knows" if lacking.startswith("neither") else "does not know"
    near = difflib.get_close_matches(tag, both, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"--lang {lang}: {lacking} {verb} this language; {hint}Both know: {' '.join(both)}")


def draw_texts(config: SynthesisConfig, grammar: Grammar) -> Texts:
    """Sentences as a function of (seed, split, index). Those of dev and test are drawn again while training or language-model
    text has them, so that nothing is scored by heart, unless the grammar is too small for that."""
    def draw(split: str, count: int, avoid: set[str]) -> list[str]:
        sentences = []
        for index in range(count):
            rng = random.Random(f"{config.seed}/{split}/{index}")
            candidates = (grammar.sentence(rng) for _ in range(_REDRAWS))
            sentences.append(next((text for text in candidates if text not in avoid), "") or grammar.sentence(rng))
        return sentences

    train = draw("train", config.utterances, set())
    dev = draw("dev", config.dev_utterances, set(train))
    test = draw("test", config.test_utterances, set(train))
    return Texts({"train": train, "dev": dev, "test": test}, draw("lm", config.lm_sentences, {*dev, *test}))


def draw_speakers(config: SynthesisConfig, language: Language) -> list[Speaker]:
    """Speakers of all splits. No two splits share a variant, so none shares a timbre."""
    rng = random.Random(f"{config.seed}/speakers")
    variants = rng.sample(VARIANTS, len(VARIANTS))
    evaluation = max(1, round(_EVALUATION_SHARE * config.speakers))
    counts = {"train": config.speakers - 2 * evaluation, "dev": evaluation, "test": evaluation}
    held_out = round(_EVALUATION_SHARE * len(variants))
    pools = {"dev": variants[:held_out], "test": variants[held_out : 2 * held_out], "train": variants[2 * held_out :]}
    speakers: list[Speaker] = []
    for split in SPLITS:
        for index in range(counts[split]):
            speakers.append(Speaker(
                speaker=f"{split}{index + 1:03d}", voice=rng.choice(language.voices), variant=pools[split][index % len(pools[split])],
                pitch=rng.randint(*config.pitch), rate=rng.randint(*config.rate), split=split))
    return speakers


def plan(texts: Texts, speakers: Sequence[Speaker]) -> list[Item]:
    """Who says what: the sentences of a split go round its speakers. Sorted by id."""
    items = []
    for split in SPLITS:
        of_split = [speaker for speaker in speakers if speaker.split == split]
        for index, text in enumerate(texts.splits[split]):
            speaker = of_split[index % len(of_split)]
            items.append(Item(f"{speaker.speaker}-{index // len(of_split) + 1:04d}", text, speaker))
    return sorted(items, key=lambda item: item.id)


def _claim(corpus_dir: Path, config: SynthesisConfig) -> None:
    """Marks an empty directory as this corpus; refuses one that holds anything else."""
    mark = corpus_dir / "settings.json"
    settings = config.model_dump(mode="json")
    if mark.exists():
        old = json.loads(mark.read_text(encoding="utf-8"))
        changed = [f"{key} {old.get(key)} instead of {new}" for key, new in settings.items() if old.get(key) != new]
        if changed:
            raise ValueError(f"{corpus_dir}: holds a corpus made with {', '.join(changed)}; name another directory or remove this one")
    elif corpus_dir.is_dir() and any(corpus_dir.iterdir()):
        raise ValueError(f"{corpus_dir}: is not empty and not a corpus of this program; name another directory")
    else:
        with atomic_write(mark) as file:
            json.dump(settings, file, indent=1)


def _write_audio(items: Sequence[Item], corpus_dir: Path, config: SynthesisConfig, jobs: int) -> None:
    """A process and a directory per speaker: what eSpeak says depends on what its process said before."""
    for leftover in (corpus_dir / "audio").glob(".*.part"):  # of a run that was killed
        shutil.rmtree(leftover)
    tasks = [(list(said), corpus_dir, config.seed, config.snr_db) for _, said in groupby(items, key=lambda item: item.speaker.speaker)]
    missing = [task for task in tasks if not (corpus_dir / task[0][0].audio).parent.exists()]
    finished = len(items) - sum(len(task[0]) for task in missing)
    with tqdm(total=len(items), initial=finished, desc="synthesise", unit="utt", leave=False) as progress:
        for written in espeak.in_fresh_processes(_write_speaker, missing, jobs):
            progress.update(written)


def _write_speaker(items: Sequence[Item], corpus_dir: Path, seed: int, snr_db: tuple[float, float]) -> int:
    with atomic_dir((corpus_dir / items[0].audio).parent) as directory:
        for item in items:
            item_seed, speaker = zlib.crc32(f"{seed}/{item.id}".encode()), item.speaker
            speech = espeak.say(item.text, speaker.voice, speaker.variant, pitch=speaker.pitch, rate=speaker.rate, seed=item_seed >> 1)
            samples = add_channel(_to_corpus_rate(speech), np.random.default_rng(item_seed), snr_db)
            wav = io.BytesIO()  # not straight to the file: libsndfile hides why a write fails, such as a full disk
            soundfile.write(wav, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
            (directory / f"{item.id}.wav").write_bytes(wav.getvalue())
    return len(items)


def _to_corpus_rate(speech: np.ndarray) -> np.ndarray:
    """int16 at eSpeak's rate -> float64 in -1..1 at ``SAMPLE_RATE``, silence at both ends cut off."""
    loud = np.flatnonzero(np.abs(speech.astype(np.int32)) > 150)
    assert len(loud), "eSpeak gave nothing but silence"
    return resample_poly(speech[loud[0] : loud[-1] + 1] / 32768.0, SAMPLE_RATE, ESPEAK_RATE)


def add_channel(speech: np.ndarray, rng: np.random.Generator, snr_db: tuple[float, float]) -> np.ndarray:
    """Pauses of 0.05 to 0.2 s around ``speech``, white or pink noise at a random SNR, and a random volume (peak at -20 to -2 dB)."""
    before, after = (rng.uniform(0.05, 0.2, 2) * SAMPLE_RATE).astype(int)
    noise = rng.standard_normal(before + len(speech) + after)
    if rng.random() < 0.5:
        length = next_fast_len(len(noise), real=True)
        spectrum = rfft(noise, length)
        noise = irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), length)[: len(noise)]
    ratio = 10 ** (-rng.uniform(*snr_db) / 20)
    noise *= ratio * np.sqrt(np.mean(speech**2) / np.mean(noise**2))
    noise[before : before + len(speech)] += speech
    return noise * (10 ** (rng.uniform(-20, -2) / 20) / np.abs(noise).max())


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_write(path) as file:
        for row in (columns, *rows):
            file.write("\t".join(map(str, row)) + "\n")


def _readme(language: Language, texts: Texts, speakers: Sequence[Speaker], items: Sequence[Item], corpus_dir: Path) -> str:
    vocabulary = {word for text in texts.splits["train"] for word in text.split()}
    lines = [
        "# numbers", "",
        f"Spoken numbers and short commands (num2words language {language.num2words}), "
        f"said by the eSpeak NG voices {', '.join(language.voices)}.",
        "Made by local/synthesise_corpus.py; settings.json makes it again, byte for byte, on the same versions of the libraries.", "",
        f"{len(vocabulary)} different words in train; lm_text.txt: {len(texts.lm)} sentences of the same grammar.", "",
        "| split | utterances | minutes | speakers | words | sentences seen in train | in lm_text.txt |", "|---|---|---|---|---|---|---|",
    ]
    for split in SPLITS:
        seconds = sum(soundfile.info(corpus_dir / item.audio).duration for item in items if item.speaker.split == split)
        words = sum(len(text.split()) for text in texts.splits[split])
        seen = ("", "") if split == "train" else (texts.seen(split, texts.splits["train"]), texts.seen(split, texts.lm))
        count = sum(speaker.split == split for speaker in speakers)
        lines.append(f"| {split} | {len(texts.splits[split])} | {seconds / 60:.1f} | {count} | {words} | {seen[0]} | {seen[1]} |")
    return "\n".join(lines) + "\n"
