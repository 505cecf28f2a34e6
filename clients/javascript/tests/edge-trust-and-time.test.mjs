// What a device believes, and which time it goes by: over pages that come and go, bundles and keys that change, clocks that are off.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { BundleNotTrusted, EdgeClient, MemoryShelf, MemoryState, WrongFile } from "../dist/edge/index.js";
import { NoregretError } from "../dist/index.js";
import { Platform, signingKey } from "./edge-platform.mjs";

const DAY = 86_400_000;
const real = Date.now;

/** Another page of the device whose state this is. */
const page = (platform, state, options = {}) =>
  new EdgeClient({ endpoint: "e", url: "http://there", fetch: platform.fetch, uploadAfter: null, state, retries: { tries: 1 }, ...options });

const between = {
  nothing: async () => undefined,
  upload: (device) => device.upload(),
  refresh: (device) => device.refresh(),
  bundle: (device) => device.bundle(),
};
for (const days of [-30, -1, 1, 30]) {
  for (const [name, work] of Object.entries(between)) {
    test(`a clock ${days} days off, and a new page that begins with ${name}: the reward is told`, async (t) => {
      t.after(() => (Date.now = real));
      const platform = new Platform([await signingKey("a")]);
      const state = new MemoryState(100);
      Date.now = () => real() + days * DAY;
      const before = page(platform, state);
      await before.refresh();
      const { decision_id } = await before.decide();
      await before.upload();
      const after = page(platform, state);
      await work(after);
      assert.equal(await after.feedback(decision_id, 1), true);
      assert.deepEqual(await after.upload(), { told: { recorded: 1 }, waiting: 0 });
      for (const { decided_at, occurred_at } of platform.events) {
        assert.ok(Math.abs(Date.parse(decided_at ?? occurred_at) - real()) < 60_000);
      }
    });
  }
}

test("a clock that was put right or wrong since is asked about before anything is forgotten", async (t) => {
  t.after(() => (Date.now = real));
  const platform = new Platform([await signingKey("a")]);
  for (const [then, now] of [[-3 * DAY, 0], [0, 3 * DAY]]) {
    const state = new MemoryState(100);
    Date.now = () => real() + then;
    const before = page(platform, state);
    await before.refresh();
    const { decision_id } = await before.decide();
    await before.upload();
    Date.now = () => real() + now;
    const after = page(platform, state);
    await after.upload();
    await after.refresh();
    await after.upload();
    assert.equal(await after.feedback(decision_id, 1), true);
    assert.match(platform.events.at(-1).id ?? "", /./);
  }
});

test("a decision is rewarded within its own bundle's window, whatever the next one's is", async (t) => {
  const platform = new Platform([await signingKey("a")]);
  t.after(() => (Date.now = real));
  const reward = (window_seconds) => ({ metric: "reward", kind: "binary", minimum: null, maximum: null, window_seconds });
  const state = new MemoryState(100);
  const device = page(platform, state);
  const decided = [];
  for (const seconds of [3600, 1, 7 * 86_400]) {
    platform.members = { reward: reward(seconds), experiment_id: seconds };
    platform.version++;
    await device.refresh();
    decided.push((await device.decide()).decision_id);
  }
  await device.upload();
  const fed = async (after) => {
    platform.now = Date.now = () => real() + after;
    const next = page(platform, state); // which has no bundle in memory
    await next.refresh();
    await next.upload();
    const known = [];
    for (const id of decided) known.push(await next.feedback(id, 1));
    await next.upload();
    return known;
  };
  assert.deepEqual(await fed(10_000), [true, false, true]);
  assert.deepEqual(await fed(2 * DAY), [false, false, true]);
  assert.deepEqual(await fed(8 * DAY), [false, false, false]);
});

for (const begins of ["pinned", "told first"]) {
  test(`keys change while the device looks on, trust beginning with those ${begins}`, async () => {
    const [a, b, c] = await Promise.all(["a", "b", "c"].map(signingKey));
    const options = begins === "pinned" ? { publicKeys: { a: a.told.public_key } } : {};
    const platform = new Platform([a]);
    const state = new MemoryState(10);
    const refreshed = async (keys, members = {}) => {
      Object.assign(platform, { keys, members, version: platform.version + 1 });
      await page(platform, state, options).refresh();
      return (await page(platform, state, options).bundle()).key_id; // as it is kept
    };
    const told = [await refreshed([a]), await refreshed([a, b]), await refreshed([b, a]), await refreshed([b, c]), await refreshed([c])];
    assert.deepEqual(told, ["a", "a", "b", "b", "c"]);
    assert.equal(await refreshed([c], { keys: undefined }), "c"); // of an earlier platform: trust stays
    await assert.rejects(refreshed([a]), BundleNotTrusted); // it is trusted no more
    await assert.rejects(refreshed([b, c]), BundleNotTrusted);
    assert.equal(await refreshed([c, a]), "c");
    // What signed an earlier bundle, or signs one that is over, takes nothing back.
    const [issued_at, expires_at] = [-2 * DAY, -DAY].map((ago) => new Date(real() + ago).toISOString());
    await refreshed([c], { issued_at });
    await refreshed([c], { expires_at }).catch(() => undefined);
    assert.equal(await refreshed([a]), "a");
  });
}

test("an app with other keys begins anew, also where the bundle that is kept is not theirs", async () => {
  const [a, b] = await Promise.all(["a", "b"].map(signingKey));
  const platform = new Platform([a]);
  const state = new MemoryState(10);
  await page(platform, state, { publicKeys: { a: a.told.public_key } }).refresh();
  platform.keys = [b]; // of the same version, and so of the same ETag
  const other = page(platform, state, { publicKeys: { b: b.told.public_key } });
  await assert.rejects(other.bundle(), BundleNotTrusted);
  assert.equal(await other.refresh(), true);
  assert.equal((await other.bundle()).key_id, "b");
});

test("a bundle that was changed where it is kept is fetched again", async () => {
  const platform = new Platform([await signingKey("a")]);
  for (const spoil of [(text) => text.replace('"holdout":0', '"holdout":1'), () => "{", () => ""]) {
    const state = new MemoryState(10);
    await page(platform, state).refresh();
    const [text] = await state.get("bundle");
    await state.put({ bundle: spoil(text) });
    const device = page(platform, state);
    await assert.rejects(device.decide(), BundleNotTrusted);
    await state.put({ trust: spoil(text).slice(1), ahead: "soon" });
    assert.equal(await device.refresh(), true);
    assert.equal((await device.decide()).arm, "a");
  }
});

test("keys of who signed nothing that was believed are not kept", async () => {
  const [stranger, own] = await Promise.all(["stranger", "own"].map(signingKey));
  const platform = new Platform([own]);
  const state = new MemoryState(10);
  const keysOf = { "/api/v1/edge/key": [Response.json({ keys: [stranger.told] }), new Response("<html>sign in"), Response.json(null)] };
  platform.answer = (response, path) => keysOf[path]?.pop() ?? response;
  const device = page(platform, state);
  for (let i = 0; i < 3; i++) await assert.rejects(device.refresh(), NoregretError);
  assert.equal(await device.refresh(), true);
});

test("a model file that comes wrong takes nothing from the other arms, nor a bundle that is in force", async () => {
  const platform = new Platform([await signingKey("a")]);
  const file = Buffer.from("a model");
  const sha256 = createHash("sha256").update(file).digest("hex");
  const arm = { control: false, enabled: true, propensity: 0.5, payload: null, outputs: ["predict"] };
  const parameters = { centers: [0], weights: [[2]], intercepts: [0], link: "identity", classes: null };
  const artifact = { sha256, bytes: file.length, url: "/file", format: "onnx" };
  const linear = { ...arm, name: "linear", model: "m@1", control: true, artifact: null, parameters };
  platform.members = { features: 1, arms: [{ ...linear, propensity: 1 }] };
  let sent = Buffer.from("another");
  platform.answer = (response, path) => (path === "/file" ? new Response(sent) : response);
  const options = { shelf: new MemoryShelf(), runtime: () => Promise.reject(new Error("none")) };
  const [inForce, fresh] = [new MemoryState(10), new MemoryState(10)];
  await page(platform, inForce, options).refresh();
  platform.version++;
  platform.members = { features: 1, arms: [linear, { ...arm, name: "tree", model: "m@2", artifact, parameters: null }] };
  for (const [state, version] of [[inForce, 1], [fresh, 2]]) {
    for (let i = 0; i < 2; i++) await assert.rejects(page(platform, state, options).refresh(), WrongFile);
    const answer = await page(platform, state, options).predict([[3]]);
    assert.deepEqual([answer.policy_version, answer.arm, answer.propensity], [version, "linear", 1]);
  }
  sent = file;
  for (const state of [inForce, fresh]) {
    assert.equal(await page(platform, state, { ...options, shelf: new MemoryShelf() }).refresh(), true);
    assert.equal((await page(platform, state).bundle()).version, 2);
  }
});

test("a platform that refuses is asked less and less, however often its bundle is fetched", async () => {
  const platform = new Platform([await signingKey("a")]);
  let refusals = 0;
  let isRefused = true;
  platform.answer = (response, path) => {
    if (path !== "/api/v1/edge/events" || !isRefused) return response;
    refusals++;
    return Response.json({ type: "/problems/bad-request" }, { status: 400 });
  };
  let [heard, uploaded] = [null, null];
  uploaded = new Promise((resolve) => (heard = resolve));
  const device = page(platform, new MemoryState(10), { uploadAfter: 40, onUploaded: heard });
  await device.refresh();
  await device.decide();
  for (let i = 0; i < 100; i++) {
    await device.refresh();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.ok(refusals >= 1 && refusals <= 6, `${refusals}`);
  assert.equal(await device.waiting(), 1);
  isRefused = false;
  assert.equal((await uploaded).waiting, 0);
  device.close();
});
