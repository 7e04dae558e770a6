"""Decoders that crash, hang and chatter, in the reading processes of a test.

A ``sitecustomize`` module gets into every process that is started with the folder on PYTHONPATH,
and replaces the decoding of images whose file names say so.
"""

from __future__ import annotations

from pathlib import Path

_CUSTOMISED = '''
import ctypes, os, sys, time

def _spoil():
    from lcam_cli.images import read, request
    honest = read._decode

    def decode(file, *limits):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{file.fileno()}"))
        if "crash" in name:
            ctypes.string_at(0)
        if "hang" in name:
            ctypes.PyDLL(None).sleep(3600)  # holding the interpreter's lock
        if "greedy" in name:
            hoard = bytearray(1 << 40)
        if "chatter" in name:
            os.write(1, b"stdout of a decoder")
            os.write(2, b"stderr of a decoder")
        return honest(file, *limits)

    def center_view(image, preprocess):
        raise ZeroDivisionError("a mistake of ours")

    read._decode = decode
    if os.environ.get("LCAM_TEST_MISTAKE"):
        request.center_view = center_view

if sys.argv[:1] == ["-c"]:
    class Finder:
        """Spoils the module once it has been imported."""
        def find_spec(self, name, path=None, target=None):
            if name == "lcam_cli.images.worker":
                sys.meta_path.remove(self)
                _spoil()
    sys.meta_path.insert(0, Finder())
'''


def spoil_decoders(folder: Path) -> str:
    """Write the module to ``folder``; return what PYTHONPATH must begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_CUSTOMISED)
    return str(folder)
