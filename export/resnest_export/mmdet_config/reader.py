"""Reads mmdetection configurations of both styles, with their bases, and executes nothing."""

from __future__ import annotations

import ast
import json
import re
import warnings
from pathlib import Path

from resnest_core.errors import ConfigError, ParameterError
from resnest_core.text_files import decode_text
from resnest_export.mmdet_config.expressions import Expressions
from resnest_export.mmdet_config.merge import merged
from resnest_export.mmdet_config.statements import BASE, Statements
from resnest_export.mmdet_config.values import Place, Section, Unevaluated, Value

MAX_CHARACTERS = 2_000_000
MAX_NESTING = 90  # of brackets; CPython's parser stops at 200
NESTING = re.compile(
    r"""#[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|[\[({]|[\])}]|[-+~]{2,}"""
    r"""|(?:\bnot\s+){2,}|(?:\blambda\b[^:\n]*:\s*){2,}"""
)
MAX_BASES = 64  # files
FROM_CHECKPOINT = "the checkpoint's configuration"


def read_config_file(path: Path) -> Section:
    """Read a configuration file (.py or .json) with its bases.

    Args:
        path: such as mmdetection's `work_dirs/<name>/<name>.py`.

    Returns:
        The merged configuration; what can't be evaluated is an `Unevaluated` in its place.

    Raises:
        ConfigError: a file can't be read or parsed, or a base is missing, circular or contradictory.
    """
    return _read_file(path, ())


def read_config(text: str, source: str = FROM_CHECKPOINT) -> Section:
    """Read a configuration's text, as a checkpoint keeps it.

    Args:
        text: `meta["cfg"]` (mmdetection 3) or `meta["config"]` (2).
        source: what it is called in messages.

    Raises:
        ConfigError: as above; a text of a checkpoint can't name bases.
    """
    return _read_python(text, source, None, ())


def _read_file(path: Path, readers: tuple[Path, ...]) -> Section:
    path = path.expanduser()
    suffix = path.suffix.lower()
    if suffix in (".yml", ".yaml"):
        raise ConfigError(f"{path} is YAML, which isn't read: give the Python file that mmengine's Config.dump writes.")
    if suffix not in (".py", ".json"):
        raise ConfigError(f"{path} isn't a configuration: give mmdetection's .py file.")
    try:
        text = decode_text(path.read_bytes(), path)
    except ParameterError as error:
        raise ConfigError(str(error)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} can't be read ({reason}): check the path.") from error
    if suffix == ".json":
        return _read_json(text, path, readers)
    return _read_python(text, str(path), path, readers)


def _read_python(text: str, source: str, path: Path | None, readers: tuple[Path, ...]) -> Section:
    try:
        tree = _parse(text.removeprefix("\ufeff"), source)
        base = _bases(_base_names(tree, source), source, path, readers)
        names: dict[str, Value] = {BASE: base}
        expressions = Expressions(names, source, _variables(path))
        statements = Statements(expressions)
        statements.run(statement for statement in tree.body if not _is_base(statement))
    except (RecursionError, MemoryError) as error:
        raise _too_deep(source) from error
    child = Section((name, value) for name, value in names.items() if not name.startswith("__") and name != BASE)
    child.places = {name: place for name, place in statements.places.items() if name in child}
    return merged(child, base)


def _parse(text: str, source: str) -> ast.Module:
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{source} has {len(text):,} characters, which no configuration has: check what it is.")
    first = text.lstrip().partition("\n")[0].strip()
    if re.fullmatch(r"[^=()\[\]{}'\"#]+\.(py|json|ya?ml)", first):  # `a/b.py` alone would be valid Python
        raise ConfigError(
            f"{source} is several files in a row, as old versions kept them ({first} is the first): "
            "give the configuration file with --config."
        )
    if _nesting(text) > MAX_NESTING:
        raise _too_deep(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of escapes in Windows paths
            return ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(
            f"{source}, line {error.lineno or 1}, isn't valid Python ({error.msg}): it is cut short or damaged; "
            "give the configuration file with --config."
        ) from error
    except ValueError as error:  # null bytes, lone surrogates, numbers of thousands of digits
        raise ConfigError(f"{source} isn't a configuration ({error}): give the file with --config.") from error


def _nesting(text: str) -> int:
    """Return how deep brackets nest, and how many signs, `not`s or `lambda`s follow each other, outside strings."""
    depth = deepest = 0
    for match in NESTING.finditer(text):
        token = match.group()
        if token in "[({":
            depth += 1
            deepest = max(deepest, depth)
        elif token in "])}":
            depth = max(depth - 1, 0)
        elif token[0] not in "#'\"":
            deepest = max(deepest, len(token) // 4)
    return deepest


def _too_deep(source: str) -> ConfigError:
    return ConfigError(f"{source} is nested deeper than any configuration: check what it is.")


def _is_base(node: ast.stmt) -> bool:
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return isinstance(target, ast.Name) and target.id == BASE


def _base_names(tree: ast.Module, source: str) -> list[str]:
    node = next((statement for statement in tree.body if _is_base(statement)), None)
    if node is None:
        return []
    assert isinstance(node, ast.Assign)
    value = Expressions({}, source, {}).evaluate(node.value)
    return _as_names(value, str(Place(source, node.lineno)))


def _as_names(value: Value, place: str) -> list[str]:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        unknown = next((str(name) for name in names if isinstance(name, Unevaluated)), "it is neither")
        raise ConfigError(f"{place}: {BASE} isn't a path or a list of paths ({unknown}): write the paths as strings.")
    return names


def _bases(names: list[str], source: str, path: Path | None, readers: tuple[Path, ...]) -> Section:
    """Read and join the bases of a configuration."""
    if not names:
        return Section()
    if path is None:
        raise ConfigError(
            f"{source} builds on other files ({', '.join(names)}), which it doesn't hold: "
            "give the configuration file with --config."
        )
    readers = (*readers, path.resolve())
    result = Section()
    for name in names:
        file = _base_file(name, path)
        if file.resolve() in readers:
            raise ConfigError(f"{path}: its base {name} builds on {path.name} itself: break the circle.")
        if len(readers) > MAX_BASES:
            raise ConfigError(f"{path} is the end of a chain of more than {MAX_BASES} bases: check them.")
        base = _read_file(file, readers)
        twice = sorted(result.keys() & base.keys())
        if twice:
            raise ConfigError(f"{path}: {', '.join(twice)} is in more than one base, which mmengine refuses: keep one.")
        result.add(base)
    return result


def _base_file(name: str, path: Path) -> Path:
    if "::" in name:
        raise ConfigError(
            f"{path}: the base {name} is in an installed package, which isn't looked up: "
            "give what mmengine's Config.dump writes."
        )
    file = path.parent / name
    if not file.is_file() and "\\" in name:  # written on Windows
        file = path.parent / name.replace("\\", "/")
    if not file.is_file():
        raise ConfigError(
            f"{path}: its base {name} doesn't exist: keep the folder's layout, or give what mmengine's "
            "Config.dump writes."
        )
    return file


def _variables(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    return {
        "fileDirname": str(path.parent.absolute()),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }


def _read_json(text: str, path: Path, readers: tuple[Path, ...]) -> Section:
    try:
        config = json.loads(text, object_pairs_hook=Section)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} isn't valid JSON ({error}): it is cut short or damaged.") from error
    if not isinstance(config, Section):
        raise ConfigError(f"{path} isn't a configuration: it holds no dictionary.")
    names = config.pop(BASE, [])
    return merged(config, _bases(_as_names(names, str(path)), str(path), path, readers))
