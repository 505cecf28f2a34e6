/**
 * Runs an arm's model on the device: a linear one from its parameters, in plain JavaScript; any
 * other from its ONNX file.
 */

import type { Row, Value } from "../documents.js";
import type { Bundle, LinearForm } from "./bundle.js";
import { ModelFailed } from "./errors.js";

/** A value a row under each output's name. */
export type Outputs = { [output: string]: unknown[] };

/**
 * Answers rows, their values in the order of the model's features or columns. Throws ModelFailed.
 */
export interface Model {
  predict(rows: readonly (readonly Value[])[]): Promise<Outputs>;
}

/** Rows as lists in the models' order, of lists or of objects by name. Throws TypeError. */
export function valuesOf(bundle: Bundle, rows: readonly Row[]): Value[][] {
  const names = bundle.columns?.map((column) => column.name) ?? bundle.feature_names;
  const width = names?.length ?? bundle.features;
  if (rows.length === 0) throw new TypeError("at least one row was expected");
  return rows.map((row, i) => {
    const values = ArrayBuffer.isView(row) || Array.isArray(row) ? Array.from(row as Value[]) : byName(row as object, names, i);
    if (width !== null && values.length !== width) throw new TypeError(`row ${i}: ${width} values were expected, not ${values.length}`);
    return values;
  });
}

function byName(row: object, names: readonly string[] | null, i: number): Value[] {
  if (names === null || Object.keys(row).length !== names.length || !names.every((name) => Object.hasOwn(row, name))) {
    throw new TypeError(`row ${i}: ${names === null ? "a list of numbers" : names.join(", ")} was expected`);
  }
  return names.map((name) => (row as Record<string, Value>)[name]!);
}

/** A weighted sum of features for each output, and what makes answers of the sums. */
export class LinearModel implements Model {
  readonly #hasProbabilities: boolean;

  constructor(
    private readonly form: LinearForm,
    outputs: readonly string[],
  ) {
    this.#hasProbabilities = outputs.includes("predict_proba");
  }

  async predict(rows: readonly (readonly Value[])[]): Promise<Outputs> {
    const sums = rows.map((row) => this.#sums(row));
    const { link } = this.form;
    if (link === "identity") return { predict: sums.map(([sum]) => finite(sum!)) };
    if (sums.some((each) => each.some(Number.isNaN))) throw new ModelFailed("predict is not finite");
    const classes = this.form.classes ?? [];
    let outputs: Outputs;
    let probabilities: (each: readonly number[]) => number[];
    if (link === "two-classes") {
      outputs = { predict: sums.map(([sum]) => classes[sum! > 0 ? 1 : 0]) };
      probabilities = ([sum]) => logistic(sum!);
    } else if (link === "many-classes") {
      if (sums.some((each) => each.includes(Infinity))) throw new ModelFailed("predict is not finite");
      outputs = { predict: sums.map((each) => classes[each.indexOf(Math.max(...each))]) };
      probabilities = softmax;
    } else {
      throw new ModelFailed(`the link ${link} is not known to this version of the client`);
    }
    if (this.#hasProbabilities) outputs["predict_proba"] = sums.map(probabilities);
    return outputs;
  }

  #sums(row: readonly Value[]): number[] {
    const { centers, weights, intercepts } = this.form;
    const features = centers.map((center, i) => {
      const value = row[i];
      if (typeof value !== "number" && typeof value !== "boolean") throw new ModelFailed("numbers were expected");
      return Number(value) - center;
    });
    if (row.length !== features.length) throw new ModelFailed(`${features.length} numbers were expected`);
    return weights.map((each, k) => intercepts[k]! + each.reduce((sum, weight, i) => sum + weight * features[i]!, 0));
  }
}

function finite(sum: number): number {
  if (!Number.isFinite(sum)) throw new ModelFailed("predict is not finite");
  return sum;
}

function logistic(score: number): number[] {
  const tail = Math.exp(-Math.abs(score));
  const [small, large] = [tail / (1 + tail), 1 / (1 + tail)];
  return score > 0 ? [small, large] : [large, small];
}

function softmax(sums: readonly number[]): number[] {
  const top = Math.max(...sums);
  const powers = sums.map((one) => Math.exp(one - top));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
