"""The sections of a report, top to bottom: each turns results into HTML."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from ptg.plot.style import counted
from ptg.report import html
from ptg.report.figures import metric_name
from ptg.report.tables import distance_table, guide_table, target_table

if TYPE_CHECKING:
    from ptg.report.figures import Picture
    from ptg.report.results import DistanceResults, ScreenResults


@dataclass(frozen=True)
class Content:
    """What the sections are made from."""

    results: ScreenResults
    pictures: dict[str, Picture]

    @cached_property
    def targets(self) -> pd.DataFrame:
        """The table of targets, as in the CSV file."""
        return target_table(self.results.screen, self.results.perturbation)


def summary(content: Content) -> str:
    """Key numbers, and the result in a few sentences."""
    results = content.results
    targets = content.targets
    tested, perturbed = targets[targets["tested"]], targets[targets["perturbed"] > 0]
    cards = {
        "cells analysed": f"{results.screen.n_obs:,}",
        "control cells": f"{int((results.screen.obs[results.perturbation] == results.control).sum()):,}",
        "targets": f"{len(targets):,}",
        "targets tested": f"{len(tested):,}",
        "targets with perturbed cells": f"{len(perturbed):,}",
    }
    if results.guides is not None:
        cells = results.guides.cells
        cards["cells with guides of one target"] = f"{cells['guides of one target'] / max(sum(cells.values()), 1):.0%}"
    text = html.numbers(cards)
    if perturbed.empty:
        text += html.paragraph("No target has cells that can be told from control.")
    else:
        best = perturbed.sort_values("share perturbed", ascending=False).head(3)
        named = [
            f"{row['target']} ({row['share perturbed']:.0%} of {row['cells']:,} cells)" for _, row in best.iterrows()
        ]
        text += html.paragraph(
            f"{len(perturbed):,} of {len(targets):,} targets have cells that can be told from control. "
            f"The largest share of perturbed cells: {', '.join(named)}."
        )
    return text + html.paragraph(_farthest(results.distances))


def _farthest(found: DistanceResults) -> str:
    """Name the targets farthest from control: with a bootstrap, those whose interval lies above 0."""
    table, name = found.to_control, metric_name(found.metric).lower()
    # Only an unbiased estimate can have an interval that reaches 0.
    tells = "lower" in table and found.metric == "edistance"
    clear = table[table["lower"] > 0] if tells else table[table["distance"].notna()]
    if clear.empty:
        return f"No target's {name} to control has an interval above 0."
    listed = ", ".join(f"{target} ({value:.3g})" for target, value in clear["distance"].head(3).items())
    farthest = f"Farthest from control by {name}: {listed}."
    if not tells:
        return farthest
    return f"{farthest} The bootstrap interval of {len(clear):,} of {len(table):,} targets lies above 0."


def went_in(content: Content) -> str:
    """Say what the files hold and how many cells take part."""
    results = content.results
    inputs = pd.DataFrame({"input": list(results.inputs), "contents": list(results.inputs.values())})
    text = html.table(inputs, more_in="report.html")
    sizes = results.screen.obs[results.perturbation].value_counts()
    others = sizes.drop(results.control)
    text += html.paragraph(
        f"{results.screen.n_obs:,} cells took part: {sizes[results.control]:,} with control {results.control!r} and "
        f"{int(others.sum()):,} with one of {len(others):,} targets (median {others.median():,.0f} cells per target, "
        f"{others.min():,} to {others.max():,})."
    )
    if results.replicate is not None:
        per = results.screen.obs[results.replicate].value_counts(sort=False)
        cells = ", ".join(f"{name}: {count:,}" for name, count in per.items())
        text += html.paragraph(f"Cells in each {results.replicate}: {cells}.")
    return text


def guide_assignment(content: Content) -> str:
    """How many cells got which guides, and from which count on."""
    results = content.results
    guides = results.guides
    if guides is None:
        return html.paragraph(
            f"No guide counts were given. The targets were read from the column {results.perturbation!r}."
        )
    total = max(sum(guides.cells.values()), 1)
    rows = pd.DataFrame({"cells with": list(guides.cells), "cells": list(guides.cells.values())})
    rows["share"] = rows["cells"] / total
    text = html.paragraph(
        "For each guide, the nonzero counts are a mixture of background (ambient guide reads, Poisson on the log2 "
        "scale) and signal (Normal). A cell has a guide if its count reaches the guide's threshold: the smallest count "
        "that is more likely signal than background. Cells with guides of one target take part in what follows, the "
        "others do not."
    )
    text += html.table(rows, more_in="tables/cells.csv", formats={"share": ".1%"})
    text += html.picture(content.pictures["guides_per_cell"], "Cells by number of assigned guides.")
    table = guide_table(guides.adata, guides.target_key)
    unfitted = table[table["threshold"].isna()]
    if "guide_mixtures" in content.pictures:
        text += html.picture(
            content.pictures["guide_mixtures"],
            "Counts and fitted mixture of guides, from the guide with the most cells to the one with the fewest. "
            "Cells right of the dashed line have the guide.",
        )
    text += f"<h3>Guides</h3>{html.table(table, more_in='tables/guides.csv', formats=_GUIDE_FORMATS)}"
    if len(unfitted):
        reasons = unfitted["reason"].replace("", "no interior optimum").value_counts()
        listed = "; ".join(f"{count:,} x {reason}" for reason, count in reasons.items())
        names = ", ".join(unfitted["guide"].head(12)) + (", ..." if len(unfitted) > 12 else "")
        text += html.notes(
            [(f"{counted(len(unfitted), 'guide')} without threshold ({names})", f"no cell has them. {listed}.")]
        )
    return text


_GUIDE_FORMATS = {"threshold (counts)": ".0f", "threshold": ".0f", "background mean (log2)": ".3f",
                  "signal mean (log2)": ".2f", "signal s.d. (log2)": ".2f", "signal weight": ".1%"}  # fmt: skip


def perturbed_cells(content: Content) -> str:
    """Which cells of each target respond."""
    table = content.targets
    text = html.paragraph(
        "Each cell was compared with its nearest control cells, and the marker genes of a target (Wilcoxon test "
        "against control) give the direction of its effect. Mixscape then splits the target's cells along this "
        "direction: perturbed cells, and cells that escaped and look like control. Targets with too few marker genes "
        "were not tested."
    )
    text += html.picture(
        content.pictures["perturbed_cells"],
        "Share of perturbed cells of each target, with its number of cells at the right.",
    )
    if "perturbation_scores" in content.pictures:
        text += html.picture(
            content.pictures["perturbation_scores"],
            "Perturbation scores of the targets with the largest share of perturbed cells: the projection of a cell on "
            "the target's direction, scaled so that the means of target and control lie 1 apart. In brackets: number "
            "of cells.",
        )
    columns = ["target", "cells", "perturbed", "share perturbed", "markers", "iterations", "converged"]
    shown = table.loc[table["tested"], columns].rename(columns={"perturbed": "perturbed cells"})
    return text + html.table(shown, more_in="tables/targets.csv", formats=_TARGET_FORMATS)


_TARGET_FORMATS = {"share perturbed": ".1%", "median mixscale score": ".2f", "iterations": ".0f", "markers": ",.0f"}


def perturbation_strength(content: Content) -> str:
    """Mixscale scores, in words and a table."""
    table = content.targets
    scored = table[table["tested"] & table["median mixscale score"].notna()]
    scored = scored.sort_values("median mixscale score", ascending=False)
    columns = ["target", "cells", "median mixscale score", "lower quartile", "upper quartile"]
    text = html.paragraph(
        "The mixscale score of a cell says how strongly it is perturbed, in standard deviations of the control cells' "
        "projection on the target's direction: about 0 for a cell like control, larger the stronger the effect. "
        "Control cells and cells of targets that could not be scored have 0."
    )
    if scored.empty:
        return text + html.paragraph("No target could be scored.", remark=True)
    formats = dict.fromkeys(columns[2:], ".2f")
    return text + html.table(scored[columns], more_in="tables/targets.csv", formats=formats)


def discriminant_space(content: Content) -> str:
    """Perturbed cells of different targets beside each other."""
    if "discriminant_space" not in content.pictures:
        return html.paragraph("There was nothing to discriminate; see what was skipped below.")
    return html.paragraph(
        "Linear discriminant analysis of the perturbed cells: targets that lie together have similar effects, targets "
        "close to the control weak ones."
    ) + html.picture(
        content.pictures["discriminant_space"],
        "Perturbed and control cells on the first two discriminant axes; names stand at the median cell of a target.",
    )


def distances(content: Content) -> str:
    """Distances to control, and between targets."""
    results = content.results
    found = results.distances
    text = html.paragraph(
        f"{metric_name(found.metric)} between all cells of a target (perturbed or not) and the control cells, on "
        f"{results.screen.obsm['X_pca'].shape[1]} principal components. "
        + (
            "It is unbiased: a target without effect has a distance around 0, which may be slightly negative."
            if found.metric == "edistance"
            else ""
        )
    )
    bars = f" Bars: ± 1.96 standard deviations over {found.n_bootstrap:,} bootstrap draws of cells."
    text += html.picture(
        content.pictures["distances_to_control"],
        f"Distance of each target to control.{bars if found.n_bootstrap else ''}",
    )
    table = distance_table(found)
    formats = dict.fromkeys(("p", "adjusted p"), ".2g") | {"z-score": ".1f"}
    measured = [name for name in table.columns if name not in {"target", "cells", "significant", *formats}]
    formats |= dict.fromkeys(measured, html.fixed_decimals(table[measured]))
    text += html.table(table, more_in="tables/distances_to_control.csv", formats=formats)
    if "distance_test" in content.pictures:
        text += html.paragraph(
            f"Permutation test: the labels of each target's cells and the control's were permuted {found.n_perms:,} "
            "times. 'Beyond chance' is the distance less its mean over permutations, the z-score the same in standard "
            "deviations; p-values are corrected for the number of targets by Holm and Sidak."
        ) + html.picture(
            content.pictures["distance_test"], "Distance beyond chance and z-score of each target, on log scales."
        )
    return text + html.picture(
        content.pictures["distance_heatmap"],
        "Distances between all groups, similar ones side by side (square-root colour scale).",
    )


def skipped(content: Content) -> str:
    """Say what was left out or decided on the way, and why."""
    results = content.results
    text = ""
    if results.notes:
        text += html.notes((note.step, note.text) for note in results.notes)
    table = content.targets
    untested = table.loc[~table["tested"], ["target", "cells", "markers", "reason"]]
    if len(untested):
        text += html.paragraph(f"{len(untested):,} of {len(table):,} targets were not tested for perturbed cells:")
        text += html.table(untested, more_in="tables/targets.csv", formats=_TARGET_FORMATS)
    return text or html.paragraph("Nothing was skipped.")


def how_it_was_made(content: Content) -> str:
    """Parameters, versions and run times."""
    results = content.results
    seconds = {**results.seconds, "all steps": sum(results.seconds.values())}
    blocks: dict[str, dict[str, str]] = {
        "Parameters": results.parameters,
        "Versions": results.versions,
        "Run time": {step: f"{time:.1f} s" for step, time in seconds.items()},
        "Defaults of the steps": results.defaults,
    }
    parts = []
    for title, values in blocks.items():
        frame = pd.DataFrame({"name": list(values), "value": list(values.values())})
        parts.append(f"<div><h3>{title}</h3>{html.table(frame, more_in='run.json')}</div>")
    return f'<div class="columns">{"".join(parts)}</div>'
