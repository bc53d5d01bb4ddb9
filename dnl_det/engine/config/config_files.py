"""Config files and overrides, merged or refused by name: file, key, value, what is allowed."""

import difflib
import os
import re
from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from typing import Any

import yaml
from detectron2.config import CfgNode, downgrade_config
from detectron2.utils.file_io import PathManager

from .lazy_files import is_lazy

_BASE = "_BASE_"
# What aliases may blow a file up to, in values; detectron2's longest config has some 300.
_MOST_VALUES = 100_000
_MOST_FILES = 100
_LONGEST_KEY = 100  # to look for what is near it
_MAY_BE_NONE = ("SOLVER.WEIGHT_DECAY_BIAS",)
# What yacs, detectron2 and ast.literal_eval raise for keys and values that they do not take.
_REFUSED = (
    *(AssertionError, AttributeError, LookupError, MemoryError),
    *(RecursionError, TypeError, ValueError),
)
_EXPECTED = {
    bool: "True or False",
    float: "a number with a point, such as 1.0",
    int: "a whole number",
    str: "a text, in quotes where it looks like a number",
    list: "a list, such as [1, 2]",
    tuple: "a list, such as (1, 2)",
}


def merge_file(cfg: CfgNode, file: str) -> None:
    """Merge a YAML file and those that its ``_BASE_`` names, as detectron2 does.

    YAML that would run code when it is read is refused.

    Args:
        cfg: changed in place.
        file: a path, or an address that detectron2's ``PathManager`` knows.

    Raises:
        ValueError: a file that cannot be read or is no config, an unknown key, or a value of
            another type. The message names the file, the key and the nearest known one.
    """
    contents = list(islice(_read(file, ()), _MOST_FILES + 1))
    if len(contents) > _MOST_FILES:
        raise ValueError(f"config file {file} is based on more than {_MOST_FILES} others")
    known = _of_version(cfg, contents)
    refused: BaseException | None = None
    try:
        cfg.merge_from_file(file, allow_unsafe=False)
    except _REFUSED as error:
        refused = error
    for name, content in contents:
        for path, value in _values(content):
            if refused or _is_none(value):  # yacs takes None for anything
                _check(known, path, value, f"{name}: ")
    if refused:
        raise ValueError(f"{file} is no config: {_short(str(refused))}") from refused


def files_of(file: str) -> list[str]:
    """A config file that can be read, and before it those that its ``_BASE_`` names."""
    if is_lazy(file):
        return [file]
    return [name for name, _ in _read(file, ())]


def keys_of(file: str) -> list[set[str]]:
    """The keys that these files set, such as ``SOLVER.MAX_ITER``, of each in the same order."""
    contents = (content for _, content in _read(file, ()))
    return [{".".join(map(str, path)) for path, _ in _values(content)} for content in contents]


def _of_version(cfg: CfgNode, contents: Sequence[tuple[str, dict[Any, Any]]]) -> CfgNode:
    """A copy of ``cfg``, with the keys of that version of detectron2 that the files are of."""
    version = cfg.VERSION
    for name, content in contents:
        version = content.get("VERSION", version)
        if type(version) is not int or not 0 <= version <= cfg.VERSION:
            raise ValueError(
                f"{name}: VERSION: {version!r} must be a whole number from 0 to {cfg.VERSION}, "
                "that of this detectron2"
            )
    return downgrade_config(cfg, version)


def merge_overrides(cfg: CfgNode, overrides: Sequence[Any]) -> None:
    """Merge ``KEY, VALUE, KEY, VALUE, ...``.

    Args:
        cfg: changed in place.
        overrides: values as text, as in a command line, or as they are.

    Raises:
        ValueError: not pairs, an option among them, an unknown key, or a value of another type.
    """
    for word in overrides:
        if re.match("--[a-z]", str(word)):
            raise ValueError(f"{word} comes too late: options go before the first KEY VALUE")
    if len(overrides) % 2:
        raise ValueError(f"config overrides must be pairs KEY VALUE, and {overrides} are not")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        _check(cfg, tuple(str(key).split(".")), value, "config: ")
        cfg.merge_from_list([key, value])


def _check(cfg: CfgNode, path: tuple[Any, ...], value: Any, where: str) -> None:
    """Check one key, and its value by merging it into a copy."""
    node: Any = cfg
    key = ".".join(map(str, path))
    for part in path:
        if not isinstance(node, CfgNode) or part not in node:
            if cfg.key_is_deprecated(key) or cfg.key_is_renamed(key):
                return
            raise ValueError(f"{where}there is no key {_short(key)}{_nearest_key(key, cfg)}")
        node = node[part]
    if isinstance(node, CfgNode):
        raise ValueError(
            f"{where}{key}: {_short(repr(value))} cannot be set: it is a group of keys, such as "
            f"{key}.{next(iter(node), '')}"
        )
    expected = _EXPECTED.get(type(node), f"of type {type(node).__name__}")
    try:
        if _is_none(value) and node is not None and key not in _MAY_BE_NONE:
            raise TypeError("None is no value of this key")
        cfg.clone().merge_from_list([key, value])
    except _REFUSED as error:
        raise ValueError(f"{where}{key}: {_short(repr(value))} must be {expected}") from error


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() == "None")


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _nearest_key(key: str, cfg: CfgNode) -> str:
    """``; did you mean ...?``, or nothing where none is near."""
    known = [".".join(path) for path, _ in _values(cfg)]
    if key in known:
        return ": in a file a key stands below its group, as in configs/, without points"
    group, _, last = key.upper()[:_LONGEST_KEY].rpartition(".")
    by_last_part = {name.rpartition(".")[2]: name for name in known}
    in_group = {name.rpartition(".")[2]: name for name in known if name.startswith(f"{group}.")}
    for wanted, names in (
        (last, in_group),
        (last, by_last_part),
        (key.upper()[:_LONGEST_KEY], {name: name for name in known}),
    ):
        if found := difflib.get_close_matches(wanted, names, n=1):
            return f"; did you mean {names[found[0]]}?"
    return ""


def _values(
    content: dict[Any, Any], above: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Keys, as paths, and values of nested mappings; of an empty one itself."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _values(value, (*above, key))
        else:
            yield (*above, key), value


def _read(file: str, above: tuple[str, ...]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """A file's content without ``_BASE_``, and before it that of the files it is based on."""
    if os.path.realpath(file) in map(os.path.realpath, above):
        raise ValueError(f"config file {file} is based on itself: {' -> '.join((*above, file))}")
    if len(above) == _MOST_FILES:
        raise ValueError(f"config file {above[0]} is based on more than {_MOST_FILES} others")
    named_in = f", {_BASE} of {above[-1]}," if above else ""
    try:
        if PathManager.exists(file) and not PathManager.isfile(file):
            raise OSError("it is a folder, or no file that can be read twice")
        with PathManager.open(file, "r") as stream:
            content = yaml.load(stream, _Loader)
        size = _count(content, {})
    except FileNotFoundError:
        raise ValueError(f"config file {file}{named_in} does not exist") from None
    except yaml.constructor.ConstructorError as error:
        raise ValueError(f"config file {file}: {_explain(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config file {file} is not YAML: {_explain(error)}") from error
    except RecursionError:
        raise ValueError(f"config file {file} has values in values without end") from None
    except OSError as error:
        raise ValueError(f"config file {file}{named_in} cannot be read: {error}") from error
    if size > _MOST_VALUES:
        raise ValueError(f"config file {file} has {size:,} values, more than {_MOST_VALUES:,}")
    if not isinstance(content, dict):
        what = "is empty" if content is None else f"is a {type(content).__name__}"
        raise ValueError(f"config file {file} {what}: must be keys with values, as in configs/")
    bases = content.pop(_BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ValueError(f"config file {file}: {_BASE}: {base!r} must be a file's name")
        path = os.path.expanduser(base)
        if not path.startswith(("/", "https://", "http://")):
            path = os.path.join(os.path.dirname(file), path)
        yield from _read(path, (*above, file))
    yield file, content


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML takes the last without a word.

    A value that is not what it looks like or its tag says, such as the date 2020-02-30, is an
    error of YAML's, with its line.
    """

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (AttributeError, LookupError, ValueError) as error:
            text = f"{_short(str(node.value))!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    text = f"{key.value} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
                names.add(key.value)
        return super().construct_mapping(node, deep)


def _count(value: Any, known: dict[int, int]) -> int:
    """How many values there are; one that several aliases stand for counts each time."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in known:
        children = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(child, known) for child in children)
    return known[id(value)]


def _explain(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem_mark:
        return str(error).replace("\n", " ")
    text = f"line {error.problem_mark.line + 1}: {error.problem}"
    if "could not determine a constructor" in str(error.problem):
        text += ". Tags that make Python objects could run code and are refused: write plain values"
    return text
