"""What examples/survive does, on a process pool of Python's standard library."""

import concurrent.futures
import json
import multiprocessing
import os
import platform
import random
import signal
import sys
import threading
import time

PATIENCE = 3  # seconds without any result, after which what is missing is lost
ALL_PATIENCE = 20  # seconds for all of it: a pool that has lost workers may hang

kept = 0  # results so far


def work(n):
    time.sleep(0.002)
    return n


def kill_some(pids, kills, pause, over):
    """Kills one of the processes that pids() names, now and then, until over."""
    for _ in range(kills):
        if over.wait(random.expovariate(1 / pause)):
            return
        now = pids()
        if now:
            try:
                os.kill(random.choice(now), signal.SIGKILL)
            except ProcessLookupError:
                pass


def executor(calls, kills, pause):
    pool = concurrent.futures.ProcessPoolExecutor(2)
    futures = [pool.submit(work, i) for i in range(calls)]
    over = threading.Event()
    pids = lambda: list(pool._processes or {})
    killer = threading.Thread(target=kill_some, args=(pids, kills, pause, over))
    killer.start()
    global kept
    for i, f in enumerate(futures):
        try:
            kept += f.result() == i
        except Exception:
            pass
    over.set()
    killer.join()
    try:
        pool.submit(work, 1).result()
        afterwards = "works"
    except Exception as e:
        afterwards = "broken: " + type(e).__name__
    return afterwards


def pool(calls, kills, pause):
    pool = multiprocessing.Pool(2)
    results = [pool.apply_async(work, (i,)) for i in range(calls)]
    over = threading.Event()
    pids = lambda: [p.pid for p in pool._pool if p.is_alive()]
    killer = threading.Thread(target=kill_some, args=(pids, kills, pause, over))
    killer.start()
    done, since = -1, time.monotonic()
    while time.monotonic() - since < PATIENCE:
        now = sum(r.ready() for r in results)
        if now == calls:
            break
        if now != done:
            done, since = now, time.monotonic()
        time.sleep(0.02)
    over.set()
    killer.join()
    global kept
    kept = sum(r.ready() and r.successful() for r in results)
    waiting = sum(not r.ready() for r in results)
    try:
        pool.apply_async(work, (1,)).get(PATIENCE)
        afterwards = "works"
    except multiprocessing.TimeoutError:
        afterwards = "hangs"
    if waiting:
        afterwards += f"; {waiting} callers would wait for ever"
    return afterwards


def finish(name, calls, afterwards):
    print(json.dumps({
        "Name": f"Python {platform.python_version()}: {name}",
        "Kept": kept, "Lost": calls - kept, "Afterwards": afterwards,
    }), flush=True)
    for p in multiprocessing.active_children():
        p.kill()
    os._exit(0)  # a pool that has lost workers may not end by itself


if __name__ == "__main__":
    name, calls, kills, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    threading.Timer(ALL_PATIENCE, finish, (name, calls, "hangs")).start()
    run = executor if name == "ProcessPoolExecutor" else pool
    finish(name, calls, run(calls, kills, pause))
