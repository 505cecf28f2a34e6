// A device in Node: what it is told to do, by a JSON argument; prints, as JSON, what it saw. tests/edge/test_javascript_device.py runs it.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { dist, url, key, endpoint, scene, rows, runtime } = JSON.parse(process.argv.at(-1));
const { EdgeClient, MemoryShelf, MemoryState } = await import(pathToFileURL(`${dist}/edge/index.js`));

/** Loads onnxruntime-web from the two files of a folder, as a page does by address. */
async function onnxruntime() {
  const ort = await import(pathToFileURL(`${runtime}/ort.wasm.bundle.min.mjs`));
  ort.env.wasm.wasmBinary = readFileSync(`${runtime}/ort-wasm-simd-threaded.wasm`);
  return ort;
}

let network = "there";
let asked = [];
async function wired(address, init = {}) {
  if (network === "away") throw new TypeError("fetch failed");
  asked.push([new URL(address).pathname, init.method ?? "GET"]);
  const answer = await fetch(address, init);
  if (network === "loses answers" && init.method === "POST") {
    network = "there";
    await answer.text();
    throw new TypeError("terminated");
  }
  if (network === "changes bundles" && address.endsWith("/edge")) {
    return new Response((await answer.text()).replace('"sticky":true', '"sticky":false'), answer);
  }
  return answer;
}

const state = new MemoryState(1000);
const shelf = new MemoryShelf();
const made = (options = {}) =>
  new EdgeClient({
    endpoint,
    url,
    key,
    fetch: wired,
    uploadAfter: null,
    timeout: 60_000,
    retries: { firstPause: 10 },
    state,
    shelf,
    ...(runtime && { runtime: onnxruntime }),
    ...options,
  });
const named = async (work) => {
  try {
    return await work();
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
};

const scenes = {
  /** Decides, predicts and is rewarded, loses an answer, is away for a while. */
  async irises() {
    const device = made();
    const before = await named(() => device.predict(rows));
    const refreshed = [await device.refresh(), await device.refresh()];
    const fetched = asked.filter(([path]) => path.startsWith("/api/v1/artifacts/")).length;
    const answers = [];
    for (const [i, row] of rows.entries()) answers.push(await device.predict([row], { unit: `u-${i % 10}` }));
    const refusals = [
      await named(() => device.predict([[1, 2]])),
      await named(() => device.predict([])),
      await named(() => device.predict(rows, { exclude: ["linear", "tree", "code"] })),
      await named(() => device.decide({ unit: "u".repeat(257) })),
      await named(() => device.decide({ unit: "\ud800" })),
    ];
    const told = [];
    for (const { decision_id } of answers) told.push(await device.feedback(decision_id, 1), await device.feedback(decision_id, 0));
    network = "loses answers";
    const uploads = [await device.upload(), await device.upload()];
    network = "away";
    const offline = await device.predict([rows[0]], { unit: "offline" });
    await device.feedback(offline.decision_id, true);
    const away = [await named(() => device.upload()), await named(() => device.refresh()), await device.waiting()];
    network = "there";
    uploads.push(await device.upload());
    // Another page of the same device.
    const next = await made().predict([rows[0]], { unit: "u-0" });
    const clock = Date.now;
    Date.now = () => clock() + 2 * 86_400_000;
    const expired = await named(() => device.predict(rows));
    Date.now = clock;
    return { before, refreshed, fetched, answers, refusals, told, uploads, away, offline, next, expired };
  },

  /** Trusts nothing that is not signed, and goes by the platform's clock. */
  async trust() {
    network = "changes bundles";
    const changed = await named(() => made().refresh());
    network = "there";
    const other = await named(() => made({ publicKeys: {} }).refresh());
    const withdrawn = await named(() => made({ key: "nr_wrong" }).refresh());
    const clock = Date.now;
    Date.now = () => clock() - 40 * 86_400_000;
    const device = made();
    await device.refresh();
    const { decision_id } = await device.predict(rows);
    Date.now = clock;
    return { changed, other, withdrawn, decision_id, uploaded: await device.upload() };
  },

  /** Units that come again with other contexts, by two bundles; some exclude arms. */
  async contextual() {
    const device = made();
    const choices = [];
    for (let i = 0; i < 400; i++) {
      if (i === 200) await told("paused");
      if (i % 200 === 0) await device.refresh();
      const asked = {
        ...(i % 4 && { unit: `\u00fc-${i % 37}` }),
        context: { age: (i * 7) % 130, country: ["KR", "US", null][i % 3] },
        ...(i % 5 === 0 && { exclude: [["a"], ["b"], ["c"], ["a", "c"]][(i / 5) % 4] }),
      };
      choices.push({ ...asked, ...(await device.decide(asked)) });
    }
    const wrong = [];  // of units that are held out, that keep an arm, and that are new
    for (let i = 0; i < 40; i++) {
      const unit = { ...(i > 0 && { unit: `\u00fc-${i}` }), ...(i % 2 && { exclude: ["a"] }) };
      wrong.push(await named(() => device.decide({ ...unit, context: { age: "old" } })));
    }
    return { choices, wrong, uploaded: await device.upload() };
  },
};

/** Says a word, and waits for one. */
async function told(word) {
  process.stdout.write(`${word}\n`);
  await new Promise((resolve) => process.stdin.once("data", resolve));
  process.stdin.destroy();
}

process.stdout.write(JSON.stringify(await scenes[scene]()));
