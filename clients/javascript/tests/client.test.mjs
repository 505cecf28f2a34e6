// Against a real platform, behind a proxy that goes wrong as it is told: tests/clients/test_javascript_client.py starts both.
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";

import * as noregret from "../dist/index.js";

const url = process.env.NOREGRET_PROXY;
const key = process.env.NOREGRET_KEY;
const retries = { firstPause: 10 };

function made(options = {}) {
  const failed = [];
  const client = new noregret.NoregretClient({
    url,
    key,
    timeout: 20_000,
    retries,
    onFeedbackFailed: (one) => failed.push(one),
    ...options,
  });
  return { client, failed };
}

/** Tells the proxy what is to go wrong, and forgets what it saw. */
async function goesWrong(...faults) {
  await fetch(`${url}/_faults`, { method: "POST", body: JSON.stringify(faults) });
}

/** The bodies of what came since. */
async function seen() {
  return (await fetch(`${url}/_requests`)).json();
}

/** An address where nobody listens. */
async function nobody() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}

const { client } = made();

test("predict answers rows of lists, objects and typed arrays", async () => {
  const answer = await client.predict("rows", [[1, 2.5], new Float32Array([3, 4])], { unit: "u-1", context: { age: 31, country: "KR" } });
  assert.deepEqual(answer.outputs.predict.length, 2);
  assert.equal(answer.model, "rows@1");
  assert.equal(answer.propensity, 1);
});

test("decide answers an arm with its payload, and feedback counts once", async () => {
  const choice = await client.decide("pages", { unit: "u-1" });
  assert.ok(["A", "B"].includes(choice.payload.text));
  assert.equal(await client.feedback(choice.decision_id, 1, { occurred_at: new Date() }), "recorded");
  assert.equal(await client.feedback(choice.decision_id, true), "duplicate");
  await assert.rejects(client.feedback(choice.decision_id, 0), noregret.Conflict);
  await assert.rejects(async () => client.feedback(choice.decision_id, Number.NaN), TypeError);
});

test("refusals are errors of their kind, with field and expectation", async () => {
  await assert.rejects(client.decide("nobody/made"), noregret.NotFound);
  await assert.rejects(client.decide("pages", { unit: "u".repeat(257) }), (error) => {
    assert.ok(error instanceof noregret.InvalidRequest);
    assert.deepEqual([error.status, error.field, error.type], [400, "unit", "/problems/invalid-fields"]);
    assert.match(error.expected, /256/);
    return true;
  });
  await assert.rejects(made({ key: "nr_wrong" }).client.decide("pages"), noregret.NotAuthorized);
  await assert.rejects(async () => client.predict("rows", [[Infinity, 1]]), TypeError);
  assert.throws(() => made({ url: "localhost:8000" }), TypeError);
});

test("what was refused as unavailable is tried again with the same request_id", async () => {
  await goesWrong("503", "503-0");
  assert.ok((await client.decide("pages")).arm);
  const bodies = await seen();
  assert.equal(bodies.length, 3);
  assert.equal(new Set(bodies.map((body) => body.request_id)).size, 1);
  await goesWrong("503", "503", "503");
  await assert.rejects(client.decide("pages"), noregret.PlatformUnavailable);
  await goesWrong("503-30");
  await assert.rejects(client.decide("pages"), (error) => error.retryAfter === 30_000);
  assert.equal((await seen()).length, 1);
});

for (const fault of ["drop", "lose", "half"]) {
  test(`an answer that was lost (${fault}) makes no second decision unless wanted`, async () => {
    await goesWrong(fault);
    await assert.rejects(client.decide("pages"), (error) => error instanceof noregret.Unreachable && error.maybeDone);
    assert.equal((await seen()).length, 1);
    await goesWrong(fault);
    assert.ok((await made({ resendLostDecisions: true }).client.decide("pages")).learnable);
    const { decision_id } = await client.decide("pages");
    await goesWrong(fault);
    assert.equal(await client.feedback(decision_id, 1), fault === "drop" ? "recorded" : "duplicate");
  });
}

test("exclude and activate are the platform's", { skip: process.env.NOREGRET_ACTIVATE ? false : "NO ACTIVATE" }, async () => {
  assert.equal((await client.decide("pages", { exclude: ["a"] })).arm, "b");
  assert.equal((await client.decide("pages", { exclude: ["a", "b"] })).fallback_reason, "excluded");
  await goesWrong("lose");
  const { decision_id } = await client.decide("pages", { activate: false });
  assert.equal((await seen()).length, 2);
  const statuses = async (...ids) => (await client.activate(ids)).map((one) => one.status);
  assert.deepEqual(await statuses(decision_id, "forged"), ["activated", "unknown"]);
  assert.deepEqual(await statuses(decision_id), ["duplicate"]);
});

test("nobody listens: unreachable, and surely not done", async () => {
  const { client: away } = made({ url: await nobody(), timeout: 2000 });
  await assert.rejects(away.decide("pages"), (error) => error instanceof noregret.Unreachable && !error.maybeDone);
});

test("hanging and dripping answers end at the deadline, and at the caller's word", async () => {
  for (const fault of ["hang", "drip"]) {
    await goesWrong(fault);
    await assert.rejects(client.decide("pages", { timeout: 300 }), noregret.DeadlineExceeded);
  }
  await goesWrong("hang");
  await assert.rejects(client.decide("pages", { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
});

test("feedback goes in batches, failures are told, and 5xx lose nothing", async () => {
  const { client: batching, failed } = made({ batching: { size: 3, wait: 60_000 } });
  const ids = await Promise.all(Array.from({ length: 5 }, async () => (await client.decide("pages")).decision_id));
  await goesWrong("503", "lose", "413");
  for (const id of ids) assert.ok(batching.feedbackLater(id, 1));
  batching.feedbackLater("forged", 1);
  await batching.flush();
  assert.deepEqual(failed.map((one) => [one.feedback.decision_id, one.status]), [["forged", "unknown"]]);
  assert.deepEqual((await seen()).map((body) => body.feedback.length), [3, 3, 3, 1, 2, 3]);
  for (const id of ids) assert.equal(await client.feedback(id, 1), "duplicate");
  await batching.close();
});

test("a full queue takes no more, and says so", async () => {
  const { client: small, failed } = made({ batching: { mostQueued: 2, wait: 60_000 } });
  const ids = await Promise.all(Array.from({ length: 3 }, async () => (await client.decide("pages")).decision_id));
  assert.deepEqual(ids.map((id) => small.feedbackLater(id, 1)), [true, true, false]);
  assert.deepEqual(failed.map((one) => one.status), ["queue_full"]);
  await small.close();
  assert.equal(await client.feedback(ids[1], 1), "duplicate");
  assert.equal(await client.feedback(ids[2], 1), "recorded");
});

test("a wrong key and a platform that stays away are told", async () => {
  const wrong = made({ key: "nr_wrong" });
  wrong.client.feedbackLater("d", 1);
  await wrong.client.flush();
  const away = made({ url: await nobody(), batching: { retryFor: 200 } });
  away.client.feedbackLater("d", 1);
  await away.client.flush();
  assert.deepEqual([...wrong.failed, ...away.failed].map((one) => one.status), ["refused", "unreachable"]);
});
