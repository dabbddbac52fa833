"""What a quantised weight is: several stored tensors that together are one matrix, and the rule that makes it.

Nothing quantised is analysed without its scales. A scheme that finds a part missing, or of a shape that does not fit,
raises ``Unreadable`` with the reason in words, which ends in the list of what was skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evalkit.loaders.weights.headers import Header, read_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

Load = Callable[[str, int, int], "NDArray[Any]"]
"""Stored name, start, stop → these rows of the first axis in the stored format."""
Rows = Callable[[Load, int, int], "Array"]
"""Load, start, stop → rows of the weight."""

ACTIVATIONS: Final = (
    "input_scale", "input_zero_point", "input_global_scale", "activation_scale",
    "output_scale", "output_zero_point", "output_global_scale", "q_scale", "k_scale", "v_scale",
)  # fmt: skip
"""What lies beside a quantised weight and scales what flows through it, not the weight."""


INTEGERS: Final = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")
"""Formats of integers."""
MOST_BYTES: Final = 1 << 26
"""Bytes beyond which what should describe a weight is something else."""


class Unreadable(Exception):
    """A quantised weight cannot be read; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A weight that several stored tensors make up."""

    shape: tuple[int, ...]
    """(out, in), also where an unquantised checkpoint would store (in, out), as GPT-2's would; of stacked experts
    the shape that an unquantised checkpoint stores."""
    dtype: str
    """How it is stored, in words: ``gptq int4``, ``fp8 e4m3`` … Never the name of a plain number format."""
    members: frozenset[str]
    """Names of all stored tensors that belong to it, those that scale activations included."""
    rows: Rows
    """The rule that makes rows of it; ``read`` checks their range."""

    def read(self, load: Load, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start:stop`` of the first axis as float32, C-contiguous.

        Products are rounded once, to float32; libraries round to the scales' own format. Loads no more rows of what is
        stored than these need, where the storage keeps rows apart.
        """
        import numpy as np

        begin, end, _ = slice(start, stop).indices(self.shape[0])
        return np.ascontiguousarray(self.rows(load, begin, max(begin, end)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a checkpoint's ``config.json`` says of its quantisation; all of it may be absent or wrong."""

    method: str = ""
    """``quant_method``: ``gptq``, ``awq``, ``fp8``, ``compressed-tensors`` …; empty where none is declared."""
    layout: str = ""
    """How the method packs: GPTQ's ``checkpoint_format``, AWQ's ``version``, the format of compressed-tensors."""
    bits: frozenset[int] = frozenset()
    """Bits of a weight, over all groups of modules."""
    groups: frozenset[int] = frozenset()
    """Inputs that share a scale."""
    blocks: frozenset[tuple[int, int]] = frozenset()
    """Rows and columns that share a scale."""
    asymmetric: bool = False
    """Whether every group of modules has zero points."""


def read_declared(config: Mapping[str, Any]) -> Declared:
    """Return what a configuration declares, whatever its shape; what cannot be understood counts as absent."""
    text = config.get("text_config")
    places = (config, text if isinstance(text, Mapping) else {})
    keys = ("quantization_config", "compression_config")
    found = [place[key] for place in places for key in keys if isinstance(place.get(key), Mapping)]
    if not found:
        return Declared()
    said = found[0]
    if said.get("dynamic"):  # GPTQModel: modules differ from what is said of all
        said = {key: said[key] for key in said if key not in ("bits", "group_size")}
    listed = said.get("config_groups")
    groups = list(listed.values()) if isinstance(listed, Mapping) else []
    weights = [
        group["weights"]
        for group in groups
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping)
    ]
    layouts = (said.get("checkpoint_format"), said.get("version"), said.get("packing_format"))
    layout = next((str(layout) for layout in layouts if layout), "") or str(said.get("format", ""))
    sizes = [said.get("weight_block_size"), *(group.get("block_structure") for group in weights)]
    return Declared(
        method=str(said.get("quant_method", "unnamed")),
        layout=layout.lower(),
        bits=_integers([said.get("bits"), *(group.get("num_bits") for group in weights)]),
        groups=_integers([said.get("group_size"), *(group.get("group_size") for group in weights)]),
        blocks=frozenset(
            (size[0], size[1])
            for size in sizes
            if isinstance(size, list) and len(size) == 2 and all(map(_is_count, size))
        ),
        asymmetric=bool(weights) and all(group.get("symmetric") is False for group in weights),
    )


def _integers(found: Iterable[Any]) -> frozenset[int]:
    return frozenset(number for number in found if _is_count(number))


def _is_count(found: object) -> bool:
    return type(found) is int and found > 0


class Kept:
    """The stored tensors that were read last.

    Where the rows of a weight are columns of what is stored, each block of rows needs all of it: kept, it is read once.
    """

    def __init__(self) -> None:
        self._last: tuple[tuple[Header, ...], list[NDArray[Any]]] | None = None

    def whole(self, load: Load, headers: tuple[Header, ...]) -> list[NDArray[Any]]:
        """Return stored tensors, which must not be changed."""
        last = self._last
        if last is None or last[0] != headers:
            self._last = None
            self._last = last = (headers, [load(one.name, 0, one.rows) for one in headers])
        return last[1]


class Members:
    """The stored tensors of one weight, looked up by what follows their common stem; remembers which were."""

    def __init__(self, stem: str, headers: Mapping[str, Header], kept: Kept) -> None:
        self.stem, self.kept = stem, kept
        self._headers = headers
        self._taken: set[str] = set()

    def get(self, suffix: str) -> Header | None:
        """Return the tensor called stem + suffix; None where there is none."""
        header = self._headers.get(self.stem + suffix)
        if header is not None:
            self._taken.add(header.name)
        return header

    def need(self, suffix: str, *formats: str) -> Header:
        """Return the tensor called stem + suffix; raises Unreadable where it is absent or in none of the formats."""
        header = self.get(suffix)
        if header is None:
            raise Unreadable(
                f"{self.stem}{suffix} is missing, without which the weight has no meaning"
            )
        if formats and header.dtype not in formats:
            raise Unreadable(f"{header.name} is {header.dtype}, not {' or '.join(formats)}")
        return header

    def all_of(self, module: str) -> frozenset[str]:
        """Return the names of all that were looked up, and of the module's scales of activations."""
        for suffix in ACTIVATIONS:
            for name in (f"{module}.{suffix}", f"{self.stem}_{suffix}"):
                if name in self._headers:
                    self._taken.add(name)
        return frozenset(self._taken)


def numbers(header: Header) -> list[int]:
    """Return a small tensor's integers as a flat list (a shape, an index); raises Unreadable where it is none."""
    if header.dtype not in INTEGERS or header.stop - header.start > MOST_BYTES:
        raise Unreadable(
            f"{header.name} is {header.dtype} of {times(header.shape)}, not a list of integers"
        )
    return list(read_bytes(header, 0, header.rows).reshape(-1).tolist())


def times(shape: tuple[int, ...]) -> str:
    """Return a shape in words: ``128×64``."""
    return "×".join(map(str, shape)) or "one number"


def block_length(length: int, count: int, declared: Collection[int]) -> int | None:
    """Return how many of ``length`` places share one of ``count`` scales; None where they do not fit.

    What the configuration declares must fit; then the last block may be short. Where it declares nothing, blocks are
    whole and a power of two long: 300 rows with 3 scales are as likely two blocks of 128 and a rest as three of 100.

    >>> block_length(576, 5, [128]), block_length(64, 4, [32]), block_length(64, 2, []), block_length(300, 3, [])
    (128, None, 32, None)
    """
    if count == 1:
        return length
    if count == length:
        return 1
    if declared:
        fitting = [size for size in declared if -(-length // size) == count]
        return fitting[0] if len(fitting) == 1 else None
    if count < 1 or length % count:
        return None
    size = length // count
    return size if size.bit_count() == 1 else None
