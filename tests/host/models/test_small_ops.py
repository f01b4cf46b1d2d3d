"""Elementwise, moving, table and shape operators: numpy reference, portable and viper kernels against TFLM, seeded."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from fuzz import Case, Maker, activation, compare, print_table, quantised, shape_of, values
from numpy.typing import NDArray
from tflite_builder import OneOp, TensorSpec


def binary(rng: Random, kind: str) -> Case:
    shape = shape_of(rng, (1, 5 if kind in ("MAXIMUM", "MINIMUM") else 4))
    other = [rng.choice([1, n]) for n in shape][rng.choice([0, 0, len(shape) - 1]) :]
    shapes = [shape, other] if rng.random() < 0.5 else [other, shape]
    if kind in ("MAXIMUM", "MINIMUM"):
        shared = quantised(rng, shape)
        specs = [TensorSpec(s, scale=shared.scale, zero_point=shared.zero_point) for s in [*shapes, shape]]
        options = {}
    else:
        specs = [quantised(rng, s) for s in shapes]
        a, b = (spec.scales[0] for spec in specs)
        natural = 64 * a * b if kind == "MUL" else max(a, b)  # seldom saturates; a power of two where a and b are
        target = quantised(rng, shape)
        if rng.random() < 0.9:
            target = TensorSpec(shape, scale=natural * 2.0 ** rng.randint(-2, 2), zero_point=target.zero_point)
        specs.append(target)
        options = {"FusedActivationFunction": activation(rng)}
    data = [values(rng, s) for s in shapes]
    if rng.random() < 0.4:  # one operand is a constant
        i = rng.randrange(2)
        specs[i] = TensorSpec(shapes[i], "int8", specs[i].scale, specs[i].zero_point, data=data[i])
    return OneOp(kind, specs[:2], specs[2:], options), data


def unary(rng: Random, kind: str) -> Case:
    shape = shape_of(rng)
    source = quantised(rng, shape)
    target = quantised(rng, shape)
    options: dict[str, Any] = {}
    if kind == "LOGISTIC":
        target = TensorSpec(shape, scale=1 / 256, zero_point=-128)
    elif kind == "TANH":
        target = TensorSpec(shape, scale=1 / 128, zero_point=0)
    elif kind == "RELU6":
        target = source
    elif kind == "LEAKY_RELU":
        options = {"Alpha": rng.choice([0.0, 0.1, 0.3, 1.5, -0.5])}
    elif kind == "HARD_SWISH":
        target = TensorSpec(shape, scale=source.scales[0] * rng.uniform(0.02, 3), zero_point=target.zero_point)
    elif kind == "DEQUANTIZE":
        target = TensorSpec(shape, "float32")
    data = np.arange(-128, 128, dtype=np.int8)[: int(np.prod(shape))]
    data = np.resize(np.roll(np.arange(-128, 128), rng.randrange(256)).astype(np.int8), shape) if data.size else data
    return OneOp(kind, [source], [target], options), [data]


def quantize_float(rng: Random, _: str) -> Case:
    shape = shape_of(rng)
    target = quantised(rng, shape)
    step = np.float32(target.scales[0])
    grid = np.random.default_rng(rng.randrange(1 << 30)).integers(-300, 300, shape).astype(np.float32)
    noise = rng.choice([np.float32(0), np.float32(0.5), np.float32(0.49999997), np.float32(1e-3)])
    data = ((grid + noise) * step).astype(np.float32)
    return OneOp("QUANTIZE", [TensorSpec(shape, "float32")], [target]), [data]


def concatenation(rng: Random, kind: str) -> Case:
    shape = shape_of(rng)
    axis = rng.randrange(-len(shape), len(shape))
    shapes = [[*shape] for _ in range(rng.randint(1, 4))]
    for s in shapes:
        s[axis] = rng.randint(1, 5)
    out = [*shape]
    out[axis] = sum(s[axis] for s in shapes)
    shared = quantised(rng, shape)
    specs = [TensorSpec(s, scale=shared.scale, zero_point=shared.zero_point) for s in [*shapes, out]]
    data = [values(rng, s) for s in shapes]
    if len(shapes) > 1 and rng.random() < 0.3:
        specs[1] = TensorSpec(shapes[1], scale=shared.scale, zero_point=shared.zero_point, data=data[1])
    return OneOp(kind, specs[:-1], specs[-1:], {"Axis": axis}), data


def ints(data: Any) -> TensorSpec:
    array = np.array(data, np.int32)
    return TensorSpec(array.shape, "int32", data=array)


def pad(rng: Random, kind: str) -> Case:
    shape = shape_of(rng)
    paddings = [[rng.randint(0, 3), rng.randint(0, 3)] for _ in shape]
    source = quantised(rng, shape)
    out = TensorSpec(
        [n + a + b for n, (a, b) in zip(shape, paddings, strict=True)], "int8", source.scale, source.zero_point
    )
    inputs = [source, ints(paddings)]
    data: list[NDArray[Any]] = [values(rng, shape), np.array(paddings, np.int32)]
    if kind == "PADV2":
        value = values(rng, [1])
        inputs.append(TensorSpec([1], "int8", source.scale, source.zero_point, data=value))
        data.append(value)
    return OneOp(kind, inputs, [out]), data


def transpose(rng: Random, kind: str) -> Case:
    shape = shape_of(rng, (1, 5), 5)
    order = rng.sample(range(len(shape)), len(shape))
    source = quantised(rng, shape)
    out = TensorSpec([shape[i] for i in order], "int8", source.scale, source.zero_point)
    return OneOp(kind, [source, ints(order)], [out]), [values(rng, shape), np.array(order, np.int32)]


def strided_slice(rng: Random, kind: str) -> Case:
    shape = shape_of(rng)
    options = {"BeginMask": rng.randrange(16), "EndMask": rng.randrange(16), "ShrinkAxisMask": rng.choice([0, 0, 1, 2])}
    options["ShrinkAxisMask"] &= (1 << len(shape)) - 1
    begin, end, step, out = [], [], [], []
    for i, n in enumerate(shape):
        s = rng.choice([1, 1, 2, 3, -1, -2])
        a, b = sorted(rng.sample(range(n + 1), 2))
        b, a = (b, a) if s > 0 else (a - 1 if a else -n - 1, min(b, n - 1))
        if rng.random() < 0.3 and 0 < a < n:
            a -= n
        begin.append(a)
        end.append(b)
        step.append(s)
        lo = None if options["BeginMask"] >> i & 1 else a
        hi = None if options["EndMask"] >> i & 1 else b
        if options["ShrinkAxisMask"] >> i & 1:
            begin[-1] = rng.randrange(n)
            options["BeginMask"] &= ~(1 << i)
            step[-1] = 1
        else:
            out.append(len(range(n)[lo:hi:s]))
    if 0 in out or not out:
        return strided_slice(rng, kind)
    source = quantised(rng, shape)
    target = TensorSpec(out, "int8", source.scale, source.zero_point)
    data = [values(rng, shape), *(np.array(v, np.int32) for v in (begin, end, step))]
    return OneOp(kind, [source, ints(begin), ints(end), ints(step)], [target], options), data


def same_bytes(rng: Random, kind: str) -> Case:
    shape = [1, *shape_of(rng), 1]
    source = quantised(rng, shape)
    inputs, data, options = [source], [values(rng, shape)], {}
    if kind == "SQUEEZE":
        out, options = shape[1:], {"SqueezeDims": [0]}
    elif kind == "EXPAND_DIMS":
        out = [*shape, 1]
        inputs.append(ints([-1]))
        data.append(np.array([-1], np.int32))
    else:
        out = [int(np.prod(shape))]
        inputs.append(ints(out))
        data.append(np.array(out, np.int32))
        options = {"NewShape": out}
    return OneOp(kind, inputs, [TensorSpec(out, "int8", source.scale, source.zero_point)], options), data


MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"), binary),
    **dict.fromkeys(("LOGISTIC", "TANH", "RELU", "RELU6", "LEAKY_RELU", "HARD_SWISH", "QUANTIZE", "DEQUANTIZE"), unary),
    "QUANTIZE float": quantize_float,
    "CONCATENATION": concatenation,
    **dict.fromkeys(("PAD", "PADV2"), pad),
    "TRANSPOSE": transpose,
    "STRIDED_SLICE": strided_slice,
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), same_bytes),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_equals_tflm(kind: str) -> None:
    compared, refused, _ = compare(MAKERS, kind, 40, 0)
    assert compared >= 25, f"only {compared} of 40 cases compared, {refused} refused"


@pytest.mark.soak
def test_equals_tflm_soak() -> None:
    print_table(MAKERS, 1500)
