"""The rows of the benchmark. To add one, append a `Row`; everything else follows from it."""

from __future__ import annotations

from functools import partial

from benchmarks.record import Row

from benchmarks import agreement, calls, workloads

_EDISTANCE_TOLERANCE = f"{agreement.EDISTANCE_TOLERANCE:g} of the mean distance between cells"
_MIXTURE_TOLERANCE = (
    f"objective nowhere higher than the peer's by more than {agreement.LOSS_TOLERANCE:g}; thresholds within one count "
    f"where the peer's objective is within {agreement.SAME_OPTIMUM:g}; {agreement.SAME_GUIDE_LABELS:.0%} of labels"
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
