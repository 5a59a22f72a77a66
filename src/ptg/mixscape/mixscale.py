"""`Mixscale`: how strongly each cell responds to its perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptg.data import entry_point
from ptg.mixscape.score import check_score_parameters, score_cells
from ptg.mixscape.signature import SignatureTool

if TYPE_CHECKING:
    from anndata import AnnData


class Mixscale(SignatureTool):
    """Score the strength of a perturbation in each cell.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None takes ``ptg.settings.device``.

    Notes
    -----
    The method is Jiang, Dalgarno et al. (2025), https://doi.org/10.1038/s41556-025-01622-z. Call
    `perturbation_signature` first.
    """

    @entry_point
    def mixscale(
        self,
        adata: AnnData,
        pert_key: str,
        control: str,
        *,
        new_class_name: str = "mixscale_score",
        layer: str | None = None,
        min_de_genes: int = 5,
        max_de_genes: int = 100,
        logfc_threshold: float = 0.25,
        de_layer: str | None = None,
        test_method: str = "wilcoxon",
        scale: bool = True,
        split_by: str | None = None,
        pval_cutoff: float = 0.05,
        fine_mode: bool = False,
        fine_mode_labels: str = "guide_id",
        de_genes_by_target: Mapping[Any, Sequence[str]] | None = None,
        harmonize: bool = False,
        harmonize_min_proportion: float = 0.1,
        random_state: int = 0,
        copy: bool = False,
        show_progressbar: bool = True,
    ) -> AnnData | None:
        """Score each cell's position along its target's direction, standardised by the controls.

        Parameters
        ----------
        adata
            The data after `perturbation_signature`.
        pert_key
            Column of `adata.obs` with the targets.
        control
            The control group in `pert_key`.
        new_class_name
            Column of `adata.obs` to write the scores to.
        layer
            Layer with the signature; None takes ``layers["X_pert"]``, or what
            ``perturbation_signature(output="graph")`` kept.
        min_de_genes, max_de_genes
            Fewest markers a target needs, and how many it keeps at most, by p-value.
        logfc_threshold
            Smallest absolute log2 fold change of a marker.
        de_layer
            Layer in which markers are searched; None is `adata.X`. log1p-transformed.
        test_method
            ``"wilcoxon"``, ``"t-test"``, ``"t-test_overestim_var"`` or ``"logreg"``, as in scanpy.
        scale
            Scale each marker to unit variance over the target's cells and the controls, and clip at 10.
        split_by
            Column of `adata.obs`: directions and standardisation in each of its groups by itself. Markers are always
            searched in all cells together.
        pval_cutoff
            Adjusted p-value below which a gene is a marker.
        fine_mode
            Search markers guide by guide and pool those of a target's guides. Guides with one cell are left out.
        fine_mode_labels
            Column of `adata.obs` with the guides.
        de_genes_by_target
            Genes to score each target with, in place of a search. Targets that are not in it are not scored; names
            that are not in the data are left out with one warning.
        harmonize
            Search each target's markers against a sample of the controls with the target's composition of splits.
            Needs `split_by`.
        harmonize_min_proportion
            Share of the controls that such a sample must keep; splits are given up, the smallest first, until it does.
        random_state
            Seed of that sample.
        copy
            Write to a copy of `adata` and return it.
        show_progressbar
            Show a bar when the work takes a while and somebody watches.

        Returns
        -------
        None, or the copy. Written are

        - ``obs[new_class_name]``: float64, 0 for controls, for cells without a label or a split, and for cells of
          targets that cannot be scored;
        - ``uns["mixscale"][target][split]``: DataFrame of scores before standardisation (``"pvec"``) and labels: all
          cells of the target and at most 1,000 controls at evenly spaced ranks (no leave-one-out scores). "/" in
          names becomes "|", and "" and "." get a "|" in front;
        - ``uns["mixscale_de_genes"]``: markers of each target, by p-value;
        - ``uns["mixscale_targets"]``: DataFrame, one row per target and split: ``split, n_markers, n_cells, reason``
          (why a target could not be scored; empty if it was).

        Raises
        ------
        InputError
            An argument is not accepted, a column, layer or label does not exist, or there is no signature.

        Notes
        -----
        Over the markers, with ``v`` = mean of the target's cells - mean of the controls and scores
        ``s = z . v / |v|^2``, a cell gets ``(s - mean of the controls' s) / standard deviation of the controls' s``.
        """
        parameters = check_score_parameters(
            new_class_name=new_class_name,
            layer=layer,
            de_layer=de_layer,
            scale=scale,
            max_de_genes=max_de_genes,
            fine_mode=fine_mode,
            fine_mode_labels=fine_mode_labels,
            de_genes_by_target=de_genes_by_target,
            harmonize=harmonize,
            harmonize_min_proportion=harmonize_min_proportion,
            random_state=random_state,
            test_method=test_method,
            min_de_genes=min_de_genes,
            logfc_threshold=logfc_threshold,
            pval_cutoff=pval_cutoff,
        )
        return score_cells(
            adata,
            pert_key,
            control,
            parameters,
            split_by=split_by,
            copy=copy,
            device=self.device,
            show_progressbar=show_progressbar,
        )
