"""DICOM: what scanners, X-ray machines and archives of hospitals write.

This file is what every run imports. pydicom, and the files that use it, are imported where the
first DICOM file is read: they take a while, and most runs have none.
"""

from __future__ import annotations

from typing import BinaryIO

from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions

_MAGIC_AT = 128
_MAGIC = b"DICM"
# The groups that a file without a preamble may begin with: of the file (2) or of the study (8).
_FIRST_GROUPS = (b"\2\0", b"\0\2", b"\x08\0", b"\0\x08")


class DicomFormat(PictureFormat):
    """DICOM files, with or without the preamble that the standard asks for.

    A file of several frames holds an image a frame: ``scan.dcm#0000``, ``scan.dcm#0001``, …
    """

    extensions = (".dcm", ".dicom", ".ima")
    name = "the DICOM decoder"
    holds_several = True
    digits = 4
    needs_no_extension = True

    def recognises(self, head: bytes) -> bool | None:
        """Whether a file has DICOM's preamble; None where it may be DICOM without one."""
        if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC:
            return True
        return None if head[:2] in _FIRST_GROUPS else False

    def count(self, file: BinaryIO) -> int:
        """How many frames a file has: what its header says, and its length allows.

        Raises:
            BadImageError: It has no pixels, or cannot hold the frames that it declares.
        """
        from lcam_cli.images.dicom_header import read_header  # noqa: PLC0415  # see the module

        return read_header(file).count_frames()

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        """Read a frame, in grey as the file's window or ``options.window`` shows it, or in RGB.

        Raises:
            BadImageError: Anything wrong with the file. No reason quotes what a file says.
        """
        from lcam_cli.images.dicom_picture import read_frame  # noqa: PLC0415  # see the module

        return read_frame(file, options)
