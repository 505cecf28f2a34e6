// Answers that no platform of this version gives: a batch of which some items have no status.
import assert from "node:assert/strict";
import { test } from "node:test";

import { NoregretClient } from "../dist/index.js";

/** A client whose batches are answered by `answers` in turn, and as recorded after those; what it sent and was told. */
function answered(answers, options = {}) {
  const [sent, failed] = [[], []];
  const fetch = async (_, { body }) => {
    const ids = JSON.parse(body).feedback.map((item) => item.decision_id);
    sent.push(ids);
    const answer = answers.shift() ?? { results: ids.map(() => ({ status: "recorded" })) };
    return new Response(JSON.stringify(answer), { status: 207 });
  };
  const onFeedbackFailed = ({ feedback, status }) => failed.push([feedback.decision_id, status]);
  return { sent, failed, client: new NoregretClient({ url: "", fetch, batching: { wait: 60_000 }, onFeedbackFailed, ...options }) };
}

test("items without a status are sent again, each once", async () => {
  const { client, sent, failed } = answered([
    { results: [{ status: "recorded" }, { status: "late" }] },
    { results: [{ status: "unknown" }] },
  ]);
  for (const id of "abcde") client.feedbackLater(id, 1);
  await client.flush();
  assert.deepEqual(sent.map((ids) => ids.join("")), ["abcde", "cde", "de"]);
  assert.deepEqual(failed, [["b", "late"], ["c", "unknown"]]);
  await client.close();
});

test("an answer that says nothing of any item is told, and the next batch goes", async () => {
  const { client, sent, failed } = answered([{ results: [] }, {}, { results: "?" }]);
  for (const id of "abc") {
    client.feedbackLater(id, 1);
    await client.flush();
  }
  client.feedbackLater("d", 1);
  await client.close();
  assert.deepEqual(sent.flat().join(""), "abcd");
  assert.deepEqual(failed, [["a", "refused"], ["b", "refused"], ["c", "refused"]]);
});

test("at a page's end items without a status wait again", async (t) => {
  const page = new EventTarget();
  const before = [globalThis.document, globalThis.addEventListener, globalThis.removeEventListener];
  t.after(() => ([globalThis.document, globalThis.addEventListener, globalThis.removeEventListener] = before));
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  // With a key it goes by a fetch that outlives the page, which may come back.
  const { client, sent, failed } = answered([{ results: [{ status: "recorded" }] }], { key: "k", batching: { wait: 100 } });
  for (const id of "abc") client.feedbackLater(id, 1);
  page.dispatchEvent(new Event("pagehide"));
  for (let i = 0; i < 500 && sent.length < 2; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  await client.close();
  assert.deepEqual(sent.map((ids) => ids.join("")), ["abc", "bc"]);
  assert.deepEqual(failed, []);
});
