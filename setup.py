"""Package metadata. The exact versions known to work together are in requirements/; `make env` installs those."""
from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "asr" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, "asr/__init__.py must state __version__"
    return found.group(1)


def read_requirements(name: str) -> list[str]:
    """The pins of requirements/<name>, comments and references to other files left out."""
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    stripped = (line.split("#")[0].strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("-")]


setup(
    name="asr",
    version=version(),
    description="Speech recognition with transducers and weighted finite-state transducers: recipes, training, decoding, export",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["asr", "asr.*"]),
    entry_points={"console_scripts": ["asr = asr.cli.main:main"]},
    install_requires=[
        "espeakng-loader>=0.2.4",
        "kaldialign>=0.9",
        "lhotse>=1.32",
        "matplotlib>=3.8",
        "num2words>=0.5.13",
        "numpy>=1.26",
        "pydantic>=2.7",
        "PyYAML>=6",
        "scipy>=1.11",
        "sentencepiece>=0.2",
        "six",
        "soundfile>=0.12",
        "tensorboard>=2.15",
        "torch>=1.13.1",
        "tqdm>=4.66",
        "urllib3",
    ],
    extras_require={
        "k2": ["k2==1.23.4", "lhotse==1.32.1", "numpy==1.26.4", "torch==1.13.1", "torchaudio==0.13.1"],
        "fst": ["kaldi-decoder>=0.3.2", "kaldifst>=1.8", "kaldilm>=1.15", "pynini>=2.1.6"],
        "compiled": ["numba>=0.60"],
        "ssl": ["transformers>=4.48"],
        "export": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.1; python_version >= '3.11'", "sherpa-onnx>=1.10"],
        "dev": read_requirements("dev.txt"),
    },
)
