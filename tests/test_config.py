from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from asr.config import Config, dump_config, load_config, merge, one_of


class Small:
    class Config(Config):
        type: Literal["small"] = "small"
        dim: int = 4


class Large:
    class Config(Config):
        type: Literal["large"] = "large"
        layers: int = 12
        dropout: float = 0.1


class Inner(Config):
    epochs: int = 3
    rate: float = 0.1


class Optional(Config):
    last: int = 1


class Top(Config):
    name: str
    model: one_of({"small": Small, "large": Large})  # type: ignore[valid-type]
    train: Inner = Inner()
    optional: Optional | None = Optional()
    optimizer: one_of({"small": Small, "large": Large}) = Large.Config(layers=3)  # type: ignore[valid-type]
    losses: dict[str, one_of({"small": Small, "large": Large})] = {}  # type: ignore[valid-type]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_of_several_extended_files_each_lies_over_the_ones_before(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "name: a\nmodel: {type: large, layers: 5}\n")
    write(tmp_path / "b.yaml", "name: b\n")
    config = load_config(Top, write(tmp_path / "child.yaml", "extends: [a.yaml, b.yaml]\n"))
    assert (config.name, config.model.layers) == ("b", 5)


def test_extends_merges_and_overrides_win(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "name: base\nmodel: {type: large, layers: 2, dropout: 0.3}\ntrain: {epochs: 7}\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\nname: child\nmodel: {layers: 5}\n")
    config = load_config(Top, child, ["train.rate=0.5", "model.dropout=0"])
    assert (config.name, config.train) == ("child", Inner(epochs=7, rate=0.5))
    assert config.model == Large.Config(layers=5, dropout=0.0)


def test_a_new_type_replaces_the_section_below(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "name: base\nmodel: {type: large, layers: 2}\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\nmodel: {type: small}\n")
    assert load_config(Top, child).model == Small.Config()


def test_a_section_without_type_is_of_the_defaults_type(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "name: a\nmodel: {type: small}\n")
    assert load_config(Top, path).optimizer == Large.Config(layers=3)
    assert load_config(Top, path, ["optimizer.dropout=0.5"]).optimizer == Large.Config(dropout=0.5)
    assert load_config(Top, path, ["optimizer.type=small"]).optimizer == Small.Config()
    with pytest.raises(ValueError, match="model"):
        load_config(Top, write(tmp_path / "b.yaml", "name: a\nmodel: {dim: 3}\n"))


def test_null_removes_an_entry(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "name: a\nmodel: {type: small}\nlosses: {x: {type: small}, y: {type: large}}\n")
    assert set(load_config(Top, path, ["losses.y=null"]).losses) == {"x"}


def test_null_switches_an_optional_section_off(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "name: a\nmodel: {type: large}\noptional: {last: 2}\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\noptional: null\n")
    assert load_config(Top, tmp_path / "base.yaml").optional == Optional(last=2)
    assert load_config(Top, child).optional is None
    assert load_config(Top, tmp_path / "base.yaml", ["optional=null"]).optional is None
    assert load_config(Top, child, ["optional.last=5"]).optional == Optional(last=5)


def test_dump_reproduces_the_config(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "name: a\nmodel: {type: large}\nlosses: {x: {type: small, dim: 9}}\n")
    config = load_config(Top, path)
    dump_config(config, tmp_path / "out.yaml")
    assert load_config(Top, tmp_path / "out.yaml") == config
    assert "dropout: 0.1" in (tmp_path / "out.yaml").read_text()


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.epoch=3", "unknown key 'train.epoch'; did you mean 'epochs'"),
        ("model.layrs=3", "unknown key 'model.layrs'; did you mean 'layers'"),
        ("losses.x={type: large, dropuot: 0.1}", "did you mean 'dropout'"),
        ("losses.small={type: large, layrs: 1}", "unknown key 'losses.small.layrs'; did you mean 'layers'"),
        ("losses.small={type: small, layrs: 1}", "unknown key 'losses.small.layrs'"),
        ("model.layers=many", "a.yaml: model.layers: "),
        ("optional.lsat=1", "did you mean 'last'"),
        ("nmae=x", "did you mean 'name'"),
        ("model={type: medium}", "'medium' is not one of 'small', 'large'"),
        ("train.epochs=many", "train.epochs: .*integer"),
        ("train", "expected key=value"),
        ("name.sub=1", "'name' is not a section"),
        ("train.rate=.nan", "train.rate"),
    ],
)
def test_mistakes_are_answered_with_the_key_and_the_fix(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path / "a.yaml", "name: a\nmodel: {type: large}\n")
    with pytest.raises(ValueError, match=message):
        load_config(Top, path, [override])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere.yaml: no such config file"):
        load_config(Top, tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_config(Top, write(tmp_path / "bad.yaml", "a: [1, 2\n"))
    with pytest.raises(ValueError, match="expected a mapping"):
        load_config(Top, write(tmp_path / "list.yaml", "- 1\n"))
    write(tmp_path / "x.yaml", "extends: y.yaml\n")
    with pytest.raises(ValueError, match="circle"):
        load_config(Top, write(tmp_path / "y.yaml", "extends: x.yaml\n"))


def test_configs_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().epochs = 4  # type: ignore[misc]


def test_merge_leaves_its_arguments_alone() -> None:
    below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(below, above) == {"a": {"b": 1, "c": 2}}
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})
