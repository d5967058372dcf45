"""Corpora from their publishers: by lhotse name, or as an archive or a single file at an address."""
from __future__ import annotations

import difflib
import inspect
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from asr.files import atomic_dir

DOWNLOAD = "download_"
NO_NETWORK = "where there is no network, fetch it elsewhere and pass --corpus-dir"


def download_corpus(name: str, target: Path, **options: Any) -> Path:
    """Fetches corpus ``name`` with lhotse's ``download_<name>``; ``target`` becomes the corpus's directory once it is whole.

    options: of that function, such as ``dataset_parts``.

    Raises ValueError for a corpus that lhotse cannot download (naming near ones) and when the download fails.
    """
    from lhotse import recipes

    downloads = {key[len(DOWNLOAD):]: value for key, value in vars(recipes).items() if key.startswith(DOWNLOAD)}
    if name not in downloads:
        near = difflib.get_close_matches(name, downloads, n=3)
        raise ValueError(f"lhotse has no download for a corpus named '{name}'" + (f"; near ones: {', '.join(near)}" if near else ""))
    if target.is_dir():
        return target
    function: Any = downloads[name]
    partial = target.with_name(f"{target.name}.part")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        found = function(partial, **options) if inspect.signature(function).parameters else function()
    except OSError as error:  # urllib's errors are OSErrors
        raise ValueError(f"downloading '{name}' failed ({error}); {NO_NETWORK}") from error
    Path(found or partial).rename(target)
    return target


def can_download(name: str) -> bool:
    """Whether lhotse knows how to fetch corpus ``name``."""
    from lhotse import recipes

    return f"{DOWNLOAD}{name}" in vars(recipes)


def download_archive(url: str, target: Path) -> Path:
    """Fetches a tar or zip archive (going on with a partial download) and unpacks it as ``target``, whole or not at all.

    A single top-level folder in the archive is taken for the corpus itself. Members never land outside. Any other file becomes the only one
    in ``target``.
    """
    from lhotse.utils import resumable_download

    if target.is_dir():
        return target
    archive = target.with_name(url.rsplit("/", 1)[-1])
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        resumable_download(url, filename=archive)
        with atomic_dir(target) as unpacked:
            _unpack(archive, unpacked)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ValueError(f"downloading {url} failed ({error}); {NO_NETWORK}") from error
    return target


def _unpack(archive: Path, directory: Path) -> None:
    from lhotse.utils import safe_extract

    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            file.extractall(directory)  # which leaves '..' and leading slashes out of names
    elif ".tar" in archive.suffixes or archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            safe_extract(tar, path=directory)
    else:
        shutil.copy(archive, directory)
        return
    _lift_single_folder(directory)


def _lift_single_folder(directory: Path) -> None:
    entries = list(directory.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return
    folder = entries[0].rename(directory / ".single")
    for child in folder.iterdir():
        child.rename(directory / child.name)
    folder.rmdir()
