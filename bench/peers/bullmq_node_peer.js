// BullMQ on Node: one no-op job. Commands and output as in bench/load.py, tick sheets as in bench/ticks.py.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { Queue, Worker } = require("bullmq");

const NAME = "bench";
const OPTIONS = { removeOnComplete: true };
const NOTE = "x".repeat(40);
const BATCH = 500;
const CALLERS = 100;
const CONCURRENCY = 100;
const WARM_UP = 20;
const HEAD_BYTES = 24;
const SAMPLES = 4096;
const FLUSH_EVERY_MS = 5;
const PATIENCE_MS = 30_000;

const folder = process.env.BENCH_TICKS;
const address = new URL(process.env.BENCH_URL);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };

const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC, as Python's time.monotonic_ns
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const report = (figures) => console.log(JSON.stringify(figures));

// This process's tick sheet. Node has no mmap: it is written every few milliseconds, and at once for a stamped tick,
// whose delay was taken before.
class Sheet {
  constructor() {
    this.bytes = Buffer.alloc(HEAD_BYTES + 8 * SAMPLES);
    this.file = fs.openSync(path.join(folder, String(process.pid)), "w");
    this.count = 0;
    this.stamped = 0;
    this.written = 0;
    setInterval(() => this.flush(), FLUSH_EVERY_MS);
  }

  tick(stamp) {
    const instant = now();
    if (stamp !== "0" && this.stamped < SAMPLES) {
      this.bytes.writeBigInt64LE(instant - BigInt(stamp), HEAD_BYTES + 8 * this.stamped);
      this.stamped += 1;
    }
    if (this.count === 0) this.bytes.writeBigInt64LE(instant, 8);
    this.count += 1;
    this.bytes.writeBigInt64LE(BigInt(this.count), 0);
    this.bytes.writeBigInt64LE(instant, 16);
    if (stamp !== "0") this.flush();
  }

  flush() {
    if (this.written === this.count) return;
    this.written = this.count;
    fs.writeSync(this.file, this.bytes, 0, this.bytes.length, 0);
  }
}

function begun() {
  let count = 0n;
  for (const name of fs.readdirSync(folder)) {
    const bytes = fs.readFileSync(path.join(folder, name));
    if (bytes.length >= HEAD_BYTES) count += bytes.readBigInt64LE(0);
  }
  return Number(count);
}

function work() {
  const sheet = new Sheet();
  // A stamp is text: nanoseconds do not fit into a number.
  new Worker(NAME, async (job) => sheet.tick(job.data.at), { connection, concurrency: CONCURRENCY });
}

async function publishMany(queue, n) {
  for (let done = 0; done < n; done += BATCH) {
    const jobs = Array.from({ length: Math.min(BATCH, n - done) }, () => ({
      name: "noop",
      data: { at: "0", note: NOTE },
      opts: OPTIONS,
    }));
    await queue.addBulk(jobs);
  }
}

async function fromCallers(publish, n) {
  let left = n;
  const caller = async () => {
    while (left-- > 0) await publish("0");
  };
  await Promise.all(Array.from({ length: Math.min(CALLERS, n) }, caller));
}

async function pace(publish, n) {
  for (let number = 0; number < n + WARM_UP; number++) {
    await publish(number < WARM_UP ? "0" : String(now()));
    const deadline = Date.now() + PATIENCE_MS;
    while (begun() <= number) {
      if (Date.now() > deadline) throw new Error(`job ${number + 1} did not begin within ${PATIENCE_MS} ms`);
      await sleep(1);
    }
    await sleep(5 + Math.random() * 15);
  }
}

async function main() {
  const [command, n] = [process.argv[2], Number(process.argv[3])];
  if (command === "work") return work();
  const queue = new Queue(NAME, { connection });
  const publish = (at) => queue.add("noop", { at, note: NOTE }, OPTIONS);
  await queue.waitUntilReady();
  const start = now();
  if (command === "latency") await pace(publish, n);
  else if (command === "publish") await publishMany(queue, n);
  else if (command === "first") await publish("0");
  else await fromCallers(publish, n);
  report({ seconds: Number(now() - start) / 1e9 });
  await queue.close();
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
