"""`Mixscape`: which cells respond to their perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptg.data import entry_point
from ptg.mixscape.classify import check_class_parameters, classify_cells
from ptg.mixscape.lda import check_lda_parameters, discriminate_cells
from ptg.mixscape.mixscale import Mixscale
from ptg.mixscape.signature import SignatureTool

if TYPE_CHECKING:
    from anndata import AnnData


class Mixscape(SignatureTool):
    """Tell cells that respond to their perturbation from those that escaped it.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None takes ``ptg.settings.device``.

    Notes
    -----
    The method is Papalexi et al. (2021), https://doi.org/10.1038/s41588-021-00778-2. Call `perturbation_signature`
    first, then `mixscape`, then `lda`; `mixscale` needs the signature only.

    Examples
    --------
    >>> import ptg
    >>> from ptg.data import log_normalize
    >>> rna, _ = ptg.datasets.simulate_screen(n_cells=1500, n_genes=200, n_targets=4)
    >>> rna.X = log_normalize(rna.X)
    >>> mixscape = ptg.Mixscape()
    >>> mixscape.perturbation_signature(rna, "perturbation", "NT", split_by="replicate")
    >>> mixscape.mixscape(rna, "perturbation", "NT")
    >>> sorted(rna.obs["mixscape_class_global"].dropna().unique())
    ['KO', 'NP', 'NT']
    """

    @entry_point
    def mixscape(
        self,
        adata: AnnData,
        pert_key: str,
        control: str,
        *,
        new_class_name: str = "mixscape_class",
        layer: str | None = None,
        min_de_genes: int = 5,
        logfc_threshold: float = 0.25,
        de_layer: str | None = None,
        test_method: str = "wilcoxon",
        iter_num: int = 10,
        scale: bool = True,
        split_by: str | None = None,
        pval_cutoff: float = 0.05,
        perturbation_type: str = "KO",
        random_state: int | None = 0,
        copy: bool = False,
        flavor: str = "pertpy",
        tol: float | None = None,
        max_iter: int | None = None,
        reg_covar: float | None = None,
        show_progressbar: bool = True,
    ) -> AnnData | None:
        """Separate perturbed cells of each target from those that escaped.

        Parameters
        ----------
        adata
            The data after `perturbation_signature`.
        pert_key
            Column of `adata.obs` with the targets. Labels may hold any characters.
        control
            The control group in `pert_key`.
        new_class_name
            Column of `adata.obs` to write the classes to.
        layer
            Layer with the signature, dense or sparse; None takes ``layers["X_pert"]``, or what
            ``perturbation_signature(output="graph")`` kept.
        min_de_genes
            Fewest markers a target needs, and fewest perturbed cells it must keep.
        logfc_threshold
            Smallest absolute log2 fold change of a marker.
        de_layer
            Layer in which markers are searched; None is `adata.X`. log1p-transformed.
        test_method
            ``"wilcoxon"``, ``"t-test"``, ``"t-test_overestim_var"`` or ``"logreg"``, as in scanpy.
        iter_num
            Rounds at most.
        scale
            Scale each marker to unit variance over the target's cells and the controls.
        split_by
            Column of `adata.obs`: markers, directions and mixtures are found in each of its groups by itself.
        pval_cutoff
            Adjusted p-value below which a gene is a marker.
        perturbation_type
            Suffix of the class of perturbed cells, and their global class.
        random_state
            Seeds the start of the mixture's weights (k-means++). None draws afresh at each call.
        copy
            Write to a copy of `adata` and return it.
        flavor
            ``"pertpy"``: fold changes of mean logs, Benjamini-Hochberg, posterior with mixing weights. ``"seurat"``:
            fold changes of mean counts with pseudocount 1 in genes that 10 % of the cells of either side express,
            Bonferroni, posterior without mixing weights, scaled values clipped at 10, mixture run to convergence.
        tol, max_iter, reg_covar
            EM stops when the mean log-likelihood changes by less than `tol`, or after `max_iter` steps; `reg_covar` is
            added to the variance. None: 1e-3, 100, 1e-6 (as in pertpy); 1e-12, 10,000, 0 for ``"seurat"``.
        show_progressbar
            Show a bar when the work takes a while and somebody watches.

        Returns
        -------
        None, or the copy. Written are

        - ``obs[new_class_name]``: the control's label, ``"<target> KO"`` or ``"<target> NP"``, as text. Cells without a
          label, and of a target but no split, have none (NaN);
        - ``obs[f"{new_class_name}_global"]``: the control's label, ``"KO"`` or ``"NP"``, as text;
        - ``obs[f"{new_class_name}_p_ko"]``: posterior of being perturbed, float64; 0 where no mixture was fitted;
        - ``uns["mixscape"][target][split]``: DataFrame of first scores (``"pvec"``) and labels, for density plots: all
          cells of the target and at most 1,000 controls at evenly spaced ranks. "/" in names becomes "|",
          and "" and "." get a "|" in front;
        - ``uns["mixscape_targets"]``: DataFrame, one row per target and split: ``split, n_markers, n_cells,
          n_iterations, converged, fraction_perturbed, reason``. The reason says why a target could not be tested and
          is empty if it was; all cells of an untested target are ``"NP"``.

        Raises
        ------
        InputError
            An argument is not accepted, a column, layer or label does not exist, there is no signature, or class names
            would coincide.

        Notes
        -----
        Over the markers, scaled, a round takes ``v`` = mean of the cells perturbed so far (all at first) - mean of
        the controls, scores ``z . v / |v|^2`` and fits ``w0 N(m0, s0^2) + w1 N(m1, s1^2)`` to targets and controls by
        EM with m0, s0 fixed to the controls' own. Cells with posterior > 0.5 are perturbed; rounds end when the
        classes repeat. With fewer than `min_de_genes` perturbed cells all are ``"NP"``, with their posteriors kept.
        Cost in memory: marker columns of the controls within ``ptg.settings.memory``; nothing per target holds the
        controls.
        """
        parameters = check_class_parameters(
            new_class_name=new_class_name,
            layer=layer,
            de_layer=de_layer,
            scale=scale,
            perturbation_type=perturbation_type,
            iter_num=iter_num,
            random_state=random_state,
            tol=tol,
            max_iter=max_iter,
            reg_covar=reg_covar,
            flavor=flavor,
            test_method=test_method,
            min_de_genes=min_de_genes,
            logfc_threshold=logfc_threshold,
            pval_cutoff=pval_cutoff,
        )
        return classify_cells(
            adata,
            pert_key,
            control,
            parameters,
            split_by=split_by,
            copy=copy,
            device=self.device,
            show_progressbar=show_progressbar,
        )

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
        perturbation_type: str = "KO",
        copy: bool = False,
        show_progressbar: bool = True,
    ) -> AnnData | None:
        """Score the strength of the perturbation in each cell; see `ptg.Mixscale.mixscale`.

        Parameters
        ----------
        adata, pert_key, control, new_class_name, layer, min_de_genes, max_de_genes, logfc_threshold, de_layer
            As in `ptg.Mixscale.mixscale`, whose further options this method does not have.
        test_method, scale, split_by, pval_cutoff, copy, show_progressbar
            As there.
        perturbation_type
            Accepted for compatibility; it does not change the score.

        Returns
        -------
        None, or the copy; see `ptg.Mixscale.mixscale`.

        Raises
        ------
        InputError
            As there.
        """
        del perturbation_type
        return Mixscale(device=self.device).mixscale(
            adata,
            pert_key,
            control,
            new_class_name=new_class_name,
            layer=layer,
            min_de_genes=min_de_genes,
            max_de_genes=max_de_genes,
            logfc_threshold=logfc_threshold,
            de_layer=de_layer,
            test_method=test_method,
            scale=scale,
            split_by=split_by,
            pval_cutoff=pval_cutoff,
            copy=copy,
            show_progressbar=show_progressbar,
        )

    @entry_point
    def lda(
        self,
        adata: AnnData,
        pert_key: str,
        control: str,
        *,
        mixscape_class_global: str = "mixscape_class_global",
        layer: str | None = None,
        n_comps: int | None = 10,
        min_de_genes: int = 5,
        logfc_threshold: float = 0.25,
        test_method: str = "wilcoxon",
        split_by: str | None = None,
        pval_cutoff: float = 0.05,
        perturbation_type: str = "KO",
        copy: bool = False,
        show_progressbar: bool = True,
    ) -> AnnData | None:
        """Find the linear discriminants that separate the perturbed cells of all targets and the controls.

        Parameters
        ----------
        adata
            The data after `mixscape`.
        pert_key, control
            As in `mixscape`.
        mixscape_class_global
            Column of `adata.obs` with the global classes.
        layer
            Layer in which markers are searched; None is `adata.X`. Axes always come from `adata.X`.
        n_comps
            Principal axes of each target; None is 50. A target gets at most min(cells, genes) - 1.
        min_de_genes, logfc_threshold, test_method, pval_cutoff
            As in `mixscape`. Targets with markers are used, in any split.
        split_by
            Column of `adata.obs`: markers are searched in each of its groups by itself.
        perturbation_type
            Global class of perturbed cells.
        copy
            Write to a copy of `adata` and return it.
        show_progressbar
            Show a bar when the work takes a while and somebody watches.

        Returns
        -------
        None, or the copy. Written are

        - ``uns["mixscape_lda"]``: (cells, at most classes - 1) float64, the perturbed and the control cells in the
          order of the data; classes are the control and every target with perturbed cells. Columns are defined up to
          sign; here the largest loading is positive;
        - ``uns["mixscape_lda_cells"]``: names of those cells;
        - ``uns["mixscape_lda_targets"]``: DataFrame, one row per target: ``n_markers, n_cells, n_comps, reason`` (why
          a target adds no axes; empty if it does).

        Raises
        ------
        InputError
            As in `mixscape`; mixscape was not run or found no perturbed cell; no target has markers.

        Notes
        -----
        For each target with markers, the leading principal axes of its perturbed cells and the controls, all genes
        scaled to unit variance; expression projected on the axes of all targets; then scikit-learn's discriminant
        analysis with solver "svd". The controls' scatter matrix is formed once (up to 4,096 genes, beyond which axes
        are found by applying the data) and updated for each target.
        """
        parameters = check_lda_parameters(
            mixscape_class_global=mixscape_class_global,
            layer=layer,
            n_comps=n_comps,
            perturbation_type=perturbation_type,
            test_method=test_method,
            min_de_genes=min_de_genes,
            logfc_threshold=logfc_threshold,
            pval_cutoff=pval_cutoff,
        )
        return discriminate_cells(
            adata,
            pert_key,
            control,
            parameters,
            split_by=split_by,
            copy=copy,
            device=self.device,
            show_progressbar=show_progressbar,
        )
