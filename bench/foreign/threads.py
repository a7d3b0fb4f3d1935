"""Runs one row of the group threads on a concurrent.futures.ThreadPoolExecutor.

usage: threads.py SHAPE WORKERS CALLS LEAST_NANOS

It prints how many calls took how many nanoseconds, as JSON.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor


def following(n):
    return n + 1


def ten_micros(n):
    end = time.perf_counter_ns() + 10_000
    while time.perf_counter_ns() < end:
        pass
    return n + 1


def blocked(n):
    time.sleep(0.001)
    return n + 1


def one(pool, body, args):
    return [pool.submit(body, n).result() for n in args]


def fan(pool, body, args):
    return [f.result() for f in [pool.submit(body, n) for n in args]]


def batches(pool, body, args):
    out = []
    for i in range(0, len(args), 1000):
        out += fan(pool, body, args[i : i + 1000])
    return out


def producers(pool, body, args):
    outs = [[] for _ in range(64)]

    def produce(i):
        outs[i] = fan(pool, body, args[i * len(args) // 64 : (i + 1) * len(args) // 64])

    threads = [threading.Thread(target=produce, args=(i,)) for i in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [v for out in outs for v in out]


def ordered(pool, body, args):
    return list(pool.map(body, args))


SHAPES = {
    "one": (one, following),
    "fan": (fan, following),
    "batches": (batches, following),
    "producers": (producers, following),
    "map": (ordered, following),
    "spin": (fan, ten_micros),
    "sleep": (fan, blocked),
}


def main():
    shape, body = SHAPES[sys.argv[1]]
    workers, calls, least = map(int, sys.argv[2:])
    args = range(1, calls + 1)
    want = [n + 1 for n in args]
    with ThreadPoolExecutor(workers) as pool:
        shape(pool, body, args[: max(1, calls // 10)])  # warms up
        done, start, nanos = 0, time.perf_counter_ns(), 0
        while True:
            out = shape(pool, body, args)
            nanos = time.perf_counter_ns() - start
            done += calls
            if nanos >= least:
                break
    if out != want:
        sys.exit("wrong results")
    print(json.dumps({"calls": done, "nanos": nanos}))


main()
