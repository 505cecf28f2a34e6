// Digits that are drawn by hand and read on this device, by the arm that the endpoint's bundle gives (docs/edge.md).
import { EdgeClient } from "./client/edge/index.js";
import { Paper, show } from "./drawing.js";

const ENDPOINT = "handwriting";
const KEY = "noregret-handwriting-key";
const REFRESH = 15_000;

const { runtime, worker } = document.documentElement.dataset;
const part = (id) => document.getElementById(id);
const tally = new Map(); // by arm: how many it read here, and how many rightly
let answered = null; // what may be judged
let isReading = false;
let isKeyKept = true;
let isPageKept = false;
let isReached = navigator.onLine; // browsers know of their cable, not of what is behind it

/** The key stands behind the # of the address that the command prints, which no server is sent. */
function takenKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  let kept = null;
  try {
    if (given) localStorage.setItem(KEY, given);
    kept = localStorage.getItem(KEY);
  } catch {
    isKeyKept = false; // the browser refuses: it stays in the address, so that the page can be loaded again
  }
  if (given && isKeyKept) history.replaceState(null, "", location.pathname);
  return given ?? kept;
}

const key = takenKey();
const device = new EdgeClient({
  endpoint: ENDPOINT,
  url: "",
  ...(key && { key }),
  ...(runtime && { runtime: () => import(runtime) }),
  uploadAfter: 500,
  onUploaded: (uploaded) => {
    const statuses = Object.entries(uploaded.told).map(([status, count]) => `${count} ${status}`);
    if (statuses.length > 0) part("told").textContent = `Last sent: ${statuses.join(", ")}.`;
    refresh();
  },
});

function trouble(text) {
  part("trouble").textContent = text;
  part("trouble").hidden = text === "";
}

/** Asks for the bundle, and shows what is there whether or not somebody answers. */
async function refresh() {
  try {
    isReached = navigator.onLine;
    if (isReached) await device.refresh();
    trouble("");
  } catch (error) {
    isReached = error.name !== "Unreachable";
    if (error.name === "NotAuthorized") trouble("The key of this page is not taken. Run manage.py digits-page, and open the address that it prints.");
    else if (error.name === "NotFound") trouble("Nothing is there to read with yet. Run manage.py digits-page.");
    else if (isReached) trouble(error.message);
  }
  await showBundle();
}

async function showBundle() {
  showNetwork();
  let bundle;
  try {
    part("waiting").textContent = `${await device.waiting()} events wait to be sent.`;
    showKept(await device.isKept());
    bundle = await device.bundle();
  } catch (error) {
    part("bundle").textContent = error.message;
    return;
  }
  const of = bundle.experiment === null ? "no experiment, so nothing is learned" : bundle.experiment;
  part("bundle").textContent = `Bundle ${bundle.version} of ${of}, good until ${new Date(bundle.expires_at).toLocaleString()}.`;
  part("arms").replaceChildren(...bundle.arms.map(rowOf));
}

function rowOf(arm) {
  const { read, right } = tally.get(arm.name) ?? { read: 0, right: 0 };
  const row = document.createElement("tr");
  row.dataset.arm = arm.name;
  row.classList.toggle("asked", answered?.arm === arm.name);
  const share = document.createElement("span");
  share.className = "share";
  share.textContent = percent(arm.propensity ?? 0);
  const meter = document.createElement("meter");
  meter.value = arm.propensity ?? 0;
  const propensity = document.createElement("span");
  propensity.append(share, meter);
  row.append(cell("Model", titleOf(arm)), cell("Propensity", propensity), cell("Runs from", formOf(arm)));
  row.append(cell("Read here", read, "number"), cell("Right", right, "number"));
  return row;
}

function cell(title, content, name = "") {
  const made = document.createElement("td");
  made.className = name;
  made.dataset.title = title;
  made.append(typeof content === "object" ? content : String(content));
  return made;
}

function titleOf(arm) {
  return arm?.payload?.title ?? arm?.model;
}

function formOf(arm) {
  if (arm.parameters !== null) return "parameters, in the bundle";
  if (arm.artifact === null) return "no device";
  const size = `ONNX file, ${(arm.artifact.bytes / 1000).toFixed(0)} kB`;
  return runtime ? size : `${size}: not without onnxruntime-web`;
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Says what outlives this visit. */
function showKept(isDeviceKept) {
  part("unkept").hidden = isDeviceKept && isKeyKept;
  if (!isDeviceKept) {
    part("unkept").textContent =
      "This browser refuses to keep this page's data. It reads for this visit only: when it is closed, models and events that wait are gone.";
  } else if (!isKeyKept) {
    part("unkept").textContent = "This browser refuses to keep this page's key: open the page by its whole address each time.";
  }
  if (isPageKept) part("kept").textContent = isDeviceKept && isKeyKept ? "Works offline." : "Works offline for this visit only.";
}

function showNetwork() {
  part("network").textContent = navigator.onLine && isReached ? "Online" : "Offline";
}

const paper = new Paper(part("paper"), () => enable());

function enable() {
  part("read").disabled = paper.isEmpty || isReading;
  part("clear").disabled = paper.isEmpty;
  part("right").disabled = part("wrong").disabled = answered === null;
}

function clear() {
  paper.clear();
  answered = null;
  enable();
}

async function read() {
  if (isReading || paper.isEmpty) return;
  const row = paper.row();
  show(part("seen"), row);
  [isReading, answered] = [true, null];
  enable();
  try {
    const began = performance.now();
    const answer = await device.predict([row]);
    const milliseconds = performance.now() - began;
    const bundle = await device.bundle();
    const arm = bundle.arms.find(({ name }) => name === answer.arm);
    const sure = Math.max(...(answer.outputs.predict_proba?.[0] ?? [0]));
    const chosen = answer.arm === null ? ", the champion" : ` (arm ${answer.arm}), which had a propensity of ${percent(answer.propensity)}`;
    part("digit").textContent = answer.outputs.predict[0];
    part("by").textContent = `Read by ${titleOf(arm) ?? answer.model}${chosen}. It is ${percent(sure)} sure. ${milliseconds.toFixed(1)} ms.`;
    Object.assign(part("answer").dataset, { arm: answer.arm, decision: answer.decision_id, milliseconds });
    count(answer.arm, "read");
    trouble("");
    answered = answer;
  } catch (error) {
    part("digit").textContent = "–";
    part("by").textContent = "It was not read.";
    trouble(error.message);
  }
  isReading = false;
  enable();
  await showBundle();
}

function count(arm, what) {
  const { read, right } = tally.get(arm) ?? { read: 0, right: 0 };
  tally.set(arm, { read: read + (what === "read"), right: right + (what === "right") });
}

/** Of each answer once: what is clicked after that is of no answer. */
async function tell(isRight) {
  if (answered === null) return;
  const { decision_id, arm, learnable } = answered;
  clear();
  let said;
  try {
    const isNoted = await device.feedback(decision_id, isRight);
    if (isNoted && isRight) count(arm, "right");
    if (isNoted) said = `Noted: ${isRight ? "right" : "wrong"}.`;
    else said = learnable ? "Not noted: it can't be kept, or its time is over." : "Not noted: nothing is learned of this answer.";
  } catch (error) {
    said = `Not noted: ${error.message}`;
  }
  part("by").textContent = `${said} Draw the next one.`;
  await showBundle();
}

part("read").addEventListener("click", read);
part("clear").addEventListener("click", clear);
part("right").addEventListener("click", () => tell(true));
part("wrong").addEventListener("click", () => tell(false));
addEventListener("online", refresh);
addEventListener("offline", showNetwork);
setInterval(() => {
  if (document.visibilityState === "visible" && navigator.onLine) refresh();
}, REFRESH);

/** Keeps the page's files, so that it opens without a network. */
async function keep() {
  if (!("serviceWorker" in navigator)) {
    part("kept").textContent = "Kept for later visits: this browser does not allow it here.";
    return;
  }
  await navigator.serviceWorker.register(worker, { scope: location.pathname });
  await navigator.serviceWorker.ready;
  isPageKept = true;
  showKept(await device.isKept());
}

if (key === null) {
  trouble("This page has no key yet. Run manage.py digits-page on the server, and open the address that it prints.");
  part("bundle").textContent = "";
} else {
  await Promise.all([refresh(), keep().catch((error) => (part("kept").textContent = `Not kept for later visits: ${error.message}`))]);
}
enable();
