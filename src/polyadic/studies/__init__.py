"""Studies of a trained network: what its kernels bear, and where their decompositions break down."""

from polyadic.studies.cuts import ALL_CUTS, Chain, Cut
from polyadic.studies.degeneracy import METHODS, DegeneracyOptions, DegeneracyStudy, degeneracy_study
from polyadic.studies.layer_study import LayerOptions, LayerStudy, layer_study
from polyadic.studies.spectrum import Spectrum
from polyadic.studies.study_files import study_document, write_degeneracy, write_layers, write_truncation
from polyadic.studies.truncation import TruncationStudy, truncation_study
from polyadic.studies.truncation_options import TruncationOptions

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
    "study_document",
    "truncation_study",
    "write_degeneracy",
    "write_layers",
    "write_truncation",
]
