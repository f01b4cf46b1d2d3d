"""Dense, convolution, pooling, mean and softmax: numpy reference, portable and viper kernels against TFLM, seeded."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from fuzz import Case, Maker, activation, compare, print_table, quantised, scale, shape_of, values
from numpy.typing import NDArray
from tflite_builder import OneOp, TensorSpec


def int8(rng: Random, shape: list[int]) -> NDArray[np.int8]:
    """Random weights, sometimes extreme, sometimes with rows of zeros."""
    found = values(rng, shape)
    if rng.random() < 0.2:
        found = found.copy()
        found[rng.randrange(shape[0])] = 0
    return found


def weighted(rng: Random, source: TensorSpec, shape: list[int], axis: int, terms: int) -> list[Any]:
    """[weights, bias or None, output scale] of a layer whose sums have `terms` products."""
    channels = shape[axis]
    scales = [scale(rng) / 64 for _ in range(channels if rng.random() < 0.6 else 1)]
    weights = TensorSpec(shape, scale=scales, zero_point=0, axis=axis, data=int8(rng, shape))
    bias = None
    if rng.random() < 0.8:
        spread = rng.choice([0, 1000, 1 << 20, (1 << 31) - 1])
        data = np.random.default_rng(rng.randrange(1 << 30)).integers(-spread, spread + 1, channels, dtype=np.int32)
        bias_scales = [s * source.scales[0] for s in weights.scales]
        bias = TensorSpec([channels], "int32", scale=bias_scales, zero_point=0, data=data)
    reach = source.scales[0] * max(weights.scales) * 127 * terms**0.5
    kind = rng.randrange(10)
    if kind == 0:
        return [weights, bias, scale(rng)]
    if kind == 1:  # shifts from far below -31, where everything becomes 0, to far above 0, where sums wrap
        return [weights, bias, reach * 2.0 ** rng.randint(-34, 34)]
    return [weights, bias, reach * 2.0 ** rng.randint(-3, 2)]


def convolution(rng: Random, kind: str) -> Case:
    batch, channels = rng.choice([1, 1, 2]), rng.choice([1, 2, 3, 4, 8, 9, 20, 70])
    most = 8 if channels < 10 else 3
    size, kernel = [rng.randint(1, most) for _ in "hw"], [rng.randint(1, min(most, 4)) for _ in "hw"]
    stride = [rng.choice([1, 1, 2, 3]) for _ in "hw"]
    dilation = [1, 1] if rng.random() < 0.6 else [rng.choice([1, 2, 3]) for _ in "hw"]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    name = "SAME" if any(r > s for r, s in zip(reach, size, strict=True)) or rng.random() < 0.5 else "VALID"
    out = [-(-s // t) if name == "SAME" else (s - r) // t + 1 for s, r, t in zip(size, reach, stride, strict=True)]
    source = quantised(rng, [batch, *size, channels])
    options = {
        "Padding": name,
        "StrideH": stride[0],
        "StrideW": stride[1],
        "DilationHFactor": dilation[0],
        "DilationWFactor": dilation[1],
        "FusedActivationFunction": activation(rng),
    }
    if kind == "CONV_2D":
        groups = rng.choice([g for g in (1, 1, 1, 2, 4) if channels % g == 0])
        filters = groups * rng.choice([1, 2, 3, 4, 5, 30, 70 // groups])
        shape, axis = [filters, *kernel, channels // groups], 0
    else:
        multiplier = rng.choice([1, 1, 2, 3])
        filters = channels * multiplier
        shape, axis = [1, *kernel, filters], 3
        options["DepthMultiplier"] = multiplier
    weights, bias, out_scale = weighted(rng, source, shape, axis, int(np.prod(shape)) // filters)
    target = TensorSpec([batch, *out, filters], scale=out_scale, zero_point=rng.choice([-128, rng.randint(-128, 127)]))
    inputs = [source, weights, *([bias] if bias else [])]
    data = [values(rng, list(source.shape)), *(t.data for t in inputs[1:])]
    return OneOp(kind, inputs, [target], options, 3), data


def fully_connected(rng: Random, kind: str) -> Case:
    depth, units = rng.choice([1, 3, 8, rng.randint(1, 200)]), rng.choice([1, 2, 10, 64, rng.randint(1, 150)])
    batch = rng.choice([[1], [1], [3], [2, 2]])
    source = quantised(rng, [*batch, depth])
    weights, bias, out_scale = weighted(rng, source, [units, depth], 0, depth)
    keep = len(batch) > 1
    target = TensorSpec([*batch, units], scale=out_scale, zero_point=rng.choice([-128, rng.randint(-128, 127)]))
    inputs = [source, weights, bias]
    options = {"FusedActivationFunction": activation(rng), "KeepNumDims": keep}
    data = [values(rng, list(source.shape)), *(t.data for t in inputs[1:] if t is not None)]
    return OneOp(kind, inputs, [target], options, 4), data


def pool(rng: Random, kind: str) -> Case:
    shape = [rng.choice([1, 2]), rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 9)]
    window = [rng.randint(1, 5), rng.randint(1, 5)]
    stride = [rng.randint(1, 3), rng.randint(1, 3)]
    same = any(k > n for k, n in zip(window, shape[1:3], strict=True)) or rng.random() < 0.5
    out = [-(-n // s) if same else (n - k) // s + 1 for n, k, s in zip(shape[1:3], window, stride, strict=True)]
    source = quantised(rng, shape)
    target = TensorSpec([shape[0], *out, shape[3]], "int8", source.scale, source.zero_point)
    options = {
        "Padding": "SAME" if same else "VALID",
        "StrideH": stride[0],
        "StrideW": stride[1],
        "FilterHeight": window[0],
        "FilterWidth": window[1],
        "FusedActivationFunction": activation(rng),
    }
    return OneOp(kind, [source], [target], options, 2), [values(rng, shape)]


def mean(rng: Random, kind: str) -> Case:
    shape = shape_of(rng, (1, 5), rng.choice([3, 7]))
    axes = rng.sample(range(len(shape)), rng.randint(1, len(shape)))
    keep = rng.random() < 0.5
    out = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
    source = quantised(rng, shape)
    target = quantised(rng, out)
    spread = rng.random()
    if spread < 0.1:
        target = TensorSpec(out, scale=source.scales[0] * 2.0 ** rng.randint(-28, 34), zero_point=target.zero_point)
    elif spread < 0.8:
        target = TensorSpec(out, scale=source.scales[0] * 2.0 ** rng.randint(-2, 1), zero_point=target.zero_point)
    axes += rng.sample(axes, rng.randint(0, 1))  # an axis named twice counts once
    given = np.array([a - len(shape) if rng.random() < 0.3 else a for a in axes], np.int32)
    inputs = [source, TensorSpec([len(axes)], "int32", data=given)]
    return OneOp(kind, inputs, [target], {"KeepDims": keep}, 2), [values(rng, shape), given]


def softmax(rng: Random, kind: str) -> Case:
    shape = [*shape_of(rng, (0, 2), 4), rng.choice([1, 2, 10, rng.randint(1, 300)])]
    source = quantised(rng, shape)
    data = values(rng, shape)
    if rng.random() < 0.5:
        data = np.clip(data // 16 + rng.randint(-100, 100), -128, 127).astype(np.int8)
    target = TensorSpec(shape, scale=1 / 256, zero_point=-128)
    beta = rng.choice([1.0, 1.0, 0.5, 3.0, 10 ** rng.uniform(-4, 4)])
    return OneOp(kind, [source], [target], {"Beta": beta}, 2), [data]


MAKERS: dict[str, Maker] = {
    "FULLY_CONNECTED": fully_connected,
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), convolution),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), pool),
    "MEAN": mean,
    "SOFTMAX": softmax,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_equals_tflm(kind: str) -> None:
    compared, refused, _ = compare(MAKERS, kind, 60, 0)
    assert compared >= 40, f"only {compared} of 60 cases compared, {refused} refused"


@pytest.mark.soak
def test_equals_tflm_soak() -> None:
    print_table(MAKERS, 1500)
