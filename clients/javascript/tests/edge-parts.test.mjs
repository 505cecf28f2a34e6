// The parts of the edge client that need no platform.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";

import { blake2b } from "../dist/edge/blake2b.js";
import { Files } from "../dist/edge/files.js";
import { Outbox } from "../dist/edge/outbox.js";
import { EdgeClient, MemoryShelf, MemoryState, WrongFile } from "../dist/edge/index.js";
import { NoregretError, Problem, Unreachable } from "../dist/index.js";

test("BLAKE2b of every length is the library's", () => {
  for (let length = 0; length < 400; length++) {
    const body = randomBytes(length);
    assert.equal(Buffer.from(blake2b(body)).toString("hex"), createHash("blake2b512").update(body).digest("hex"));
  }
});

const body = randomBytes(3_500_000);
const sha256 = createHash("sha256").update(body).digest("hex");
const artifact = { sha256, bytes: body.length, url: "/file", format: "onnx" };

/** A server of one file which does each time as `behaviours` says, and whole at last; the ranges that were asked for. */
async function serving(t, ...behaviours) {
  const ranges = [];
  const server = createServer((request, response) => {
    const range = request.headers.range;
    ranges.push(range);
    const behaviour = behaviours.shift() ?? "whole";
    const from = range && behaviour !== "no-ranges" ? Number(/\d+/.exec(range)[0]) : 0;
    if (behaviour === 503 || behaviour === 404) return response.writeHead(behaviour).end("{}");
    const sent = behaviour === "wrong" ? Buffer.alloc(body.length) : behaviour === "more" ? Buffer.concat([body, body]) : body;
    const headers = { "Content-Length": sent.length - from };
    if (from) headers["Content-Range"] = `bytes ${from}-${sent.length - 1}/${sent.length}`;
    response.writeHead(from ? 206 : 200, headers);
    if (typeof behaviour !== "number") return response.end(sent.subarray(from));
    response.write(sent.subarray(from, from + behaviour), () => setTimeout(() => response.destroy(), 50));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${server.address().port}`;
  const way = { url, headers: { Authorization: "Bearer k" }, fetch, retries: { tries: 1, firstPause: 1, longestPause: 1 } };
  const shelf = new MemoryShelf();
  return { ranges, shelf, files: new Files(shelf, way) };
}

test("a file that breaks off is gone on with, and fetched once", async (t) => {
  const { ranges, shelf, files } = await serving(t, 1_200_000, 503, 700_000);
  assert.equal(await files.fetch(artifact, 20_000), true);
  assert.equal(await files.fetch(artifact, 20_000), false);
  assert.equal(ranges.length, 4);
  assert.equal(ranges[0], undefined);
  assert.ok(Number(/\d+/.exec(ranges[3])[0]) > Number(/\d+/.exec(ranges[1])[0]));
  assert.deepEqual(await shelf.names(), [sha256]);
  assert.ok(body.equals(await files.read(artifact)));
});

test("what a page that was left had fetched is gone on with by the next", async (t) => {
  const { ranges, files } = await serving(t, 2_000_000, 0, 0, 0, 0);
  await assert.rejects(files.fetch(artifact, 20_000), Unreachable);
  assert.equal(await files.has(artifact), false);
  assert.equal(await files.fetch(artifact, 20_000), true);
  assert.match(ranges.at(-1), /^bytes=[1-9]\d+-$/);
});

test("a server without ranges sends it from the beginning", async (t) => {
  const { files } = await serving(t, 2_000_000, "no-ranges");
  assert.equal(await files.fetch(artifact, 20_000), true);
});

for (const wrong of ["wrong", "more"]) {
  test(`another file (${wrong}) stands nowhere`, async (t) => {
    const { shelf, files } = await serving(t, wrong);
    await assert.rejects(files.fetch(artifact, 20_000), WrongFile);
    assert.deepEqual(await shelf.names(), []);
    assert.equal(await files.fetch(artifact, 20_000), true);
    await files.keepOnly(new Set());
    assert.deepEqual(await shelf.names(), []);
  });
}

test("a file that is withdrawn is a problem, and no name leads out of the shelf", async (t) => {
  const { ranges, files } = await serving(t, 404);
  await assert.rejects(files.fetch(artifact, 20_000), Problem);
  assert.equal(ranges.length, 1);
  assert.throws(() => files.fetch({ ...artifact, sha256: "../x" }, 1), TypeError);
});

test("state: bounded, a unit's arm is drawn once, and each event is told once", async () => {
  const state = new MemoryState(2);
  const drawn = (arm) => () => ({ arm, propensities: [1], receipt: "r", context: null });
  const good = () => true;
  assert.equal((await state.arm(1, "u", good, drawn("a"))).arm, "a");
  assert.equal((await state.arm(1, "u", good, drawn("b"))).arm, "a");
  assert.equal((await state.arm(1, "u", ({ arm }) => arm !== "a", drawn("b"))).arm, "b");
  await state.arm(1, "v", good, drawn("a"));
  await state.arm(1, "w", good, drawn("a"));
  assert.equal((await state.arm(1, "u", good, drawn("c"))).arm, "c");
  const decision = (id, receipt) => ({ id, receipt, decidedAt: 1, event: `"${id}"` });
  assert.deepEqual(
    [await state.addDecision(decision("1", "r")), await state.addDecision(decision("2", "s")), await state.addDecision(decision("3", "s"))],
    [true, true, false],
  );
  assert.deepEqual([await state.addReward("1", "", "x"), await state.addReward("1", "", "y"), await state.addReward("3", "", "z")], [true, false, false]);
  assert.deepEqual(await state.batch(10), { receipt: "r", keys: [["1", null], ["1", ""]], events: ['"1"', "x"] });
  await state.told([["1", null], ["1", ""], ["1", null]]);
  assert.deepEqual((await state.batch(10)).keys, [["2", null]]);
  assert.equal(await state.waiting(), 1);
  assert.equal(await state.addReward("1", "", "again"), true);
  await state.told([["1", ""]]);
  await state.forget(2 + 86_400_000);
  assert.deepEqual([await state.addReward("1", "", "late"), await state.addReward("2", "", "waits")], [false, true]);
});

test("what a browser can't check is not trusted", async () => {
  const subtle = Object.getOwnPropertyDescriptor(Crypto.prototype, "subtle");
  const answers = { "/api/v1/endpoints/e/edge": '{"key_id":"k","signature":"AA"}', "/api/v1/edge/key": '{"keys":[{"id":"k","public_key":"AA"}]}' };
  const fetch = async (url) => new Response(answers[url.replace("http://nowhere", "")]);
  const device = new EdgeClient({ endpoint: "e", url: "http://nowhere", fetch, uploadAfter: null });
  try {
    Object.defineProperty(Crypto.prototype, "subtle", { get: () => undefined, configurable: true });
    await assert.rejects(device.refresh(), /secure contexts alone/);
  } finally {
    Object.defineProperty(Crypto.prototype, "subtle", subtle);
  }
  const none = { importKey: async () => { throw new DOMException("no", "NotSupportedError"); } };
  try {
    Object.defineProperty(Crypto.prototype, "subtle", { get: () => none, configurable: true });
    await assert.rejects(device.refresh(), /no Ed25519: give the client a `verify`/);
  } finally {
    Object.defineProperty(Crypto.prototype, "subtle", subtle);
  }
});

const problem = (status, name, errors = []) => Response.json({ type: `/problems/${name}`, title: "", status, detail: "", errors }, { status });

test("only what the platform says of an event lets go of it", async () => {
  const state = new MemoryState(100);
  for (let i = 0; i < 40; i++) await state.addDecision({ id: `d${i}`, receipt: "r", decidedAt: 1, event: `"d${i}"` });
  let [answer, calls] = [null, 0];
  const platform = async (_, { body }) => (calls++, answer(JSON.parse(body).events));
  const way = { url: "", headers: {}, fetch: platform, retries: { tries: 1, firstPause: 1, longestPause: 1 } };
  const outbox = new Outbox("test", state, way, undefined, 1000, null, () => 0, () => undefined);
  const html = (status) => () => new Response("<html>no", { status, headers: { "Content-Type": "text/html" } });
  const answers = [
    () => problem(400, "bad-request"), // another host name
    () => problem(415, "unsupported-media-type"),
    () => problem(400, "invalid-fields", [{ field: "device", message: "is needed" }]), // of a later platform
    () => problem(500, "internal"),
    () => Response.json({ title: "Unprocessable" }, { status: 422 }),
    () => Response.json({ results: [null] }, { status: 207 }),
    () => Response.json({ ok: true }),
    ...[200, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 418, 421, 422, 426, 431, 451, 500, 501, 502, 503, 511].map(html),
  ];
  for (answer of answers) {
    calls = 0;
    await assert.rejects(outbox.upload(), NoregretError);
    assert.equal(await state.waiting(), 40);
    assert.ok(calls < 40, `${calls}`);
  }
  // A proxy that takes less than the platform: what fits is told, what does not fit waits.
  answer = (events) => (events.length > 3 || events.includes("d7") ? html(413)() : Response.json({ results: events.map(() => ({ status: "recorded" })) }));
  await assert.rejects(outbox.upload(), Problem);
  assert.equal(await state.waiting(), 1);
  // The platform's own judgement of an event, which is of no other event and of no other platform's limit.
  answer = () => problem(413, "too-large");
  await assert.rejects(outbox.upload(), Problem);
  await state.told([["d7", null]]);
  await state.addDecision({ id: "large", receipt: "r", decidedAt: 1, event: JSON.stringify("x".repeat(2 ** 20)) });
  assert.deepEqual(await outbox.upload(), { told: { invalid: 1 }, waiting: 0 });
  // An endpoint that is no more holds up no other receipt.
  for (const receipt of ["gone", "r"]) await state.addDecision({ id: `of-${receipt}`, receipt, decidedAt: 1, event: `"${receipt}"` });
  answer = ([event]) => (event === "gone" ? problem(404, "not-found") : Response.json({ results: [{ status: "recorded" }] }));
  await assert.rejects(outbox.upload(), Problem);
  assert.deepEqual((await state.batch(10)).keys, [["of-gone", null]]);
});

test("an event that is refused with its body is set aside, and holds up no other", async () => {
  const state = new MemoryState(100);
  const bodies = [];
  let [fails, answers] = [[], []];
  const platform = async (_, { body }) => {
    const { events } = JSON.parse(body);
    bodies.push(events.length);
    if (events.some((event) => fails.includes(event.id))) return problem(events[0].status ?? 400, events[0].status ? "internal" : "invalid-json");
    const status = ({ reward }) => (reward && fails.length > 0 ? "unknown" : "recorded");
    return new Response(JSON.stringify(answers.pop() ?? { results: events.map((event) => ({ status: status(event) })) }), { status: 207 });
  };
  const way = { url: "", headers: {}, fetch: platform, retries: { tries: 1, firstPause: 1, longestPause: 1 } };
  const outbox = new Outbox("test", state, way, undefined, 1000, null, () => 0, () => undefined);
  const add = (id, more = {}) => outbox.addDecision({ id, receipt: "r", decidedAt: 1, event: JSON.stringify({ id, ...more }) });
  for (let i = 0; i < 20; i++) await add(`d${i}`);
  fails = ["d3", "d11"];
  assert.deepEqual(await outbox.upload(), { told: { recorded: 18, invalid: 2 }, waiting: 0 });
  assert.ok(bodies.length < 25);
  // What the platform fails on waits, where that may be the platform's fault.
  fails = ["e0"];
  await add("e0", { status: 500 });
  await assert.rejects(outbox.upload(), Problem);
  assert.equal(await state.waiting(), 1);
  await outbox.addReward("e0", "", '{"reward":true}');
  await add("e1");
  await assert.rejects(outbox.upload(), Problem);
  assert.equal(await state.waiting(), 2); // its reward, too, which nobody knows the decision of
  fails = [];
  assert.deepEqual(await outbox.upload(), { told: { recorded: 2 }, waiting: 0 });
  // What has no status still waits.
  fails = [];
  for (let i = 0; i < 3; i++) await add(`f${i}`);
  answers = [{ results: [] }];
  await assert.rejects(outbox.upload(), Unreachable);
  assert.equal(await state.waiting(), 3);
  answers = [{ results: [{ status: "duplicate" }] }];
  assert.deepEqual(await outbox.upload(), { told: { duplicate: 1, recorded: 2 }, waiting: 0 });
});

test("a model file that is damaged is not read, and fetched again", async (t) => {
  const { shelf, files } = await serving(t);
  for (const spoilt of [new Uint8Array(body.length), body.subarray(0, 100)]) {
    await shelf.put(sha256, spoilt);
    assert.equal(await files.read(artifact), null);
    await shelf.put(sha256, spoilt);
    assert.equal(await files.fetch(artifact, 10_000), true);
    assert.deepEqual(Buffer.from(await files.read(artifact)), body);
    assert.equal(await files.fetch(artifact, 10_000), false);
  }
});
