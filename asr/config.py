"""YAML to frozen, typed configs: strict keys, ``extends:``, ``--set a.b=c``, and a dump of what was resolved.

A config class stands beside the thing it configures and derives from :class:`Config`. A choice between
implementations is a table (name -> class with a ``Config``) turned into a field type by :func:`one_of`.
"""
from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Mapping, Sequence, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asr.files import atomic_write


class Config(BaseModel):
    """Base of every config: immutable, no unknown keys, no silent coercion of wrong values."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_removed_entries(cls, values: Any) -> Any:
        """In a mapping of names (searches, losses), an entry set to null is one taken out; elsewhere null is a value."""
        if not isinstance(values, dict):
            return values
        named = {name for name, field in cls.model_fields.items() if get_origin(field.annotation) is dict}
        return {
            key: {k: v for k, v in value.items() if v is not None} if key in named and isinstance(value, dict) else value
            for key, value in values.items()
        }

    @model_validator(mode="before")
    @classmethod
    def _with_default_types(cls, values: Any) -> Any:
        """A section without ``type`` is of the default's type: ``optimizer.lr`` alone changes the rate of the default optimizer."""
        if not isinstance(values, dict):
            return values
        defaults = {name: getattr(field.default, "type", None) for name, field in cls.model_fields.items() if field.discriminator}
        return {
            key: {"type": defaults[key], **value} if defaults.get(key) and isinstance(value, dict) and "type" not in value else value
            for key, value in values.items()
        }


C = TypeVar("C", bound=Config)


def one_of(table: Mapping[str, Any]) -> Any:
    """The type of a config field that picks one entry of ``table`` by its ``type`` key.

    Each entry is a class with a nested ``Config`` whose field ``type`` is ``Literal["name"]`` with that default.

        ENCODERS = {"conformer": Conformer, "zipformer": Zipformer}
        EncoderConfig = one_of(ENCODERS)
    """
    variants = [entry.Config for entry in table.values()]
    for name, variant in zip(table, variants):
        assert variant.model_fields["type"].default == name, (name, variant)
    if len(variants) == 1:
        return variants[0]
    return Annotated[Union[tuple(variants)], Field(discriminator="type")]


def load_config(cls: type[C], path: Path | str, overrides: Sequence[str] = ()) -> C:
    """Reads ``path`` (following ``extends:``), applies ``key.sub=value`` overrides in order, validates.

    Raises ValueError naming the file, the key, and the nearest valid one.
    """
    values = read_yaml(Path(path))
    for override in overrides:
        _apply_override(values, override)
    return validate(cls, values, where=str(path))


def validate(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        lines = [_explain(cls, detail) for detail in error.errors()]
        raise ValueError(f"{where}: " + "\n  ".join(lines)) from None


def dump_config(config: Config, path: Path) -> None:
    """Writes every value, defaults included, so that the file alone reproduces the config."""
    with atomic_write(path) as file:
        yaml.safe_dump(config.model_dump(mode="json"), file, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path, _seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML mapping over those of its ``extends:``, a path relative to the file or a list of them, each over the ones before it."""
    if path in _seen:
        raise ValueError(f"{path}: 'extends' forms a circle: {' -> '.join(map(str, _seen))}")
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file) or {}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such config file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    parents = values.pop("extends", [])
    below: dict[str, Any] = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        below = merge(below, read_yaml((path.parent / parent).resolve(), (*_seen, path)))
    return merge(below, values)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, mapping by mapping; a new ``type`` replaces the mapping."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("type", old.get("type")) == old.get("type"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {override}: expected key=value, for example train.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {override}: the value is not valid YAML: {error}") from None
    *path, last = key.split(".")
    node = values
    for name in path:
        if node.get(name) is None:
            node[name] = {}
        node = node[name]
        if not isinstance(node, dict):
            raise ValueError(f"--set {override}: '{name}' is not a section")
    if isinstance(value, dict):
        node[last] = merge(node, {last: value})[last]
    else:
        node[last] = value


def _explain(cls: type[Config], detail: Any) -> str:
    location = _keys(cls, detail["loc"])
    where = ".".join(location)
    if detail["type"] == "extra_forbidden":
        valid = _valid_keys(cls, detail["loc"][:-1])
        nearest = difflib.get_close_matches(location[-1], valid, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"valid keys: {', '.join(sorted(valid))}"
        return f"unknown key '{where}'; {hint}"
    if detail["type"] == "union_tag_invalid":
        context = detail["ctx"]
        return f"{where}.type: '{context['tag']}' is not one of {context['expected_tags']}"
    return f"{where}: {detail['msg']} (got {detail['input']!r})"


def _keys(cls: type[Config], location: Sequence[Any]) -> list[str]:
    """``location`` as a user writes it: pydantic puts the ``type`` that was chosen behind each choice."""
    annotation: Any = cls
    keys = []
    for part in location:
        if not _is_tag(annotation, part):
            keys.append(str(part))
        annotation = _descend(annotation, part)
    return keys


def _is_tag(annotation: Any, part: Any) -> bool:
    if isinstance(annotation, type) or get_origin(annotation) in (dict, list, tuple):
        return False
    return any("type" in found.model_fields and found.model_fields["type"].default == part for found in _config_classes(annotation))


def _valid_keys(cls: type[Config], location: Sequence[Any]) -> list[str]:
    """Keys of the config class that ``location`` (pydantic's: field names, dict keys, list indices, union tags) leads to."""
    annotation: Any = cls
    for part in location:
        annotation = _descend(annotation, part)
    return sorted({field.alias or key for found in _config_classes(annotation) for key, field in found.model_fields.items()})


def _descend(annotation: Any, part: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        named = [f for name, f in annotation.model_fields.items() if part in (name, f.alias)]
        return named[0].annotation if named else None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _descend(arguments[0], part)
    if origin is dict:
        return arguments[1]
    if origin in (list, tuple):
        return arguments[0]
    tagged = [c for c in _config_classes(annotation) if "type" in c.model_fields and c.model_fields["type"].default == part]
    if tagged:
        return tagged[0]
    optional = [argument for argument in arguments if argument is not type(None)]  # X | None
    return _descend(optional[0], part) if optional else None


def _config_classes(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _config_classes(argument)]
