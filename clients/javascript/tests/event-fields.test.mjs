// Values that JSON has no form for; tests/edge/test_fields_alike.py has the others.
import assert from "node:assert/strict";
import { test } from "node:test";

import { EdgeClient, MemoryState } from "../dist/edge/index.js";
import { NoregretClient } from "../dist/index.js";

const refuses = (work, field) => assert.rejects(work, (error) => error instanceof TypeError && error.message.startsWith(field));
const binary = { metric: "reward", kind: "binary", minimum: null, maximum: null, window_seconds: 60, declared: true };

test("a device refuses at once what JSON would tell otherwise, and names the field", async () => {
  const device = new EdgeClient({ endpoint: "e", url: "http://nowhere", uploadAfter: null, state: new MemoryState(10) });
  for (const odd of [Number.NaN, Infinity, 1n, Symbol("a"), () => 1, new Date(), new Number(1), new Float64Array(1), 2 ** 63, -(2 ** 63), 1e20]) {
    await refuses(() => device.decide({ context: { a: odd } }), "context.a: ");
    await refuses(() => device.predict([[1]], { context: { a: odd } }), "context.a: ");
  }
  for (const odd of [new Map([["a", 1]]), new Date(), [1], "a", () => 1, new Float64Array(1)]) {
    await refuses(() => device.decide({ context: odd }), "context: ");
  }
  for (const name of ["unit", "request_id"]) {
    for (const odd of [new String("u"), 5n, Symbol("u"), Number.NaN]) await refuses(() => device.decide({ [name]: odd }), `${name}: `);
  }
  for (const odd of [new Set(["a"]), { length: 0 }, "a", [,], [Symbol("a")]]) await refuses(() => device.decide({ exclude: odd }), "exclude: ");
  // Taken: then the bundle is asked for, which is not there.
  for (const context of [{ a: undefined }, Object.create(null), { a: 2 ** 63 - 1024, b: 1e21, c: -0 }]) {
    await assert.rejects(device.decide({ unit: undefined, request_id: null, exclude: undefined, context }), { name: "NoBundle" });
  }
});

test("a reward is by the rules of its own decision, and none that is refused is in another's way", async () => {
  const state = new MemoryState(10);
  const device = new EdgeClient({ endpoint: "e", url: "http://nowhere", uploadAfter: null, state });
  const add = (id, reward) => state.addDecision({ id, receipt: "r", decidedAt: 1, event: "{}", reward });
  await add("binary", binary);
  await add("number", { ...binary, kind: "continuous", maximum: 5 });
  await add("earlier"); // of a version that kept no rules
  for (const odd of [Number.NaN, -Infinity, 1n, "1", null, undefined, new Number(1), 0.5]) await refuses(() => device.feedback("binary", odd), "value: ");
  await refuses(() => device.feedback("number", true), "value: must be a number");
  await refuses(() => device.feedback("number", 6), "value: must be at most 5");
  await refuses(() => device.feedback("number", true, "seconds"), "value: must be a number for the metric seconds");
  await refuses(() => device.feedback("number", 1, "Seconds!"), "metric: ");
  await refuses(() => device.feedback(undefined, 1), "decisionId: ");
  assert.equal(await state.waiting(), 3);
  await state.told([["binary", null]]);
  await refuses(() => device.feedback("binary", 2), "value: "); // its rules are known after that, too
  assert.deepEqual(await Promise.all(["binary", "number", "earlier"].map((id) => device.feedback(id, id === "number" ? 0.5 : true))), [true, true, true]);
  assert.equal(await device.feedback("nobody", 0.5), false);
});

test("the client refuses feedback at once that no batch could carry", () => {
  const client = new NoregretClient({ url: "http://nowhere", fetch: () => assert.fail("nothing is sent") });
  const refused = [
    [["d", Number.NaN], "value: "],
    [["d", 1e16], "value: "],
    [["d", "1"], "value: "],
    [["d", 1, { metric: "bad metric!" }], "metric: "],
    [["d", 1, { occurred_at: new Date("never") }], "occurred_at: "],
    [[5, 1], "decisionId: "],
    [["\ud800", 1], "decisionId: "],
    [["a\0", 1], "decisionId: "],
  ];
  for (const [given, field] of refused) {
    assert.throws(() => client.feedbackLater(...given), (error) => error instanceof TypeError && error.message.startsWith(field));
  }
});
