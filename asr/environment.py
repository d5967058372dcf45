"""What this Python has of what the toolkit uses: found by really importing it, in a process whose death is a finding too.

PARTS is the table: one row per thing that can be missing, with what is lost without it and the command that brings it.
"""
from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Literal, Sequence

PROBE_SECONDS = 120
"""All imports together take a few seconds; what hangs longer than this is reported as broken."""

MARK = "@asr-probe "  # tells the probe's lines from what libraries print while they are imported

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Part:
    """A thing the toolkit uses.

    probe: imports and touches it; returns version and details; raises Missing, or whatever a broken one raises.
    required: whether training and decoding are impossible without it.
    lost: what does not work without it. fix: the command that brings it.
    """

    name: str
    probe: Callable[[], str]
    lost: str
    fix: str
    required: bool = False


@dataclass(frozen=True)
class Finding:
    """What became of probing a part: detail is the version where state is ok, else the error."""

    name: str
    state: State
    detail: str
    lost: str
    fix: str
    required: bool


@dataclass(frozen=True)
class Gpu:
    """has_kernels: whether the installed torch has code that this GPU can run."""

    name: str
    memory_gb: float
    capability: tuple[int, int]
    has_kernels: bool


def examine(parts: Sequence[Part]) -> Iterator[Finding]:
    """Probes ``parts`` in order in a child process; one that dies or hangs breaks only the part it was at."""
    rest = list(parts)
    while rest:
        for part, state, detail in _examine_in_child(rest):
            yield Finding(part.name, state, detail, part.lost, part.fix, part.required)
            rest.remove(part)


def _examine_in_child(parts: Sequence[Part]) -> Iterator[tuple[Part, State, str]]:
    """Findings until the child has finished or died; at least one."""
    by_name = {part.name: part for part in parts}
    seen: set[str] = set()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "asr.environment", *by_name], stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        killer = threading.Timer(PROBE_SECONDS, child.kill)
        killer.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith(MARK):
                    found = json.loads(line[len(MARK):])
                    seen.add(found["name"])
                    yield by_name[found["name"]], found["state"], found["detail"]
            status = child.wait()
        finally:
            killer.cancel()
            child.kill()
            child.wait()
        unseen = [part for part in parts if part.name not in seen]
        if unseen:
            errors.seek(0)
            yield unseen[0], "broken", _death(status, errors.read())


def _death(status: int, errors: str) -> str:
    last = (errors.strip().splitlines() or [""])[-1]
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"importing it ends the process ({how}) {last}".strip()


def probe_here(parts: Sequence[Part]) -> None:
    """The child's side: one marked JSON line per part on stdout, as soon as it is known."""
    for part in parts:
        try:
            state, detail = "ok", part.probe()
        except Missing as error:
            state, detail = "missing", str(error)
        except BaseException as error:  # a library may raise anything while it is imported
            state, detail = "broken", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        print(f"\n{MARK}{json.dumps({'name': part.name, 'state': state, 'detail': detail})}", flush=True)


def gpus() -> list[Gpu]:
    """The GPUs that torch sees. Imports torch into this process: call it where torch is known to import."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = (properties.major, properties.minor)
        kernels = has_kernels(torch.cuda.get_arch_list(), capability)
        found.append(Gpu(properties.name, properties.total_memory / 2**30, capability, kernels))
    return found


def gpus_of_driver() -> list[str]:
    """Names of the GPUs that the NVIDIA driver sees, whatever torch says; empty where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 else []


def has_kernels(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Whether code compiled for ``architectures`` (as torch.cuda.get_arch_list names them) runs on ``capability``.

    Machine code (sm_86) runs on the same major version and the same or a later minor one; sm_90a on 9.0 only;
    intermediate code (compute_86) on anything later.
    """
    for architecture in architectures:
        kind, _, version = architecture.partition("_")
        digits = version.rstrip("af")
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and digits == version and (major, minor) <= capability:
            return True
        if kind == "sm" and major == capability[0] and (minor == capability[1] or (digits == version and minor < capability[1])):
            return True
    return False


def memory_gb() -> tuple[float, float]:
    """(total, available) memory in GiB; available is total where the system does not tell."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    table = Path("/proc/meminfo")
    lines = table.read_text().splitlines() if table.exists() else []
    available = [int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:")]
    return total, available[0] if available else total


def processors() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------- probes


class Missing(Exception):
    """What a probe raises where its part is not installed at all; any other exception means broken."""


def load(name: str) -> Any:
    """The module ``name``; Missing where it is itself not there, rather than something that it imports in turn."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name.split(".")[0]:
            raise Missing(str(error)) from None
        raise


def module(name: str) -> Callable[[], str]:
    """A probe that imports ``name`` and returns its version."""

    def probe() -> str:
        imported = load(name)
        distribution = _distribution_of(name)
        return importlib.metadata.version(distribution) if distribution else str(getattr(imported, "__version__", "version unknown"))

    return probe


def program(*command: str) -> Callable[[], str]:
    """A probe that runs ``command`` and returns its first line of output."""

    def probe() -> str:
        if shutil.which(command[0]) is None:
            raise Missing(f"no program {command[0]} on PATH")
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return (answer.stdout or answer.stderr).strip().splitlines()[0]

    return probe


def _distribution_of(name: str) -> str | None:
    """The installed distribution that brought the module ``name``, as far as their names tell."""
    top = name.split(".")[0]
    aliases = {"yaml": "PyYAML", "pywrapfst": "pynini", "openfst_python": "openfst-python"}
    name = aliases.get(top, top)
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return name


def _torch() -> str:
    torch = load("torch")
    assert float(torch.ones(2).sum()) == 2.0
    return f"{torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPU only'}, {torch.get_num_threads()} threads"


def _k2() -> str:
    k2 = load("k2")
    assert k2.linear_fsa([1, 2]).num_arcs == 3
    return f"{importlib.metadata.version('k2')}, {'with' if k2.with_cuda else 'without'} CUDA"


def _openfst() -> str:
    try:
        name, fst = "pywrapfst", load("pywrapfst")
    except Missing:
        name, fst = "openfst_python", load("openfst_python")
    assert fst.VectorFst().num_states() == 0
    return f"{name} of {_distribution_of(name)} {module(name)()}"


def _soundfile() -> str:
    soundfile = load("soundfile")
    formats = soundfile.available_formats()
    return f"{soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}, {'MP3 too' if 'MP3' in formats else 'no MP3'}"


def _espeak() -> str:
    loader = load("espeakng_loader")
    library = ctypes.CDLL(str(loader.get_library_path()))
    library.espeak_Info.restype = ctypes.c_char_p
    return f"{library.espeak_Info(None).decode()}, from espeakng-loader {module('espeakng_loader')()}"


def _tensorboard() -> str:
    version = module("tensorboard")()
    load("torch.utils.tensorboard")
    return version


def _kaldifeat() -> str:
    kaldifeat = load("kaldifeat")
    torch = load("torch")
    features = kaldifeat.Fbank(kaldifeat.FbankOptions())(torch.zeros(16000))
    assert features.ndim == 2, features.shape
    return module("kaldifeat")()


# ---------------------------------------------------------------- the table

_PIP = f"{sys.executable} -m pip install"
_ENV = "utils/setup_env.sh --rebuild"
_K2_ENV = "make env STACK=k2" if sys.version_info[:2] == (3, 10) else "make env STACK=k2 VENV=.venv-k2"
_MODERN = "VENV=.venv-modern"
_KALDIFEAT = "make kaldifeat" if sys.version_info >= (3, 11) else f"make env STACK=modern {_MODERN} && make kaldifeat {_MODERN}"

PARTS = (
    Part("torch", _torch, "everything", _ENV, required=True),
    Part("lhotse", module("lhotse"), "reading any corpus", _ENV, required=True),
    Part("numpy", module("numpy"), "everything", _ENV, required=True),
    Part("pydantic", module("pydantic"), "reading any config", _ENV, required=True),
    Part("PyYAML", module("yaml"), "reading any config", _ENV, required=True),
    Part("sentencepiece", module("sentencepiece"), "BPE tokens", _ENV, required=True),
    Part("kaldialign", module("kaldialign"), "scoring", _ENV, required=True),
    Part("soundfile", _soundfile, "reading audio files", _ENV, required=True),
    Part("tqdm", module("tqdm"), "progress bars", _ENV, required=True),
    Part("tensorboard", _tensorboard, "TensorBoard logs of training", _ENV),
    Part("matplotlib", module("matplotlib"), "plots", _ENV),
    Part("k2", _k2, "fast beam search; building and searching graphs", _K2_ENV),
    Part("OpenFst", _openfst, "building graphs (LG, HLG) without k2", f"{_PIP} pynini"),
    Part("kaldifst", module("kaldifst"), "graph operations outside k2", f"{_PIP} kaldifst"),
    Part("kaldi-decoder", module("kaldi_decoder"), "graph search outside k2", f"{_PIP} kaldi-decoder"),
    Part("kaldilm", module("kaldilm"), "turning ARPA files into graphs", f"{_PIP} kaldilm"),
    Part("kaldifeat", _kaldifeat, "a second engine for features, as fast as lhotse's, and on the GPU", _KALDIFEAT),
    Part("kaldi-native-fbank", module("kaldi_native_fbank"), "features in other runtimes' own code", f"{_PIP} kaldi-native-fbank"),
    Part("eSpeak NG", _espeak, "synthesis of corpora (egs/numbers), phones of words (tokens.espeak)", f"{_PIP} espeakng-loader"),
    Part("num2words", module("num2words"), "synthesis of corpora (egs/numbers)", f"{_PIP} num2words"),
    Part("onnxruntime", module("onnxruntime"), "running exported ONNX models", f"{_PIP} onnxruntime"),
    Part("numba", module("numba"), "transducer losses compiled for CPUs; PyTorch takes its place, slower", f"{_PIP} numba"),
    Part("triton", module("triton"), "transducer losses compiled for GPUs; PyTorch takes its place, slower",
         "install a torch built for CUDA, which brings it"),
    Part("ffmpeg", program("ffmpeg", "-version"), "audio that libsndfile cannot read (M4A, WMA, video)", "sudo apt install ffmpeg"),
)


def engines(findings: Sequence[Finding]) -> dict[str, str]:
    """Which of the interchangeable parts does each job here."""
    ok = {finding.name for finding in findings if finding.state == "ok"}
    return {
        "features": "kaldifeat" if "kaldifeat" in ok else "lhotse",
        "losses on CPUs": "numba" if "numba" in ok else "PyTorch",
        "losses on GPUs": "Triton" if "triton" in ok else "PyTorch",
        "graph building": "k2" if "k2" in ok else "OpenFst" if "OpenFst" in ok else "none; pynini brings OpenFst",
        "graph search": "k2" if "k2" in ok else "NumPy; fast beam search needs k2",
    }


if __name__ == "__main__":
    probe_here([part for part in PARTS if part.name in sys.argv[1:]])
