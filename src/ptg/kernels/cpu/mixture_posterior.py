"""From a fitted mixture to the count at which its posterior passes a level."""

from __future__ import annotations

from math import lgamma, log, log1p, pi

import numpy as np

from ptg.kernels.cpu.compilation import jit

HALF_LOG_2PI = 0.5 * log(2.0 * pi)


@jit
def posterior_thresholds(parameters, max_counts, log_odds, thresholds):  # type: ignore[no-untyped-def]
    """Fill the smallest count 1, 2, ..., max whose log odds of the Normal exceed `log_odds`; leave the rest alone."""
    for guide in range(thresholds.size):
        rate, mean, std, weight = parameters[guide]
        if np.isnan(rate):
            continue
        constant = log(weight) - HALF_LOG_2PI - log(std) - log1p(-weight) + rate
        for count in range(1, max_counts[guide] + 1):
            y = np.log2(float(count))
            z = (y - mean) / std
            if constant - 0.5 * z * z - y * log(rate) + lgamma(y + 1.0) > log_odds:
                thresholds[guide] = count
                break
