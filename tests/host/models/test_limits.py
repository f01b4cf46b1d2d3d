"""Where an operator's arithmetic ends: exact up to the limit on every level, refused beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import pytest
from fuzz import Case, Maker, compare, print_table, values
from levels import Job, kernel_function, run_kernels
from numpy.typing import NDArray
from oracle import Oracle
from tflite_builder import OneOp, TensorSpec

from midgehost.errors import UnsupportedOption
from midgehost.models.ops import registry

EVERY = np.arange(-128, 128, dtype=np.int8)
FIXED: Mapping[str, tuple[float, int]] = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}  # scale, zero point


def single(value: float) -> float:
    return float(np.float32(value))


def wide_scale(rng: Random, low: float = -20, high: float = 20) -> float:
    """Any scale that `checks` lets through, or a power of two."""
    value = 10 ** rng.uniform(low, high)
    return 2.0 ** round(math.log2(value)) if rng.random() < 0.3 else single(value)


def zero_point(rng: Random) -> int:
    return rng.choice([-128, 127, 0, rng.randint(-128, 127)])


def near_limits(rng: Random, kind: str) -> Case:
    """A unary operator whose scales lie anywhere around the limits of its arithmetic."""
    source, target = wide_scale(rng), wide_scale(rng)
    if rng.random() < 0.7:  # ratios that are not refused, seldom all saturated
        source = wide_scale(rng, -10, 10)
        target = single(source * 10 ** rng.uniform(-8, 2))
    options: dict[str, Any] = {}
    if kind in FIXED:
        source = 2.0 ** rng.randint(-30, -26) * rng.uniform(1, 2) if rng.random() < 0.3 else wide_scale(rng, -9, 11)
    elif kind == "RELU6":
        source = 6 / 2.0**31 * rng.uniform(0.99, 1.01) if rng.random() < 0.3 else wide_scale(rng, -9, 3)
    elif kind == "HARD_SWISH":
        source = wide_scale(rng, -10, 8)
        target = single(source * 10 ** rng.uniform(-2.5, 10))
    elif kind == "LEAKY_RELU":
        options = {"Alpha": single(rng.choice([-1, 1]) * 10 ** rng.uniform(-30, 7))}
        if rng.random() < 0.3:  # a ratio of almost a power of two
            options["Alpha"] = -single(2.0 ** rng.randint(-4, 4) * target / source)
    out = FIXED.get(kind, (target, zero_point(rng)))
    specs = [TensorSpec([256], scale=single(s), zero_point=z) for s, z in ((source, zero_point(rng)), out)]
    return OneOp(kind, specs[:1], specs[1:], options), [EVERY]


def quantize_float(rng: Random, _: str) -> Case:
    """Floats of any size whose quotients stay below 2^31 steps, where C defines the cast."""
    scale = wide_scale(rng, -18, 18)
    steps = np.random.default_rng(rng.randrange(1 << 30)).uniform(-1, 1, 64) * 2.0 ** rng.uniform(0, 30.9)
    data = (steps * scale).astype(np.float32)
    target = TensorSpec([64], scale=scale, zero_point=zero_point(rng))
    return OneOp("QUANTIZE", [TensorSpec([64], "float32")], [target]), [data]


def sliced(rng: Random, _: str) -> Case:
    """A slice of any masks and strides that is not empty."""
    while True:
        shape = [rng.randint(1, 6) for _ in range(rng.randint(1, 4))]
        begin, end = ([rng.randint(-n - 1, n + 1) for n in shape] for _ in "be")
        stride = [rng.choice([1, 1, 2, -1, -2]) for _ in shape]
        masks = [rng.randrange(1 << len(shape)) if rng.random() < 0.5 else 0 for _ in "bes"]
        model, data = slice_of(shape, begin, end, stride, *masks, values(rng, shape))
        if 0 not in model.outputs[0].shape:
            return model, data


def slice_of(
    shape: list[int], begin: list[int], end: list[int], stride: list[int], b: int, e: int, shrink: int, x: NDArray[Any]
) -> Case:
    """A STRIDED_SLICE with the output shape that Python's slices give."""
    out: list[int] = []
    for i, n in enumerate(shape):
        taken = range(n)[None if b >> i & 1 else begin[i] : None if e >> i & 1 else end[i] : stride[i]]
        out += [] if shrink >> i & 1 else [len(taken)]
    parameters = [np.array(v, np.int32) for v in (begin, end, stride)]
    inputs = [TensorSpec(shape, scale=1.0), *(TensorSpec([len(shape)], "int32", data=v) for v in parameters)]
    options = {"BeginMask": b, "EndMask": e, "ShrinkAxisMask": shrink}
    return OneOp("STRIDED_SLICE", inputs, [TensorSpec(out, scale=1.0)], options), [x, *parameters]


MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("RELU", "RELU6", "LEAKY_RELU", "HARD_SWISH", "LOGISTIC", "TANH", "QUANTIZE"), near_limits),
    "QUANTIZE float": quantize_float,
    "STRIDED_SLICE": sliced,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_equals_tflm_or_is_refused(kind: str) -> None:
    compared, refused, _ = compare(MAKERS, kind, 60, 0)
    assert compared >= 20, f"only {compared} of 60 cases compared, {refused} refused"


@pytest.mark.soak
def test_equals_tflm_or_is_refused_soak() -> None:
    print_table(MAKERS, 4000)


def unary(
    kind: str, source: float, target: float = 1.0, points: tuple[int, int] = (0, 0), alpha: float | None = None
) -> OneOp:
    out = FIXED.get(kind, (target, points[1]))
    specs = [TensorSpec([256], scale=s, zero_point=z) for s, z in ((source, points[0]), out)]
    return OneOp(kind, specs[:1], specs[1:], {} if alpha is None else {"Alpha": alpha})


def assert_exact(model: OneOp) -> None:
    registry()[model.kind].check(model.node())
    got = registry()[model.kind].reference(model.node(), [EVERY])[0]
    np.testing.assert_array_equal(got, Oracle(model.tflite()).run([EVERY])[0], f"{model}")


def assert_refused(model: OneOp, why: str) -> None:
    with pytest.raises(UnsupportedOption, match=why):
        registry()[model.kind].check(model.node())


@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
def test_input_scale_from_two_to_the_minus_28_to_below_two_to_the_35(kind: str) -> None:
    first, end = 2.0**-28, 2.0**35
    for points in ((0, 0), (-128, 0), (127, 0)):
        assert_exact(unary(kind, first, points=points))
        assert_exact(unary(kind, float(np.nextafter(np.float32(end), np.float32(0))), points=points))
    for scale in (float(np.nextafter(np.float32(first), np.float32(0))), 2.3e-11, 1.8e-14, end):
        assert_refused(unary(kind, scale), "outside 2\\^-28 to 2\\^35")


def test_six_is_below_two_to_the_31_steps() -> None:
    finest = np.nextafter(np.float32(6 / 2.0**31), np.float32(1))
    assert_exact(unary("RELU6", float(finest), float(finest), (127, 127)))
    for scale in (6 / 2.0**31, 4.4e-13):
        assert_refused(unary("RELU6", single(scale), single(scale)), "clamps at 6")


def test_a_fused_six_is_below_two_to_the_31_steps() -> None:
    window = {"Padding": "VALID", "StrideH": 1, "StrideW": 1, "FilterHeight": 1, "FilterWidth": 1}
    for scale in (single(6 / 2.0**31), float(np.nextafter(np.float32(6 / 2.0**31), np.float32(1)))):
        specs = [TensorSpec([1, 1, 256, 1], scale=scale, zero_point=127)] * 2
        model = OneOp("MAX_POOL_2D", specs[:1], specs[1:], {**window, "FusedActivationFunction": "RELU6"})
        if scale > 6 / 2.0**31:
            got = registry()[model.kind].reference(model.node(), [EVERY.reshape(1, 1, 256, 1)])[0]
            np.testing.assert_array_equal(got, Oracle(model.tflite()).run([EVERY.reshape(1, 1, 256, 1)])[0])
        else:
            assert_refused(model, "clamps at 6")


@pytest.mark.parametrize("kind", ["RELU", "LEAKY_RELU", "QUANTIZE"])
def test_scale_ratio_below_two_to_the_23(kind: str) -> None:
    alpha = 0.5 if kind == "LEAKY_RELU" else None
    below = float(np.nextafter(np.float32(1 << 23), np.float32(0)))
    for points in ((-128, 127), (127, -128), (-128, -128), (127, 127)):
        assert_exact(unary(kind, below, 1.0, points, alpha))
    assert_refused(unary(kind, 2.0**23, 1.0, (0, 0), alpha), "scales its input by")
    assert_refused(unary(kind, 1e19, 1e-19, (0, 0), alpha), "scales its input by")


@pytest.mark.parametrize("sign", [1, -1])
def test_leaky_relu_slope_below_two_to_the_23(sign: int) -> None:
    below = float(np.nextafter(np.float32(1 << 23), np.float32(0)))
    for points in ((-128, 127), (127, -128), (127, 127)):
        assert_exact(unary("LEAKY_RELU", 1.0, 1.0, points, sign * below))
    assert_refused(unary("LEAKY_RELU", 1.0, 1.0, alpha=sign * 2.0**23), "scales its input by")
    assert_refused(unary("LEAKY_RELU", 0.5, 6.6e-5, alpha=sign * 1e6), "scales its input by")


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -math.inf])
def test_leaky_relu_alpha_that_is_no_number_is_refused(alpha: float) -> None:
    assert_refused(unary("LEAKY_RELU", 0.5, 0.5, alpha=alpha), "scales its input by (nan|inf|-inf)")


def test_leaky_relu_slope_whose_mantissa_rounds_to_minus_one_is_refused() -> None:
    scale, alpha, target = single(0.865), single(-1.3612254), single(1.17746)
    assert_refused(unary("LEAKY_RELU", scale, target, alpha=alpha), "scales its negative inputs by -0.99999")
    assert_exact(unary("LEAKY_RELU", scale, target, alpha=-alpha))
    assert_exact(unary("LEAKY_RELU", 0.5, 0.5, alpha=-1.0))


@pytest.mark.parametrize(
    ("source", "target", "points"),
    [(0.0036, 4.0, (127, 0)), (0.0625, 8306.0, (-128, -128)), (5.6e-5, 0.077, (-111, 127)), (3.3e-7, 4.0, (113, -87))],
)
def test_hard_swish_to_a_coarse_scale(source: float, target: float, points: tuple[int, int]) -> None:
    """A right shift of 16 or more, which gemmlowp's int16 RoundingDivideByPOT turns into 1 and -1."""
    assert_exact(unary("HARD_SWISH", single(source), single(target), points))


def test_hard_swish_input_scale_limit() -> None:
    end = 128 * (3 / 32768) * 2.0**31
    assert_exact(unary("HARD_SWISH", float(np.nextafter(np.float32(end), np.float32(0))), single(end)))
    assert_refused(unary("HARD_SWISH", single(end), single(end)), "has the input scale")


def test_slice_that_removes_a_dimension_backwards_is_refused() -> None:
    x = np.zeros([1, 5, 2, 1], np.int8)
    model, _ = slice_of([1, 5, 2, 1], [0, 1, 1, 2], [1, 4, 3, -2], [-2, 1, -1, -2], 0, 13, 7, x)
    assert_refused(model, "removes a dimension with a negative stride")


def float_job(data: list[float], scale: float, point: int) -> Job:
    x = np.array(data, np.float32)
    target = TensorSpec([len(data)], scale=scale, zero_point=point)
    model = OneOp("QUANTIZE", [TensorSpec([len(data)], "float32")], [target])
    registry()["QUANTIZE"].check(model.node())
    return Job(model.node(), registry()["QUANTIZE"].lower(model.node()), [x])


@pytest.mark.parametrize("scale", [1e-19, 1.1507e-5, 0.125, 3.0, 1e19])
@pytest.mark.parametrize("point", [-128, 0, 105])
def test_floats_beyond_int32_saturate_on_every_level(scale: float, point: int) -> None:
    inf, big = math.inf, float(np.finfo(np.float32).max)
    steps = [2.0**31, -(2.0**31), 2.0**32, -(2.0**32), 1e12, -1e12]
    job = float_job([inf, -inf, big, -big, *(s * scale for s in steps), 0.0], scale, point)
    want = np.array([127, -128] * 5 + [point], np.int8)
    np.testing.assert_array_equal(registry()["QUANTIZE"].reference(job.node, job.inputs)[0], want)
    for level in ("portable", "viper"):
        np.testing.assert_array_equal(run_kernels([job], level)[0][0], want, level)


def test_not_a_number_is_an_error_on_every_level() -> None:
    job = float_job([1.0, math.nan, 2.0], 0.5, 0)
    with pytest.raises(ValueError, match="operator 0 \\(QUANTIZE\\): an input is not a number"):
        registry()["QUANTIZE"].reference(job.node, job.inputs)
    call, block = job.lowering.calls[0], job.blocks()[0][-1]
    block[7], block[8] = 0, call.rows
    kernel = kernel_function("portable", call.kernel)
    assert kernel(block, job.arena(), call.weights, call.params) == 4
    with pytest.raises(AssertionError, match="kernel 0x62: status 4"):
        run_kernels([job], "viper")


@pytest.mark.parametrize("beta", [math.nan, -math.inf, 0.0, -1.0])
def test_softmax_beta_that_is_no_positive_number_is_refused(beta: float) -> None:
    specs = [TensorSpec([4], scale=0.1), TensorSpec([4], scale=1 / 256, zero_point=-128)]
    assert_refused(OneOp("SOFTMAX", specs[:1], specs[1:], {"Beta": beta}), "beta of almost nothing")


@pytest.mark.parametrize("kind", ["TRANSPOSE", "STRIDED_SLICE", "PAD", "MEAN"])
def test_int64_parameters_are_refused(kind: str) -> None:
    """TFLM refuses them, or reads their halves as int32 and computes something else."""
    shape = {"PAD": [2, 2], "MEAN": [1]}.get(kind, [2])
    count = 3 if kind == "STRIDED_SLICE" else 1
    parameters = [TensorSpec(shape, "int64", data=np.ones(shape, np.int64))] * count
    model = OneOp(kind, [TensorSpec([2, 2], scale=1.0), *parameters], [TensorSpec([2, 2], scale=1.0)])
    assert_refused(model, "has no constant int32")
