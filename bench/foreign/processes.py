"""Runs one row of the group processes on a pool of Python's, or of a library for it.

usage: processes.py KIND WORK
       processes.py versions

WORK is JSON: see the package remote, which measures by the same rules. It prints how many calls
took how many nanoseconds, and other figures, as JSON.
"""

import collections
import gc
import importlib
import json
import multiprocessing
import os
import platform
import shutil
import socket
import sys
import tempfile
import time

WARM_UP = 100_000_000


# What calls do.


def following(n):
    return n + 1


def spin(n):
    end = time.perf_counter_ns() + n
    while time.perf_counter_ns() < end:
        pass
    return n + 1


def pause(n):
    if n > 0:
        time.sleep(n / 1000)
    return n + 1


def echo(payload):
    return payload


def attend(address):
    """Comes to a meeting and returns when it is over."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(address)
        s.recv(1)


BODIES = {"": following, "next": following, "spin": spin, "pause": pause}


class Meeting:
    """Where calls wait for one another: so each is in a worker of its own."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp()
        self.address = os.path.join(self.dir, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.address)
        self.listener.listen(128)
        self.listener.settimeout(30)
        self.came = []
        return self

    def wait(self, n):
        while len(self.came) < n:
            self.came.append(self.listener.accept()[0])

    def end(self):
        for c in self.came:
            c.close()
        self.came = []

    def __exit__(self, *_):
        self.end()
        self.listener.close()
        shutil.rmtree(self.dir, ignore_errors=True)


# The pools. Each has submit, which answers a function that returns the result, map, and close.


class Executor:
    """A concurrent.futures.ProcessPoolExecutor, or loky's."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, body, arg):
        return self.pool.submit(body, arg).result

    def fan(self, body, args):
        return [f.result() for f in [self.pool.submit(body, n) for n in args]]

    def map(self, body, args, chunk):
        return list(self.pool.map(body, args, chunksize=chunk or 1))

    def close(self):
        self.pool.shutdown()


class Pool:
    """A multiprocessing.Pool."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, body, arg):
        return self.pool.apply_async(body, (arg,)).get

    def fan(self, body, args):
        return [r.get() for r in [self.pool.apply_async(body, (n,)) for n in args]]

    def map(self, body, args, chunk):
        return self.pool.map(body, args, chunksize=chunk or None)

    def close(self):
        self.pool.close()
        self.pool.join()


class Pebble:
    """A pebble.ProcessPool."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, body, arg):
        return self.pool.schedule(body, args=(arg,)).result

    def fan(self, body, args):
        return [f.result() for f in [self.pool.schedule(body, args=(n,)) for n in args]]

    def map(self, body, args, chunk):
        return list(self.pool.map(body, args, chunksize=chunk or 1).result())

    def close(self):
        self.pool.close()
        self.pool.join()


class Joblib:
    """A joblib.Parallel, which sends calls in batches."""

    def __init__(self, joblib, workers):
        self.joblib = joblib
        self.parallel = joblib.Parallel(n_jobs=workers)
        self.parallel.__enter__()

    def fan(self, body, args):
        delayed = self.joblib.delayed(body)
        return self.parallel(delayed(n) for n in args)

    def close(self):
        self.parallel.__exit__(None, None, None)
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def opened(kind, workers):
    if kind in ("executor", "spawn", "forkserver"):
        from concurrent.futures import ProcessPoolExecutor

        # What Linux had up to Python 3.13, and the faster one.
        method = "fork" if kind == "executor" else kind
        return Executor(ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)))
    if kind == "pool":
        return Pool(multiprocessing.get_context("fork").Pool(workers))
    if kind == "loky":
        return Executor(find_loky().ProcessPoolExecutor(workers))
    if kind == "pebble":
        import pebble

        return Pebble(pebble.ProcessPool(workers))
    if kind == "joblib":
        import joblib

        return Joblib(joblib, workers)
    sys.exit("there is no pool " + kind)


def find_loky():
    """loky itself, or the one that is in joblib."""
    try:
        return importlib.import_module("loky")
    except ImportError:
        return importlib.import_module("joblib.externals.loky")


def versions():
    found = {"python": platform.python_version()}
    try:
        found["loky"] = find_loky().__version__
    except ImportError:
        pass
    for name in ("joblib", "pebble"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        from importlib import metadata

        found[name] = getattr(module, "__version__", None) or metadata.version(name)
    return found


# How the shapes are measured.


def meet(pool, n):
    with Meeting() as meeting:
        results = [pool.submit(attend, meeting.address) for _ in range(n)]
        meeting.wait(n)
        meeting.end()
        for result in results:
            result()


def ready(work, kind):
    """A pool whose workers are all there."""
    pool = opened(kind, work["workers"])
    if kind != "joblib":
        meet(pool, work["workers"])
    return pool


def since(start):
    return time.perf_counter_ns() - start


def at(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def expect(got, want):
    if got != want:
        sys.exit("wrong results")


def one(work, kind):
    pool, body = ready(work, kind), BODIES[work.get("body", "")]
    rest = work.get("each", 0) / 1e9
    start = time.perf_counter_ns()
    while since(start) < min(WARM_UP, work["least"]):
        pool.submit(body, 1)()
    took = []
    start = time.perf_counter_ns()
    while len(took) < work["calls"] or since(start) < work["least"]:
        if rest:
            time.sleep(rest)
        begin = time.perf_counter_ns()
        got = pool.submit(body, 1)()
        took.append(since(begin))
        expect(got, 2)
    pool.close()
    return len(took), sum(took), {"median µs": at(took, 0.5) / 1e3, "p99 µs": at(took, 0.99) / 1e3}


def repeat(work, run, args):
    done, start = 0, time.perf_counter_ns()
    while True:
        out = run(args)
        done += len(args)
        nanos = since(start)
        if nanos >= work["least"]:
            break
    expect(list(out), [n + 1 for n in args])
    return done, nanos, {}


def arguments(work):
    if work.get("body") == "spin":
        return [work["each"]] * work["calls"]
    return list(range(1, work["calls"] + 1))


def fan(work, kind):
    pool, body, args = ready(work, kind), BODIES[work.get("body", "")], arguments(work)
    pool.fan(body, args[: max(1, len(args) // 10)])
    result = repeat(work, lambda args: pool.fan(body, args), args)
    pool.close()
    return result


def over_map(work, kind):
    pool, body, args = ready(work, kind), BODIES[work.get("body", "")], arguments(work)
    chunk = work.get("chunk", 0)
    n = min(1000, len(args))
    while n < len(args):
        start = time.perf_counter_ns()
        pool.map(body, args[:n], chunk)
        if since(start) >= work["least"] / 4:
            break
        n = min(2 * n, len(args))
    result = repeat(work, lambda args: pool.map(body, args, chunk), args[:n])
    pool.close()
    return result


def echoes(work, kind):
    pool = ready(work, kind)
    payloads = [os.urandom(4096) * (work["bytes"] // 4096) for _ in range(work.get("flying", 1))]
    for p in payloads:
        expect(pool.submit(echo, p)(), p)
    backs, sent, taken = collections.deque(), 0, 0
    start = time.perf_counter_ns()
    while True:
        while len(backs) < len(payloads) and (sent < work["calls"] or since(start) < work["least"]):
            backs.append(pool.submit(echo, payloads[sent % len(payloads)]))
            sent += 1
        if not backs:
            break
        got, want = backs.popleft()(), payloads[taken % len(payloads)]
        taken += 1
        if len(got) != len(want) or got[0] != want[0] or got[-1] != want[-1]:
            sys.exit("a payload came back changed")
    nanos = since(start)
    pool.close()
    return sent, nanos, {}


def mixed(work, kind):
    pool, took, done = ready(work, kind), [], 0
    start = time.perf_counter_ns()
    for hundred in range(work["calls"]):
        long = None
        for burst in range(5):
            calls = []
            for i in range(20):
                if burst == 0 and i == hundred * 7 % 20:
                    long = pool.submit(pause, 100)
                    continue
                begin = time.perf_counter_ns()
                calls.append((begin, pool.submit(pause, 0)))
            for begin, result in calls:
                expect(result(), 1)
                took.append(since(begin))
            time.sleep((5 + (hundred + burst) * 3 % 10) / 1000)
        expect(long(), 101)
        done += 100
    nanos = since(start)
    pool.close()
    return done, nanos, {"worst ms": max(took) / 1e6, "p99.9 ms": at(took, 0.999) / 1e6, "median µs": at(took, 0.5) / 1e3}


def start(work, kind):
    took = []
    for _ in range(work["calls"]):
        begin = time.perf_counter_ns()
        pool = opened(kind, work["workers"])
        got = pool.submit(following, 1)()
        took.append(since(begin))
        pool.close()
        expect(got, 2)
    return len(took), sum(took), {"first ms": at(took, 0.5) / 1e6}


def start_all(work, kind):
    workers, first, took = work["workers"], [], []
    for _ in range(work["calls"]):
        begin = time.perf_counter_ns()
        pool = opened(kind, workers)
        results = [pool.submit(following, n) for n in range(workers)]
        results[0]()  # the first one that was submitted is the first that is there
        first.append(since(begin))
        for result in results[1:]:
            result()
        pool.close()

        begin = time.perf_counter_ns()
        pool = opened(kind, workers)
        meet(pool, workers)
        took.append(since(begin))
        pool.close()
    return len(took), sum(took), {"first ms": at(first, 0.5) / 1e6, "all ms": at(took, 0.5) / 1e6}


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pending(work, kind):
    pool = opened(kind, work["workers"])
    calls = work["calls"]
    with Meeting() as meeting:
        for _ in range(work["workers"]):
            pool.submit(attend, meeting.address)
        meeting.wait(work["workers"])
        futures = [None] * calls
        gc.collect()
        before = resident()
        begin = time.perf_counter_ns()
        for i in range(calls):
            futures[i] = pool.pool.submit(following, i)
        nanos = since(begin)
        gc.collect()
        held = (resident() - before) / calls
        if any(f.done() for f in futures):
            sys.exit("a call is done while all workers are busy")
        meeting.end()
        pool.pool.shutdown(cancel_futures=True)
    return calls, nanos, {"held": held}


SHAPES = {
    "one": one,
    "fan": fan,
    "map": over_map,
    "echo": echoes,
    "mixed": mixed,
    "start": start,
    "startall": start_all,
    "pending": pending,
}


def main():
    if sys.argv[1:] == ["versions"]:
        print(json.dumps(versions()))
        return
    kind, work = sys.argv[1], json.loads(sys.argv[2])
    calls, nanos, figures = SHAPES[work["shape"]](work, kind)
    found = {"calls": calls, "nanos": nanos, "held": figures.pop("held", 0), "figures": figures}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
