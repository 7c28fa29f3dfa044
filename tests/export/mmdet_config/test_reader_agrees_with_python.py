"""Random small programs: what the reader claims to know is what Python computes, whatever unknown code did between."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resnest_export.mmdet_config import read_config
from resnest_export.mmdet_config.values import Unevaluated, containers_in

NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["'k'", "'m'", "0"])
LEAVES = st.sampled_from(["1", "'t'", "None", "[1, 2]", "dict(k=1, m=[3])", "{'k': {'m': 2}}", "(4, [5])", "[]"])
EXPRESSIONS = st.recursive(
    LEAVES | NAMES,
    lambda inner: st.one_of(
        st.builds("dict(k={}, m={})".format, inner, inner),
        st.builds("dict(**{}, n={})".format, NAMES, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("({}, {})".format, inner, inner),
        st.builds("{}[{}]".format, NAMES, KEYS),
        st.builds("{}.get({}, {})".format, NAMES, KEYS, inner),
        st.builds("{}.pop({})".format, NAMES, KEYS),
        st.builds("{}.copy()".format, NAMES),
        st.builds("({} if {} else {})".format, inner, NAMES, inner),
        st.builds("({} or {})".format, NAMES, inner),
        st.builds("({} + {})".format, inner, inner),
        st.builds("len({})".format, NAMES),
        st.builds("unknown({})".format, inner),
        st.builds("({} if unknown(1) else {})".format, NAMES, NAMES),
        st.builds("[unknown(x) for x in {}]".format, inner),
        st.builds("(lambda x: unknown({}))({})".format, NAMES, inner),
        st.builds("(c := {})".format, inner),
    ),
    max_leaves=4,
)
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, NAMES, EXPRESSIONS),
    st.builds("{} = {} = {}".format, NAMES, NAMES, EXPRESSIONS),
    st.builds("{}, {} = {}, {}".format, NAMES, NAMES, EXPRESSIONS, EXPRESSIONS),
    st.builds("{}[{}] = {}".format, NAMES, KEYS, EXPRESSIONS),
    st.builds("{}[{}][{}] = {}".format, NAMES, KEYS, KEYS, EXPRESSIONS),
    st.builds("{} += {}".format, NAMES, EXPRESSIONS),
    st.builds("{}.update({})".format, NAMES, EXPRESSIONS),
    st.builds("{}.append({})".format, NAMES, EXPRESSIONS),
    st.builds("del {}[{}]".format, NAMES, KEYS),
    st.builds("{}".format, EXPRESSIONS),
    st.builds("for x in {}:\n    {} = x".format, EXPRESSIONS, NAMES),
    st.builds("for x in [{}]:\n    x['k'] = 9".format, NAMES),
    st.builds("if {}:\n    {} = {}".format, EXPRESSIONS, NAMES, EXPRESSIONS),
    st.builds("try:\n    {} = {}\nfinally:\n    pass".format, NAMES, EXPRESSIONS),
    st.builds("def f():\n    {}['k'] = 8\nf()".format, NAMES),
    st.builds("def f():\n    {}['k'] = 8\ng = f\nunknown([g])\ng()".format, NAMES),
    st.builds("f = lambda: {}.update(k=7)\nf()".format, NAMES),
    st.builds("class A:\n    x = {}\n    x['k'] = 6".format, NAMES),
)


def unknown(value: Any) -> Any:
    """Change every container within a value: what code that isn't run may do."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in seen or not isinstance(item, (dict, list, tuple)):
            continue
        seen.add(id(item))
        stack.extend(item.values() if isinstance(item, dict) else item)
        if isinstance(item, dict):
            item["changed"] = True
        elif isinstance(item, list):
            item.append("changed")
    return value


def agrees(ours: Any, theirs: Any) -> bool:
    """Whether the known parts of a value are Python's."""
    if isinstance(ours, Unevaluated):
        return True
    if type(theirs) in (list, tuple):
        return type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(agrees, ours, theirs))
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and ours.keys() == theirs.keys() and all(agrees(ours[k], theirs[k]) for k in ours)
    return type(ours) is type(theirs) and bool(ours == theirs)


@settings(deadline=None, max_examples=200)
@given(statements=st.lists(STATEMENTS, min_size=1, max_size=6))
def test_what_is_known_is_what_python_computes(statements: list[str]) -> None:
    text = "\n".join(["a = dict(k=1, m=dict(k=[1]))", "b = [dict(k=2), a]", "c = dict(k=b)", *statements])
    names: dict[str, Any] = {"unknown": unknown}
    try:
        exec(text, names)
    except Exception:  # no configuration that anybody has used
        assume(False)
    config = read_config(text)
    for name in "abc":
        assume(not is_circular(names[name]))
        assert agrees(config[name], names[name]), (name, text)


def is_circular(value: Any, above: tuple[int, ...] = ()) -> bool:
    if not isinstance(value, (dict, list, tuple)):
        return False
    if id(value) in above:
        return True
    items = value.values() if isinstance(value, dict) else value
    return any(is_circular(item, (*above, id(value))) for item in items)


def test_containers_in_a_circle_are_found_once() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert len(list(containers_in(circle))) == 1
