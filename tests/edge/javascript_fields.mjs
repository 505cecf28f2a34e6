// Which fields and rewards a device in Node takes, of a table on its standard input; tests/edge/test_fields_alike.py holds them against Python's rules.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { EdgeClient, MemoryState } = await import(pathToFileURL(`${process.argv.at(-1)}/edge/index.js`));
const { fields, rewards } = JSON.parse(readFileSync(0, "utf8"));

const state = new MemoryState(rewards.length);
const device = new EdgeClient({ endpoint: "e", url: "http://nowhere", uploadAfter: null, state });

/** Null where it is taken, else the field that its refusal names. */
async function refused(work) {
  try {
    return (await work()) ? null : "not known";
  } catch (error) {
    if (error.name === "NoBundle") return null; // the fields were looked at before
    return error instanceof TypeError ? /^\w+/.exec(error.message)[0] : String(error);
  }
}

const told = [];
for (const [name, value] of fields) {
  const both = [await refused(() => device.decide({ [name]: value })), await refused(() => device.predict([[1]], { [name]: value }))];
  told.push([both, JSON.stringify(value)]);
}
const taken = [];
for (const [i, [value, metric, reward]] of rewards.entries()) {
  await state.addDecision({ id: `d${i}`, receipt: "r", decidedAt: 0, event: "{}", reward });
  const field = await refused(() => device.feedback(`d${i}`, value, metric));
  // What is refused is in no other's way.
  if (field !== null && !(await device.feedback(`d${i}`, 1, "other"))) throw new Error(`reward ${i} is in the way`);
  taken.push(field);
}
process.stdout.write(JSON.stringify({ told, taken }));
