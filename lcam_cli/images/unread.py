"""Pictures and scans that are there but not read: what a folder has of them, and the way on.

Only what is an image or a scan by its extension, or by its first bytes where the extension says
nothing, is reported. What operating systems leave behind, labels and other files are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lcam_cli.extras import install, is_installed
from lcam_cli.images.formats import extension_of, is_recognised, picture_extensions

# What to do with a kind, and the extensions it has.
_KINDS: dict[str, tuple[str, ...]] = {
    f"HEIC needs {install('heif')}": (".heic", ".heif", ".hif", ".heics"),
    "a newer Pillow reads AVIF": (".avif", ".avifs"),
    f"DICOM needs {install('medical')}": (".dcm", ".dicom", ".ima"),
    f"tables of images need {install('parquet')}": (".parquet",),
    "export the slices of volumes as PNG or TIFF": (
        *(".nii", ".nii.gz", ".mgz", ".mgh", ".mha", ".mhd", ".nrrd", ".nhdr", ".mnc"),
    ),
    "save each array as .npy": (".npz",),
    "develop camera raws to JPEG or TIFF": (
        *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".dng", ".orf"),
        *(".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq"),
    ),
    "export slides and microscope files as TIFF or PNG": (
        *(".svs", ".ndpi", ".scn", ".mrxs", ".bif", ".czi", ".lif", ".nd2", ".oib", ".oif"),
        *(".vsi", ".ims", ".lsm"),
    ),
    "convert other formats to PNG": (
        *(".jxl", ".jxr", ".wdp", ".exr", ".svg", ".svgz", ".eps", ".ai", ".xcf", ".ico"),
        *(".icns", ".dds", ".psb", ".wmf", ".emf", ".fits", ".fit", ".fts", ".jls"),
    ),
    "to read the images in a tar, pass the tar itself": (".tar",),
}
_BY_EXTENSION = {extension: advice for advice, all_ in _KINDS.items() for extension in all_}
_BY_NAME = "for files without an image's extension, pass the files themselves"

# Labels, notes, models and films: there may be one beside every image, so none is opened.
_NO_PICTURES = frozenset(
    {
        *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md"),
        *(".html", ".htm", ".css", ".js", ".py", ".ipynb", ".log", ".ini", ".db", ".cls"),
        *(".h5", ".hdf5", ".pt", ".pth", ".pt2", ".onnx", ".safetensors", ".bin", ".pkl"),
        *(".pdf", ".zip", ".gz", ".bz2", ".xz", ".7z", ".rar", ".tgz", ".tar.gz"),
        *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".mp3", ".wav"),
    }
)

# What operating systems and their file servers leave in folders, and the list of DICOM files.
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "dicomdir"})
_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})

MOST_OPENED = 10_000
"""Files of a folder that are opened to see what they are: on a file server each takes its time."""

_BEGINNINGS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"8BPS"),
    *(b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ", b"\x76\x2f\x31\x01"),
)
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


def is_system_file(name: str, *, folder: bool = False) -> bool:
    """Whether a file, or a folder, of that name is one that an operating system leaves behind."""
    return name.startswith("._") or name.lower() in (_SYSTEM_FOLDERS if folder else _SYSTEM_FILES)


def is_unread_format(extension: str) -> bool:
    """Whether files of this extension are images or scans that are not read."""
    return extension in _BY_EXTENSION and extension not in picture_extensions()


def may_be_picture(extension: str) -> bool:
    """Whether the first bytes of a file must tell, since its extension does not."""
    return extension not in _NO_PICTURES


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an image or a scan.

    Args:
        head: Its first :data:`~lcam_cli.images.picture.HEAD_BYTES`.
    """
    if head.startswith(_BEGINNINGS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return True
    scan = head[128:132] == b"DICM" or head[344:348] in (b"n+1\0", b"ni1\0")
    return scan or is_recognised(head)


def why_not_read(name: str, head: bytes) -> str:
    """Return why a file is not read although it is an image or a scan; empty where it is none.

    Args:
        name: Its name, which may lie: phones' HEIC is often called ``.jpg``.
        head: Its first bytes.
    """
    extension = extension_of(name)
    if head.startswith(_TIFFS) and not is_installed("tifffile"):
        return f"damaged at its start, or a TIFF that needs {install('tiff')}"
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS[:-2]:
        extension = ".heic"
    elif head[128:132] == b"DICM":
        extension = ".dcm"
    elif head[344:348] in (b"n+1\0", b"ni1\0"):
        extension = ".nii"
    return f"{extension} is not read: {advice([extension])}" if is_unread_format(extension) else ""


def known_extension(extension: str, head: bytes) -> str:
    """Return the extension that files of a kind usually have, where a file has none of its own.

    Args:
        extension: Its own; DICOM's files often have none, or the last part of a number.
        head: Its first bytes.
    """
    return ".dcm" if head[128:132] == b"DICM" else extension


@dataclass
class Unread:
    """Pictures and scans that are not read.

    Attributes:
        extensions: How many there are of each extension; ``""`` for those without one.
        places: The folders and tars that hold them, as they were named.
    """

    extensions: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)

    def add(self, extensions: Counter[str], place: str) -> None:
        """Note those of a folder or a tar."""
        if extensions:
            self.extensions += extensions
            self.places.append(place)

    def line(self) -> str:
        """Return one line; empty where there are none."""
        if not self.extensions:
            return ""
        where = self.places[0] if len(self.places) == 1 else f"{len(self.places)} inputs"
        verb = "is" if self.extensions.total() == 1 else "are"
        what = extension_counts(self.extensions)
        return f"{what} in {where} {verb} not read ({advice(self.extensions)})"


def extension_counts(extensions: Counter[str]) -> str:
    """Return how many there are of each extension, the most frequent first, by name where equal."""
    ordered = sorted(extensions.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name or _nameless(count)}" for name, count in ordered)


def _nameless(count: int) -> str:
    return f"{'file' if count == 1 else 'files'} without an extension"


def advice(extensions: Iterable[str]) -> str:
    """Return what to do with such files."""
    meant = {_BY_EXTENSION.get(extension, _BY_NAME) for extension in extensions}
    return "; ".join(one for one in (*_KINDS, _BY_NAME) if one in meant)
