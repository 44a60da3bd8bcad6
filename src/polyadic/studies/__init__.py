"""Studies of a trained network: what its kernels bear, and where their decompositions break down."""

from polyadic.schema import DegeneracyStudy, LayerStudy, TruncationStudy
from polyadic.studies.cuts import ALL_CUTS, Chain, Cut
from polyadic.studies.degeneracy import METHODS, DegeneracyOptions, degeneracy_study
from polyadic.studies.layer_study import LayerOptions, layer_study
from polyadic.studies.spectrum import Spectrum
from polyadic.studies.study import write_degeneracy, write_layers, write_truncation
from polyadic.studies.truncation import truncation_study
from polyadic.studies.truncation_grid import TruncationOptions

__all__ = [
    "ALL_CUTS",
    "METHODS",
    "Chain",
    "Cut",
    "DegeneracyOptions",
    "DegeneracyStudy",
    "LayerOptions",
    "LayerStudy",
    "Spectrum",
    "TruncationOptions",
    "TruncationStudy",
    "degeneracy_study",
    "layer_study",
    "truncation_study",
    "write_degeneracy",
    "write_layers",
    "write_truncation",
]
