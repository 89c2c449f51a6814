"""Simulation: calibration and recovery of parameters over many simulated data sets.

BayesFlow draws these; here they get this package's labels and colours.
"""

import matplotlib as mpl
import numpy as np
from bayesflow.diagnostics import plots as bayesflow_plots

from ..diagnostics.calibration import SimulationBasedCalibration, _seeded
from .style import ROLES, put_legend, styled

__all__ = ["rank_ecdf", "recovery"]

SIZES = {"label_fontsize": 10, "title_fontsize": 10, "tick_fontsize": 9}


@styled
def rank_ecdf(result: SimulationBasedCalibration, **kwargs) -> np.ndarray:
    """Distribution of ranks minus the uniform one, with its 95 % simultaneous band.

    Parameters
    ----------
    result : SimulationBasedCalibration
    **kwargs
        As in ``bayesflow.diagnostics.calibration_ecdf``: ``difference``, ``stacked``, ``num_col``,
        ``figsize`` and others.

    Returns
    -------
    array of Axes

    Raises
    ------
    TypeError
        If result is something else.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> simulated = workflow.simulate(20, num_obs=100, num_reps=3)
    >>> result = abm.diagnostics.simulation_based_calibration(workflow, simulated, num_samples=50)
    >>> axes = abm.plots.rank_ecdf(result, difference=True)
    >>> [ax.get_title() for ax in axes]
    ['stay[0]', 'stay[1]', 'means[0]', 'means[1]']
    """
    options = {"rank_ecdf_color": ROLES["amortized"], "legend_fontsize": 9} | SIZES
    with _seeded(0):  # the band is simulated
        axes = _draw(bayesflow_plots.calibration_ecdf, result, options | kwargs)
    legend = axes[0].get_legend()  # it would lie over the curve
    labels = [text.get_text() for text in legend.get_texts()]
    handles = dict(zip(labels, legend.legend_handles, strict=True))
    legend.remove()
    axes[0].figure.set_layout_engine("constrained")
    put_legend(axes, handles, own_figure=True)
    return axes


@styled
def recovery(result: SimulationBasedCalibration, **kwargs) -> np.ndarray:
    """Posterior medians and 95 % intervals against the truth.

    Parameters
    ----------
    result : SimulationBasedCalibration
    **kwargs
        As in ``bayesflow.diagnostics.recovery``: ``point_agg``, ``uncertainty_agg``, ``num_col``,
        ``figsize`` and others.

    Returns
    -------
    array of Axes

    Raises
    ------
    TypeError
        If result is something else.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> simulated = workflow.simulate(20, num_obs=100, num_reps=3)
    >>> result = abm.diagnostics.simulation_based_calibration(workflow, simulated, num_samples=50)
    >>> axes = abm.plots.recovery(result)
    >>> [ax.get_title() for ax in axes]
    ['stay[0]', 'stay[1]', 'means[0]', 'means[1]']
    """
    options = {"color": ROLES["amortized"], "metric_fontsize": 9, "markersize": 3} | SIZES
    return _draw(bayesflow_plots.recovery, result, options | {"elinewidth": 0.6} | kwargs)


def _draw(plot, result, options: dict) -> np.ndarray:
    if not isinstance(result, SimulationBasedCalibration):
        raise TypeError(
            f"result: expected a SimulationBasedCalibration, got {type(result).__name__}; see "
            "abmtools.diagnostics.simulation_based_calibration."
        )
    columns = options.setdefault("num_col", min(3, len(result.names)))
    rows = -(-len(result.names) // columns)
    options.setdefault("num_row", rows)
    options.setdefault("figsize", (2.7 * columns, 2.5 * rows))
    with mpl.rc_context({"figure.constrained_layout.use": False}):  # BayesFlow has a layout
        figure = plot(result.estimates, result.targets, variable_names=result.names, **options)
    return np.array(figure.axes)
