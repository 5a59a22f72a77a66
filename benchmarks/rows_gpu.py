"""The rows of the GPU part. To add one, append a `Row`; everything else follows from it."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu_calls import peer, ptg
from benchmarks.record import Row

from benchmarks import agreement, gpu_calls, workloads

_EDISTANCE = f"{agreement.EDISTANCE_TOLERANCE:g} of the mean distance between cells"
_BOOTSTRAP = f"{agreement.STANDARD_ERRORS:g} standard errors of the means: the draws differ"
_WASSERSTEIN = f"relative {agreement.WASSERSTEIN_TOLERANCE:g}"
_OBJECTIVE = f"objective nowhere higher than the peer's by more than {agreement.LOSS_TOLERANCE:g}"
_OTHER_OPTIMUM = "the peer's updates do not lead to the maximum of the joint, so labels are not compared"
_CLASSES = f"{agreement.SAME_CLASSES:.0%} of classes of perturbed cells"
_SCORES = f"correlation of scores {agreement.SCORE_CORRELATION_GPU:g}"
_LDA = f"mean canonical correlation of the embeddings {agreement.LDA_MEAN_CORRELATION:g}"

_ALL_310K = partial(workloads.embedded_groups, 310_000, 2_058)
_POOL_310K = partial(workloads.embedded_groups, 310_000, 2_058, n_control=10_000)
_FEW_GROUPS = partial(workloads.embedded_groups, 3_000, 20)
_FEW_WITH_POOL = partial(workloads.embedded_groups, 3_000, 20, n_control=500)
_SCREEN = partial(workloads.screen, 200_000, 8_000, 1_000)
_SMALL_SCREEN = partial(workloads.screen, 3_000, 300, 10)
_BOOTSTRAP_100 = {"bootstrap": True, "n_bootstrap": 100}


def _mixture(n_cells: int, n_guides: int, size: str) -> Row:
    return Row(
        name=f"gpu-mixture-{size}",
        work=f"guide mixture, {size.replace('x', ' cells x ')} guides",
        data=partial(workloads.guide_umis, n_cells, n_guides),
        small=partial(workloads.guide_umis, 5_000, 50),
        generated=True,
        ptg=gpu_calls.mixture(ptg),
        peer=gpu_calls.mixture(peer),
        check=agreement.objectives_agree,
        tolerance=_OBJECTIVE,
        target_warm=10.0,
        note=_OTHER_OPTIMUM,
    )


GPU_ROWS: tuple[Row, ...] = (
    Row(
        name="gpu-edistance-310k",
        work="edistance pairwise, 310k cells, 2,058 groups, 50 dims",
        data=_ALL_310K,
        small=_FEW_GROUPS,
        generated=True,
        ptg=gpu_calls.pairwise(ptg),
        peer=gpu_calls.pairwise(peer),
        check=agreement.edistances_agree,
        tolerance=_EDISTANCE,
        target_warm=10.0,
        n_pairs=gpu_calls.all_pairs,
    ),
    Row(
        name="gpu-edistance-1M",
        work="edistance pairwise, 1M cells, 5,000 groups, 50 dims",
        data=partial(workloads.embedded_groups, 1_000_000, 5_000),
        small=_FEW_GROUPS,
        generated=True,
        ptg=gpu_calls.pairwise(ptg),
        peer=gpu_calls.pairwise(peer),
        check=agreement.edistances_agree,
        tolerance=_EDISTANCE,
        target_warm=14.0,
        n_pairs=gpu_calls.all_pairs,
    ),
    Row(
        name="gpu-edistance-onesided",
        work="edistance one-sided, 310k cells, 2,058 groups, control 10k",
        data=_POOL_310K,
        small=_FEW_WITH_POOL,
        generated=True,
        ptg=gpu_calls.onesided(ptg),
        peer=gpu_calls.onesided(peer),
        check=agreement.edistances_agree,
        tolerance=_EDISTANCE,
        target_warm=3.0,
        n_pairs=gpu_calls.pairs_with_pool,
    ),
    Row(
        name="gpu-edistance-onesided-bootstrap",
        work="the same, bootstrap 100",
        data=_POOL_310K,
        small=_FEW_WITH_POOL,
        generated=True,
        ptg=gpu_calls.onesided(ptg, **_BOOTSTRAP_100),
        peer=gpu_calls.onesided(peer, **_BOOTSTRAP_100),
        check=agreement.bootstraps_agree,
        tolerance=_BOOTSTRAP,
        target_warm=20.0,
        n_pairs=gpu_calls.pairs_with_pool,
    ),
    Row(
        name="gpu-edistance-bootstrap",
        work="edistance pairwise, bootstrap 100, 16k cells, 100 groups",
        data=partial(workloads.embedded_groups, 16_000, 100),
        small=_FEW_GROUPS,
        generated=True,
        ptg=gpu_calls.pairwise(ptg, **_BOOTSTRAP_100),
        peer=gpu_calls.pairwise(peer, **_BOOTSTRAP_100),
        check=agreement.bootstraps_agree,
        tolerance=_BOOTSTRAP,
        target_warm=20.0,
        n_pairs=gpu_calls.all_pairs,
    ),
    Row(
        name="gpu-wasserstein-50k",
        work="wasserstein pairwise, 50k cells, 100 groups",
        data=partial(workloads.embedded_groups, 50_000, 100),
        small=partial(workloads.embedded_groups, 1_000, 5),
        generated=True,
        ptg=gpu_calls.pairwise(ptg, "wasserstein"),
        peer=gpu_calls.pairwise(peer, "wasserstein"),
        check=agreement.wassersteins_agree,
        tolerance=_WASSERSTEIN,
        target_warm=10.0,
    ),
    Row(
        name="gpu-wasserstein-40k",
        work="wasserstein pairwise, 40k cells, 300 groups",
        data=partial(workloads.embedded_groups, 40_000, 300),
        small=partial(workloads.embedded_groups, 1_000, 10),
        generated=True,
        ptg=gpu_calls.pairwise(ptg, "wasserstein"),
        peer=gpu_calls.pairwise(peer, "wasserstein"),
        check=agreement.wassersteins_agree,
        tolerance=_WASSERSTEIN,
        target_warm=10.0,
    ),
    Row(
        name="gpu-wasserstein-onesided",
        work="wasserstein one-sided, 310k cells, 2,058 groups, control 10k",
        data=_POOL_310K,
        small=partial(workloads.embedded_groups, 1_000, 5, n_control=200),
        generated=True,
        ptg=gpu_calls.onesided(ptg, "wasserstein"),
        peer=gpu_calls.onesided(peer, "wasserstein"),
        check=agreement.wassersteins_agree,
        tolerance=_WASSERSTEIN,
        target_warm=6.0,
    ),
    _mixture(100_000, 1_000, "100kx1k"),
    _mixture(100_000, 10_000, "100kx10k"),
    _mixture(1_000_000, 2_000, "1Mx2k"),
    Row(
        name="gpu-mixscape",
        work="signature (nn) then mixscape, 200k cells x 8k genes, 1,000 targets",
        data=_SCREEN,
        small=_SMALL_SCREEN,
        generated=True,
        ptg=gpu_calls.signature_and_mixscape(ptg),
        peer=gpu_calls.signature_and_mixscape(peer),
        check=agreement.classes_agree,
        tolerance=_CLASSES,
        target_warm=5.0,
    ),
    Row(
        name="gpu-mixscale",
        work="mixscale, the same",
        data=_SCREEN,
        small=_SMALL_SCREEN,
        generated=True,
        ptg=gpu_calls.mixscale(ptg),
        peer=gpu_calls.mixscale(peer),
        check=agreement.scores_agree,
        tolerance=_SCORES,
        target_warm=5.0,
    ),
    Row(
        name="gpu-lda",
        work="lda, 50k cells x 4k genes, 200 targets",
        data=partial(workloads.screen, 50_000, 4_000, 200),
        small=_SMALL_SCREEN,
        generated=True,
        ptg=gpu_calls.lda(ptg),
        peer=gpu_calls.lda(peer),
        check=agreement.embeddings_agree,
        tolerance=_LDA,
        target_warm=20.0,
    ),
    Row(
        name="gpu-guides-1Mx20k",
        work="guide mixture and max guide, 1M cells x 20k guides",
        data=partial(workloads.guide_umis, 1_000_000, 20_000),
        small=partial(workloads.guide_umis, 5_000, 100),
        generated=True,
        ptg=gpu_calls.mixture_and_max_guide(ptg),
        peer=None,
        check=None,
        tolerance="",
        target_warm=None,
        note="the peer makes the counts dense, 80 GB, and runs out of memory",
    ),
    Row(
        name="gpu-mixscape-1Mx20k",
        work="signature (nn) and mixscape, 1M cells x 20k genes, 1,000 targets",
        data=partial(workloads.screen, 1_000_000, 20_000, 1_000, log_rate=-3.3),
        small=partial(workloads.screen, 3_000, 300, 10, log_rate=-2.5),
        generated=True,
        ptg=gpu_calls.signature_and_mixscape(ptg, output="graph"),
        peer=None,
        check=None,
        tolerance="",
        target_warm=None,
        note="sparse input, and no dense layer is kept; the peer needs two dense matrices of 80 GB",
    ),
)
