"""Runs a command, ``zoo train ... -o RUN``, and presses Ctrl-C in the middle of its second epoch."""

import signal
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    words = sys.argv[1:]
    log = Path(words[words.index("-o") + 1], "log.jsonl")
    signal.signal(signal.SIGINT, lambda *_: None)  # a shell without a terminal passes on that it is ignored
    command = subprocess.Popen(words)
    while command.poll() is None and not (log.exists() and log.read_text().count("\n")):
        time.sleep(0.1)
    command.send_signal(signal.SIGINT)
    if command.wait() != 130:
        sys.exit(f"{words[0]} ended with {command.returncode}, expected 130, that of Ctrl-C")
