// Holds the JavaScript edge client against the shared vectors, in Node. Prints, as JSON, how many it was asked and the first that it
// chose otherwise.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { file, dist } = JSON.parse(process.argv.at(-1));
const { assigned } = await import(pathToFileURL(`${dist}/edge/assigning.js`));
const { MemoryState } = await import(pathToFileURL(`${dist}/edge/memory-state.js`));

let [asked, furthest] = [0, 0];
const otherwise = [];
for (const { name, bundle, vectors } of JSON.parse(readFileSync(file, "utf8")).cases) {
  const state = new MemoryState(10_000);
  for (const { unit, context, exclude, draws, expected } of vectors) {
    const left = [...draws];
    const uniform = () => {
      if (left.length === 0) throw new Error("more was drawn than the service draws");
      return left.shift();
    };
    const excluded = new Set(bundle.arms.flatMap((arm, i) => (arm.name !== null && exclude.includes(arm.name) ? [i] : [])));
    const found = await assigned(bundle, state, unit, context, excluded, uniform);
    asked++;
    let isSame = (found !== null) === expected.by_arm;
    if (isSame && found !== null) {
      const { position, propensities, holdout } = found.route;
      const away = Math.max(...propensities.map((share, i) => Math.abs(share - expected.propensities[i])));
      furthest = Math.max(furthest, away);
      isSame = bundle.arms[position].name === expected.arm && holdout === expected.holdout && away < 1e-9;
      isSame &&= propensities.length === expected.propensities.length;
    }
    if (!isSame) otherwise.push([name, unit, context, exclude, draws, expected, found]);
  }
}
process.stdout.write(JSON.stringify({ asked, furthest, otherwise: otherwise.slice(0, 3), count: otherwise.length }));
