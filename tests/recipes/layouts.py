"""Corpora of a minute in the layouts of the real ones, with speech from eSpeak NG: what recipes read is what their publishers ship."""
from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from itertools import count
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import soundfile
from scipy.signal import resample_poly

from asr.data.synthesis import espeak
from asr.tokens.espeak import SAMPLE_RATE as ESPEAK_RATE

ENGLISH = (
    "the boy was there when the sun rose", "a rod is used to catch pink salmon", "the source of the huge river is the clear spring",
    "kick the ball straight and follow through", "help the woman get back to her feet", "a pot of tea helps to pass the evening",
    "smoky fires lack flame and heat", "the soft cushion broke the man's fall",
)
SWAHILI = (
    "habari ya asubuhi rafiki yangu", "tunakwenda sokoni kununua matunda", "mvua ilinyesha sana usiku wa jana", "watoto wanacheza nje",
    "mwalimu anafundisha darasani", "ninapenda kusoma vitabu vya zamani", "gari limesimama karibu na nyumba", "maji ya kunywa ni muhimu",
)
MANDARIN = (
    "今天天气很好", "我们去公园散步", "他每天早上喝茶", "请把窗户打开",
    "明天下午三点开会", "这本书非常有意思", "火车几点出发", "她会说三种语言",
)
THAI = (
    "วันนี้อากาศดีมาก", "เราไปเดินเล่นที่สวน", "เขาดื่มชาทุกเช้า", "กรุณาเปิดหน้าต่าง",
    "พรุ่งนี้ประชุมบ่ายสาม", "หนังสือเล่มนี้น่าสนใจ", "รถไฟออกกี่โมง", "เธอพูดได้สามภาษา",
)
INDONESIAN = (
    "selamat pagi teman teman", "kami pergi ke pasar membeli buah", "hujan turun deras tadi malam", "anak anak bermain di halaman",
    "guru itu mengajar di kelas", "saya suka membaca buku lama", "mobil berhenti di dekat rumah", "air minum itu penting",
)
POLISH = (
    "dzisiaj pada deszcz", "kot śpi na starym krześle", "idziemy razem do szkoły", "moja siostra lubi czytać książki",
    "pociąg odjeżdża o siódmej", "zupa jest bardzo gorąca", "dzieci bawią się w ogrodzie", "proszę zamknąć okno",
)
CROATIAN = (
    "danas je lijep i sunčan dan", "djeca se igraju u parku", "moramo donijeti ovu odluku", "gospodine predsjedniče hvala vam",
    "građani čekaju naš odgovor", "to je važno pitanje za europu", "sutra ćemo glasovati", "podržavam prijedlog izvješća",
)
DANISH = ("vejret er godt i dag", "jeg drikker en kop kaffe", "børnene leger i haven", "toget kører klokken otte")
GUJARATI = (
    "આજે હવામાન ખૂબ સારું છે", "મને ગુજરાતી ભાષા ગમે છે", "બાળકો બગીચામાં રમે છે", "અમે કાલે બજારમાં જઈશું",
    "આ પુસ્તક ઘણું રસપ્રદ છે", "ગાડી ક્યારે આવશે", "પાણી પીવું જરૂરી છે", "મારો ભાઈ શાળામાં ભણે છે",
)


def spoken(texts: Sequence[str], voice: str, number: int, sample_rate: int = 16000) -> list[np.ndarray]:
    """``number`` utterances, int16 (samples,), of the texts in turn."""
    tasks = [(index, texts[index % len(texts)], voice, index) for index in range(number)]
    found = dict(espeak.in_fresh_processes(_say, tasks, jobs=2))
    up, down = sample_rate // 50, ESPEAK_RATE // 50
    return [np.clip(resample_poly(found[index].astype(float), up, down), -32768, 32767).astype(np.int16) for index in range(number)]


def _say(index: int, text: str, voice: str, seed: int) -> tuple[int, np.ndarray]:
    return index, espeak.say(text, voice, "m3" if index % 2 else "f2", pitch=40 + index % 20, rate=200, seed=seed)


def write(path: Path, samples: np.ndarray, sample_rate: int = 16000, **how: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sample_rate, **how)
    return path


def joined(speech: Sequence[np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """One recording of several utterances with half a second after each, and the seconds at which each of them begins and ends."""
    pieces = [np.concatenate([samples, np.zeros(8000, np.int16)]) for samples in speech]
    starts = np.cumsum([0] + [len(piece) for piece in pieces]).tolist()
    return np.concatenate(pieces), [(start / 16000, (start + len(samples)) / 16000) for start, samples in zip(starts, speech)]


def librispeech(root: Path, parts: Sequence[str] = ("train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other")) -> Path:
    """<part>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac, and a .trans.txt for each chapter."""
    speakers = count(100)
    for part in parts:
        number = 24 if part.startswith("train") else 4
        speech = spoken(ENGLISH, "en-us", number)
        for start in range(0, number, 4):
            speaker, chapter = next(speakers), 7000 + start
            folder = root / part / str(speaker) / str(chapter)
            lines = []
            for index in range(start, start + 4):
                id = f"{speaker}-{chapter}-{index:04d}"
                write(folder / f"{id}.flac", speech[index])
                lines.append(f"{id} {ENGLISH[index % len(ENGLISH)].upper()}\n")
            (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return root


def mini_librispeech(root: Path) -> Path:
    return librispeech(root, ("train-clean-5", "dev-clean-2"))


def aishell(root: Path) -> Path:
    """data_aishell/wav/<split>/<speaker>/<id>.wav, and one transcript of all, words with spaces between them."""
    lines = []
    for split, number in (("train", 24), ("dev", 4), ("test", 4)):
        for index, samples in enumerate(spoken(MANDARIN, "cmn", number)):
            speaker = f"S{('train', 'dev', 'test').index(split)}{index % 4:03d}"
            id = f"BAC009{speaker}W{index:04d}"
            write(root / f"data_aishell/wav/{split}/{speaker}/{id}.wav", samples)
            text = MANDARIN[index % len(MANDARIN)]
            lines.append(f"{id} {text[:2]} {text[2:]}\n")
    transcript = root / "data_aishell/transcript/aishell_transcript_v0.8.txt"
    transcript.parent.mkdir()
    transcript.write_text("".join(lines), encoding="utf-8")
    return root


def commonvoice(root: Path) -> Path:
    """<split>.tsv with thirteen columns, and clips/ of MP3 at 32 kHz."""
    columns = ("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender", "accents",
               "variant", "locale", "segment")
    for split, number in (("train", 24), ("dev", 4), ("test", 4)):
        rows = ["\t".join(columns)]
        for index, samples in enumerate(spoken(SWAHILI, "sw", number, 32000)):
            name = f"common_voice_sw_{split}{index:05d}.mp3"
            write(root / "clips" / name, samples, 32000)
            sentence = SWAHILI[index % len(SWAHILI)].capitalize() + "."
            rows.append("\t".join((f"{split}{index % 4}", name, f"s{index}", sentence, "", "2", "0", "", "", "", "", "sw", "")))
        (root / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def tedlium3(root: Path) -> Path:
    """legacy/<split>/sph/<talk>.sph, and an STM file for each talk: times of its utterances, and stretches not to be scored."""
    for split, number in (("train", 24), ("dev", 4), ("test", 4)):
        speech = spoken(ENGLISH, "en-us", number)
        for talk, first in enumerate(range(0, number, 4)):
            name, lines = f"{split.capitalize()}Speaker_{talk}", []
            samples, times = joined(speech[first:first + 4])
            for index, (begin, end) in enumerate(times, start=first):
                text = ENGLISH[index].replace("'s", " 's") + (" {NOISE}" if index % 2 else " <unk>") if index < 8 else ENGLISH[index % 8]
                lines.append(f"{name} 1 {name} {begin:.2f} {end:.2f} <o,f0,male> {text}\n")
                lines.append(f"{name} 1 inter_segment_gap {end:.2f} {end + 0.5:.2f} <o,,unknown> ignore_time_segment_in_scoring\n")
            folder = root / "legacy" / split
            write(folder / f"sph/{name}.sph", samples, format="NIST", subtype="PCM_16")
            (folder / "stm").mkdir(exist_ok=True)
            (folder / f"stm/{name}.stm").write_text("".join(lines))
    return root


def an4(root: Path) -> Path:
    """etc/an4_<split>.fileids and .transcription, and wav/<set>/<speaker>/<id>.sph."""
    (root / "etc").mkdir(parents=True)
    for split, folder, number in (("train", "an4_clstk", 40), ("test", "an4test_clstk", 8)):
        listed, lines = [], []
        for index, samples in enumerate(spoken(ENGLISH, "en-us", number)):
            speaker = f"{'fm'[index % 2]}{split[-1]}{index % 10:02d}"
            id = f"an{index + 400 * (split == 'test')}-{speaker}-b"
            write(root / f"wav/{folder}/{speaker}/{id}.sph", samples, format="NIST", subtype="PCM_16")
            listed.append(f"{folder}/{speaker}/{id}\n")
            lines.append(f"<s> {ENGLISH[index % len(ENGLISH)].upper()} </s> ({id})\n")
        (root / f"etc/an4_{split}.fileids").write_text("".join(listed))
        (root / f"etc/an4_{split}.transcription").write_text("".join(lines))
    return root


def timit(root: Path) -> Path:
    """data/<TRAIN or TEST>/<dialect>/<speaker>/<sentence>.WAV as NIST SPHERE, beside it .TXT, .WRD and .PHN with times in samples."""
    speakers = {"TRAIN": [f"FTR{number}0" for number in range(6)], "TEST": ["FELC0", "MDAB0", "FAKS0", "MMDB0"]}
    phones = ("h#", "dh", "ax", "bcl", "b", "oy", "q", "w", "ax-h", "z", "h#")
    for part, names in speakers.items():
        speech = spoken(ENGLISH, "en-us", 5 * len(names))
        for place, speaker in enumerate(names):
            for number, sentence in enumerate(("SA1", "SX12", "SX102", "SI700", "SI1290")):
                samples = speech[5 * place + number]
                text = ENGLISH[(5 * place + number) % len(ENGLISH)]
                stem = root / f"data/{part}/DR1/{speaker}/{sentence}"
                write(stem.with_suffix(".WAV"), samples, format="NIST", subtype="PCM_16")
                stem.with_suffix(".TXT").write_text(f"0 {len(samples)} {text.capitalize()}.\n")
                stem.with_suffix(".WRD").write_text(_timed(text.split(), len(samples)))
                stem.with_suffix(".PHN").write_text(_timed(phones, len(samples)))
    return root


def _timed(labels: Sequence[str], samples: int) -> str:
    edges = np.linspace(0, samples, len(labels) + 1).astype(int)
    return "".join(f"{start} {end} {label}\n" for start, end, label in zip(edges, edges[1:], labels))


def fleurs(root: Path) -> Path:
    """metadata/<language>/<split>.tsv of seven columns without a header, and <language>/<split>/<name>.wav."""
    for split, number in (("train", 24), ("dev", 4), ("test", 4)):
        rows = []
        for index, samples in enumerate(spoken(SWAHILI, "sw", number)):
            name, text = f"{10**9 + index}{len(split)}.wav", SWAHILI[index % len(SWAHILI)]
            write(root / "sw_ke" / split / name, samples)
            rows.append("\t".join((str(index // 2), name, f"{text.capitalize()}.", text, "|".join(text), str(len(samples)), "FEMALE")))
        table = root / f"metadata/sw_ke/{split}.tsv"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def opus_recordings(root: Path, paths: Sequence[str], texts: Sequence[str], voice: str) -> Iterator[dict[str, Any]]:
    """Writes recordings of four utterances each, and gives what the JSON files of GigaSpeech and WenetSpeech both say of them."""
    speech = spoken(texts, voice, 4 * len(paths))
    for first, path in zip(count(0, 4), paths):
        samples, times = joined(speech[first:first + 4])
        write(root / path, samples, format="OGG", subtype="OPUS")
        segments = [{"sid": f"{Path(path).stem}_S{number:07d}", "begin_time": round(begin, 3), "end_time": round(end, 3),
                     "text": texts[(first + number) % len(texts)]} for number, (begin, end) in enumerate(times)]
        yield {"aid": Path(path).stem, "path": path, "duration": round(len(samples) / 16000, 2), "md5": "", "url": "", "segments": segments}


def gigaspeech(root: Path) -> Path:
    """GigaSpeech.json, and audio/<source>/<part>/<recording>.opus. In DEV and TEST, stretches without speech are segments, too."""
    names = ("audiobook/P0001/AUD0000000001", "audiobook/P0001/AUD0000000002", "podcast/P0001/POD0000000003",
             "youtube/P0001/YOU0000000004", "podcast/P0000/POD0000000005", "youtube/P0000/YOU0000000006")
    audios = list(opus_recordings(root, [f"audio/{name}.opus" for name in names], ENGLISH, "en-us"))
    for recording, subsets in zip(audios, [*[["{XL}", "{M}"]] * 4, ["{DEV}"], ["{TEST}"]]):
        recording.update(title="", speaker="N/A", format="opus", sample_rate=16000, subsets=subsets)
        for number, segment in enumerate(recording["segments"]):
            text = segment.pop("text").upper()
            segment.update(speaker="N/A", subsets=subsets, text_tn=f"UM {text} <COMMA>" if number % 2 else f"{text} <PERIOD>")
        end = recording["segments"][-1]["end_time"]
        recording["segments"].append(
            {"sid": f"{recording['aid']}_S0000004", "speaker": "N/A", "begin_time": end, "end_time": round(end + 0.5, 3),
             "subsets": subsets[:1], "text_tn": "NOT AS SURE AS M" if len(subsets) > 1 else "<MUSIC>"})
    content = {"dataset": "GigaSpeech", "language": "EN", "version": "v1.0.0", "audios": audios}
    (root / "GigaSpeech.json").write_text(json.dumps(content, indent=2))
    return root


def wenetspeech(root: Path) -> Path:
    """WenetSpeech.json, and audio/<set>/.../<recording>.opus; transcripts without spaces, some of them with English words."""
    texts = (f"ok{MANDARIN[0]}", *MANDARIN[1:])
    folders = [*["train/youtube/B00000"] * 4, "dev/B00000", "test_net/B00000", "test_meeting/B00000"]
    audios = list(opus_recordings(root, [f"audio/{folder}/Y{n:010d}_0a1B2c3.opus" for n, folder in enumerate(folders)], texts, "cmn"))
    for recording, folder in zip(audios, folders):
        part = folder.split("/")[0]
        recording.update(source="youtube", tags=["drama"])
        for segment in recording["segments"]:
            segment.update(confidence=1.0, subsets=["L", "M", "S"] if part == "train" else [part.upper()])
    (root / "WenetSpeech.json").write_text(json.dumps({"audios": audios}, ensure_ascii=False, indent=4), encoding="utf-8")
    return root


def gigaspeech2(root: Path, language: str = "th") -> Path:
    """data/<language>/<transcripts>.tsv without a header, and archives: train/<number>.tar.gz (number 2 is not here), dev and test."""
    folder = root / "data" / language
    texts = {"th": THAI, "id": INDONESIAN}[language]
    for split, number in (("train", 24), ("dev", 4), ("test", 4)):
        lines = []
        for index, samples in enumerate(spoken(texts, language, number)):
            part, video = index % 2, 600 + index // 4
            id = f"{part}-{video}-{index}"
            write(folder / f"{split}/{part}/{video}/{id}.wav", samples)
            lines.append(f"{id}\t{texts[index % len(texts)].upper()}\n")
        tables = {split: lines} if split != "train" else {"train_raw": [*lines, f"2-700-0\t{texts[0]}\n"], "train_refined": lines[2:]}
        for name, table in tables.items():
            (folder / f"{name}.tsv").write_text("".join(table), encoding="utf-8")
    for archived in (folder / "dev", folder / "test", folder / "train/0", folder / "train/1"):
        with tarfile.open(archived.with_suffix(".tar.gz"), "w:gz") as archive:
            archive.add(archived, archived.name)
        shutil.rmtree(archived)
    return root


def mls(root: Path) -> Path:
    """<split>/audio/<speaker>/<book>/<speaker>_<book>_<number>.opus, transcripts.txt for each split, metainfo.txt for all."""
    speakers = count(4000)
    about = ["SPEAKER   |   GENDER   | PARTITION   | MINUTES |  BOOK ID  |             TITLE            |            CHAPTER\n"]
    for split, number in (("train", 24), ("dev", 4), ("test", 4)):
        lines, speech = [], spoken(POLISH, "pl", number)
        for start in range(0, number, 4):
            speaker, book = next(speakers), 9000 + start
            for index in range(start, start + 4):
                id = f"{speaker}_{book}_{index:06d}"
                write(root / f"{split}/audio/{speaker}/{book}/{id}.opus", speech[index], format="OGG", subtype="OPUS")
                lines.append(f"{id}\t{POLISH[index % len(POLISH)]}\n")
            about.append(f"{speaker}   |   F   |   {split}   |   0.1   |   {book}   |   Bajki   |   Rozdział {start}\n")
        (root / split / "transcripts.txt").write_text("".join(lines), encoding="utf-8")
    (root / "metainfo.txt").write_text("".join(about), encoding="utf-8")
    return root


def voxpopuli(root: Path) -> Path:
    """raw_audios/original/<year>/<session>_original.ogg, and a table for each language with the voiced stretches of its sentences."""
    columns = ("session_id", "id_", "vad", "split", "original_text", "normed_text", "speaker_id", "gender", "is_gold_transcript", "accent")
    rows, sessions = ["|".join(columns)], count(1)
    for split, number in (("train", 24), ("dev", 4), ("test", 4), ("", 4)):  # the last: what the publisher found to be transcribed wrongly
        speech = spoken(CROATIAN, "hr", number)
        for start in range(0, number, 4):
            session = f"20180206-0900-PLENARY-{next(sessions)}"
            samples, times = joined(speech[start:start + 4])
            write(root / f"raw_audios/original/2018/{session}_original.ogg", samples)
            for index, (begin, end) in enumerate(times, start):
                id, voiced = f"hr_20180206-16:1{index % 4}:06_{index}", [(begin, round(begin + 0.4, 3)), (round(end - 0.4, 3), end)]
                text = f"{CROATIAN[index % len(CROATIAN)]}."
                speaker = "None" if index == 0 and split == "train" else f"{split}{start}"
                rows.append("|".join((session, id, str(voiced), split, text.capitalize(), text, speaker, "female", "False", "None")))
    table = root / "transcribed_data/hr/asr_hr.tsv.gz"
    table.parent.mkdir(parents=True)
    table.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode()))
    return root


def ml_superb(root: Path) -> Path:
    """<source>/<language>/wav/<id>.wav, and lists of id, original name and text: an hour and ten minutes of it to train on, dev, test."""
    swahili, mandarin, danish = ("fleurs", "swa", SWAHILI, "sw"), ("fleurs", "cmn", MANDARIN, "cmn"), ("NST", "dan", DANISH, "da")
    for source, language, texts, voice in (swahili, mandarin, danish):
        folder, place = root / source / language, 0
        speech = spoken(texts, voice, 16)
        for name, number in (("1h_train", 12), ("10min_dev", 2), ("10min_test", 2)):
            lines = []
            for index in range(place, place + number):
                id = f"{source}_{language}_{index:06d}"
                write(folder / f"wav/{id}.wav", speech[index])
                lines.append(f"{id}\t{10**6 + index}.wav\t{texts[index % len(texts)]}{' [šum]' if index % 5 == 0 else '.'}\n")
            (folder / f"transcript_{name}.txt").write_text("".join(lines), encoding="utf-8")
            if place == 0:
                (folder / "transcript_10min_train.txt").write_text("".join(lines[:2]), encoding="utf-8")
            place += number
    return root


def openslr_indic(root: Path) -> Path:
    """female/ and male/, each an archive: line_index.tsv and <language><gender>_<speaker>_<number>.wav at 48 kHz, without splits."""
    speech = spoken(GUJARATI, "gu", 32, 48000)
    for part, gender in enumerate(("female", "male")):
        lines = []
        for index in range(16 * part, 16 * part + 16):
            id = f"gu{gender[0]}_{index // 4:05d}_{10**9 + index:011d}"
            write(root / gender / f"{id}.wav", speech[index], 48000)
            text = GUJARATI[index % len(GUJARATI)].replace("\u0acd", "\u0acd\u200d")  # a virama and a joiner
            lines.append(f"{id}\t{text}।\n")
        (root / gender / "line_index.tsv").write_text("".join(lines), encoding="utf-8")
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    layout.__name__: layout for layout in (
        librispeech, mini_librispeech, aishell, commonvoice, tedlium3, an4, timit, fleurs, gigaspeech, gigaspeech2, wenetspeech,
        mls, voxpopuli, ml_superb, openslr_indic,
    )
}
"""By name of the recipe."""
