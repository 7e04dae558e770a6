"""What DICOM files without pixels are, in plain words.

SOP classes: DICOM PS3.4, Annex B, and PS3.6, Annex A. A class is known by the beginning of its UID;
what is returned comes from here or from the standard's own list, never from a file.
"""

from __future__ import annotations

DIRECTORY = "1.2.840.10008.1.3.10"
"""The SOP class of a DICOMDIR."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."

# The longest beginning that fits decides.
_KINDS: dict[str, str] = {
    DIRECTORY: "a DICOMDIR, which lists other files",
    _STORAGE + "9.": "a waveform, such as an ECG or sound",
    _STORAGE + "11.": "a presentation state, which says how to show other files",
    _STORAGE + "4.2": "MR spectroscopy",
    _STORAGE + "66": "raw data",
    _STORAGE + "66.1": "a spatial registration",
    _STORAGE + "66.2": "spatial fiducials",
    _STORAGE + "66.3": "a spatial registration",
    _STORAGE + "66.5": "a segmentation by surfaces",
    _STORAGE + "66.6": "tracks of fibres",
    _STORAGE + "67": "a mapping of values",
    _STORAGE + "68.": "a surface scan",
    _STORAGE + "78.": "measurements of an eye",
    _STORAGE + "79.": "measurements of an eye",
    _STORAGE + "80.": "measurements of an eye",
    _STORAGE + "88.": "a structured report",
    _STORAGE + "88.59": "a selection of key objects",
    _STORAGE + "104.": "an encapsulated document",
    _STORAGE + "104.1": "an encapsulated PDF document",
    _STORAGE + "104.3": "an encapsulated 3D model",
    _STORAGE + "104.4": "an encapsulated 3D model",
    _STORAGE + "104.5": "an encapsulated 3D model",
    _STORAGE + "481.3": "an RT structure set",
    _STORAGE + "481.4": "an RT treatment record",
    _STORAGE + "481.5": "an RT plan",
    _STORAGE + "481.6": "an RT treatment record",
    _STORAGE + "481.7": "an RT treatment record",
    _STORAGE + "481.8": "an RT plan",
    _STORAGE + "481.9": "an RT treatment record",
    "1.2.840.10008.5.1.4.34.": "an RT worklist",
    "1.2.840.10008.5.1.4.38.": "a hanging protocol",
    "1.2.840.10008.5.1.4.39.": "a colour palette",
    "1.2.840.10008.5.1.4.43.": "a template of an implant",
    "1.2.840.10008.5.1.4.44.": "a template of an implant",
    "1.2.840.10008.5.1.4.45.": "a template of an implant",
}


def without_pixels(sop_class: str) -> str:
    """Return why a file has no image, e.g. ``"no pixels: a structured report"``.

    Args:
        sop_class: The UID of its SOP class; empty where it says none.
    """
    begins = [begin for begin in _KINDS if _fits(sop_class, begin)]
    if begins:
        return f"no pixels: {_KINDS[max(begins, key=len)]}"
    return "DICOM without pixels"


def _fits(uid: str, begin: str) -> bool:
    return uid.startswith(begin) if begin.endswith(".") else (uid + ".").startswith(begin + ".")
