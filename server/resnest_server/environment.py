"""Variables `RESNEST_…` that aren't settings: those of Kubernetes' Services, and those with a misspelt name.

Kubernetes gives every container variables of each Service in its namespace. Those of a Service named `resnest` or
`resnest-…` begin like the gateway's settings: `RESNEST_PORT=tcp://10.0.0.1:8000`, `RESNEST_SERVICE_HOST` and others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from resnest_core.messages import named
from resnest_core.runtimes.tensorrt.runtime import CUDA_GRAPHS
from resnest_core.telemetry_off import ALLOW

PREFIX = "RESNEST_"
ELSEWHERE = ("RESNEST_API_KEY", CUDA_GRAPHS, ALLOW)
"""Variables that aren't settings of the gateway: the clients' key, one of the runtime `tensorrt`, and the one that
allows other packages' reports."""
# The names that Kubernetes, and links between Docker's containers, make of a Service's name and its ports.
_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def without_links(variables: Mapping[str, str | None], settings: Iterable[str]) -> dict[str, str | None]:
    """Return the variables without those of Services; `settings` are the names of the settings."""
    known = _variables(settings)
    return {name: value for name, value in variables.items() if not _is_link(name, value, known)}


def warnings(settings: Iterable[str], variables: Mapping[str, str] = os.environ) -> list[str]:
    """Return a sentence about the variables of Services, and one about each variable that nothing here reads.

    Args:
        settings: the names of the settings, as attributes.
        variables: the environment.
    """
    known = _variables(settings)
    ours = {name: value for name, value in variables.items() if name.upper().startswith(PREFIX) and value}
    links = sorted(name for name, value in ours.items() if _is_link(name, value, known))
    unknown = sorted(name for name in ours if name.upper() not in known and name not in links)
    sentences = [_about_links(links)] if links else []
    return sentences + [_about_unknown(name, known) for name in unknown]


def _variables(settings: Iterable[str]) -> set[str]:
    return {f"{PREFIX}{name.upper()}" for name in settings} | set(ELSEWHERE)


def _is_link(name: str, value: str | None, known: set[str]) -> bool:
    """Tell whether a variable is one of a Service; one named like a setting is, if its value is an address."""
    name = name.upper()
    if not (name.startswith(PREFIX) and _LINK.fullmatch(name)):
        return False
    return name not in known or _ADDRESS.match(value or "") is not None


def _about_links(names: list[str]) -> str:
    return (
        f"{named(names)} {'is' if len(names) == 1 else 'are'} of a Kubernetes Service, and ignored: "
        "set enableServiceLinks: false in the pod, and a port by --port."
    )


def _about_unknown(name: str, known: set[str]) -> str:
    close = get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.8)
    return f"{name} is not a setting, and ignored: {f'did you mean {close[0]}?' if close else 'check its name.'}"
