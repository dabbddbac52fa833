"""Which stored tensors together are a quantised weight, and by which scheme.

The names decide, and the number formats: configurations are often absent or wrong, and what they say of groups and bits
is used where the stored shapes leave a choice. What looks quantised and fits no scheme is listed with the reason, with
all that belongs to the same module: neither integers nor scales are ever mistaken for weights.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from evalkit.errors import RunError
from evalkit.loaders.weights.bnb import STATE, four_bit_of_bitsandbytes, int8_of_bitsandbytes
from evalkit.loaders.weights.compressed import packed_weight
from evalkit.loaders.weights.e2m1 import mxfp4_of_gpt_oss, nvfp4_of_modelopt
from evalkit.loaders.weights.gptq import packed_by_rows
from evalkit.loaders.weights.headers import Header
from evalkit.loaders.weights.quantised import (
    Declared,
    Kept,
    Members,
    Quantised,
    Unreadable,
    read_declared,
    times,
)
from evalkit.loaders.weights.scaled import FLOAT8, scaled

__all__ = ["Quantised", "quantised_weights"]

Scheme = Callable[[Members, Declared], Quantised]

BY_NAME: Final[tuple[tuple[str, str, Scheme], ...]] = (
    (".weight_packed", ".weight", packed_weight),
    (".qweight", ".weight", packed_by_rows),
    (".SCB", ".weight", int8_of_bitsandbytes),
    (".weight_scale_2", ".weight", nvfp4_of_modelopt),
    (f"{STATE}nf4", ".weight", four_bit_of_bitsandbytes),
    (f"{STATE}fp4", ".weight", four_bit_of_bitsandbytes),
    ("_blocks", "", mxfp4_of_gpt_oss),
)
"""Ending of the stored tensor that gives a scheme away, ending of the weight's name, scheme."""
PARTS: Final = (
    "_blocks", "_scale", "_scale_inv", "_zero_point", "_g_idx", "_shape", "_global_scale", "_scale_2", "_scales",
    ".qzeros", ".scales", ".g_idx", ".weight_format", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map",
)  # fmt: skip
"""Endings of what belongs to a quantised weight and is none itself."""
NARROW: Final = (*FLOAT8, "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2")
"""Floats too narrow to be weights without a scale."""
INTEGERS: Final = ("I8", "U8", "I16", "U16", "I32", "U32")
"""Formats in which quantised numbers are stored; masks and positions are BOOL and I64."""


def quantised_weights(
    headers: Mapping[str, Header], config: Mapping[str, Any]
) -> tuple[dict[str, Quantised], dict[str, str]]:
    """Return stored name of a weight (``….q_proj.weight``) → how to read it, and stored name → why it cannot be read.

    In the order of ``headers``. What is in neither and in no ``members`` is no part of a quantised weight. Reads the
    small tensors that describe others (shapes, orders of inputs); reads no weights.
    """
    declared = read_declared(config)
    names, kept = sorted(headers), Kept()
    found: dict[str, Quantised] = {}
    reasons: dict[str, str] = {}
    for header in headers.values():
        located = _locate(header, headers)
        if located is None or located[1] in found:
            continue
        stem, weight, scheme = located
        try:
            found[weight] = scheme(Members(stem, headers, kept), declared)
        except (Unreadable, RunError) as error:
            module = weight.removesuffix(".weight")
            reasons |= dict.fromkeys([header.name, *_parts_of(module, names)], str(error))
    taken = {member for quantised in found.values() for member in quantised.members}
    for header in headers.values():
        if header.name not in taken and header.name not in reasons:
            reasons |= _unexplained(header, declared, names)
    return found, {name: why for name, why in reasons.items() if name not in taken}


def _locate(header: Header, headers: Mapping[str, Header]) -> tuple[str, str, Scheme] | None:
    """Return the stem of a weight's parts, its name and scheme, if the tensor gives one away."""
    name = header.name
    for ending, weight, scheme in BY_NAME:
        stem = name.removesuffix(ending)
        if stem != name and (ending != "_blocks" or header.dtype == "U8"):
            return stem, stem + weight, scheme
    if header.dtype in FLOAT8 and not name.endswith(PARTS):
        return name, name, scaled
    if header.dtype == "I8" and f"{name.removesuffix('.weight')}.SCB" not in headers:
        scales = (f"{name}_scale", f"{name}_scale_inv")
        if name.endswith(".weight") or any(scale in headers for scale in scales):
            return name, name, scaled
    return None


def _parts_of(module: str, names: list[str]) -> Iterator[str]:
    """Yield the stored names that belong to a module's weight: all of its own but the bias."""
    for name in names[bisect_left(names, module) :]:
        if not name.startswith(module):
            return
        rest = name[len(module) :]
        own = rest.startswith(".") and (rest.count(".") == 1 or rest.startswith(".weight."))
        if rest in ("", *PARTS) or (own and rest != ".bias"):
            yield name


def _unexplained(header: Header, declared: Declared, names: list[str]) -> dict[str, str]:
    """Return the reason of a tensor that looks quantised and of which no scheme knows, and of what lies beside it."""
    name = header.name
    said = f" (the configuration says {declared.method})" if declared.method else ""
    matrix = len(header.shape) > 1 and header.dtype in INTEGERS
    if header.dtype in NARROW or (matrix and (declared.method or name.endswith(".weight"))):
        why = f"{name} is {header.dtype} of {times(header.shape)}, which no known scheme explains{said}"
        beside = _parts_of(name.rpartition(".")[0], names) if matrix else ()
        return dict.fromkeys([name, *beside], why)
    if declared.method and any(name.endswith((f"weight{part}", f"proj{part}")) for part in PARTS):
        return {name: f"{name} belongs to a quantised weight that is not there{said}"}
    return {}
