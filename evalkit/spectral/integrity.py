"""Checks that something is whole: files, numbers, shapes, the vocabulary, ties, what training must and must not touch.

Each is a function of everything that was seen, yielding findings. Without a base, zeros are only out of place in
tables, matrices and kernels: a bias may well be 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from evalkit.errors import RunError
from evalkit.ports import TensorSource
from evalkit.records.patterns import expression
from evalkit.records.weights import NO_WEIGHT, Tensor
from evalkit.spectral.evidence import Found, Seen, dense
from evalkit.spectral.measuring import LARGEST_FINITE, Measurement, blocks
from evalkit.spectral.pairing import find, lacking

NAMED: Final = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Number formats as ``config.json`` and as safetensors name them; others are those of quantised weights."""
LANGUAGE_HEAD: Final = re.compile(r"(^|\.)(lm_head|embed_out)\b")
"""Heads with a row for each token; a classifier's has one for each class."""
COUNTED_OTHERWISE: Final = (
    "is_encoder_decoder", "encoder_layers", "decoder_layers", "num_hidden_groups", "block_sizes", "depths",
)  # fmt: skip
"""Settings of models whose blocks are not numbered from 0 to num_hidden_layers − 1."""


def unreadable(seen: Seen) -> Iterator[Found]:
    """What the files do not give."""
    for fault in seen.source.faults:
        yield Found(fault.tensor, fault.message)
    for held in seen.measurements:
        if held.unread:
            yield Found(held.pair.tensor.name, held.unread)
    told = {fault.tensor or fault.message for fault in seen.source.faults}
    if seen.adapter is not None:  # integrity.adapter tells of these
        told |= seen.adapter.skipped.keys()
    for name in seen.lost:
        if name not in told:
            yield Found(name, seen.source.skipped[name])
    if not seen.lost:  # which may hold the blocks that are not there
        yield from _holes(seen.source)


def _holes(source: TensorSource) -> Iterator[Found]:
    """Yield the blocks that the configuration counts and of which nothing is stored; all towers' are counted together.

    Left out are models that count blocks otherwise: encoder and decoder apart, in stages, or shared.
    """
    config = source.config
    if any(config.get(key) for key in COUNTED_OTHERWISE):
        return
    blocks_said = _configured(config, "num_hidden_layers") or 0
    depths = {tensor.depth for tensor in source.tensors if tensor.depth is not None}
    if depths and len(source.tensors) < blocks_said:  # too many to name
        yield Found(None, f"config.json says {blocks_said:,} blocks, and {len(depths):,} are there")
    elif depths:
        for depth in range(blocks_said):
            if depth not in depths:
                of = f"config.json says {blocks_said:,} blocks"
                yield Found(None, f"block {depth} is not there, and {of}")


def nonfinite(seen: Seen) -> Iterator[Found]:
    """NaN and infinities."""
    for held in seen.measurements:
        if held.own is not None and held.own.nonfinite:
            of = f"{held.own.nonfinite:,} of {held.own.count:,} numbers are NaN or infinite"
            yield Found(held.pair.tensor.name, of, held.own.nonfinite)


def zero(seen: Seen) -> Iterator[Found]:
    """Tensors of zeros alone."""
    for held in seen.measurements:
        if _is_zero(held) and held.against is not None and held.against.base_sum_squares:
            yield Found(held.pair.tensor.name, "every number is 0, and the base's are not")
    for held in dense(seen.measurements):
        if _is_zero(held) and held.against is None:
            yield Found(held.pair.tensor.name, "every number is 0")


def dead(seen: Seen) -> Iterator[Found]:
    """Rows and columns of zeros."""
    for held in dense(seen.measurements):
        if held.own is None or _is_zero(held):
            continue
        tensor, against = held.pair.tensor, held.against
        if against is not None:
            rows, columns = against.new_dead_rows or 0, against.new_dead_columns or 0
            why = " that the base does not have so"
        elif tensor.form == "embedding":  # rows of tokens that never occur
            rows, columns, why = 0, held.own.dead_columns, ""
        else:
            rows, columns, why = held.own.dead_rows, held.own.dead_columns, ""
        if rows or columns:
            yield Found(
                tensor.name, f"{rows:,} rows and {columns:,} columns are 0{why}", rows + columns
            )
        if held.grown_dead:
            of = f"{held.grown_dead:,} of the rows that the base does not have are 0, and stand for tokens"
            yield Found(tensor.name, of, held.grown_dead)


def saturated(seen: Seen) -> Iterator[Found]:
    """Numbers at the end of a narrow format's range."""
    for held in seen.measurements:
        if held.own is not None and held.own.saturated:
            tensor, most = held.pair.tensor, LARGEST_FINITE[held.pair.tensor.dtype]
            of = f"{held.own.saturated:,} of {held.own.count:,} numbers"
            told = f"{of} are ±{most:g}, the most that {tensor.dtype} holds"
            yield Found(tensor.name, told, held.own.saturated)


def tokens(source: TensorSource) -> tuple[int | None, int | None]:
    """Return how many tokens the tokenizer and the configuration say there are."""
    return source.vocabulary, _configured(source.config, "vocab_size")


def _configured(config: Mapping[str, Any], key: str) -> int | None:
    """Return a count that a configuration says: its language model's, before that of the whole; None for none."""
    inner = config.get("text_config")
    places = (inner if isinstance(inner, Mapping) else {}, config)
    counts = (place.get(key) for place in places)
    return next((count for count in counts if type(count) is int), None)  # a boolean is no count


def vocabulary(seen: Seen) -> Iterator[Found]:
    """Tables of another size than the vocabulary."""
    known, configured = tokens(seen.source)
    for held in seen.measurements:
        tensor = held.pair.tensor
        if tensor.module != "embedding" and not LANGUAGE_HEAD.search(tensor.name):
            continue
        rows = tensor.shape[0] if tensor.shape else 0
        if known is not None and rows < known:
            yield Found(tensor.name, f"{rows:,} rows for the tokenizer's {known:,} tokens", rows)
        if configured is not None and rows != configured:
            yield Found(tensor.name, f"{rows:,} rows, and vocab_size is {configured:,}", rows)


def tied(seen: Seen) -> Iterator[Found]:
    """Names that should share their numbers and do not."""
    held = {m.pair.tensor.name: m.pair.tensor for m in seen.measurements}
    for name, other in seen.source.tied.items():
        if name in held and other in held:
            yield from _apart(seen.source, held[name], held[other], f"is tied to {other}")
    if seen.base is None:
        return
    for name, other in seen.base.tied.items():
        if name not in seen.source.tied and name in held and other in held:
            yield from _apart(
                seen.source, held[name], held[other], f"is tied to {other} in the base"
            )


def _apart(source: TensorSource, one: Tensor, other: Tensor, why: str) -> Iterator[Found]:
    if one.shape != other.shape:
        yield Found(one.name, f"{why}, and has another shape: {_shape(one)}, not {_shape(other)}")
        return
    different, largest = 0, 0.0
    try:
        for start, block_RC in blocks(source, one):
            other_RC = source.read(other, start, start + len(block_RC)).reshape(block_RC.shape)
            same_RC = (block_RC == other_RC) | (np.isnan(block_RC) & np.isnan(other_RC))
            different += block_RC.size - int(np.count_nonzero(same_RC))
            with np.errstate(invalid="ignore", over="ignore"):
                apart = np.abs(block_RC[~same_RC] - other_RC[~same_RC])
            largest = max(largest, float(apart[np.isfinite(apart)].max(initial=0.0)))
    except RunError:  # integrity.unreadable says so
        return
    if different:
        of = f"{different:,} of {one.count:,} numbers differ, by up to {largest:.3g}"
        yield Found(one.name, f"{why}, and {of}", different)


def missing(seen: Seen) -> Iterator[Found]:
    """Tensors of the base that are not there."""
    assert seen.base is not None, "the check needs a base"
    gone = set(seen.lost)
    for tensor in lacking(seen.source, seen.base):
        other = seen.source.tied.get(tensor.name)
        if tensor.name in gone or tensor.stored in gone or tensor.name in seen.base.tied:
            continue
        if other is None:
            yield Found(tensor.name, "the base has it, and it is not there")
        else:
            yield Found(tensor.name, f"the base stores it apart; here it is tied to {other}")


def extra(seen: Seen) -> Iterator[Found]:
    """Tensors that the base does not have."""
    assert seen.base is not None, "the check needs a base"
    for held in seen.measurements:
        if held.pair.base is None and not held.base_unread:
            yield Found(held.pair.tensor.name, "the base has none of this name")


def shape(seen: Seen) -> Iterator[Found]:
    """Tensors of another shape than the base's."""
    for held in seen.shared:
        tensor, base = held.pair.tensor, held.pair.base
        if base is None or tensor.shape == base.shape:
            continue
        told = f"is {_shape(tensor)}, the base's {_shape(base)}"
        if held.pair.resized:
            told += f"; the vocabulary has another size, and the first {held.pair.rows:,} rows are compared"
        else:
            told += "; nothing of it is compared"
        yield Found(tensor.name, told)


def dtype(seen: Seen) -> Iterator[Found]:
    """Tensors in another number format than the base's: some of them, or all without the configuration's saying so."""
    plain = [
        (held.pair.tensor, held.pair.base.dtype)
        for held in seen.shared
        if held.pair.base is not None
        and {held.pair.tensor.dtype, held.pair.base.dtype} <= {*NAMED.values()}
    ]
    other = [(tensor, was) for tensor, was in plain if tensor.dtype != was]
    formats = {tensor.dtype for tensor, _ in plain}
    if other and len(other) == len(plain) and len(formats) == 1:
        (held,) = formats
        named = _configured_format(seen.source.config)
        if named is not None and named != held:
            yield Found(
                None,
                f"every tensor is {held}, the base's {other[0][1]}, and config.json says {named}",
            )
        return
    for tensor, was in other:
        yield Found(tensor.name, f"is stored as {tensor.dtype}, the base's as {was}")


def _configured_format(config: Mapping[str, Any]) -> str | None:
    named = config.get("dtype", config.get("torch_dtype"))
    return NAMED.get(named) if isinstance(named, str) else None


def frozen(seen: Seen) -> Iterator[Found]:
    """Tensors that training must not have touched and did."""
    for held in _matching(seen, seen.task.frozen):
        if isinstance(held, Found):
            yield held
        elif held.against is None:
            yield Found(held.pair.tensor.name, "must be the base's, and could not be compared")
        elif held.against.changed:
            of = f"{held.against.changed:,} of {held.against.count:,} numbers"
            yield Found(
                held.pair.tensor.name, f"must be the base's, and {of} are not", held.against.changed
            )


def untrained(seen: Seen) -> Iterator[Found]:
    """Tensors that training must have changed and did not; what the base lacks counts where a pattern has no more."""
    for held in _matching(seen, seen.task.trained):
        if isinstance(held, Found):
            yield held
        elif held.against is not None and not held.against.changed:
            yield Found(held.pair.tensor.name, "must have been trained, and is the base's")
    uncompared: list[str] = []
    for pattern in seen.task.trained:
        matched = [m for m in _matching(seen, [pattern]) if isinstance(m, Measurement)]
        if all(held.against is None for held in matched):
            uncompared += [held.pair.tensor.name for held in matched]
    for name in dict.fromkeys(uncompared):
        yield Found(name, "must have been trained, and could not be compared")


def _matching(seen: Seen, patterns: Sequence[str]) -> Iterator[Measurement | Found]:
    """Yield the tensors that one of the patterns matches; a pattern that matches none is a finding itself."""
    expressions = [expression(pattern) for pattern in patterns]
    for held in seen.measurements:
        if any(one.fullmatch(held.pair.tensor.name) for one in expressions):
            yield held
    for pattern, one in zip(patterns, expressions, strict=True):
        if not any(one.fullmatch(m.pair.tensor.name) for m in seen.measurements):
            yield Found(None, f"no tensor is named {pattern}")


def adapter(seen: Seen) -> Iterator[Found]:
    """Updates that say nothing, or of nothing."""
    assert seen.adapter is not None, "the check needs an adapter"
    for broken in seen.adapter.whole.faults:
        if broken not in seen.source.faults:  # integrity.unreadable tells of these
            yield Found(broken.tensor, f"the adapter: {broken.message}")
    for update in seen.updates:
        for fault in update.faults:
            yield Found(update.described.name, f"the adapter's update {fault}")
    if not seen.updates and not seen.adapter.whole.tensors:
        yield Found(None, f"the adapter {seen.adapter.name} updates nothing")
    model = seen.base or seen.source
    held = {tensor.name: tensor for tensor in model.tensors}
    for tensor in seen.adapter.whole.tensors:
        if find(held, tensor.name, model.tied) is None:
            yield Found(tensor.name, "the adapter replaces a tensor that the model does not have")
    for name, reason in seen.adapter.skipped.items():
        if reason.startswith(NO_WEIGHT):
            continue
        yield Found(name, f"the adapter's tensor is not read: {reason}")


def merge(seen: Seen) -> Iterator[Found]:
    """Weights that are not base + adapter."""
    for held in seen.shared:
        found = held.merge
        if found is not None and found.beyond:
            of = f"{found.beyond:,} of {found.count:,} numbers"
            told = f"{of} are not base + adapter, by up to {found.worst:.3g}, beyond what rounding explains"
            yield Found(held.pair.tensor.name, told, found.beyond)


def _is_zero(held: Measurement) -> bool:
    return held.own is not None and held.own.zeros == held.own.count


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"
