"""Asks the server of tests/warm.py for a command, and exits as it does."""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    folder = os.getcwd()  # noqa: PTH109 (pathlib takes longer to import than the rest to run)
    request = json.dumps([folder, dict(os.environ), sys.argv[2], sys.argv[3:]]).encode()
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(request)
    answer = server.recv(4)
code = int.from_bytes(answer, "big", signed=True)
if not answer:
    sys.exit("the server is gone")
if code < 0:  # ended by a signal
    os.kill(os.getpid(), -code)
sys.exit(code)
