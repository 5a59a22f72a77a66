"""Draw docs/overview.png, the picture of the README, from a simulated screen: ``python docs/overview.py``."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

import ptg
from ptg.data.normalize import log_normalize


def analyse() -> tuple[ad.AnnData, ad.AnnData]:
    """Simulate a screen and run the main steps on it."""
    rna, guides = ptg.datasets.simulate_screen(seed=0)
    rna = rna[rna.obs["perturbation"].notna()].copy()
    rna.X = log_normalize(rna.X)
    ptg.GuideAssignment().assign_mixture_model(guides)
    mixscape = ptg.Mixscape()
    mixscape.perturbation_signature(rna, "perturbation", "NT", split_by="replicate")
    mixscape.mixscape(rna, "perturbation", "NT")
    return rna, guides


def main() -> None:
    """Draw one panel per question."""
    rna, guides = analyse()
    distance = ptg.Distance("edistance")
    distances = distance.onesided_distances(rna, "perturbation", "NT")
    _, variances = distance.onesided_distances(rna, "perturbation", "NT", bootstrap=True)
    figure, axes = plt.subplots(1, 4, figsize=(17, 4.2), layout="constrained")
    ptg.plot.guide_mixture(guides, "target01g1", ax=axes[0])
    ptg.plot.mixscape_barplot(rna, "perturbation", "NT", ax=axes[1])
    ptg.plot.perturbation_score(rna, "target03", ax=axes[2])
    tested = distances.drop(["NT", "target12"])  # target12 has four cells
    ptg.plot.distances_to_control(tested, variances[tested.index], label="Energy distance", ax=axes[3])
    questions = ("Which guide is in the cell?", "Which cells were perturbed?", "How clearly?", "How far did they move?")
    for ax, question in zip(axes, questions, strict=True):
        ax.set_title("", loc="left")
        ax.set_title(question, fontsize=12, fontweight="bold", pad=28)
    figure.savefig(Path(__file__).parent / "overview.png", dpi=110)


if __name__ == "__main__":
    main()
