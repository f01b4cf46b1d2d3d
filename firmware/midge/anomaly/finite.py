# The one check that every detector makes before a value touches its state.

# Squares of differences, a hundred of them, and their ratio to the smallest variance must stay below float32's 3.4e38.
_LIMIT = 1e12


def require_finite(x):
    # Raises ValueError for NaN, infinity and what no sensor says; the comparison is false for NaN.
    if not -_LIMIT < x < _LIMIT:
        raise unusable(x)


def unusable(x):
    return ValueError("not a usable number: %r" % x)
