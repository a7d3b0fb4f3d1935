"""Runs one row of the group ipc on what Python's multiprocessing has for it.

usage: ipc.py KIND WORK
       ipc.py versions

WORK is JSON: see the package remote, which measures by the same rules. It prints how many calls
took how many nanoseconds, and other figures, as JSON.
"""

import ctypes
import json
import multiprocessing
import os
import platform
import queue
import sys
import threading
import time
from multiprocessing import managers, shared_memory

mp = multiprocessing.get_context("fork")

WARM_UP = 100_000_000
EDGE = WARM_UP // 2


def since(start):
    return time.perf_counter_ns() - start


def at(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def expect(got, want):
    if got != want:
        sys.exit(f"wrong results: {got!r:.80}, want {want!r:.80}")


def beside(target, *args):
    """Starts a process that ends with this one."""
    p = mp.Process(target=target, args=args, daemon=True)
    p.start()
    return p


def beside_in_thread(target):
    t = threading.Thread(target=target, daemon=True)
    t.start()
    return t


# What all do together, n times: answers what this process does, what the others do, and how to
# look at what was counted.


def locking(lock):
    def op(n):
        for _ in range(n):
            with lock:
                pass

    return op, op, None


def counting(shared):
    """A Value that is counted up under its lock."""
    lock = shared.get_lock()

    def op(n):
        for _ in range(n):
            with lock:
                shared.value += 1

    return op, op, lambda: shared.value


def counting_at(shared):
    """The same with one element of an Array."""
    lock = shared.get_lock()

    def op(n):
        for _ in range(n):
            with lock:
                shared[7] += 1

    return op, op, lambda: shared[7]


class Big(ctypes.Structure):
    _fields_ = [("numbers", ctypes.c_int64 * 16)]


def whole(shared):
    """A Value that is bigger than a word: this process loads it, the other stores it."""
    lock, size = shared.get_lock(), ctypes.sizeof(Big)

    def load(n):
        for _ in range(n):
            with lock:
                got = bytes(shared.get_obj())
        expect(got, got[:8] * 16)

    def store(n):
        own = Big()
        for i in range(n):
            own.numbers[:] = (i,) * 16
            with lock:
                ctypes.memmove(ctypes.addressof(shared.get_obj()), ctypes.addressof(own), size)

    return load, store, None


# What is in a manager's server. Each process and each thread has a connection of its own.

MANAGERS = []


def managed(m):
    """A manager that main shuts down."""
    MANAGERS.append(m)
    return m


def new_dict():
    d = managed(mp.Manager()).dict()
    d["key"] = 1
    return d


def getting():
    d = new_dict()

    def op(n):
        for _ in range(n):
            d["key"]

    return op, op, None


def setting():
    d = new_dict()

    def op(n):
        for i in range(n):
            d["key"] = i

    return op, op, None


def counting_in_manager():
    m = managed(mp.Manager())
    lock, value = m.Lock(), m.Value("q", 0)

    def op(n):
        for _ in range(n):
            with lock:
                value.value += 1

    return op, op, lambda: value.value


class Tallied:
    def __init__(self):
        self.lock, self.n = threading.Lock(), 0

    def add(self, n):
        with self.lock:
            self.n += n
            return self.n


class TalliedManager(managers.BaseManager):
    pass


TalliedManager.register("Tallied", Tallied)


def calling():
    m = managed(TalliedManager(ctx=mp))
    m.start()
    t = m.Tallied()

    def op(n):
        for _ in range(n):
            t.add(1)

    return op, op, lambda: t.add(0)


SHARED = {
    "lock": lambda: locking(mp.Lock()),
    "rlock": lambda: locking(mp.RLock()),
    "semaphore": lambda: locking(mp.Semaphore(2)),
    "bounded": lambda: locking(mp.BoundedSemaphore(2)),
    "value": lambda: counting(mp.Value(ctypes.c_int64, 0)),
    "array": lambda: counting_at(mp.Array(ctypes.c_int64, 1000)),
    "struct": lambda: whole(mp.Value(Big)),
    "dictget": getting,
    "dictset": setting,
    "dictget-threads": getting,
    "dictset-threads": setting,
    "managervalue": counting_in_manager,
    "method": calling,
}


def tally(work, op):
    """What one process has done: calls in the time that counts, the time, the worst, and all calls."""
    batch = 1 if work.get("timed") else 64

    def run(calls, least):
        n, took, worst = 0, 0, 0
        start = time.perf_counter_ns()
        while n < calls or took < least:
            op(batch)
            n += batch
            now = since(start)
            if now - took > worst:
                worst = now - took
            took = now
        return n, took, worst

    before, _, _ = run(0, min(EDGE, work["least"]))
    calls, took, worst = run(work["calls"], work["least"])
    after, _, _ = run(0, min(EDGE, work["least"]))
    return calls, took, worst, before + calls + after


def together(work, kind):
    own, other, count = SHARED[kind]()
    parties = work["workers"]
    if kind.endswith("-threads"):
        gate, results, begin = threading.Barrier(parties), queue.SimpleQueue(), beside_in_thread
    else:
        gate, results, begin = mp.Barrier(parties), mp.SimpleQueue(), beside

    def party():
        gate.wait()
        results.put(tally(work, other))

    started = [begin(party) for _ in range(parties - 1)]
    gate.wait()
    start = time.perf_counter_ns()
    tallies = [tally(work, own)] + [results.get() for _ in started]
    whole = since(start)
    for s in started:
        s.join()
    done = sum(t[3] for t in tallies)
    if count is not None:
        expect(count(), done)
    if work.get("timed"):
        return done, whole, {"worst ms": max(t[2] for t in tallies) / 1e6}
    calls = sum(t[0] for t in tallies)
    rate = sum(t[0] / t[1] for t in tallies)
    return calls, int(calls / rate), {}


# One call at a time: answers a function that makes it, and one that ends what was started.


def by_queues(kind):
    new = {"queue": mp.Queue, "simplequeue": mp.SimpleQueue}[kind]

    def opened():
        there, back = new(), new()

        def answer():
            while True:
                back.put(there.get() + 1)

        p = beside(answer)

        def call(n):
            there.put(n)
            return back.get()

        return call, p.kill

    return opened


def by_pipe(kind):
    def opened():
        ours, theirs = mp.Pipe()
        send, recv = theirs.send, theirs.recv

        def answer():
            while True:
                send(recv() + 1)

        p = beside(answer)

        def call(n):
            ours.send(n)
            return ours.recv()

        return call, p.kill

    return opened


def by_events():
    there, back = mp.Event(), mp.Event()

    def answer():
        while True:
            there.wait()
            there.clear()
            back.set()

    p = beside(answer)

    def call(n):
        there.set()
        back.wait()
        back.clear()
        return n + 1

    return call, p.kill


def by_condition():
    """Whoever is not waiting holds the lock."""
    cond = mp.Condition(mp.Lock())
    cond.acquire()

    def turns():
        with cond:
            while True:
                cond.notify()
                cond.wait()

    p = beside(turns)
    cond.wait()

    def call(n):
        cond.notify()
        cond.wait()
        return n + 1

    return call, p.kill


def by_barrier():
    barrier = mp.Barrier(2)

    def passes():
        while True:
            barrier.wait()

    p = beside(passes)

    def call(n):
        barrier.wait()
        return n + 1

    return call, p.kill


def touch(name, n):
    """What a call does with memory that it gets by its name."""
    shared = shared_memory.SharedMemory(name=name)
    shared.buf[n % shared.size] = n % 251
    shared.close()
    return n + 1


def by_name():
    shared = shared_memory.SharedMemory(create=True, size=64 << 20)
    pool = mp.Pool(1)

    def call(n):
        got = pool.apply(touch, (shared.name, n))
        expect(shared.buf[n % shared.size], n % 251)
        return got

    def close():
        pool.terminate()
        pool.join()
        shared.close()
        shared.unlink()

    return call, close


def by_get():
    d = new_dict()
    return lambda n: n + d["key"], lambda: None


def by_set():
    d = new_dict()

    def call(n):
        d["key"] = n
        return n + 1

    return call, lambda: None


CALLS = {
    "queue": by_queues("queue"),
    "simplequeue": by_queues("simplequeue"),
    "pipe": by_pipe("pipe"),
    "event": by_events,
    "condition": by_condition,
    "barrier": by_barrier,
    "sharedmemory": by_name,
    "dictget": by_get,
    "dictset": by_set,
}


def one(work, kind):
    call, close = CALLS[kind]()
    rest = work.get("each", 0) / 1e9
    start = time.perf_counter_ns()
    while since(start) < min(WARM_UP, work["least"]):
        call(1)
    took = []
    start = time.perf_counter_ns()
    while len(took) < work["calls"] or since(start) < work["least"]:
        if rest:
            time.sleep(rest)
        n = len(took)
        begin = time.perf_counter_ns()
        got = call(n)
        took.append(since(begin))
        expect(got, n + 1)
    close()
    return len(took), sum(took), {"median µs": at(took, 0.5) / 1e3, "p99 µs": at(took, 0.99) / 1e3}


# A stream: answers a function that takes the next message, and one that ends what was started.


def from_queue(new):
    def opened(work):
        q = new()

        def send():
            n = 0
            while True:
                q.put(n)
                n += 1

        p = beside(send)
        return q.get, p.kill

    return opened


def from_pipe(how):
    def opened(work):
        ours, theirs = mp.Pipe(duplex=False)
        send = theirs.send if how == "send" else theirs.send_bytes
        recv = ours.recv if how == "send" else ours.recv_bytes
        size = work.get("bytes", 0)

        def numbers():
            n = 0
            while True:
                theirs.send(n)
                n += 1

        def payloads():
            own = [bytes([i]) * size for i in range(16)]
            while True:
                for b in own:
                    send(b)

        if not size:
            return ours.recv, beside(numbers).kill
        count = 0

        def take():
            nonlocal count
            got = recv()
            if len(got) != size or got[0] != count % 16 or got[-1] != count % 16:
                sys.exit("a payload has changed")
            count += 1
            return count - 1

        return take, beside(payloads).kill

    return opened


def from_dict(work):
    d, size, count = managed(mp.Manager()).dict(), work["bytes"], 0
    for i in range(16):
        d[i] = bytes([i]) * size

    def take():
        nonlocal count
        got = d[count % 16]
        if len(got) != size or got[0] != count % 16 or got[-1] != count % 16:
            sys.exit("a payload has changed")
        count += 1
        return count - 1

    return take, lambda: None


def into_dict(work):
    d, count = managed(mp.Manager()).dict(), 0
    own = [bytes([i]) * work["bytes"] for i in range(16)]

    def take():
        nonlocal count
        d[count % 16] = own[count % 16]
        count += 1
        return count - 1

    return take, lambda: None


STREAMS = {
    "queue": from_queue(mp.Queue),
    "queue1024": from_queue(lambda: mp.Queue(1024)),
    "simplequeue": from_queue(mp.SimpleQueue),
    "pipe": from_pipe("send"),
    "pipebytes": from_pipe("send_bytes"),
    "dictget": from_dict,
    "dictset": into_dict,
    "managerqueue": from_queue(lambda: managed(mp.Manager()).Queue(1024)),
}


def stream(work, kind):
    take, close = STREAMS[kind](work)
    batch, wanted = 1 if work.get("bytes") else 64, 0

    def run(calls, least):
        nonlocal wanted
        n, took = 0, 0
        start = time.perf_counter_ns()
        while n < calls or took < least:
            for i in range(wanted, wanted + batch):
                if take() != i:
                    sys.exit("a message is missing")
            wanted += batch
            n += batch
            took = since(start)
        return n, took

    run(1, min(WARM_UP, work["least"]))
    n, took = run(work["calls"], work["least"])
    close()
    return n, took, {}


SHAPES = {"together": together, "one": one, "stream": stream}


def main():
    if sys.argv[1:] == ["versions"]:
        print(json.dumps({"python": platform.python_version()}))
        return
    kind, work = sys.argv[1], json.loads(sys.argv[2])
    calls, nanos, figures = SHAPES[work["shape"]](work, kind)
    for m in MANAGERS:
        m.shutdown()
    print(json.dumps({"calls": calls, "nanos": nanos, "figures": figures}), flush=True)
    os._exit(0)  # what was killed may have held what the end would wait for


if __name__ == "__main__":
    main()
