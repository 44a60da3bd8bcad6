"""The formats by name. A new format is a file beside this one and a line here."""

from __future__ import annotations

from polyadic.errors import LayerError
from polyadic.formats.cp import CPFormat
from polyadic.formats.format import Format
from polyadic.formats.svd import SVDFormat
from polyadic.formats.tkd_cpd import TKDCPDFormat
from polyadic.formats.tucker2 import Tucker2Format

FORMATS: dict[str, Format] = {
    fmt.name: fmt
    for fmt in (
        CPFormat("cp-epc"),
        CPFormat("cp-als"),
        CPFormat("cp-als-epc"),
        Tucker2Format(),
        TKDCPDFormat(),
        SVDFormat(),
    )
}


def format_named(name: str) -> Format:
    """The format of that name with its default options.

    Raises:
        LayerError: no format has that name.
    """
    if name not in FORMATS:
        raise LayerError(f"a format is one of {', '.join(FORMATS)}; got {name!r}")
    return FORMATS[name]
