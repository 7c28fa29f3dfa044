"""KServe's own types, from the wheel of its Python package (in a cache, not installed), as a check of YAML files.

The package needs FastAPI, pandas, Kubernetes' client and others in versions of its own; its types are single files of
generated code, which need only `six` and `urllib3`. Kubernetes' types in them, such as `V1Container`, are checked by
the schemas of the package `kubernetes_validate`.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import subprocess
import sys
import types
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import jsonschema  # type: ignore[import-untyped, unused-ignore]

VERSION = "0.21.0"
KUBERNETES = "v1.37.0"
CACHE = Path.home() / ".cache" / "resnest-serving" / "kserve" / VERSION
SCALARS: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "float": (int, float)}
SCHEMAS = {"K8sIoApiAppsV1": "io.k8s.api.apps.v1.", "V1ObjectMeta": "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}


class KserveTypeError(Exception):
    """A field that KServe doesn't know, one with another type, or a required one that is missing."""


def check(resource: dict[str, Any]) -> None:
    """Check a resource of `serving.kserve.io`.

    Raises:
        KserveTypeError: it isn't one of its type; the message has the path.
    """
    group, _, version = resource["apiVersion"].partition("/")
    if group != "serving.kserve.io":
        raise KserveTypeError(f"apiVersion: {group} isn't KServe's")
    _check(resource, f"{version[0].upper()}{version[1:]}{resource['kind']}", resource["kind"])


def _check(value: Any, kind: str, path: str) -> None:
    if of_list := re.fullmatch(r"list\[(.+)\]", kind):
        _expect(value, list, path)
        for index, each in enumerate(value):
            _check(each, of_list[1], f"{path}[{index}]")
    elif of_dict := re.fullmatch(r"dict\(str, (.+)\)", kind):
        _expect(value, dict, path)
        for name, each in value.items():
            _check(each, of_dict[1], f"{path}.{name}")
    elif kind in SCALARS:
        _expect(value, SCALARS[kind], path)
    elif hasattr(models(), kind):
        _check_model(value, getattr(models(), kind), path)
    else:
        _check_kubernetes(value, kind, path)


def _expect(value: Any, kind: type | tuple[type, ...], path: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise KserveTypeError(f"{path}: {value!r} isn't {kind}")


def _check_model(value: Any, model: Any, path: str) -> None:
    _expect(value, dict, path)
    names = {written: name for name, written in model.attribute_map.items()}
    if unknown := value.keys() - names.keys():
        raise KserveTypeError(f"{path}: unknown {sorted(unknown)}")
    try:
        model(**{names[written]: each for written, each in value.items()})  # which asks for required fields
    except ValueError as error:
        raise KserveTypeError(f"{path}: {error}") from error
    for written, each in value.items():
        _check(each, model.openapi_types[names[written]], f"{path}.{written}")


def _check_kubernetes(value: Any, kind: str, path: str) -> None:
    for prefix, name in SCHEMAS.items():
        if kind.startswith(prefix):
            definition = name if kind == prefix else name + kind.removeprefix(prefix)
            break
    else:
        definition = "io.k8s.api.core.v1." + kind.removeprefix("V1")
    schema = {"$ref": f"#/$defs/{definition}", "$defs": _definitions()}
    if definition not in _definitions():
        raise KserveTypeError(f"{path}: the type {kind} isn't known")
    try:
        jsonschema.Draft202012Validator(schema).validate(value)
    except jsonschema.ValidationError as error:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.path)
        raise KserveTypeError(f"{path}{where}: {error.message}") from error


@functools.cache
def _definitions() -> dict[str, Any]:
    """Return Kubernetes' types, which refuse unknown fields; they refer to each other as `#/$defs/…`."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"{KUBERNETES}-local-strict"
    text = (folder / "_definitions.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.replace('"_definitions.json#', '"#'))["$defs"]
    return found


@functools.cache
def models() -> types.ModuleType:
    """Return the module `kserve.models`, without what the package itself imports."""
    package = types.ModuleType("kserve")
    package.__path__ = [str(_unpacked() / "kserve")]
    sys.modules["kserve"] = package
    return importlib.import_module("kserve.models")


def _unpacked() -> Path:
    if not CACHE.is_dir():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE.parent) as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary]
            subprocess.run([*command, "--only-binary", ":all:", f"kserve=={VERSION}"], check=True)
            [wheel] = Path(temporary).glob("*.whl")
            folder = Path(temporary) / "types"
            with ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if re.match(r"kserve/(models/|configuration\.py)", name)]
                archive.extractall(folder, names)
            try:
                folder.rename(CACHE)
            except OSError:  # another process was faster
                assert CACHE.is_dir()
    return CACHE
