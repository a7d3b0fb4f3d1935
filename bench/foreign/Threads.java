import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.Future;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;

/**
 * Runs one row of the group threads on an executor of java.util.concurrent.
 *
 * usage: Threads fixed|forkjoin|virtual SHAPE WORKERS CALLS LEAST_NANOS
 *
 * It prints how many calls took how many nanoseconds, as JSON.
 */
public final class Threads {
    private static final long WARM_UP = 300_000_000; // for the compiler

    interface Shape {
        int[] run(ExecutorService pool, IntUnaryOperator body, int[] args) throws Exception;
    }

    public static void main(String[] argv) throws Exception {
        String shape = argv[1];
        int workers = Integer.parseInt(argv[2]);
        int[] args = IntStream.rangeClosed(1, Integer.parseInt(argv[3])).toArray();
        long least = Long.parseLong(argv[4]);
        ExecutorService pool = open(argv[0], workers);
        Shape run = shape(shape);
        IntUnaryOperator body = body(shape);

        int[] some = Arrays.copyOf(args, Math.max(1, args.length / 10));
        for (long start = System.nanoTime(); System.nanoTime() - start < Math.min(WARM_UP, least); ) {
            run.run(pool, body, some);
        }
        long calls = 0, nanos = 0;
        int[] out;
        long start = System.nanoTime();
        do {
            out = run.run(pool, body, args);
            calls += args.length;
            nanos = System.nanoTime() - start;
        } while (nanos < least);
        for (int i = 0; i < args.length; i++) {
            if (out[i] != args[i] + 1) throw new AssertionError("wrong result " + i);
        }
        pool.shutdown();
        System.out.printf("{\"calls\": %d, \"nanos\": %d}%n", calls, nanos);
    }

    static ExecutorService open(String kind, int workers) throws Exception {
        switch (kind) {
            case "fixed": return Executors.newFixedThreadPool(workers);
            case "forkjoin": return new ForkJoinPool(workers);
            default: // Java 21 and newer; it bounds nothing
                return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
        }
    }

    static Shape shape(String name) {
        switch (name) {
            case "one": return Threads::one;
            case "batches": return Threads::batches;
            case "producers": return Threads::producers;
            case "map": return Threads::map;
            default: return Threads::fan;
        }
    }

    static IntUnaryOperator body(String shape) {
        switch (shape) {
            case "spin": return n -> {
                for (long start = System.nanoTime(); System.nanoTime() - start < 10_000; ) { }
                return n + 1;
            };
            case "sleep": return n -> {
                try {
                    Thread.sleep(1);
                } catch (InterruptedException e) {
                    throw new IllegalStateException(e);
                }
                return n + 1;
            };
            default: return n -> n + 1;
        }
    }

    static int[] one(ExecutorService pool, IntUnaryOperator body, int[] args) throws Exception {
        int[] out = new int[args.length];
        for (int i = 0; i < args.length; i++) {
            int arg = args[i];
            out[i] = pool.submit(() -> body.applyAsInt(arg)).get();
        }
        return out;
    }

    static int[] fan(ExecutorService pool, IntUnaryOperator body, int[] args) throws Exception {
        List<Future<Integer>> futures = new ArrayList<>(args.length);
        for (int arg : args) futures.add(pool.submit(() -> body.applyAsInt(arg)));
        int[] out = new int[args.length];
        for (int i = 0; i < out.length; i++) out[i] = futures.get(i).get();
        return out;
    }

    static int[] batches(ExecutorService pool, IntUnaryOperator body, int[] args) throws Exception {
        int[] out = new int[args.length];
        for (int from = 0; from < args.length; from += 1000) {
            int to = Math.min(args.length, from + 1000);
            System.arraycopy(fan(pool, body, Arrays.copyOfRange(args, from, to)), 0, out, from, to - from);
        }
        return out;
    }

    static int[] producers(ExecutorService pool, IntUnaryOperator body, int[] args) throws Exception {
        int[] out = new int[args.length];
        List<Thread> threads = new ArrayList<>();
        for (int p = 0; p < 64; p++) {
            int from = (int) ((long) p * args.length / 64), to = (int) ((p + 1L) * args.length / 64);
            Thread t = new Thread(() -> {
                try {
                    System.arraycopy(fan(pool, body, Arrays.copyOfRange(args, from, to)), 0, out, from, to - from);
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            });
            threads.add(t);
            t.start();
        }
        for (Thread t : threads) t.join();
        return out;
    }

    /** A parallel stream where there is one, invokeAll elsewhere. */
    static int[] map(ExecutorService pool, IntUnaryOperator body, int[] args) throws Exception {
        if (pool instanceof ForkJoinPool) {
            return pool.submit(() -> Arrays.stream(args).parallel().map(body).toArray()).get();
        }
        List<Callable<Integer>> calls = new ArrayList<>(args.length);
        for (int arg : args) calls.add(() -> body.applyAsInt(arg));
        List<Future<Integer>> futures = pool.invokeAll(calls);
        int[] out = new int[args.length];
        for (int i = 0; i < out.length; i++) out[i] = futures.get(i).get();
        return out;
    }
}
