"""The rows of the benchmark. To add one, append a `Row`; everything else follows from it."""

from __future__ import annotations

from functools import partial

from benchmarks.record import MakeData, Row

from benchmarks import agreement, calls, workloads

_EDISTANCE_TOLERANCE = f"{agreement.EDISTANCE_TOLERANCE:g} of the mean distance between cells"
_MIXTURE_TOLERANCE = (
    f"objective nowhere higher than the peer's by more than {agreement.LOSS_TOLERANCE:g}; thresholds within one count "
    f"where the peer's objective is within {agreement.SAME_OPTIMUM:g}; {agreement.SAME_GUIDE_LABELS:.0%} of labels"
)

_WASSERSTEIN_TOLERANCE = (
    f"relative {agreement.WASSERSTEIN_TOLERANCE_CPU:g}: on Papalexi the peer is within 1.8e-05 of converged costs"
)
_WASSERSTEIN_NOTE = "both run with their defaults: ptg goes on to a marginal error of 1e-5, the peer to one of 1e-3"
_FEW_CELLS = partial(workloads.screen, 600, 50, 4)


def _wasserstein(size: str, work: str, data: MakeData, small: MakeData, groupby: str) -> Row:
    return Row(
        name=f"wasserstein-{size}",
        work=f"wasserstein pairwise, {work}",
        data=data,
        small=small,
        ptg=calls.metrics_by_ptg(["wasserstein"], groupby),
        peer=calls.metrics_by_pertpy(["wasserstein"], groupby),
        check=partial(agreement.metrics_agree, tolerance=agreement.WASSERSTEIN_TOLERANCE_CPU),
        tolerance=_WASSERSTEIN_TOLERANCE,
        target_warm=6.0,
        note=_WASSERSTEIN_NOTE,
    )


ROWS: tuple[Row, ...] = (
    Row(
        name="edistance-synthetic",
        work="edistance pairwise, 20k cells, 100 groups, 50 dims",
        data=partial(workloads.embedded_groups, 20_000, 100),
        small=partial(workloads.embedded_groups, 1_000, 10),
        ptg=calls.edistance_by_ptg("group"),
        peer=calls.edistance_by_pertpy("group"),
        check=agreement.edistances_agree,
        tolerance=_EDISTANCE_TOLERANCE,
        target_warm=6.0,
    ),
    Row(
        name="edistance-papalexi",
        work="edistance pairwise, Papalexi, 26 groups",
        data=workloads.papalexi_expression,
        ptg=calls.edistance_by_ptg(calls.LABELS),
        peer=calls.edistance_by_pertpy(calls.LABELS),
        check=agreement.edistances_agree,
        tolerance=_EDISTANCE_TOLERANCE,
        target_warm=6.0,
    ),
    _wasserstein(
        "synthetic",
        "2k cells, 10 groups, 50 dims",
        partial(workloads.embedded_groups, 2_000, 10),
        partial(workloads.embedded_groups, 300, 3),
        "group",
    ),
    _wasserstein("papalexi", "Papalexi, 8 groups", workloads.papalexi_groups, _FEW_CELLS, calls.LABELS),
    Row(
        name="metrics-papalexi",
        work="eleven further metrics pairwise, Papalexi, 8 groups",
        data=workloads.papalexi_groups,
        small=_FEW_CELLS,
        ptg=calls.metrics_by_ptg(calls.FURTHER_METRICS, calls.LABELS),
        peer=calls.metrics_by_pertpy(calls.FURTHER_METRICS, calls.LABELS),
        check=partial(agreement.metrics_agree, tolerance=agreement.METRICS_TOLERANCE),
        tolerance=f"relative {agreement.METRICS_TOLERANCE:g}: the peer takes means of float32 cells in float32",
        target_warm=None,
    ),
    Row(
        name="distance-test-papalexi",
        work="permutation test of edistance, Papalexi, 8 groups, 1,000 permutations",
        data=workloads.papalexi_groups,
        small=_FEW_CELLS,
        ptg=calls.distance_test_by_ptg(),
        peer=calls.distance_test_by_pertpy(),
        check=agreement.distance_tests_agree,
        tolerance=(
            f"distances {_EDISTANCE_TOLERANCE}; p-values {agreement.STANDARD_ERRORS:g} standard errors of their "
            "difference, as each side draws its own permutations; the same significance but within that error"
        ),
        target_warm=20.0,
        note="corrected p-values are not compared: the peer counts the contrast among the tests",
    ),
    Row(
        name="mixture-synthetic",
        work="guide mixture, 20k cells x 200 guides",
        data=partial(workloads.guide_umis, 20_000, 200),
        small=partial(workloads.guide_umis, 2_000, 20),
        ptg=calls.mixture_by_ptg(),
        peer=calls.mixture_by_pertpy(),
        check=agreement.mixtures_agree,
        tolerance=_MIXTURE_TOLERANCE,
        target_warm=100.0,
        note="ptg goes on to the optimum; the peer stops after 500 steps",
    ),
    Row(
        name="mixture-papalexi",
        work="guide mixture, Papalexi, 110 guides",
        data=workloads.papalexi_guides,
        ptg=calls.mixture_by_ptg(),
        peer=calls.mixture_by_pertpy(),
        check=agreement.mixtures_agree,
        tolerance=_MIXTURE_TOLERANCE,
        target_warm=100.0,
        note="ptg goes on to the optimum; the peer stops after 500 steps",
    ),
    Row(
        name="mixscape-papalexi",
        work="signature (nn) + mixscape + mixscale + lda, Papalexi",
        data=workloads.papalexi_expression,
        ptg=calls.mixscape_by_ptg(),
        peer=calls.mixscape_by_pertpy(),
        check=agreement.classifications_agree,
        tolerance=(
            f"{agreement.SAME_CLASSES:.0%} of classes of perturbed cells, correlation of scores "
            f"{agreement.SCORE_CORRELATION}, of the {agreement.LEADING} leading LDA axes {agreement.LDA_CORRELATION}"
        ),
        target_warm=5.0,
        target_first=10.0,
        note="ptg's neighbours are exact, the peer's approximate (its default)",
    ),
)
