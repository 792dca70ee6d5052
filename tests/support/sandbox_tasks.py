"""What the sandbox's tests have it run."""

import ctypes
import os
import time

prepared = []


def prepare(setup):
    prepared.append(setup)
    if setup == b"slow":
        time.sleep(60)
    if setup == b"fail":
        raise ValueError("no such model")


def run(setup, payload):
    task, _, rest = payload.partition(b" ")
    if task == b"crash":
        ctypes.string_at(0)
    if task == b"exit":
        os._exit(3)
    if task == b"children":  # tell who runs this, and never come back
        with open(rest, "w") as file:
            file.write(f"{os.getpid()} {os.getppid()}")
        os.rename(rest, rest + b".done")
        time.sleep(60)
    if task == b"hang":
        time.sleep(60)
    if task == b"grow":
        bytearray(2**40)
    if task == b"raise":
        raise ValueError(rest.decode())
    if task == b"print":
        print("x" * 10_000)
        os.write(1, b"\xff" * 100)
    return rest + b"%d" % len(prepared)
