"""What is fetched from an address: archives of both kinds, and single files."""
from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from asr.data.download import download_archive


def corpus(directory: Path) -> Path:
    folder = directory / "corpus"
    (folder / "wav").mkdir(parents=True)
    (folder / "line_index.tsv").write_text("a\tword\n")
    (folder / "wav/a.wav").write_bytes(b"RIFF")
    return folder


@pytest.mark.parametrize("name", ["corpus.zip", "corpus.tar.gz", "corpus.tgz"])
def test_archives_are_unpacked_without_their_only_folder(name: str, tmp_path: Path) -> None:
    folder = corpus(tmp_path / "published")
    archive = tmp_path / "published" / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, arcname="corpus")
    target = download_archive(archive.as_uri(), tmp_path / "here/corpus")
    assert {str(path.relative_to(target)) for path in target.rglob("*")} == {"line_index.tsv", "wav", "wav/a.wav"}
    assert (target / "line_index.tsv").read_text() == "a\tword\n"


def test_a_single_file_is_put_into_the_directory(tmp_path: Path) -> None:
    table = tmp_path / "asr_hr.tsv.gz"
    table.write_bytes(b"table")
    assert (download_archive(table.as_uri(), tmp_path / "here/hr") / "asr_hr.tsv.gz").read_bytes() == b"table"


def test_members_never_land_outside(tmp_path: Path) -> None:
    archive = tmp_path / "corpus.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside.txt", "text")
    target = download_archive(archive.as_uri(), tmp_path / "here/deep/corpus")
    assert [path.name for path in tmp_path.rglob("outside.txt")] == ["outside.txt"]
    assert (target / "outside.txt").is_file()


def test_a_broken_archive_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "corpus.zip"
    archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="downloading .*corpus.zip failed"):
        download_archive(archive.as_uri(), tmp_path / "here/corpus")
    assert not (tmp_path / "here/corpus").exists()
